package peer

// Stats counts what a Port did.
type Stats struct {
	Calls    int64 // questions accepted to be sent
	Answers  int64 // that came, refusals too
	Timeouts int64
	Lost     int64 // calls whose connection broke
	Busy     int64 // calls refused because too much waited
	Down     int64 // calls refused because there was no connection
	Served   int64 // questions of others
	BytesIn  int64
	BytesOut int64
	Connects int64 // connections dialled with success, so reconnects too
	Refused  int64 // connections of others that were turned away
	Outgoing int64 // connections at this moment
	Incoming int64
}

func (s *Stats) add(o *Stats) {
	s.Calls += o.Calls
	s.Answers += o.Answers
	s.Timeouts += o.Timeouts
	s.Lost += o.Lost
	s.Busy += o.Busy
	s.Served += o.Served
	s.BytesIn += o.BytesIn
	s.BytesOut += o.BytesOut
}

// Stats are the counters at this moment.
func (p *Port) Stats() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.total
	s.Down = p.down.Load()
	for o := range p.out {
		o.addTo(&s)
		if o.up.Load() {
			s.Outgoing++
		}
	}
	for i := range p.in {
		i.addTo(&s)
		s.Incoming++
	}
	return s
}

func (w *wire) addTo(s *Stats) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s.add(&w.count)
}
