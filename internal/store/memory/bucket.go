package memory

import "unkai"

// Drop implements store.Engine. All is forgotten at one moment; the slots are given back
// after that, table by table.
func (e *Engine) Drop(b unkai.Bucket) error {
	parts, first := e.bucketParts(b)
	type index struct {
		dir   []table
		depth uint8
	}
	was := make([]index, len(parts))
	e.lock(b)
	for i := range parts {
		p, s := &parts[i], e.shardOf(first+i)
		was[i] = index{p.dir, p.depth}
		s.counts.sub(p.counts)
		p.dir, p.depth, p.counts = nil, 0, counts{}
	}
	e.floors[b].Store(0)
	e.unlock(b)
	for i := range parts {
		p, s := &parts[i], e.shardOf(first+i)
		each(was[i].dir, was[i].depth, func(t *table, _ uint32) {
			s.mu.Lock()
			s.releaseTable(p, t, b)
			s.mu.Unlock()
		})
	}
	return nil
}

// releaseTable gives back a table and all its records. What is damaged cannot
// say what it holds, and keeps it until the process ends.
func (s *shard) releaseTable(p *part, t *table, b unkai.Bucket) {
	for _, en := range s.entries(t) {
		if en == 0 || !en.intact() {
			continue
		}
		if h, ok := parse(s.at(en.loc())); ok && h.intact(b) {
			s.releaseRecord(p, en.loc(), &h)
		}
	}
	s.release(p, t.loc)
}
