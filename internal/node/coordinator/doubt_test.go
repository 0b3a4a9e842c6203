package coordinator

import (
	"testing"

	"unkai"
	"unkai/internal/core/topology"
)

// What stands may be the answer of an attempt in which a task changed nothing: but a later
// one in which it did may yet come to stand, so that it is no certain failure.
func TestATaskThatMayHaveChangedSomethingStaysSo(t *testing.T) {
	var result unkai.Result
	stored := &task{result: &result}
	r := &round{serving: stored}
	first := answers{{of: stored, result: unkai.Result{Status: unkai.NotStored}}}
	stored.mutant, result.Status = true, unkai.OK // a later attempt
	first.restore(r)
	if result.Status != unkai.NotStored || !stored.mutant {
		t.Errorf("status %v, changed: %v", result.Status, stored.mutant)
	}
}

// A round that begins for new tasks, and is kept for later ones then, keeps nothing of
// those before them.
func TestARoundForgetsItsAttempts(t *testing.T) {
	r := &round{tried: []answers{{{of: new(task)}}}}
	r.renew()
	if r.tried = r.tried[:1]; r.tried[0] != nil {
		t.Errorf("it keeps %v", r.tried)
	}
}

// What a client chose as a unique is not taken for one that comes up once only.
func TestChosenUniquesAreNotOurs(t *testing.T) {
	top := topology.New(1, 16, 1, 1, 1, topology.Node{ID: 1, Weight: 1})
	for unique, want := range map[unkai.Ballot]bool{
		0: false, 5: false, 1 << 20: false, 1_700_000_000: false, unkai.MakeBallot(unkai.Stride-1, 1): false,
		unkai.MakeBallot(unkai.Stride, 1): true, unkai.MakeBallot(1<<40, 1): true, unkai.MakeBallot(1<<40, 2): false,
	} {
		if made(&top, uint64(unique)) != want {
			t.Errorf("%d: %v", unique, !want)
		}
	}
}
