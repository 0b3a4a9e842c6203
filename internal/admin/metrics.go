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

// metrics are the figures without labels, of a node that serves.
var metrics = []metric{
	gauge("epoch", "Number of the present version of the topology.", func(s *Snapshot) int64 { return int64(s.Epoch) }),
	gauge("incarnation", "Rises whenever what the node held was lost.", func(s *Snapshot) int64 { return int64(s.Incarnation) }),

	gauge("connections", "Client connections that are open.", func(s *Snapshot) int64 { return s.Clients.Connections }),
	gauge("connections_limit", "Client connections that may be open.", func(s *Snapshot) int64 { return s.Clients.Limit }),
	counter("connections_accepted", "Client connections accepted.", func(s *Snapshot) int64 { return s.Clients.Accepted }),
	counter("connections_rejected", "Client connections turned away at the limit.", func(s *Snapshot) int64 { return s.Clients.Rejected }),
	counter("received_bytes", "Bytes received from clients.", func(s *Snapshot) int64 { return s.Clients.ReceivedBytes }),
	counter("sent_bytes", "Bytes sent to clients.", func(s *Snapshot) int64 { return s.Clients.SentBytes }),

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
	counter("operations_timeout", "Operations that got no answer in time.", func(s *Snapshot) int64 { return s.Rounds.Timeouts }),
	counter("items_expired", "Items found expired and removed.", func(s *Snapshot) int64 { return s.Rounds.Expired }),
	counter("rounds_retried", "Rounds begun again under a newer epoch or ballot.", func(s *Snapshot) int64 { return s.Rounds.Retried }),
}

var (
	readyDesc    = prometheus.NewDesc("unkai_ready", "1 while the node serves.", nil, nil)
	infoDesc     = prometheus.NewDesc("unkai_info", "Always 1; who the node is.", []string{"version", "node", "store", "sync"}, nil)
	commandsDesc = prometheus.NewDesc("unkai_commands_total", "Operations of clients, by how they ended.", []string{"command", "result"}, nil)
)

// collector makes metrics of a snapshot whenever somebody asks for them, so
// that requests pay nothing for being counted twice. A node that does not serve
// has no figures: zeros would look like a loss.
type collector func() Snapshot

// Describe implements prometheus.Collector.
func (c collector) Describe(ch chan<- *prometheus.Desc) {
	ch <- readyDesc
	ch <- infoDesc
	ch <- commandsDesc
	for i := range metrics {
		ch <- metrics[i].desc
	}
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
	for i := range metrics {
		m := &metrics[i]
		send(m.desc, m.kind, m.value(&s))
	}
	for _, cmd := range s.Clients.Commands {
		send(commandsDesc, prometheus.CounterValue, cmd.Count, cmd.Name, cmd.Result)
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
