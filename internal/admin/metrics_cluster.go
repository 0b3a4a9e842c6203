package admin

import "github.com/prometheus/client_golang/prometheus"

// clusterMetrics are the figures without labels about the cluster, and about what
// became of operations in it.
var clusterMetrics = []metric{
	gauge("buckets", "Buckets of the cluster.", func(s *Snapshot) int64 { return int64(s.Survival.Buckets) }),
	gauge("buckets_moving", "Buckets on their way to other replicas.", func(s *Snapshot) int64 { return int64(s.Survival.Moving) }),
	gauge("buckets_without_write_quorum", "Buckets that cannot be written now.", func(s *Snapshot) int64 { return int64(s.Survival.Writes.Without) }),
	gauge("buckets_without_read_quorum", "Buckets that cannot be read now.", func(s *Snapshot) int64 { return int64(s.Survival.Reads.Without) }),
	gauge("survives_writes_nodes", "Nodes that may fail before some bucket cannot be written; -1: one cannot be now.", func(s *Snapshot) int64 { return int64(s.Survival.Writes.Nodes) }),
	gauge("survives_reads_nodes", "Nodes that may fail before some bucket cannot be read; -1: one cannot be now.", func(s *Snapshot) int64 { return int64(s.Survival.Reads.Nodes) }),
	gauge("restart_safe", "1 while any one node may be restarted.", func(s *Snapshot) int64 { return flag(s.Survival.Restart) }),
	gauge("nodes_away", "Members that do not answer this node.", func(s *Snapshot) int64 { return int64(len(s.Survival.Away)) }),

	gauge("managers", "Managers of the cluster.", func(s *Snapshot) int64 { return int64(len(s.Survival.Managers.Nodes)) }),
	gauge("managers_alive", "Managers that answer this node.", func(s *Snapshot) int64 { return int64(s.Survival.Managers.Alive) }),
	gauge("manager", "1 while this node is a manager.", func(s *Snapshot) int64 { return flag(s.Deciding.Manager) }),
	gauge("manager_lead", "1 while this node brings jobs forward.", func(s *Snapshot) int64 { return flag(s.Deciding.Lead) }),
	counter("manager_rounds", "Times the managers were asked about the next topology by this node.", func(s *Snapshot) int64 { return s.Deciding.Rounds }),
	counter("topologies", "Topologies that have become the present one.", func(s *Snapshot) int64 { return s.Deciding.Learned }),

	counter("moved_keys", "Keys that this node has seen brought to other replicas.", func(s *Snapshot) int64 { return s.Operations.Moved }),
	gauge("job_running", "1 while a job runs in the cluster.", func(s *Snapshot) int64 { return flag(s.Job != nil) }),
	gauge("job_planned_bytes", "Bytes that the job that runs is to move.", func(s *Snapshot) int64 { return s.job().Planned.Bytes }),
	gauge("job_moved_bytes", "Bytes that it has moved.", func(s *Snapshot) int64 { return s.job().Moved.Bytes }),
	gauge("job_planned_replicas", "Replicas of buckets that it is to move.", func(s *Snapshot) int64 { return int64(s.job().Planned.Replicas) }),
	gauge("job_moved_replicas", "Replicas of buckets that it has moved.", func(s *Snapshot) int64 { return int64(s.job().Moved.Replicas) }),

	gauge("copy_bytes_per_second", "Bytes that this node brings to other nodes in a second, in the mean of the last.", func(s *Snapshot) int64 { return s.Copying.Speed }),
	gauge("copy_limit_bytes_per_second", "Bytes that it may bring in a second, for the clients' sake; 0: any number.", func(s *Snapshot) int64 { return s.Copying.Limit }),

	gauge("operations_running", "Operations under way.", func(s *Snapshot) int64 { return s.Operations.Running }),
	counter("operations_in_doubt", "Operations of which it is not known whether they were done.", func(s *Snapshot) int64 { return s.Clients.Doubts }),
	counter("operations_refused", "Operations refused because too many ran.", func(s *Snapshot) int64 { return s.Operations.Refused }),
	counter("operations_sent", "Operations brought to coordinators of other nodes.", func(s *Snapshot) int64 { return s.Operations.Sent }),
	counter("operations_rerouted", "Operations brought to another node because the first was not there.", func(s *Snapshot) int64 { return s.Operations.Rerouted }),
	counter("rounds_prepared", "Rounds that had to ask for promises first.", func(s *Snapshot) int64 { return s.Operations.Prepared }),
	counter("reads_hedged", "Reads for which more replicas were asked than needed.", func(s *Snapshot) int64 { return s.Operations.Hedged }),
}

