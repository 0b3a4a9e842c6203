package node

import (
	"fmt"
	"runtime"
	"strconv"

	"unkai/internal/memcache"
	"unkai/internal/store"
)

// stats is the node's part of the memcached command of that name; the rest is
// the front door's own.
func (n *Node) stats(section string) ([]memcache.Stat, bool) {
	var out []memcache.Stat
	add := func(name string, value any) {
		out = append(out, memcache.Stat{Name: name, Value: fmt.Sprint(value)})
	}
	s := n.engine.Stats()
	switch section {
	case "":
		n.generalStats(s, add)
	case "settings":
		n.settings(add)
	case "items":
		// One class stands for all: there are no slab classes to tell apart.
		add("items:1:number", s.Items)
		add("items:1:mem_requested", s.Bytes)
		add("items:1:evicted", 0)
		add("items:1:outofmemory", 0)
	case "slabs":
		add("1:total_chunks", s.Items+s.Tombstones)
		add("1:used_chunks", s.Items)
		add("1:mem_requested", s.Bytes)
		add("active_slabs", 1)
		add("total_malloced", s.Used)
	case "cluster":
		n.clusterStats(add)
	case "peers":
		n.peerStats(add)
	default:
		return nil, false
	}
	return out, true
}

func (n *Node) generalStats(s store.Stats, add func(string, any)) {
	top := n.manager.Topology()
	add("curr_items", s.Items)
	add("total_items", s.Writes)
	add("bytes", s.Bytes)
	add("limit_maxbytes", s.Limit)
	add("evictions", 0)
	eff, r, w := top.Quorum()
	add("kai_node", n.id)
	add("kai_quorum", fmt.Sprintf("%d:%d:%d", eff, r, w))
	add("kai_buckets", top.Buckets)
	add("kai_vnodes", vnodes)
	add("kai_store", n.cfg.Store)
	add("kai_curr_nodes", len(top.Nodes))
	add("kai_unreconciled", n.repairer.Stats().Unreconciled)
	add("unkai_epoch", top.Epoch)
	add("unkai_tombstones", s.Tombstones)
	add("unkai_store_full", flag(s.Full))
	add("unkai_store_damaged", s.Damaged)
	add("unkai_damaged_keys", n.replica.Wounded())
	add("unkai_healed", n.replica.Healed())
	add("unkai_store_syncs", s.Syncs)
	c := n.coordinator.Stats()
	add("unkai_rounds_shared", c.Shared)
	add("unkai_timeouts", c.Timeouts)
	n.moreStats(add)
	add("go_goroutines", runtime.NumGoroutine())
	add("go_version", runtime.Version())
}

// vnodes is how many virtual nodes a node of weight 1 has (DESIGN §2).
const vnodes = 128

func flag(b bool) string {
	if b {
		return "1"
	}
	return "0"
}

func (n *Node) settings(add func(string, any)) {
	c := &n.cfg
	add("maxconns", c.MaxConns)
	add("item_size_max", c.MaxValue)
	add("idle_timeout", int(c.IdleTimeout.Seconds()))
	add("inter", c.Listen)
	add("evictions", "off")
	add("cas_enabled", "yes")
	add("data", c.Data)
	add("store", c.Store)
	add("sync", c.Sync)
	add("cache", c.Cache)
	add("memory", c.Memory)
	add("request_timeout_ms", strconv.FormatInt(c.RequestTimeout.Milliseconds(), 10))
	add("n", c.N)
	add("r", c.R)
	add("w", c.W)
	add("buckets", n.manager.Topology().Buckets)
	add("http", addrOf(n.http))
}
