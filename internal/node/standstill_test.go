package node_test

import (
	"os"
	"sync"
	"testing"
	"time"
)

// unmoved is how long an operation may stand still beside what the machine does, which
// unhurried would let pass.
const unmoved = 8 * time.Second

// heart beats as long as the process lasts; how late it is is how long the machine itself
// stood still.
type heart struct {
	every time.Duration
	mu    sync.Mutex
	last  time.Time
	late  time.Duration // all in all
}

// hearts need a processor only, or the disk too.
var hearts = []*heart{beating(20*time.Millisecond, func() {}), beating(200*time.Millisecond, syncing())}

func beating(every time.Duration, do func()) *heart {
	h := &heart{every: every, last: time.Now()}
	go func() {
		for {
			time.Sleep(every)
			do()
			h.mu.Lock()
			now := time.Now()
			h.late += h.missing(now)
			h.last = now
			h.mu.Unlock()
		}
	}()
	return h
}

func (h *heart) missing(now time.Time) time.Duration { return max(0, now.Sub(h.last)-h.every) }

// syncing writes to a file that nobody sees.
func syncing() func() {
	f, err := os.CreateTemp("", "unkai-heart-")
	if err != nil {
		panic(err)
	}
	_ = os.Remove(f.Name()) // it stays until it is closed
	return func() {
		_, _ = f.WriteAt([]byte{1}, 0) // where it fails it took no time, which is what counts
		_ = f.Sync()
	}
}

// stood is how long the machine has stood still so far.
func stood() (sum time.Duration) {
	for _, h := range hearts {
		h.mu.Lock()
		sum += h.late + h.missing(time.Now())
		h.mu.Unlock()
	}
	return sum
}

// moves complains when the operation that begins now, and ends with what is given, stands
// still.
func moves(t testing.TB, what string) (ended func()) {
	begun, before := time.Now(), stood()
	return func() {
		t.Helper()
		if took, still := time.Since(begun), stood()-before; took-still > unmoved {
			t.Errorf("%.80q stood still for %v, the machine for %v of it", what, took, still)
		}
	}
}
