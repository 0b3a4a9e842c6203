package register_test

import (
	"testing"

	"unkai"
	"unkai/internal/core/quorum"
	"unkai/internal/core/register"
)

// What became of a value that perhaps one of three has accepted under epoch 5, after
// what the first two of them, or of those that took their place, tell under a later one.
func TestFateAcrossEpochs(t *testing.T) {
	const seat = 7
	mine := unkai.MakeBallot(100*unkai.Stride, seat)
	earlier, later := unkai.MakeBallot(99*unkai.Stride, 8), unkai.MakeBallot(101*unkai.Stride, 8)
	for _, c := range []struct {
		name   string
		epoch  unkai.Epoch
		found  register.State
		forgot unkai.Ballot
		want   register.Fate
	}{
		{"nothing", 6, register.State{}, 0, register.Void},
		{"nothing, long afterwards", 60, register.State{}, 0, register.Void},
		{"nothing, and what was older is forgotten", 6, register.State{}, earlier, register.Void},
		{"nothing, and it may be forgotten", 6, register.State{}, later, register.Unclear},
		{"something older", 6, register.State{Promised: earlier, Accepted: earlier, Epoch: 4}, 0, register.Void},
		{"something older of the same epoch", 6, register.State{Promised: earlier, Accepted: earlier, Epoch: 5}, 0, register.Void},
		{"something later, though lower", 6, register.State{Promised: earlier, Accepted: earlier, Epoch: 6}, 0, register.Unclear},
		{"something later", 6, register.State{Promised: later, Accepted: later, Epoch: 6}, 0, register.Unclear},
		{"itself", 6, register.State{Promised: mine.Heir(), Accepted: mine, Epoch: 5}, 0, register.Stands},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := register.Proposer{Seat: seat, Floor: 99 * unkai.Stride, Epoch: 5}
			p.Begin(register.State{})
			p.ProposeBlind()
			if p.Ballot != mine {
				t.Fatalf("proposed at %v, not at %v", p.Ballot, mine)
			}
			p.Tally.Fail(0)
			p.Tally.Fail(1)
			p.Hopeless(quorum.First(3), false)
			p.Epoch = c.epoch
			p.Prepare()
			p.Tally.Promise(0, register.State{}, 0)
			p.Tally.Promise(1, c.found, c.forgot)
			if got, _ := p.Fate(0); got != c.want {
				t.Errorf("the fate is %v, want %v", got, c.want)
			}
		})
	}
}

// Members are numbered anew with each set: who was the third may be another.
func TestStillSaysNothingOfAnotherSet(t *testing.T) {
	p := register.Proposer{Seat: 7, Epoch: 5}
	p.Begin(register.State{})
	p.ProposeBlind()
	mine := p.Ballot
	p.Tally.Fail(0)
	p.Tally.Fail(1)
	p.Hopeless(quorum.First(3), false)
	other := register.State{Promised: mine.Heir(), Accepted: mine, Epoch: 5}
	above := register.State{Promised: 1 << 50, Accepted: 1 << 50, Epoch: 5}
	for epoch, want := range map[unkai.Epoch]register.Fate{5: register.Void, 6: register.Unclear} {
		q := p
		q.Epoch = epoch
		q.Prepare()
		q.Tally.Promise(0, above, 0)
		q.Tally.Promise(2, other, 0)
		if got, _ := q.Fate(0); got != want {
			t.Errorf("under epoch %d the fate is %v, want %v", epoch, got, want)
		}
	}
}
