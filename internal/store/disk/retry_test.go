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

// While a compaction of damaged tables waits to be tried again, all else goes on, and the
// store can be closed.
func TestRetriesHoldNobodyUp(t *testing.T) {
	mem := vfs.NewMem()
	e := mustOpen(t, small(mem))
	put := func(of string) {
		t.Helper()
		const n = 1000
		d := make(waiter, n)
		for i := range n {
			key := fmt.Appendf(nil, "%s-%d", of, i)
			e.Write(&store.Write{Bucket: 3, Hash: testHash(string(key)), Key: key, Record: benchRecord(1<<16, noise(100)), Done: d})
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
	put("first")
	mustClose(t, e)
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
		data[len(data)/3] ^= 1
	}
	e = mustOpen(t, small(mem))
	waits := make(chan struct{}, 1)
	e.retries.mu.Lock()
	e.retries.held = func() time.Duration {
		select {
		case waits <- struct{}{}:
		default:
		}
		return time.Hour
	}
	e.retries.mu.Unlock()
	put("second")
	<-waits // it has failed, and is tried again
	put("third")
	s, err := e.Snapshot(3)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	mustClose(t, e)
}