// job is the one that runs, or one of nothing.
func (s *Snapshot) job() *Job {
	if s.Job == nil {
		return &Job{}
	}
	return s.Job
}

// timeMetrics are the figures in seconds.
var timeMetrics = []struct {
	desc  *prometheus.Desc
	value func(*Snapshot) float64
}{
	{plain("epoch_since_seconds", "When the present topology became it here, in seconds since 1970."), func(s *Snapshot) float64 { return float64(s.Deciding.Since) / 1000 }},
	{plain("manager_lead_since_seconds", "Since when this node brings jobs forward, in seconds since 1970; 0: it does not."), func(s *Snapshot) float64 { return float64(s.Deciding.Leads) / 1000 }},
	{plain("copy_strain", "How many times as long as without what is brought the slowest hundredth of the clients waits; 0: nothing is brought, or there are none."), func(s *Snapshot) float64 { return s.Copying.Strain }},
	{plain("job_bytes_per_second", "Bytes that the job that runs has moved in a second, in the mean of the last half minute."), func(s *Snapshot) float64 { return s.job().Rate }},
	{plain("job_left_seconds", "How long the job that runs will take if it goes on as lately; 0: nobody knows."), func(s *Snapshot) float64 { return s.job().Left }},
}

func plain(name, help string) *prometheus.Desc {
	return prometheus.NewDesc("unkai_"+name, help, nil, nil)
}

var (
	waitItems = prometheus.NewDesc("unkai_tombstones_waiting", "Tombstones that cannot be forgotten yet, by what they wait for.", []string{"why", "peer"}, nil)
	waitBytes = prometheus.NewDesc("unkai_tombstones_waiting_bytes", "Bytes of their keys and records.", []string{"why", "peer"}, nil)
)

// linkMetric is a public name for a figure of a Link; its label is the other's id.
type linkMetric struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(*Link) float64
}

// linkMetrics are the figures of each other member.
var linkMetrics = []linkMetric{
	linked("peer_up", "1 while this node is connected to the other.", prometheus.GaugeValue, func(l *Link) float64 { return float64(flag(l.Up)) }),
	linked("peer_round_trip_seconds", "Mean round trip of the last greetings.", prometheus.GaugeValue, func(l *Link) float64 { return l.RoundTrip }),
	linked("peer_open", "Questions that wait for their answers.", prometheus.GaugeValue, func(l *Link) float64 { return float64(l.Open) }),
	linked("peer_waiting_bytes", "Bytes that wait to be written.", prometheus.GaugeValue, func(l *Link) float64 { return float64(l.Waiting) }),
	linked("peer_questions_total", "Questions asked.", prometheus.CounterValue, func(l *Link) float64 { return float64(l.Calls) }),
	linked("peer_refused_total", "Questions that could not be sent: too much waited, or there was no connection.", prometheus.CounterValue, func(l *Link) float64 { return float64(l.Refused) }),
	linked("peer_timeouts_total", "Questions that got no answer in time.", prometheus.CounterValue, func(l *Link) float64 { return float64(l.Timeouts) }),
	linked("peer_lost_total", "Questions whose connection broke.", prometheus.CounterValue, func(l *Link) float64 { return float64(l.Lost) }),
	linked("peer_connects_total", "Connections made, reconnects too.", prometheus.CounterValue, func(l *Link) float64 { return float64(l.Connects) }),
	linked("peer_received_bytes_total", "Bytes received over the connections that this node made.", prometheus.CounterValue, func(l *Link) float64 { return float64(l.BytesIn) }),
	linked("peer_sent_bytes_total", "Bytes sent over them.", prometheus.CounterValue, func(l *Link) float64 { return float64(l.BytesOut) }),
}

func linked(name, help string, kind prometheus.ValueType, value func(*Link) float64) linkMetric {
	return linkMetric{prometheus.NewDesc("unkai_"+name, help, []string{"peer"}, nil), kind, value}
}
