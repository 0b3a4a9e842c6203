package jobs

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

// Note looks how far the running job is, so that its speed is known. It is for who looks
// now and then.
func (o *Operator) Note(top *topology.Topology) { o.progress.note(top, o.cfg.Now()) }

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
	at    int64
	moved int // see work
	bytes int64
}

// work is what a job does: it moves replicas, or, when nobody gets any that he had not
// held, has buckets do with fewer.
func work(j *topology.Job) (moved, planned int) {
	if max(j.Planned.Replicas, j.Moved.Replicas) == 0 {
		return j.Moved.Buckets, j.Planned.Buckets
	}
	return j.Moved.Replicas, j.Planned.Replicas
}

// note looks how far the job is.
func (p *progress) note(top *topology.Topology, now int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	j, moved := top.Job, 0
	if j != nil {
		moved, _ = work(j)
	}
	if j == nil || j.Paused || j.ID != p.job || len(p.seen) == 0 {
		p.seen, p.moved, p.before = p.seen[:0], now, now
		if p.job = 0; j != nil {
			p.job = j.ID
			p.seen = append(p.seen, seen{now, moved, j.Moved.Bytes})
		}
		return
	}
	if last := p.seen[len(p.seen)-1]; moved > last.moved && now >= last.at+apart {
		p.before, p.moved = p.moved, now
		p.seen = append(p.seen, seen{now, moved, j.Moved.Bytes})
	}
	for len(p.seen) > 2 && (p.seen[1].at <= now-lately || len(p.seen) > maxSeen) {
		p.seen = append(p.seen[:0], p.seen[1:]...)
	}
}

// speed is how much of its work the job has done in a millisecond lately, and how many
// bytes it has moved; 0: nobody knows. Where what moves at once takes longer than what counts as lately, it is of
// the time since the last of it but one.
func (p *progress) speed(j *topology.Job, now int64) (some, bytes float64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if j.ID != p.job || len(p.seen) == 0 || now-p.moved > max(lately, 2*(p.moved-p.before)) {
		return 0, 0
	}
	from := p.seen[0]
	moved, _ := work(j)
	if now-from.at < apart || moved <= from.moved {
		return 0, 0
	}
	took := float64(now - from.at)
	return float64(moved-from.moved) / took, float64(j.Moved.Bytes-from.bytes) / took
}
