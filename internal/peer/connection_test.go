package peer_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"unkai"
	"unkai/internal/peer"
)

// What is said of the connection to one node counts that node's calls only, and
// goes on counting over reconnects.
func TestConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newPipes()
		at := n.place("b")
		a := openAt(t, n.place("a"), 1, nil)
		openAt(t, at, 2, nil)
		openAt(t, n.place("c"), 3, nil)
		a.Know(3, "c")
		a.Know(2, "b")
		for _, k := range []peer.Kind{peer.Replica, peer.Copy, peer.Replica} {
			if _, err := ask(a, 2, k, "x", time.Second); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		of := func(id unkai.NodeID) (c peer.Connection) {
			for _, c = range a.Connections() {
				if c.Node == id {
					return c
				}
			}
			t.Fatalf("no connection to %v", id)
			return c
		}
		if all := a.Connections(); len(all) != 2 || all[0].Node != 2 || all[1].Node != 3 {
			t.Fatalf("%+v", all)
		}
		b, c := of(2), of(3)
		if !b.Up || b.Calls != 3 || b.Connects != 2 || b.Open != 0 || b.Refused != 0 || b.BytesIn == 0 || b.BytesOut == 0 {
			t.Errorf("%+v", b)
		}
		if !c.Up || c.Calls != 0 || c.Connects != 1 {
			t.Errorf("%+v", c)
		}
		at.freeze()
		done := make(chan error, 1)
		go func() {
			_, err := ask(a, 2, peer.Replica, "x", time.Minute)
			done <- err
		}()
		synctest.Wait()
		if b = of(2); b.Open != 1 || b.Calls != 4 {
			t.Errorf("while it is asked: %+v", b)
		}
		if err := <-done; !errors.Is(err, peer.ErrLost) {
			t.Fatal(err)
		}
		if _, err := ask(a, 2, peer.Replica, "x", time.Minute); !errors.Is(err, peer.ErrDown) {
			t.Fatal(err)
		}
		if b = of(2); b.Up || b.Open != 0 || b.Calls != 4 || b.Lost != 1 || b.Refused != 1 {
			t.Errorf("frozen: %+v", b)
		}
		at.thaw()
		time.Sleep(3 * time.Second)
		if _, err := ask(a, 2, peer.Replica, "x", time.Second); err != nil {
			t.Fatal(err)
		}
		if b = of(2); !b.Up || b.Calls != 5 || b.Connects != 3 || b.Lost != 1 {
			t.Errorf("thawed: %+v", b)
		}
		a.Know(2, "")
		if all := a.Connections(); len(all) != 1 {
			t.Errorf("a node that is forgotten: %+v", all)
		}
	})
}
