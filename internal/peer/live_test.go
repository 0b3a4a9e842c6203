package peer_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"unkai/internal/peer"
)

// A node that stands still is found out within a second, also when nobody
// calls it; one that only has nothing to say is not.
func TestAFrozenNodeIsNoticed(t *testing.T) {
	for _, calling := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			n := newPipes()
			at := n.place("b")
			a := openAt(t, n.place("a"), 1, nil)
			openAt(t, at, 2, nil)
			a.Know(2, "b")
			if _, err := ask(a, 2, peer.Replica, "x", time.Second); err != nil {
				t.Fatal(err)
			}
			time.Sleep(5 * time.Minute)
			if s := a.Stats(); !a.Alive(2) || s.Connects != 1 {
				t.Fatalf("silence: alive %v, %+v", a.Alive(2), s)
			}
			if _, err := ask(a, 2, peer.Copy, "x", time.Second); err != nil {
				t.Fatal(err)
			}
			at.freeze()
			began := time.Now()
			if calling {
				_, err := ask(a, 2, peer.Replica, "x", time.Minute)
				if !errors.Is(err, peer.ErrLost) || !peer.Sent(err) {
					t.Errorf("a call to a frozen node ended as %v", err)
				}
			} else {
				time.Sleep(700 * time.Millisecond)
			}
			if d := time.Since(began); d < 350*time.Millisecond || d > 700*time.Millisecond || a.Alive(2) {
				t.Errorf("after %v: alive %v", d, a.Alive(2))
			}
			// From now on calls end at once.
			began = time.Now()
			if _, err := ask(a, 2, peer.Replica, "x", time.Minute); !errors.Is(err, peer.ErrDown) || time.Since(began) != 0 {
				t.Errorf("a call to a dead node ended as %v after %v", err, time.Since(began))
			}
			at.thaw()
			time.Sleep(3 * time.Second)
			for _, k := range []peer.Kind{peer.Replica, peer.Copy} {
				if _, err := ask(a, 2, k, "x", time.Second); err != nil || !a.Alive(2) {
					t.Errorf("a thawed node: %v", err)
				}
			}
		})
	}
}

// Attempts to connect become rarer, but a node that begins is found within
// about a second; a new address is tried at once.
func TestReconnecting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newPipes()
		var log logbook
		from := n.place("a")
		a := start(t, peer.Config{Listener: from, Self: 1, Cluster: cluster(7), Dial: from.dial}, book(&log))
		a.Know(2, "b")
		// The first call waits for the first attempt, and no longer.
		if _, err := ask(a, 2, peer.Replica, "x", time.Minute); !errors.Is(err, peer.ErrDown) {
			t.Errorf("a call to nobody ended as %v", err)
		}
		time.Sleep(time.Minute)
		if n := from.dials.Load(); n < 30 || n > 130 {
			t.Errorf("%d attempts in a minute", n)
		}
		if n := log.lines(); n != 1 {
			t.Errorf("%d lines were logged about it", n)
		}
		openAt(t, n.place("b"), 2, nil)
		time.Sleep(1600 * time.Millisecond)
		if _, err := ask(a, 2, peer.Replica, "x", time.Minute); err != nil || !a.Alive(2) {
			t.Errorf("after it began: %v", err)
		}
		a.Know(3, "nowhere")
		time.Sleep(time.Minute)
		openAt(t, n.place("c"), 3, nil)
		a.Know(3, "c")
		synctest.Wait()
		if !a.Alive(3) {
			t.Error("a new address was not tried at once")
		}
	})
}

