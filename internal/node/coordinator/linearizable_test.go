package coordinator_test

import (
	"errors"
	"flag"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"unkai"
	"unkai/internal/check"
	"unkai/internal/store"
)

var seed = flag.Uint64("seed", 0, "seed of the random operations; 0: a new one")

// anyOp draws an operation on one of a few keys. Seen are cas uniques that the
// client was told, by key. It compares with those, and with uniques that it was
// not told: one of them may be that of an item in doubt.
func anyOp(r *rand.Rand, seen map[string]uint64) unkai.Op {
	op := unkai.Op{Key: []byte("k" + strconv.Itoa(r.IntN(10))), Value: []byte(strconv.Itoa(r.IntN(1000)))}
	op.Kind = []unkai.Kind{
		unkai.Get, unkai.Get, unkai.Get, unkai.Set, unkai.Set, unkai.Set, unkai.Add, unkai.Replace, unkai.Append, unkai.Prepend,
		unkai.Increment, unkai.Decrement, unkai.Delete, unkai.Delete,
	}[r.IntN(14)]
	switch op.Kind {
	case unkai.Get:
		op.Meta, op.Vivify = r.IntN(2) == 0, r.IntN(8) == 0
	case unkai.Increment, unkai.Decrement:
		op.Delta, op.Vivify, op.Initial = uint64(r.IntN(5)), r.IntN(2) == 0, 10
	}
	switch op.Kind {
	case unkai.Set, unkai.Append, unkai.Prepend, unkai.Increment, unkai.Decrement, unkai.Delete:
		if cas := seen[string(op.Key)]; cas != 0 && r.IntN(2) == 0 {
			op.Compare = true
			op.CAS = uint64(unkai.Ballot(cas) + unkai.MakeBallot(uint64(r.IntN(3)), 0))
		}
	}
	switch op.Kind {
	case unkai.Set:
		op.Invalidate = op.Compare && r.IntN(3) == 0
	case unkai.Delete:
		op.Invalidate = r.IntN(3) == 0
	}
	return op
}

// Random operations of many clients on few keys, batched, over a disk that is
// slow, refuses and hangs, must look as if each key were one register.
func TestLinearizable(t *testing.T) {
	s := *seed
	if s == 0 {
		s = rand.Uint64()
	}
	t.Logf("replay with -run TestLinearizable -seed %d", s)
	var history check.History
	synctest.Test(t, func(t *testing.T) { disturb(t, s, &history) })
	// Outside: virtual time would never let the limit pass.
	if v := history.Judge(10 * time.Minute); !v.OK {
		path := filepath.Join(os.TempDir(), "unkai-coordinator-"+strconv.FormatUint(s, 10)+".html")
		f, err := os.Create(path)
		if err == nil {
			err = errors.Join(v.Draw(f), f.Close())
		}
		t.Errorf("%d operations are not linearizable (undecided: %v); see %s (%v)", history.Len(), v.Undecided, path, err)
	}
}

func disturb(t *testing.T, s uint64, history *check.History) {
	const timeout = time.Second
	h := open(timeout)
	h.engine.setHeld(true)
	stop, syncer := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(syncer)
		r := rand.New(rand.NewPCG(s, 0))
		for n := 0; ; n++ {
			select {
			case <-h.engine.arrived:
			case <-stop:
				h.engine.sync(nil)
				return
			}
			switch {
			case n%20 == 19:
				time.Sleep(2 * timeout) // in virtual time: the disk hangs, and all give up
			case r.IntN(20) == 0:
				h.engine.setRefuse(store.ErrFull, 3)
			}
			h.engine.sync(nil)
		}
	}()
	var wg sync.WaitGroup
	for client := range 8 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(s, uint64(client)+1))
			seen := map[string]uint64{}
			for range 150 {
				var b unkai.Batch
				var ends []func(unkai.Result)
				for range 1 + r.IntN(4) {
					op := anyOp(r, seen)
					*b.Add() = op
					ends = append(ends, history.Begin(client, op))
				}
				for len(b.Results) < len(b.Ops) {
					h.Do(&b)
				}
				for i, res := range b.Results {
					if res.Status == unkai.OK && res.Item.CAS != 0 {
						seen[string(b.Ops[i].Key)] = res.Item.CAS
					}
					if res.Err != nil && !errors.Is(res.Err, store.ErrFull) && res.Status != unkai.InDoubt && res.Status != unkai.Failed {
						t.Errorf("status %d with error %v", res.Status, res.Err)
					}
					ends[i](res)
				}
			}
		})
	}
	wg.Wait()
	close(stop)
	<-syncer
	if st := h.Stats(); st.Shared == 0 || st.Timeouts == 0 {
		t.Errorf("the run was too tame: %+v", st)
	}
}
