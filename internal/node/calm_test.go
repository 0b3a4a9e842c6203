package node

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"unkai/internal/core/topology"
	"unkai/internal/node/antientropy"
	"unkai/internal/node/pace"
)

// A moment without clients is no reason to send everything on its way, whether there was a
// job before it or not; and who had none for long waits for nothing.
func TestQuietForAMoment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		top := topology.New(1, 16, 1, 1, 1, topology.Node{ID: 1, Weight: 1})
		if err := top.Seal(); err != nil {
			t.Fatal(err)
		}
		now := func() *topology.Topology { return &top }
		n := &Node{id: 1, cfg: Config{Now: func() int64 { return time.Now().UnixMilli() }}, pacer: &pace.Pacer{Now: func() int64 { return time.Now().UnixMilli() }, Moving: func() bool { return false }}}
		n.jobs = n.newJobs()
		says := func() bool {
			return n.settled(top.Epoch, &antientropy.Mover{Self: 1, Topology: now}).Clients
		}
		const look = 250 * time.Millisecond
		sleep := func(d time.Duration) {
			for ; d > 0; d -= look {
				n.looks(&top, false)
				time.Sleep(look)
			}
		}
		ctx, stop := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { n.pacer.Run(ctx) })
		defer running.Wait()
		defer stop()
		sleep(5 * time.Second)
		if says() {
			t.Error("there never were clients")
		}
		for range 300 {
			b := n.pacer.Latencies.Begin(true)
			time.Sleep(10 * time.Millisecond)
			n.pacer.Latencies.End(b)
			n.looks(&top, false)
		}
		sleep(turnCalm / 2)
		if n.paced().Told > 0 || !says() {
			t.Error("nobody has asked it before, but there were clients just now")
		}
		sleep(turnCalm)
		if says() {
			t.Error("there have been none for long")
		}
	})
}
