package register_test

import (
	"testing"

	"unkai"
	"unkai/internal/core/register"
)

// step is a message that can reach an acceptor.
type step struct {
	accept bool
	ballot unkai.Ballot
}

// Every sequence of messages, duplicates and late ones included, keeps what an
// acceptor has said: nothing below a promise is accepted, a promise never
// falls, and nothing is accepted twice.
func TestAcceptorKeepsItsWord(t *testing.T) {
	var steps []step
	for counter := uint64(1); counter <= 2; counter++ {
		for seat := unkai.Seat(1); seat <= 2; seat++ {
			b := unkai.MakeBallot(counter, seat)
			steps = append(steps, step{false, b}, step{true, b})
		}
	}
	var walk func(s register.State, depth int)
	checked := 0
	walk = func(s register.State, depth int) {
		if s.Accepted > s.Promised {
			t.Fatalf("accepted %v above the promise %v", s.Accepted, s.Promised)
		}
		if depth == 0 {
			checked++
			return
		}
		for _, m := range steps {
			var next register.State
			var ok bool
			if m.accept {
				next, ok = s.Accept(m.ballot, 0)
			} else {
				next, ok = s.Prepare(m.ballot)
			}
			switch {
			case !ok && next != s:
				t.Fatalf("%v refused %+v and changed to %v", s, m, next)
			case next.Promised < s.Promised || next.Accepted < s.Accepted:
				t.Fatalf("%v forgot by %+v: %v", s, m, next)
			case ok && m.ballot < s.Promised:
				t.Fatalf("%v broke its promise for %+v", s, m)
			case ok && m.accept && m.ballot == s.Accepted && next != s:
				t.Fatalf("%v changed by %+v, which it had accepted", s, m)
			case ok && m.accept && m.ballot == s.Accepted && s.Promised > s.Accepted:
				t.Fatalf("%v agreed again to %+v after a promise to another", s, m)
			}
			walk(next, depth-1)
		}
	}
	walk(register.State{}, 6)
	if checked != 8*8*8*8*8*8 {
		t.Fatalf("checked %d sequences", checked)
	}
}

func TestAcceptCarriesTheNextPromise(t *testing.T) {
	mine, next := unkai.MakeBallot(3, 1), unkai.MakeBallot(4, 1)
	s, ok := register.State{}.Accept(mine, next)
	if !ok || s.Promised != next || s.Accepted != mine {
		t.Fatalf("%v, %v", s, ok)
	}
	if _, ok := s.Accept(unkai.MakeBallot(3, 2), 0); ok {
		t.Error("another's ballot below the promise was accepted")
	}
	if _, ok := s.Accept(next, 0); !ok {
		t.Error("the promised ballot was refused")
	}
}

// A late message must not bring back what was purged: DESIGN §4, Deletes.
func TestFloorRefusesTheForgotten(t *testing.T) {
	floor := unkai.MakeBallot(7, 3)
	s := register.State{}.Above(floor)
	if _, ok := s.Accept(unkai.MakeBallot(7, 2), 0); ok {
		t.Error("accepted below the floor")
	}
	if b := register.Above(s.Promised, 0, 1); b <= floor {
		t.Errorf("the next ballot %v is not above the floor %v", b, floor)
	}
}

// The ballots of one seat are so far apart that the uniques of a round's changes
// find room between them, whatever was seen.
func TestBallotsLeaveRoom(t *testing.T) {
	for _, seen := range []unkai.Ballot{0, unkai.MakeBallot(5, 2), unkai.MakeBallot(7*unkai.Stride, 9)} {
		for _, floor := range []uint64{0, 6, 9 * unkai.Stride} {
			b := register.Above(seen, floor, 3)
			if b.Seat() != 3 || b.Counter() < seen.Counter()+unkai.Stride || b.Counter() < floor+unkai.Stride {
				t.Errorf("above %v and %d: %v", seen, floor, b)
			}
			if h := b.Heir(); h.Seat() != 3 || h.Counter() != b.Counter()+unkai.Stride {
				t.Errorf("the heir of %v is %v", b, h)
			}
		}
	}
}