// What is not read does not pile up, and does not count as silence.
func TestBackPressure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const maxServed, maxCalls = 1024, 16 << 10
		held := make(chan *peer.Request, maxCalls)
		n := newPipes()
		a := openAt(t, n.place("a"), 1, nil)
		b := openAt(t, n.place("b"), 2, map[peer.Kind]peer.Handler{
			peer.Operations: serve(func(q *peer.Request) { held <- q }),
			peer.Copy:       serve(func(q *peer.Request) { held <- q }),
		})
		a.Know(2, "b")
		over := make(told, maxCalls+1)
		for range maxCalls + 1 {
			a.Call(2, &peer.Call{Kind: peer.Operations, Body: make([]byte, 100), Timeout: time.Minute, Done: over})
		}
		if c := <-over; !errors.Is(c.Err, peer.ErrBusy) || peer.Sent(c.Err) {
			t.Fatalf("the call that was too many ended as %v", c.Err)
		}
		time.Sleep(10*time.Second + 3*time.Millisecond) // between two ticks
		if len(held) != maxServed || b.Stats().Served != maxServed || !a.Alive(2) || a.Stats().Connects != 1 {
			t.Fatalf("%d requests are open, alive %v, %+v", len(held), a.Alive(2), a.Stats())
		}
		began := time.Now()
		q := <-held
		q.Answer(q.Body) // one goes out although the rest is still held
		if c := <-over; c.Err != nil || time.Since(began) != 0 {
			t.Errorf("one answer: %v after %v", c.Err, time.Since(began))
		}
		go func() {
			for range maxCalls - 1 {
				q := <-held
				q.Answer(q.Body)
			}
		}()
		for range maxCalls - 1 {
			if c := <-over; c.Err != nil || len(c.Reply) != 100 {
				t.Fatal(c.Err)
			}
		}
		if d := time.Since(began); d != 0 {
			t.Errorf("answers waited for %v", d)
		}
		// Bytes are bounded too. The other side opens 65 MiB, holds one more
		// that it has read, and here wait one that is written and one that is not.
		bulk := make(told, 8)
		for range 8 {
			a.Call(2, &peer.Call{Kind: peer.Copy, Body: make([]byte, 20<<20), Timeout: time.Minute, Done: bulk})
			synctest.Wait()
		}
		if s := b.Stats(); s.Served != maxCalls+3 || len(bulk) != 2 {
			t.Errorf("%d large calls are open, %d were too many", s.Served-maxCalls, len(bulk))
		}
		for range 6 {
			q := <-held
			q.Answer(nil)
		}
		busy := 0
		for range 8 {
			if c := <-bulk; errors.Is(c.Err, peer.ErrBusy) {
				busy++
			} else if c.Err != nil {
				t.Error(c.Err)
			}
		}
		if busy != 2 {
			t.Errorf("%d of 8 large calls were too many", busy)
		}
	})
}

func TestTimeIsUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var held []*peer.Request
		n := newPipes()
		a := openAt(t, n.place("a"), 1, nil)
		openAt(t, n.place("b"), 2, map[peer.Kind]peer.Handler{
			peer.Operations: serve(func(q *peer.Request) { held = append(held, q) }),
		})
		a.Know(2, "b")
		done := make(told, 1)
		c := &peer.Call{Kind: peer.Operations, Body: []byte("old"), Done: done}
		for _, timeout := range []time.Duration{300 * time.Millisecond, 5 * time.Second, 40 * time.Millisecond} {
			began := time.Now()
			c.Timeout = timeout
			a.Call(2, c)
			<-done
			if d := time.Since(began); !errors.Is(c.Err, peer.ErrTimeout) || d < timeout || d > timeout+10*time.Millisecond {
				t.Errorf("%v: %v after %v", timeout, c.Err, d)
			}
		}
		// Answers that come too late are nobody's.
		c.Body, c.Timeout = []byte("new"), time.Minute
		a.Call(2, c)
		synctest.Wait()
		for _, q := range held {
			q.Answer(q.Body)
		}
		if <-done; string(c.Reply) != "new" || c.Err != nil {
			t.Errorf("%q, %v", c.Reply, c.Err)
		}
		if s := a.Stats(); s.Timeouts != 3 || s.Answers != 1 {
			t.Errorf("counted %+v", s)
		}
	})
}

// What was never given to the connection is known not to have been sent.
func TestWhatWasNotSentIsKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newPipes()
		at := n.place("b")
		a := openAt(t, n.place("a"), 1, nil)
		openAt(t, at, 2, nil)
		a.Know(2, "b")
		if _, err := ask(a, 2, peer.Replica, "x", time.Second); err != nil {
			t.Fatal(err)
		}
		at.freeze()
		done := make(told, 3)
		calls := make([]peer.Call, 3)
		for i := range calls { // one that the pipe takes, one in the writer's hands, one behind it
			calls[i] = peer.Call{Kind: peer.Replica, Timeout: time.Minute, Done: done}
			a.Call(2, &calls[i])
			synctest.Wait()
		}
		for range calls {
			<-done
		}
		for i, want := range []error{peer.ErrLost, peer.ErrLost, peer.ErrDown} {
			if !errors.Is(calls[i].Err, want) {
				t.Errorf("call %d ended as %v", i, calls[i].Err)
			}
		}
		at.thaw()
	})
}

// The connection for large calls goes away when nobody uses it, and comes back.
func TestBulkIsMadeWhenNeeded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newPipes()
		a := openAt(t, n.place("a"), 1, nil)
		openAt(t, n.place("b"), 2, nil)
		a.Know(2, "b")
		for i := range int64(2) {
			if _, err := ask(a, 2, peer.Copy, "x", time.Second); err != nil {
				t.Fatal(err)
			}
			synctest.Wait() // the other connection may still be on its way
			if s := a.Stats(); s.Outgoing != 2 || s.Connects != 2+i {
				t.Errorf("with bulk: %+v", s)
			}
			time.Sleep(time.Minute)
			if s := a.Stats(); s.Outgoing != 1 {
				t.Errorf("a minute later: %+v", s)
			}
		}
	})
}
