package topology

import (
	"errors"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"unkai"
)

// history is a cluster to which anything happens, and what its nodes hold.
type history struct {
	*rapid.T
	top  Topology
	last unkai.NodeID
	// holds are the seats that were in a set since they have last forgotten its bucket.
	holds []map[unkai.Seat]bool
	// far is a topology that somebody has who does not hear of every change.
	far *Topology
	// calm is that no node has lost anything since the job began, and nothing was lost before.
	calm bool
	// bad is that nodes lose what they hold again and again, and little else happens.
	bad bool
}

// Whatever happens, and in whatever order: nothing waits for a turn, or for somebody, that
// never comes; nobody joins a set who has not forgotten its last time in it; and what a set
// is does not change within an epoch. When nothing more happens, the job ends.
func TestAnythingHappens(t *testing.T) {
	for range 60 { // what is seldom happens, too
		rapid.Check(t, anything)
	}
}

func anything(t *rapid.T) {
	n := rapid.IntRange(1, 4).Draw(t, "n")
	w := rapid.IntRange(n/2+1, n).Draw(t, "w")
	h := &history{T: t, top: New(1, 16, n, rapid.IntRange(n-w+1, n).Draw(t, "r"), w, Node{ID: 1, Weight: 1}), last: 1, calm: true, bad: rapid.Bool().Draw(t, "bad")}
	for range h.top.Buckets {
		h.holds = append(h.holds, map[unkai.Seat]bool{1: true})
	}
	h.becomes(h.top)
	for range rapid.IntRange(1, 4).Draw(t, "more") {
		h.join()
	}
	h.begin(Change{Kind: KindAttach, Nodes: []unkai.NodeID{2}})
	h.rest()
	for range rapid.IntRange(1, 60).Draw(t, "steps") {
		h.step()
	}
	h.rest()
}

// some is true once in a while.
func (h *history) some(p int) bool { return rapid.IntRange(0, p).Draw(h.T, "some") == 0 }

func (h *history) node() unkai.NodeID {
	return rapid.SampledFrom(h.top.Nodes).Draw(h.T, "node").ID
}

// nodes are some, often two: then a bucket may get more than one new replica.
func (h *history) nodes() []unkai.NodeID {
	a, b := h.node(), h.node()
	if a == b {
		return []unkai.NodeID{a}
	}
	return []unkai.NodeID{a, b}
}

// victim loses what it holds: in bad times somebody whom a bucket that is due comes from,
// and one bucket after the other loses its quorum so.
func (h *history) victim() unkai.NodeID {
	for b := range h.top.Sets {
		s := &h.top.Sets[b]
		from := slices.DeleteFunc(without(s.Replicas, s.Due), h.top.passed)
		if h.bad && len(s.Due) > 0 && len(without(s.Replicas, s.Due)) > 1 && len(from) > 0 {
			n, _ := h.top.Seated(from[0])
			return n.ID
		}
	}
	return h.node()
}

func (h *history) join() {
	h.last++
	next, err := h.top.Join(Node{ID: h.last, Weight: 1 + int(h.last)%2, Manual: h.some(2)})
	h.may(next, err)
}

func (h *history) begin(c Change) {
	before := h.top
	var gone []unkai.NodeID
	if c.GiveUp = (c.Kind == KindDetach || c.Kind == KindRebalance) && h.some(3); c.GiveUp {
		gone = c.Nodes
	}
	next, err := h.top.Begin(c, h.size, 1, gone...)
	if err == nil {
		next.Job.Auto = h.some(1)
	}
	if h.may(next, err); err == nil {
		h.calm = h.top.Lost() == 0 && !h.top.Gaps() && before.Job == nil
		h.Logf("%+v: %+v", c, h.top.Job)
	}
}

func (h *history) size(b unkai.Bucket) int64 { return 100 + int64(b) }

