package coordinator_test

import (
	"testing"
	"testing/synctest"
	"time"

	"unkai"
	"unkai/internal/node/coordinator"
	"unkai/internal/node/replica"
	"unkai/internal/store"
)

// scripted is a remote replica that answers what a test says, after some time.
type scripted struct {
	prepare, accept func(*replica.Call) time.Duration
}

func (s scripted) Read(c *replica.Call) bool {
	c.Status, c.Err = replica.Failed, errLost
	return true
}
func (s scripted) Prepare(c *replica.Call) bool { return s.later(c, s.prepare) }
func (s scripted) Accept(c *replica.Call) bool  { return s.later(c, s.accept) }

func (s scripted) later(c *replica.Call, answer func(*replica.Call) time.Duration) bool {
	after := answer(question(c))
	time.AfterFunc(after, func() {
		q := question(c)
		answer(q)
		c.Status, c.Err, c.Found, c.Seen = q.Status, q.Err, q.Found, q.Seen
		c.Answered.CallAnswered(c)
	})
	return false
}

// A round whose leader has left waits for replicas that have not answered: one goroutine
// sees it through, and that ends.
func TestARoundWaitsThoughItsLeaderHasLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1, 0)
		key := c.ownKey()
		accepted := func(q *replica.Call) time.Duration {
			if string(q.Item.Value) == "x" {
				q.Status = replica.OK
				return 600 * time.Millisecond
			}
			q.Status, q.Err = replica.Unknown, errLost
			return 300 * time.Millisecond
		}
		promised := func(other bool, after time.Duration) func(q *replica.Call) time.Duration {
			return func(q *replica.Call) time.Duration {
				q.Status = replica.OK
				if other { // what a third one has made, above what is in doubt
					b := unkai.MakeBallot(q.Ballot.Counter()-1, 9)
					q.Found.Record = store.Record{Ballot: b, Promise: b, Epoch: q.Epoch, Item: unkai.Item{CAS: uint64(b)}}
				}
				return after
			}
		}
		peers := map[unkai.NodeID]coordinator.Replica{
			2: scripted{promised(true, 300*time.Millisecond), accepted},
			3: scripted{promised(false, 400*time.Millisecond), accepted},
		}
		node := coordinator.New(coordinator.Config{
			Self: 1, Local: c.locals[0], Topology: c.tops[0].Load, Now: c.now.Load, MaxValue: 1 << 20, Timeout: time.Second,
			Remote: func(to unkai.NodeID) coordinator.Replica { return peers[to] },
		})
		results := make(chan unkai.Result, 3)
		ask := func(op unkai.Op) { results <- do(node, op)[0] }
		more := unkai.Op{Kind: unkai.Append, Key: []byte(key), Value: []byte("y")}
		go ask(set(key, "x"))
		synctest.Wait()
		go ask(more) // leads the round of both, and leaves in the middle of it
		synctest.Wait()
		time.Sleep(500 * time.Millisecond)
		go ask(more)
		for _, want := range []unkai.Status{unkai.OK, unkai.InDoubt, unkai.InDoubt} {
			if res := <-results; res.Status != want {
				t.Errorf("%v, want %v", res, want)
			}
		}
	})
}
