// Package verify asks a running cluster for operations of all kinds from many
// clients at once, and judges whether it answered like one register for each key.
package verify

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"unkai"
	"unkai/internal/check"
)

// Config says what to ask.
type Config struct {
	// Endpoints are asked by the clients in turn, HOST:PORT.
	Endpoints []string
	Duration  time.Duration
	Clients   int
	// Prefix begins each key; nothing else should.
	Prefix string
	Seed   uint64
	// Timeout for one operation. One without an answer is in doubt.
	Timeout time.Duration
	// Progress, if not nil, is told the counts about once a second.
	Progress func(Counts)
}

// Counts is how operations ended.
type Counts struct {
	Answered   int64 `json:"answered"`
	NotApplied int64 `json:"not_applied"`
	InDoubt    int64 `json:"in_doubt"`
}

// Report is what Run found.
type Report struct {
	Counts
	// Failure is the last thing that went wrong with an operation.
	Failure error
	Verdict check.Verdict
}

// Clients of one key, and operations on it before another takes its place: more
// would take the judge too long.
const (
	perKey    = 4
	keysEach  = 8
	opsPerKey = 1000
	judgeTime = 5 * time.Minute
)

// run is one verification.
type run struct {
	cfg     Config
	history check.History
	counts  struct{ answered, notApplied, inDoubt atomic.Int64 }
	used    []atomic.Int64 // operations so far on the keys of each place
	mu      sync.Mutex
	failure error
}

// Run asks until the time is over or ctx ends, deletes its keys and judges.
func Run(ctx context.Context, cfg Config) (Report, error) {
	if len(cfg.Endpoints) == 0 || cfg.Clients < 1 {
		return Report{}, errors.New("verify: no endpoints or no clients")
	}
	groups := (cfg.Clients + perKey - 1) / perKey
	v := &run{cfg: cfg, used: make([]atomic.Int64, groups*keysEach)}
	ctx, cancel := context.WithTimeout(ctx, cfg.Duration)
	defer cancel()
	var wg sync.WaitGroup
	for i := range cfg.Clients {
		wg.Go(func() { v.client(ctx, i, i%groups) })
	}
	if cfg.Progress != nil {
		wg.Go(func() { v.progress(ctx) })
	}
	wg.Wait()
	v.clean()
	r := Report{Counts: v.now(), Failure: v.failure}
	if r.Answered == 0 {
		return r, fmt.Errorf("verify: nothing was answered: %w", v.failure)
	}
	r.Verdict = v.history.Judge(judgeTime)
	return r, nil
}

func (v *run) now() Counts {
	c := &v.counts
	return Counts{c.answered.Load(), c.notApplied.Load(), c.inDoubt.Load()}
}

func (v *run) progress(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			v.cfg.Progress(v.now())
		}
	}
}

func (v *run) key(place int) []byte {
	age := v.used[place].Add(1) / opsPerKey
	return fmt.Appendf(nil, "%s%d.%d", v.cfg.Prefix, place, age)
}

// pauseAfterFailure keeps a client from asking a dead endpoint all the time.
const pauseAfterFailure = 20 * time.Millisecond

func (v *run) client(ctx context.Context, number, group int) {
	c := &client{endpoint: v.cfg.Endpoints[number%len(v.cfg.Endpoints)], timeout: v.cfg.Timeout}
	defer c.close()
	r := rand.New(rand.NewPCG(v.cfg.Seed, uint64(number)))
	seen := map[string]uint64{}
	for ctx.Err() == nil {
		op := anyOp(r, v.key(group*keysEach+r.IntN(keysEach)), seen)
		end := v.history.Begin(number, op)
		res := c.do(&op)
		end(res)
		switch res.Status {
		case unkai.Failed:
			v.counts.notApplied.Add(1)
		case unkai.InDoubt:
			v.counts.inDoubt.Add(1)
		default:
			v.counts.answered.Add(1)
			if res.Item.CAS != 0 {
				clear(seen) // the latest only: older ones are of no use
				seen[string(op.Key)] = res.Item.CAS
			}
			continue
		}
		v.mu.Lock()
		v.failure = res.Err
		v.mu.Unlock()
		select {
		case <-ctx.Done():
		case <-time.After(pauseAfterFailure):
		}
	}
}

// anyOp draws an operation.
func anyOp(r *rand.Rand, key []byte, seen map[string]uint64) unkai.Op {
	op := unkai.Op{Key: key, Meta: true}
	op.Kind = []unkai.Kind{
		unkai.Get, unkai.Get, unkai.Get, unkai.Get, unkai.Set, unkai.Set, unkai.Set, unkai.Add, unkai.Replace,
		unkai.Append, unkai.Prepend, unkai.Increment, unkai.Increment, unkai.Decrement, unkai.Delete, unkai.Touch,
	}[r.IntN(16)]
	switch op.Kind {
	case unkai.Set, unkai.Add, unkai.Replace, unkai.Append, unkai.Prepend:
		op.Value = strconv.AppendInt(nil, r.Int64N(1000), 10)
	case unkai.Increment, unkai.Decrement:
		op.Delta = uint64(1 + r.IntN(5))
	}
	if cas := seen[string(key)]; cas != 0 && r.IntN(2) == 0 && (op.Kind == unkai.Set || op.Kind == unkai.Delete) {
		op.Compare, op.CAS = true, cas
	}
	return op
}

// clean deletes the keys, as far as that is possible.
func (v *run) clean() {
	c := &client{endpoint: v.cfg.Endpoints[0], timeout: v.cfg.Timeout}
	defer c.close()
	for place := range v.used {
		for age := range v.used[place].Load()/opsPerKey + 1 {
			op := unkai.Op{Kind: unkai.Delete, Key: fmt.Appendf(nil, "%s%d.%d", v.cfg.Prefix, place, age)}
			if res := c.do(&op); res.Status == unkai.InDoubt && c.conn == nil {
				return // it is not there to be cleaned
			}
		}
	}
}
