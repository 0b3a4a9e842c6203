package admin

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// metric is a public name for a figure of a Snapshot.
type metric struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(*Snapshot) int64
}

func gauge(name, help string, value func(*Snapshot) int64) metric {
	return metric{prometheus.NewDesc("unkai_"+name, help, nil, nil), prometheus.GaugeValue, value}
}

func counter(name, help string, value func(*Snapshot) int64) metric {
	return metric{prometheus.NewDesc("unkai_"+name+"_total", help, nil, nil), prometheus.CounterValue, value}
}

func flag(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

// counted is what the front door counts under one of memcached's names.
func counted(name string) func(*Snapshot) int64 {
	return func(s *Snapshot) int64 { return s.Clients.Commands[name] }
}

// metrics are the figures without labels, of a node that serves.
var metrics = []metric{
	gauge("epoch", "Number of the present version of the topology.", func(s *Snapshot) int64 { return int64(s.Epoch) }),
	gauge("incarnation", "Rises whenever what the node held was lost.", func(s *Snapshot) int64 { return int64(s.Incarnation) }),

	gauge("connections", "Client connections that are open.", func(s *Snapshot) int64 { return s.Clients.Connections }),
	gauge("connections_limit", "Client connections that may be open.", func(s *Snapshot) int64 { return int64(s.MaxConns) }),
	counter("connections_accepted", "Client connections accepted.", func(s *Snapshot) int64 { return s.Clients.Opened }),
	counter("connections_rejected", "Client connections turned away at the limit.", func(s *Snapshot) int64 { return s.Clients.Rejected }),
	counter("connections_idle_closed", "Client connections closed because they said nothing.", func(s *Snapshot) int64 { return s.Clients.IdleKicks }),
	counter("connections_panicked", "Client connections closed by a mistake in this program.", func(s *Snapshot) int64 { return s.Clients.Panics }),
	gauge("buffers_bytes", "Bytes held for requests and replies that are large.", func(s *Snapshot) int64 { return s.Clients.Buffers }),
	counter("buffers_refused", "Requests refused because such buffers had no room.", func(s *Snapshot) int64 { return s.Clients.NoMemory }),
	counter("received_bytes", "Bytes received from clients.", counted("bytes_read")),
	counter("sent_bytes", "Bytes sent to clients.", counted("bytes_written")),
	counter("commands_meta", "Operations that came by the meta protocol.", counted("cmd_meta")),
	counter("get_expired", "Reads that found an item expired.", counted("get_expired")),
	counter("values_too_large", "Values refused because of their length.", counted("store_too_large")),

	gauge("store_items", "Items held, expired ones included until they are swept.", func(s *Snapshot) int64 { return s.Store.Items }),
	gauge("store_tombstones", "Records of deletes that are still kept.", func(s *Snapshot) int64 { return s.Store.Tombstones }),
	gauge("store_items_bytes", "Bytes of the keys and values of all items.", func(s *Snapshot) int64 { return s.Store.Bytes }),
	gauge("store_used_bytes", "Bytes of memory or disk that the store takes.", func(s *Snapshot) int64 { return s.Store.Used }),
	gauge("store_limit_bytes", "Bytes that the store may take; 0: no limit.", func(s *Snapshot) int64 { return s.Store.Limit }),
	gauge("store_full", "1 while growth is refused.", func(s *Snapshot) int64 { return flag(s.Store.Full) }),
	counter("store_damaged_records", "Records found damaged.", func(s *Snapshot) int64 { return s.Store.Damaged }),
	counter("store_writes", "Writes applied.", func(s *Snapshot) int64 { return s.Store.Writes }),
	counter("store_syncs", "Times the disk was asked to make something durable.", func(s *Snapshot) int64 { return s.Store.Syncs }),
	counter("store_cache_hits", "Reads answered without the disk.", func(s *Snapshot) int64 { return s.Store.CacheHits }),
	counter("store_cache_misses", "Reads that asked the disk.", func(s *Snapshot) int64 { return s.Store.CacheMiss }),
	gauge("store_cache_bytes", "Bytes that the cache of records takes.", func(s *Snapshot) int64 { return s.Store.CacheBytes }),

	counter("operations_shared", "Operations served by the round of another one on the same key.", func(s *Snapshot) int64 { return s.Rounds.Shared }),
	counter("operations_failed", "Operations answered with SERVER_ERROR.", func(s *Snapshot) int64 { return s.Clients.Failures }),
	counter("operations_timeout", "Operations that got no answer in time.", func(s *Snapshot) int64 { return s.Rounds.Timeouts }),
	counter("items_expired", "Items found expired and removed.", func(s *Snapshot) int64 { return s.Rounds.Expired }),
	counter("rounds_retried", "Rounds begun again under a newer epoch or ballot.", func(s *Snapshot) int64 { return s.Rounds.Retried }),

	gauge("unreconciled", "Keys known not to be equal at all their replicas, of the buckets that this node compares.", func(s *Snapshot) int64 { return s.Repair.Unreconciled }),
	gauge("repair_oldest_seconds", "How long ago the bucket was found equal everywhere for which that is longest ago.", func(s *Snapshot) int64 { return int64(s.Repair.Oldest.Seconds()) }),
	counter("repair_equal", "Comparisons that found a bucket equal at all its replicas.", func(s *Snapshot) int64 { return s.Repair.Compared }),
	counter("repair_different", "Comparisons that found a difference at first.", func(s *Snapshot) int64 { return s.Repair.Differed }),
	counter("repair_adopted", "Records that this node lacked and has taken over.", func(s *Snapshot) int64 { return s.Repair.Adopted }),
	counter("repair_brought", "Records that other nodes have taken over because of this one.", func(s *Snapshot) int64 { return s.Repair.Brought }),
	counter("repair_settled", "Keys that needed a round to become equal.", func(s *Snapshot) int64 { return s.Repair.Settled }),
	counter("repair_failed", "Records that a store could not take over.", func(s *Snapshot) int64 { return s.Repair.Failed }),
	counter("repair_bytes", "Bytes of questions and answers between replicas that are compared.", func(s *Snapshot) int64 { return s.Repair.Bytes }),
	gauge("damaged_keys", "Keys whose records are damaged here, as far as it was noticed, and not healed yet.", func(s *Snapshot) int64 { return s.Repair.Wounds }),
	counter("repair_healed", "Damaged records that gave way to what other replicas hold.", func(s *Snapshot) int64 { return s.Repair.Healed }),
	counter("scrub_records", "Records read to see whether they are whole.", func(s *Snapshot) int64 { return s.Repair.Scrubbed }),
	counter("scrub_passes", "Times that all records were.", func(s *Snapshot) int64 { return s.Repair.Scrubs }),
	counter("scrub_damaged", "Records that were not.", func(s *Snapshot) int64 { return s.Repair.ScrubDamaged }),
	counter("purged", "Records of what is gone that were forgotten.", func(s *Snapshot) int64 { return s.Repair.Purged }),
}

var (
	readyDesc    = prometheus.NewDesc("unkai_ready", "1 while the node serves.", nil, nil)
	infoDesc     = prometheus.NewDesc("unkai_info", "Always 1; who the node is.", []string{"version", "node", "store", "sync"}, nil)
	commandsDesc = prometheus.NewDesc("unkai_commands_total", "Operations of clients, by command.", []string{"command"}, nil)
	resultsDesc  = prometheus.NewDesc("unkai_results_total", "Operations of clients that ask for a key, by how they ended.", []string{"command", "result"}, nil)
)

// labelled are the counts whose public names have labels.
var labelled = []struct {
	desc   *prometheus.Desc
	labels []string
	count  string
}{
	{commandsDesc, []string{"get"}, "cmd_get"},
	{commandsDesc, []string{"set"}, "cmd_set"},
	{commandsDesc, []string{"touch"}, "cmd_touch"},
	{commandsDesc, []string{"flush"}, "cmd_flush"},
	{resultsDesc, []string{"get", "hit"}, "get_hits"},
	{resultsDesc, []string{"get", "miss"}, "get_misses"},
	{resultsDesc, []string{"touch", "hit"}, "touch_hits"},
	{resultsDesc, []string{"touch", "miss"}, "touch_misses"},
	{resultsDesc, []string{"incr", "hit"}, "incr_hits"},
	{resultsDesc, []string{"incr", "miss"}, "incr_misses"},
	{resultsDesc, []string{"decr", "hit"}, "decr_hits"},
	{resultsDesc, []string{"decr", "miss"}, "decr_misses"},
	{resultsDesc, []string{"delete", "hit"}, "delete_hits"},
	{resultsDesc, []string{"delete", "miss"}, "delete_misses"},
	{resultsDesc, []string{"cas", "hit"}, "cas_hits"},
	{resultsDesc, []string{"cas", "miss"}, "cas_misses"},
	{resultsDesc, []string{"cas", "exists"}, "cas_badval"},
}

// collector makes metrics of a snapshot whenever somebody asks for them, so
// that requests pay nothing for being counted twice. A node that does not serve
// has no figures: zeros would look like a loss.
type collector func() Snapshot

// Describe implements prometheus.Collector.
func (c collector) Describe(ch chan<- *prometheus.Desc) {
	ch <- readyDesc
	ch <- infoDesc
	ch <- commandsDesc
	ch <- resultsDesc
	for _, list := range [][]metric{metrics, clusterMetrics} {
		for i := range list {
			ch <- list[i].desc
		}
	}
	for _, m := range timeMetrics {
		ch <- m.desc
	}
	for _, m := range linkMetrics {
		ch <- m.desc
	}
	ch <- waitItems
	ch <- waitBytes
}

// Collect implements prometheus.Collector.
func (c collector) Collect(ch chan<- prometheus.Metric) {
	s := c()
	send := func(d *prometheus.Desc, kind prometheus.ValueType, v int64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, kind, float64(v), labels...)
	}
	send(readyDesc, prometheus.GaugeValue, flag(s.State == ""))
	send(infoDesc, prometheus.GaugeValue, 1, s.Version, s.node(), s.Kind, s.Sync)
	if s.State != "" {
		return
	}
	for _, list := range [][]metric{metrics, clusterMetrics} {
		for i := range list {
			send(list[i].desc, list[i].kind, list[i].value(&s))
		}
	}
	for _, m := range timeMetrics {
		ch <- prometheus.MustNewConstMetric(m.desc, prometheus.GaugeValue, m.value(&s))
	}
	for i := range s.Links {
		for _, m := range linkMetrics {
			ch <- prometheus.MustNewConstMetric(m.desc, m.kind, m.value(&s.Links[i]), s.Links[i].Node)
		}
	}
	for _, w := range s.Repair.Waits {
		send(waitItems, prometheus.GaugeValue, w.Items, w.Why, w.Node)
		send(waitBytes, prometheus.GaugeValue, w.Bytes, w.Why, w.Node)
	}
	for _, l := range labelled {
		send(l.desc, prometheus.CounterValue, s.Clients.Commands[l.count], l.labels...)
	}
}

// newRegistry holds the node's metrics, and those of Go and of the process.
func newRegistry(snapshot func() Snapshot) *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(
		collector(snapshot),
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	return r
}
