package disk

import (
	"maps"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// retries has a compaction that came across a damaged block tried again less and less
// often. The pebble tries again at once and without end, and tells of the failure under
// its lock, which flushes and snapshots need: nobody may wait there. So it is noted which
// tables the compaction was of, and the next one of these waits when it is about to write,
// under no lock; or, if it fails before that, when it asks at its end what room there is.
type retries struct {
	done <-chan struct{} // ends all waiting

	mu    sync.Mutex
	pause time.Duration
	due   time.Time           // no earlier is it tried again
	hurt  map[uint64]struct{} // tables of which compactions have failed
	again map[int]bool        // compactions under way of such tables, and whether they have waited
}

const (
	// retryMost is how long a compaction of damaged tables waits at most.
	retryMost = 5 * time.Second
	// retryForget is after how long without a failure it begins anew.
	retryForget = time.Minute
	// maxHurt bounds the tables that are remembered.
	maxHurt = 8 << 10
)

// begin hears that a compaction begins.
func (r *retries) begin(c *pebble.CompactionInfo) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.hurt) == 0 {
		return
	}
	if time.Since(r.due) > retryForget {
		r.forget()
	}
	for t := range inputs(c) {
		if _, ok := r.hurt[t]; ok {
			if r.again == nil {
				r.again = map[int]bool{}
			}
			r.again[c.JobID] = false
			return
		}
	}
}

// write hears, under no lock, that a compaction is about to write a table, and has it wait
// until it is due.
func (r *retries) write(id int) {
	r.mu.Lock()
	waited, again := r.again[id]
	r.waits(id, again && !waited)
}

// room hears, under no lock, that somebody asks what room there is: each compaction does at
// its end, and others now and then. Who is here while one has not got as far as to write is
// taken for that one, since such a compaction takes no time.
func (r *retries) room() {
	r.mu.Lock()
	for id, waited := range r.again {
		if !waited {
			r.waits(id, true)
			return
		}
	}
	r.mu.Unlock()
}

// waits unlocks, and has a compaction wait if it is to.
func (r *retries) waits(id int, it bool) {
	if it {
		r.again[id] = true
	}
	left := time.Until(r.due)
	r.mu.Unlock()
	if !it || left <= 0 {
		return
	}
	t := time.NewTimer(left)
	defer t.Stop()
	select {
	case <-r.done:
	case <-t.C:
	}
}

// end hears how a compaction ended.
func (r *retries) end(c *pebble.CompactionInfo) {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, again := r.again[c.JobID]
	delete(r.again, c.JobID)
	switch {
	case c.Err == nil && again:
		r.forget() // it is whole again, or gone
	case c.Err != nil && pebble.IsCorruptionError(c.Err):
		r.pause = min(max(2*r.pause, retryPause), retryMost)
		r.due = time.Now().Add(r.pause)
		if r.hurt == nil || len(r.hurt) > maxHurt {
			r.hurt = map[uint64]struct{}{}
		}
		maps.Copy(r.hurt, inputs(c))
	}
}

func (r *retries) forget() { r.pause, r.hurt = 0, nil }

// inputs are the tables that a compaction reads.
func inputs(c *pebble.CompactionInfo) map[uint64]struct{} {
	out := map[uint64]struct{}{}
	for _, l := range c.Input {
		for _, t := range l.Tables {
			out[uint64(t.FileNum)] = struct{}{}
		}
	}
	return out
}
