package bench

import (
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

const (
	// longest is the largest latency that a histogram can hold.
	longest = 10 * time.Minute
	// manyErrors is how many different texts of errors are kept apart.
	manyErrors  = 100
	otherErrors = "(other errors)"
)

func newHistogram() *hdrhistogram.Histogram {
	return hdrhistogram.New(int64(time.Microsecond), int64(longest), 3)
}

// tally is what one worker has counted. Only live may be read by others.
type tally struct {
	latency [kinds]*hdrhistogram.Histogram // of the measured requests that succeeded
	errors  map[string]int64               // by text; of measured and unmeasured requests

	done, misses, wrong, failed int64 // of the measured requests
	taken                       int64 // sum of their latencies
	answered                    int64 // replies of all kinds, measured or not
	lost                        int64 // connections
	last                        int64 // when the last measured reply came

	live struct {
		done, misses, wrong, failed, taken atomic.Int64
		_                                  [24]byte // workers do not share a cache line
	}
}

func newTally() *tally {
	t := &tally{errors: map[string]int64{}}
	for k := range t.latency {
		t.latency[k] = newHistogram()
	}
	return t
}

// success counts a measured request that was answered as it should be.
func (t *tally) success(k kind, took, now int64) {
	took = min(max(took, 0), int64(longest))
	// The value is within the range, and that is the only error there is.
	_ = t.latency[k].RecordValue(took)
	t.done++
	t.taken += took
	t.last = now
}

// fail counts n requests that ended with that text.
func (t *tally) fail(text []byte, n int64) {
	t.failed += n
	if _, known := t.errors[string(text)]; known || len(t.errors) < manyErrors {
		t.errors[string(text)] += n
		return
	}
	t.errors[otherErrors] += n
}

// publish lets Progress see what was counted.
func (t *tally) publish() {
	t.live.done.Store(t.done)
	t.live.misses.Store(t.misses)
	t.live.wrong.Store(t.wrong)
	t.live.failed.Store(t.failed)
	t.live.taken.Store(t.taken)
}
