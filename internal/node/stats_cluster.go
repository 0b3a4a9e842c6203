package node

import (
	"unkai/internal/admin"
)

// moreStats are the figures of the cluster that belong to the general section.
func (n *Node) moreStats(add func(string, any)) {
	top := n.manager.Topology()
	s, o := admin.NewSurvival(top, n.serves(top), n.isFull), n.operationCounts()
	add("unkai_nodes_away", len(s.Away))
	add("unkai_survives", s.Worst())
	add("unkai_unavailable_buckets", s.Unavailable)
	add("unkai_moving_buckets", s.Moving)
	add("unkai_operations_running", o.Running)
	add("unkai_operations_refused", o.Refused)
	add("unkai_operations_sent", o.Sent)
	add("unkai_operations_rerouted", o.Rerouted)
}

// clusterStats is what the cluster does and survives.
func (n *Node) clusterStats(add func(string, any)) {
	top := n.manager.Topology()
	s, d, o := admin.NewSurvival(top, n.serves(top), n.isFull), n.deciding(top), n.operationCounts()
	add("epoch", top.Epoch)
	add("epoch_since", d.Since/1000)
	add("nodes", len(top.Nodes))
	add("nodes_away", len(s.Away))
	add("buckets", s.Buckets)
	add("buckets_moving", s.Moving)
	add("buckets_without_write_quorum", s.Writes.Without)
	add("buckets_without_read_quorum", s.Reads.Without)
	add("survives_writes_nodes", s.Writes.Nodes)
	add("survives_reads_nodes", s.Reads.Nodes)
	if s.Writes.Zones != nil {
		add("survives_writes_zones", *s.Writes.Zones)
		add("survives_reads_zones", *s.Reads.Zones)
	}
	add("restart_safe", flag(s.Restart))
	add("managers", len(s.Managers.Nodes))
	add("managers_alive", s.Managers.Alive)
	add("managers_spare", s.Managers.Spare)
	add("manager", flag(d.Manager))
	add("manager_lead", flag(d.Lead))
	add("manager_lead_since", d.Leads/1000)
	add("manager_rounds", d.Rounds)
	add("topologies", d.Learned)
	add("moved_keys", o.Moved)
	add("job", flag(top.Job != nil))
	if j := top.Job; j != nil {
		add("job_planned_replicas", j.Planned.Replicas)
		add("job_moved_replicas", j.Moved.Replicas)
		add("job_planned_bytes", j.Planned.Bytes)
		add("job_moved_bytes", j.Moved.Bytes)
	}
	add("rounds_prepared", o.Prepared)
	add("reads_hedged", o.Hedged)
}

// peerStats is how this node is connected to each other one.
func (n *Node) peerStats(add func(string, any)) {
	for _, l := range n.links(n.manager.Topology()) {
		row := func(name string, value any) { add(l.Node+":"+name, value) }
		row("up", flag(l.Up))
		row("round_trip_us", int64(l.RoundTrip*1e6))
		row("open", l.Open)
		row("waiting_bytes", l.Waiting)
		row("questions", l.Calls)
		row("refused", l.Refused)
		row("timeouts", l.Timeouts)
		row("lost", l.Lost)
		row("connects", l.Connects)
		row("bytes_received", l.BytesIn)
		row("bytes_sent", l.BytesOut)
	}
}
