package manager

// Stats counts what a Manager did.
type Stats struct {
	Rounds  int64 // times it has asked the managers about the next topology
	Learned int64 // topologies that have become the present one
	Since   int64 // when the present one has, or was found at the start; milliseconds since 1970
}

// Stats are the counters at this moment.
func (m *Manager) Stats() Stats {
	return Stats{m.rounds.Load(), m.learned.Load(), m.since.Load()}
}

// noted notes that there is another topology.
func (m *Manager) noted() {
	m.learned.Add(1)
	m.since.Store(m.cfg.Now())
}
