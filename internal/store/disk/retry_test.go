package disk

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"unkai"
	"unkai/internal/store"
)

// A compaction of damaged tables is tried again less and less often; others are not held
// up; and when it ends well, or for a minute nothing was damaged, it begins anew.
func TestRetries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		done := make(chan struct{})
		r := &retries{done: done}
		id := 0
		try := func(err error, tables ...pebble.TableInfo) time.Duration {
			id++
			c := &pebble.CompactionInfo{JobID: id, Input: []pebble.LevelInfo{{Tables: tables}}}
			began := time.Now()
			r.begin(c)
			r.write(id)
			c.Err = err
			r.end(c)
			return time.Since(began)
		}
		bad, good := pebble.TableInfo{FileNum: 1}, pebble.TableInfo{FileNum: 2}
		damage := fmt.Errorf("reading: %w", pebble.ErrCorruption)
		waits := func(want ...time.Duration) {
			t.Helper()
			for i, w := range want {
				if i > 0 {
					if took := try(nil, good); took != 0 {
						t.Errorf("another compaction waited for %v", took)
					}
					if took := try(errors.New("no space"), good); took != 0 {
						t.Errorf("one that fails for another reason waited for %v", took)
					}
				}
				if took := try(damage, good, bad); took != w {
					t.Errorf("try %d waited for %v, not %v", i+1, took, w)
				}
				good.FileNum++
			}
		}
		ms := time.Millisecond
		waits(0, 20*ms, 40*ms, 80*ms, 160*ms, 320*ms, 640*ms, 1280*ms, 2560*ms, retryMost, retryMost)
		if took := try(nil, bad); took != retryMost {
			t.Errorf("the last one waited for %v", took)
		}
		waits(0, 20*ms)
		time.Sleep(retryForget + time.Second)
		waits(0, 20*ms)
		close(done)
		waits(0)
		if len(r.again) > 0 {
			t.Errorf("%d are under way", len(r.again))
		}
	})
}

// damaged is a store of which a table has a damaged block, at a part of its length, and to
// which more is written, so that it is compacted.
func damaged(t *testing.T, part float64) (e *Engine, put func(b unkai.Bucket, of string)) {
	t.Helper()
	mem := vfs.NewMem()
	e = mustOpen(t, small(mem))
	// What the store knows of itself is in a table of its own.
	if err := errors.Join(e.db.Flush(), e.db.Compact(t.Context(), nil, []byte{0xff}, false)); err != nil {
		t.Fatal(err)
	}
	put = func(b unkai.Bucket, of string) {
		t.Helper()
		const n = 1000
		d := make(waiter, n)
		for i := range n {
			key := fmt.Appendf(nil, "%s-%d", of, i)
			e.Write(&store.Write{Bucket: b, Hash: testHash(string(key)), Key: key, Record: benchRecord(1<<16, noise(100)), Done: d})
		}
		for range n {
			if err := d.wait(); err != nil {
				t.Fatal(err)
			}
		}
		if err := e.db.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	put(1, "first")
	names, err := mem.List("store")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if !strings.HasSuffix(name, ".sst") {
			continue
		}
		data, err := mem.UnsafeGetFileDataBuffer("store/" + name)
		if err != nil {
			t.Fatal(err)
		}
		if len(data) < 20<<10 {
			continue
		}
		data[int(float64(len(data))*part)] ^= 1
	}
	put(3, "second")
	return e, put
}

// While a compaction of damaged tables waits to be tried again, all else goes on, and the
// store can be closed; and it is not tried often, wherever the tables are damaged.
func TestRetriesHoldNobodyUp(t *testing.T) {
	for where, part := range map[string]float64{"first block": 0, "in the middle": 0.33} {
		t.Run(where, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e, put := damaged(t, part)
				time.Sleep(time.Minute)
				synctest.Wait()
				e.retries.mu.Lock()
				under, pause := len(e.retries.again), e.retries.pause
				e.retries.mu.Unlock()
				if under == 0 || pause != retryMost {
					t.Errorf("%d compactions wait, for %v", under, pause)
				}
				if n := e.db.Metrics().Compact.FailedCount; n < 10 || n > 30 {
					t.Errorf("in a minute it was tried %d times", n)
				}
				began := time.Now()
				put(3, "third")
				s, err := e.Snapshot(3)
				if err != nil {
					t.Fatal(err)
				}
				if err := s.Close(); err != nil {
					t.Error(err)
				}
				mustClose(t, e)
				if took := time.Since(began); took > time.Second {
					t.Errorf("others waited for %v", took)
				}
			})
		})
	}
}
