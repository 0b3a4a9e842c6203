package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

const (
	// killClients share killRate operations per second, half of them writes:
	// little enough for every system to keep up with.
	killClients = 8
	killRate    = 400
	// killBefore is how long all is well.
	killBefore = 2 * time.Second
)

// kill is what the clients of the remaining nodes saw when one was killed.
// Times are in milliseconds, and count from when an operation was due.
type kill struct {
	Leader                   bool // the node killed was the dearest one
	Before, First, Later     float64
	GapBefore                float64 // longest time that a client stood there unserved, before
	GapFirst, GapLater       float64 // began in the first second after, and later
	GapOpen                  bool    `json:",omitempty"` // it was never over
	FailedFirst, FailedLater int
	Error                    string `json:",omitempty"`
}

// asked is one operation.
type asked struct {
	due, end time.Duration // since the start
	err      error
}

// kill kills a node with signal 9 while clients of the others work at a steady
// rate, whatever the answers.
func (p plan) kill(ctx context.Context, cl cluster, round int) (*kill, error) {
	victim, err := cl.dearest(ctx)
	if err != nil {
		return nil, fmt.Errorf("find whom to kill: %w", err)
	}
	leader := victim >= 0
	if !leader {
		victim = round % nodes
	}
	clients, err := p.clients(ctx, cl, killClients, func(node int) bool { return node != victim })
	if err != nil {
		return nil, err
	}
	defer closeAll(clients)
	began, length := time.Now(), killBefore+p.after
	seen := make([][]asked, len(clients))
	var wg sync.WaitGroup
	for w, c := range clients {
		wg.Go(func() { seen[w] = p.steadily(ctx, c, w, began, length) })
	}
	select {
	case <-time.After(time.Until(began.Add(killBefore))):
	case <-ctx.Done():
	}
	at := time.Since(began)
	err = cl.members().procs[victim].kill()
	wg.Wait()
	if err == nil {
		err = ctx.Err()
	}
	k := judge(seen, at, length)
	k.Leader = leader
	return &k, err
}

// steadily asks at fixed times; who is late asks at once, and the time counts.
func (p plan) steadily(ctx context.Context, c client, w int, began time.Time, length time.Duration) (out []asked) {
	const step = killClients * time.Second / killRate
	r, v := rand.New(rand.NewPCG(uint64(w), 2)), make([]byte, valueLen)
	for i := 0; ctx.Err() == nil; i++ {
		due := step*time.Duration(i) + step*time.Duration(w)/killClients
		if due >= length || time.Since(began) > length+patience {
			return out
		}
		time.Sleep(time.Until(began.Add(due)))
		var err error
		if (i+w)%2 == 0 {
			err = c.get(p.key(r))
		} else {
			value(r, v)
			err = c.put(p.key(r), v)
		}
		out = append(out, asked{due: due, end: time.Since(began), err: err})
	}
	return out
}

// judge makes figures of what all clients saw.
func judge(seen [][]asked, at, length time.Duration) (k kill) {
	var before, first, later []time.Duration
	for _, one := range seen {
		unserved := time.Duration(-1) // since when
		for _, a := range one {
			switch took := a.end - a.due; {
			case a.end <= at:
				before = append(before, took)
			case a.due < at+time.Second:
				first = append(first, took)
			default:
				later = append(later, took)
			}
			if a.err != nil && a.end > at {
				k.refused(a, at)
			}
			if unserved < 0 {
				unserved = a.due
			}
			if a.err == nil {
				k.stood(unserved, a.end, at)
				unserved = -1
			}
		}
		if unserved >= 0 {
			k.GapOpen = true
			k.stood(unserved, length, at)
		}
	}
	k.Before, k.First, k.Later = p99(before), p99(first), p99(later)
	return k
}

// refused notes an operation that failed.
func (k *kill) refused(a asked, at time.Duration) {
	if a.due < at+time.Second {
		k.FailedFirst++
	} else {
		k.FailedLater++
	}
	if k.Error == "" {
		k.Error = a.err.Error()
	}
}

// stood notes a time that a client stood there.
func (k *kill) stood(from, to, at time.Duration) {
	switch gap := millis(to - from); {
	case to <= at:
		k.GapBefore = max(k.GapBefore, gap)
	case from < at+time.Second:
		k.GapFirst = max(k.GapFirst, gap)
	default:
		k.GapLater = max(k.GapLater, gap)
	}
}

func p99(took []time.Duration) float64 {
	slices.Sort(took)
	return millis(quantile(took, 0.99))
}

func millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
