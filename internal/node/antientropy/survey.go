package antientropy

import (
	"context"
	"errors"
	"iter"
	"slices"
	"sync"
	"time"

	"unkai"
	"unkai/internal/core/quorum"
	"unkai/internal/core/topology"
	"unkai/internal/node/replica"
)

// maxLevel is the deepest level of a tree that is asked for at once, 512 KiB.
const maxLevel = 16

// survey is what the members of a bucket on its way hold, durably, as sums of the
// nodes of one level of their trees. This node's are own.
type survey struct {
	route *topology.Route
	self  int
	level int
	sums  [][]uint64 // by member; nil: it is away, or could not say
	// levels are those of the sums until all are of one.
	levels []int
}

// equal are the members that hold below a node just what this one does.
func (s *survey) equal(n uint32) (m quorum.Mask) {
	for i, sums := range s.sums {
		if sums != nil && sums[n] == s.sums[s.self][n] {
			m = m.With(i)
		}
	}
	return m
}

// fold makes sums those of the level above.
func fold(sums []uint64) []uint64 {
	for i := range len(sums) / 2 {
		sums[i] = sums[2*i] + sums[2*i+1]
	}
	return sums[:len(sums)/2]
}

func newSurvey(self unkai.NodeID, route *topology.Route, level int) *survey {
	n := len(route.Members)
	return &survey{route: route, self: slices.Index(route.Members, self), level: level, sums: make([][]uint64, n), levels: make([]int, n)}
}

// survey asks those of a bucket's members in who for their sums. Who should answer and
// does not is an error only where it joins: of the present ones fewer may be enough.
func (r *Repairer) survey(ctx context.Context, b unkai.Bucket, route *topology.Route, who quorum.Mask, level int) (*survey, error) {
	return r.surveyBut(ctx, b, route, who, level, nil)
}

// surveyBut is survey without a question to those who have answered already, at that level:
// of a tree that was folded while it held little there is a deeper one to be had.
func (r *Repairer) surveyBut(ctx context.Context, b unkai.Bucket, route *topology.Route, who quorum.Mask, level int, heard *survey) (*survey, error) {
	s := newSurvey(r.Self, route, level)
	levels, errs := s.levels, make([]error, len(s.sums))
	var wg sync.WaitGroup
	for i, id := range route.Members {
		switch {
		case i == s.self:
			wg.Go(func() { levels[i], s.sums[i], errs[i] = r.sumUp(ctx, b, level) })
		case heard != nil && heard.sums[i] != nil && heard.levels[i] == level:
			levels[i], s.sums[i] = heard.levels[i], heard.sums[i]
		case id != 0 && who.Has(i) && r.Alive(id):
			wg.Go(func() { levels[i], s.sums[i], errs[i] = r.askSurvey(ctx, id, b, route.Epoch, level) })
		}
	}
	wg.Wait()
	for i, err := range errs {
		if err != nil && (i == s.self || route.Write.Joining.Members.Has(i)) {
			return nil, err
		}
		if s.sums[i] != nil {
			s.level = min(s.level, levels[i])
		}
	}
	for i := range s.sums {
		for s.sums[i] != nil && levels[i] > s.level {
			s.sums[i] = fold(s.sums[i])
			levels[i]--
		}
	}
	return s, nil
}

func (r *Repairer) askSurvey(ctx context.Context, to unkai.NodeID, b unkai.Bucket, e unkai.Epoch, level int) (int, []uint64, error) {
	reply, err := r.ask(ctx, to, append(about(askSurvey, b, e), byte(level)))
	if err != nil {
		return 0, nil, err
	}
	in := reader{b: reply}
	if st := state(in.u8()); st != stateOK {
		return 0, nil, errState
	}
	return in.sums(level)
}

// noSums stands for a level where there are none.
const noSums = 0xff

func appendSums(b []byte, level int, sums []uint64) []byte {
	b = u32(append(slices.Grow(b, 5+8*len(sums)), byte(level)), uint32(len(sums)))
	for _, s := range sums {
		b = u64(b, s)
	}
	return b
}

// sums reads those of a level, or of one further up, to the message's end.
func (in *reader) sums(level int) (int, []uint64, error) {
	at := int(in.u8())
	sums := make([]uint64, in.list(8, 1<<maxLevel))
	for i := range sums {
		sums[i] = in.u64()
	}
	if err := in.end(); err != nil || at > level || len(sums) != 1<<at {
		return 0, nil, errors.Join(errShort, err)
	}
	return at, sums, nil
}

// read takes in what a member says that it holds, if it can say.
func (s *survey) read(member int, in *reader) (err error) {
	if len(in.b) == 1 && in.b[0] == noSums {
		return nil
	}
	s.levels[member], s.sums[member], err = in.sums(s.level)
	return err
}

func (r *Repairer) serveSurvey(in *reader, b unkai.Bucket) ([]byte, error) {
	level := int(in.u8())
	if err := in.end(); err != nil || level > maxLevel {
		return nil, errors.Join(errShort, err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), surveyLimit)
	defer cancel()
	at, sums, err := r.sumUp(ctx, b, level)
	if err != nil {
		return nil, err
	}
	return appendSums([]byte{byte(stateOK)}, at, sums), nil
}

const (
	// surveyLimit is for how long a bucket may be counted before a survey.
	surveyLimit = 2 * time.Second
	// countAgain is how often it is looked whether somebody else has counted it.
	countAgain = time.Millisecond
)

// known looks at the sums of a bucket once they are known. Where it holds so little
// that it costs nothing, its tree has a level then: who has just joined holds next to
// nothing, and will hold much.
func (r *Repairer) known(ctx context.Context, b unkai.Bucket, level int) (replica.Tree, error) {
	for {
		t := r.Replica.Tree(b)
		if t.Known && (t.Depth >= level || t.Records > 8<<level) {
			return t, nil
		}
		if err := r.Replica.CountTo(ctx, b, level); err != nil {
			return t, err
		}
		if t = r.Replica.Tree(b); t.Known {
			return t, nil
		}
		if !sleep(ctx, countAgain) { // somebody else is counting it
			return t, ctx.Err()
		}
	}
}

// sumUp are the sums of all nodes of a level of this node's tree, or of one further
// up. What they sum is durable.
func (r *Repairer) sumUp(ctx context.Context, b unkai.Bucket, level int) (int, []uint64, error) {
	if _, err := r.known(ctx, b, level); err != nil {
		return 0, nil, err
	}
	for ; level >= 0; level-- {
		if sums, ok := r.Replica.Sums(nil, b, level, nodesOf(level)); ok {
			if !slices.ContainsFunc(sums, func(s uint64) bool { return s != 0 }) {
				return level, sums, nil // who holds nothing does not hold anything durably
			}
			return level, sums, r.Replica.Durable()
		}
	}
	return 0, nil, errState
}

// nodesOf are all nodes of a level.
func nodesOf(level int) iter.Seq[uint32] {
	return func(yield func(uint32) bool) {
		for n := range uint32(1) << level {
			if !yield(n) {
				return
			}
		}
	}
}