// step is one thing that happens.
func (h *history) step() {
	top := &h.top
	what := rapid.IntRange(0, 15).Draw(h.T, "what")
	if h.bad && what > 6 && what < 13 {
		what = 6
	}
	switch what {
	case 0:
		if len(top.Nodes) < 7 {
			h.join()
		}
	case 1:
		h.begin(Change{Kind: KindAttach, Nodes: h.nodes()})
	case 2:
		h.begin(Change{Kind: KindDetach, Nodes: h.nodes()})
	case 3:
		h.begin(Change{Kind: KindReplace, Nodes: []unkai.NodeID{h.node(), h.node()}})
	case 4:
		h.begin(Change{Kind: KindWeigh, Nodes: []unkai.NodeID{h.node()}, Weight: rapid.IntRange(1, 3).Draw(h.T, "weight")})
	case 5:
		h.begin(Change{Kind: KindRebalance})
	case 6:
		if h.bad || h.some(2) {
			next, err := top.Reborn(h.victim())
			h.calm = false
			h.may(next, err)
		}
	case 7:
		if h.some(2) && top.Job != nil && top.Job.Auto {
			h.may(top.Abandon(top.Awaited()))
		} else if h.some(2) {
			h.may(top.Cancel())
		}
	case 8:
		h.may(top.Pause(1))
	case 9:
		h.may(top.Resume(2))
	case 10:
		h.becomes(top.Flush())
	case 11:
		var list []Renewal
		for b := range top.Sets {
			if h.some(5) {
				list = append(list, Renewal{unkai.Bucket(b), top.Route(unkai.Bucket(b)).Epoch})
			}
		}
		if next, ok := top.Renew(list); ok {
			h.becomes(next)
		}
	case 12:
		h.forget(func() bool { return h.some(1) })
	case 13:
		h.advance()
	default:
		var gone []unkai.NodeID
		for _, n := range top.Nodes {
			if h.some(3) {
				gone = append(gone, n.ID)
			}
		}
		h.proceed(func() bool { return h.some(1) }, rapid.IntRange(0, top.Buckets).Draw(h.T, "room"), gone...)
	}
}

// may is what becomes of what may be refused.
func (h *history) may(next Topology, err error) {
	if err == nil {
		h.becomes(next)
	}
}

// proceed is what a steward does with what is on its way, and with what is due while some
// are gone.
func (h *history) proceed(now func() bool, room int, gone ...unkai.NodeID) {
	var seats []unkai.Seat
	for _, n := range h.top.Nodes {
		seats = append(seats, n.Seat)
	}
	var arrived, heard []unkai.Bucket
	for b := range unkai.Bucket(h.top.Buckets) {
		if h.top.Arrived(b, seats) && h.top.Serves(b, seats) && now() {
			arrived = append(arrived, b)
		}
		if h.top.Heard(b, seats) && now() {
			heard = append(heard, b)
		}
	}
	if len(arrived)+len(heard)+len(h.top.Turn(room, gone...)) > 0 {
		before := h.top
		h.becomes(h.top.Proceed(arrived, heard, room, h.size, gone...))
		for b := range h.top.Sets {
			if s := &h.top.Sets[b]; joins(s) && !joins(&before.Sets[b]) && !h.brings(s, gone) {
				h.Fatalf("bucket %d sets out while %v are gone: %+v", b, gone, s)
			}
		}
		if n := setsThat(h.top, joins) - h.stuck(&before, gone); n > max(setsThat(before, joins), room) {
			h.Fatalf("%d are on their way where there is room for %d", n, room)
		}
	}
}

// brings reports whether a bucket can arrive at its joining set while some are gone: who is
// left of the present one holds all that was accepted, and the joining one has its quorums.
func (h *history) brings(s *Set, gone []unkai.NodeID) bool {
	left := func(set []unkai.Seat) (n int) {
		for _, seat := range set {
			if m, ok := h.top.Seated(seat); ok && !slices.Contains(gone, m.ID) {
				n++
			}
		}
		return n
	}
	_, write := h.top.needs(len(s.Replicas))
	r, w := h.top.needs(len(s.Joining))
	return len(s.Replicas)-left(s.Replicas) < write && left(s.Joining) >= max(r, w)
}

// stuck is how many buckets are on their way that cannot arrive while some are gone: those
// take no other's room.
func (h *history) stuck(top *Topology, gone []unkai.NodeID) (n int) {
	for b := range top.Sets {
		if s := &top.Sets[b]; joins(s) && !h.brings(s, gone) {
			n++
		}
	}
	return n
}

func (h *history) forget(now func() bool) {
	forgot := map[unkai.Seat][]unkai.Bucket{}
	for _, n := range h.top.Nodes {
		for _, b := range h.top.Strayed(n.Seat) {
			if now() {
				forgot[n.Seat] = append(forgot[n.Seat], b)
				delete(h.holds[b], n.Seat)
			}
		}
	}
	if len(forgot) > 0 {
		h.becomes(h.top.Forgot(forgot))
	}
}

func (h *history) advance() {
	if next, ok := h.top.Advance(h.size, 2); ok {
		h.becomes(next)
	} else if next, ok := h.top.Depart(); ok && h.top.Job == nil {
		h.becomes(next)
	}
}

