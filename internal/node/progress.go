package node

import (
	"sync"

	"unkai/internal/core/topology"
)

const (
	// lately is of what time the speed of a job is told, in milliseconds.
	lately = 30_000
	// apart is how far what was seen of it is apart at least.
	apart = 250
	// maxSeen is how much of what was seen is kept.
	maxSeen = lately/apart + 2
)

// progress is how far the running job was lately. The zero value is ready.
type progress struct {
	mu   sync.Mutex
	job  int
	seen []seen // the oldest first
	// moved is since when as much has moved as now, and before that.
	moved, before int64
}

// seen is how far it was at some time.
type seen struct {
	at       int64
	replicas int
	bytes    int64
}

// note looks how far the job is.
func (p *progress) note(top *topology.Topology, now int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	j := top.Job
	if j == nil || j.Paused || j.ID != p.job || len(p.seen) == 0 {
		p.seen, p.moved, p.before = p.seen[:0], now, now
		if p.job = 0; j != nil {
			p.job = j.ID
			p.seen = append(p.seen, seen{now, j.Moved.Replicas, j.Moved.Bytes})
		}
		return
	}
	if last := p.seen[len(p.seen)-1]; j.Moved.Replicas > last.replicas && now >= last.at+apart {
		p.before, p.moved = p.moved, now
		p.seen = append(p.seen, seen{now, j.Moved.Replicas, j.Moved.Bytes})
	}
	for len(p.seen) > 2 && (p.seen[1].at <= now-lately || len(p.seen) > maxSeen) {
		p.seen = append(p.seen[:0], p.seen[1:]...)
	}
}

// speed is how many replicas and bytes the job has moved in a millisecond lately; 0:
// nobody knows. Where what moves at once takes longer than what counts as lately, it is of
// the time since the last of it but one.
func (p *progress) speed(j *topology.Job, now int64) (replicas, bytes float64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if j.ID != p.job || len(p.seen) == 0 || now-p.moved > max(lately, 2*(p.moved-p.before)) {
		return 0, 0
	}
	from := p.seen[0]
	if now-from.at < apart || j.Moved.Replicas <= from.replicas {
		return 0, 0
	}
	took := float64(now - from.at)
	return float64(j.Moved.Replicas-from.replicas) / took, float64(j.Moved.Bytes-from.bytes) / took
}