// rest is that nothing more happens but what the nodes do.
func (h *history) rest() {
	if next, err := h.top.Resume(2); err == nil {
		h.becomes(next)
	}
	always := func() bool { return true }
	for _, cancel := range []bool{false, true} {
		for range 60 {
			h.proceed(always, 3)
			if h.top.Moving() == 0 {
				h.forget(always)
				h.advance()
			}
		}
		switch {
		case h.top.Job == nil:
			if h.top.Moving() > 0 && h.top.Lost() == 0 {
				h.Fatalf("%d buckets are on their way, and there is no job", h.top.Moving())
			}
			return
		case cancel && h.able():
			h.Fatalf("job %+v was cancelled and does not end: %+v", h.top.Job, h.top.Sets)
		case cancel:
			return
		case h.top.Lost() == 0 && h.able():
			h.Fatalf("job %+v does not end: %+v, %+v", h.top.Job, h.top.Nodes, h.top.Sets)
		}
		h.may(h.top.Cancel())
	}
}

// able reports whether no set has lost its quorums for good.
func (h *history) able() bool {
	return !slices.ContainsFunc(h.top.Sets, func(s Set) bool { return !h.top.able(s.Replicas) || len(s.Leaving) > 0 && !h.top.able(s.Leaving) })
}

// becomes checks what has become of a topology.
func (h *history) becomes(next Topology) {
	before := h.top
	h.top = next
	if err := h.top.Seal(); err != nil {
		h.Fatal(err)
	}
	h.travels(&before)
	top := &h.top
	for b := range top.Sets {
		if err := h.check(&before, b); err != nil {
			h.Fatalf("bucket %d: %v: %+v, and then %+v of %+v", b, err, before.Sets[b], top.Sets[b], top.Nodes)
		}
	}
	if before.Job != nil && (top.Job == nil || top.Job.ID != before.Job.ID) {
		if j := top.History[len(top.History)-1]; h.calm && j.Outcome == Done && j.Planned != j.Moved {
			h.Fatalf("job %+v: planned %+v, moved %+v", j.Change, j.Planned, j.Moved)
		}
	}
}

func (h *history) check(before *Topology, b int) error {
	top := &h.top
	was, is, holds := &before.Sets[b], &top.Sets[b], h.holds[b]
	members := slices.Concat(is.Replicas, is.Joining, is.Leaving)
	// Of those who go to it, not who keep their places there.
	come := without(slices.Concat(is.Joining, is.Due), is.Replicas)
	for _, seat := range come {
		switch n, ok := top.Seated(seat); {
		case !ok:
			return errors.New("it waits for somebody who has passed")
		case n.State != Attached:
			return errors.New("it goes to a node that is not attached")
		}
	}
	for _, seat := range without(is.Joining, slices.Concat(was.Joining, was.Replicas, was.Leaving)) {
		if holds[seat] {
			return errors.New("somebody joins it who has not forgotten it")
		}
	}
	for _, seat := range members {
		holds[seat] = true
	}
	for seat := range holds {
		if !top.passed(seat) && !slices.Contains(members, seat) && !slices.Contains(is.Strays, seat) {
			return errors.New("a stray is forgotten")
		}
	}
	r := top.Route(unkai.Bucket(b))
	same := sameMembers(was.Replicas, is.Replicas) && slices.Equal(was.Joining, is.Joining) && slices.Equal(was.Leaving, is.Leaving)
	switch {
	case is.Epoch < was.Epoch || !same && is.Epoch != top.Epoch:
		return errors.New("it changes within an epoch")
	case len(is.Due) > 0 && (top.Job == nil || top.Job.Outcome != Running):
		return errors.New("it is due, and no job runs")
	case len(is.Joining) > 0 && (top.Job == nil || top.Job.Outcome != Running):
		return errors.New("it is on its way to a joining set, and no job runs")
	case len(was.Due) > 0 && len(is.Due) == 0 && !h.dueWent(was, is):
		return errors.New("it is not due any more, and has not set out")
	case len(is.Joining) > 0 && len(was.Joining) == 0 && top.lost(is.Replicas, top.passed):
		return errors.New("it sets out, and has lost its quorum for good")
	case len(is.Due) > 0 && (r.Moving || len(r.Members) != len(is.Replicas)):
		return errors.New("it is due, and moves")
	case len(is.Joining) > 0 && len(was.Joining) == 0 && slices.ContainsFunc(is.Joining, func(s unkai.Seat) bool { return slices.Contains(is.Strays, s) }):
		return errors.New("it goes to its stray")
	}
	return nil
}

// dueWent reports whether there is a reason for a bucket not to be due any more: it has set
// out, or is where it was to go; its job is over; it has lost its quorum for good; or
// somebody it was to go to has passed, and the job sends it again.
func (h *history) dueWent(was, is *Set) bool {
	j := h.top.Job
	switch {
	case slices.Equal(was.Due, is.Joining), slices.Equal(was.Due, is.Replicas), j == nil, j.Outcome != Running:
		return true
	}
	return h.top.lost(is.Replicas, h.top.passed) || j.Held && slices.ContainsFunc(was.Due, h.top.passed)
}
