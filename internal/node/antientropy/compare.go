package antientropy

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"unkai"
	"unkai/internal/core/topology"
	"unkai/internal/store"
)

const (
	// stride is how many levels of a tree are asked for at once.
	stride = 4
	// secondLook is after what time it is looked again at leaves that differ. What
	// is on its way to the other replicas has arrived by then.
	secondLook = 50 * time.Millisecond
	// patience is for how long leaves that change all the time are left alone.
	patience = 30 * time.Second
	// aboutVersion is the length of a version in a message, about.
	aboutVersion = 64
)

// session compares one bucket at this node, who is number 0, and others.
type session struct {
	*Repairer
	*comparison
	top   *topology.Topology
	who   []unkai.NodeID
	bytes atomic.Int64 // exchanged since it rested last
	pace  pace
	// What was carried, settled and could not be taken over, and exchanged, in all.
	tally struct{ brought, settled, failed, bytes atomic.Int64 }
}

// mend finds out in what a bucket differs and has it mended. It reports whether
// nothing differed after all.
func (r *Repairer) mend(ctx context.Context, top *topology.Topology, l *comparison) (bool, error) {
	s := &session{Repairer: r, comparison: l, top: top, who: slices.Concat([]unkai.NodeID{r.Self}, l.peers)}
	defer func() {
		l.brought, l.settled, l.failed, l.bytes = s.tally.brought.Load(), s.tally.settled.Load(), s.tally.failed.Load(), s.tally.bytes.Load()
	}()
	leaves, first, err := s.descend(ctx)
	if err != nil || len(leaves) == 0 {
		return err == nil, err
	}
	if !sleep(ctx, secondLook) {
		return false, ctx.Err()
	}
	second, err := s.sums(ctx, l.depth, leaves)
	if err != nil {
		return false, err
	}
	patient := s.recently() && !s.hurried
	level, restless := true, s.hurried
	var todo []uint32
	busy := false
	for i, leaf := range leaves {
		same, quiet := true, true
		for w := range s.who {
			same = same && second[w][i] == second[0][i]
			quiet = quiet && second[w][i] == first[w][i]
		}
		if same {
			continue
		}
		level, restless = false, restless && !quiet
		if quiet || !patient {
			todo = append(todo, leaf) // its keys are counted when they are known
		} else {
			s.keys++
			busy = true
		}
	}
	each := max(1, l.most>>l.depth) * aboutVersion
	before := s.keys
	purged := map[uint32]struct{}{}
	for part := range slices.Chunk(todo, int(max(1, maxList/4/each))) {
		if err := s.mendLeaves(ctx, part, purged); err != nil {
			return false, err
		}
	}
	l.restless = restless && s.tally.failed.Load() == 0
	// What some have purged already and others not yet is no difference.
	differ := slices.ContainsFunc(todo, func(leaf uint32) bool { _, ok := purged[leaf]; return !ok })
	return level || !busy && !differ && s.keys == before, nil
}

// recently reports whether the bucket was found equal not long ago: then what is
// changing has time.
func (s *session) recently() bool {
	v := &s.verified[s.bucket]
	v.mu.Lock()
	defer v.mu.Unlock()
	at := max(v.at, v.first)
	return at == 0 || s.Now()-at < patience.Milliseconds()
}

// descend finds the leaves that differ, and the sums of each, by who and leaf.
func (s *session) descend(ctx context.Context) (nodes []uint32, sums [][]uint64, err error) {
	nodes = []uint32{0}
	for level := 0; level < s.depth && len(nodes) > 0; {
		below := min(level+stride, s.depth)
		var children []uint32
		for _, n := range nodes {
			for c := range uint32(1) << (below - level) {
				children = append(children, n<<(below-level)|c)
			}
		}
		if sums, err = s.sums(ctx, below, children); err != nil {
			return nil, nil, err
		}
		nodes, level = s.differing(children, sums), below
	}
	return nodes, sums, nil
}

// differing are the nodes whose sums differ; only theirs are left in sums.
func (s *session) differing(nodes []uint32, sums [][]uint64) []uint32 {
	kept := 0
	for i, n := range nodes {
		same := true
		for w := range s.who {
			same = same && sums[w][i] == sums[0][i]
		}
		if same {
			continue
		}
		nodes[kept] = n
		for w := range s.who {
			sums[w][kept] = sums[w][i]
		}
		kept++
	}
	for w := range s.who {
		sums[w] = sums[w][:kept]
	}
	return nodes[:kept]
}

// sums are those of some nodes, by who and node.
func (s *session) sums(ctx context.Context, level int, nodes []uint32) ([][]uint64, error) {
	out := make([][]uint64, len(s.who))
	err := s.everyone(ctx, func(w int) error {
		if w == 0 {
			sums, ok := s.Replica.Sums(nil, s.bucket, level, slices.Values(nodes))
			if !ok {
				return errState
			}
			out[0] = sums
			return nil
		}
		for part := range slices.Chunk(nodes, maxNodes) {
			in, err := s.askOne(ctx, s.who[w], appendNodes(s.about(askSums), level, part))
			if err != nil {
				return err
			}
			n := in.list(8, maxNodes)
			for range n {
				out[w] = append(out[w], in.u64())
			}
			if err := in.end(); err != nil || n != len(part) {
				return errors.Join(errShort, err)
			}
		}
		return nil
	})
	return out, err
}

func (s *session) about(a asked) []byte { return about(a, s.bucket, s.route.Epoch) }

// everyone does something for each replica at once, and then rests for what was
// exchanged.
func (s *session) everyone(ctx context.Context, do func(w int) error) error {
	errs := make([]error, len(s.who))
	var wg sync.WaitGroup
	for w := range s.who {
		wg.Go(func() { errs[w] = do(w) })
	}
	wg.Wait()
	bytes := int(s.bytes.Swap(0))
	err := errors.Join(s.yield(ctx, bytes), s.pace.wait(ctx, bytes, s.rate))
	return errors.Join(append(errs, err)...)
}

// rate is how many bytes in a second a session may exchange.
func (s *session) rate() (int64, error) {
	most := int64(maxRate)
	if t := s.Topology().Throttle; t > 0 {
		most = min(most, t)
	}
	return max(1, most/sessions), nil
}

// list is what one replica holds under some leaves.
type list struct {
	forgot unkai.Ballot
	held   map[string]version
}

// lists are what each replica holds under some leaves.
func (s *session) lists(ctx context.Context, leaves []uint32) ([]list, error) {
	out := make([]list, len(s.who))
	err := s.everyone(ctx, func(w int) error {
		out[w].held = map[string]version{}
		if w == 0 {
			out[0].forgot = s.Replica.Forgot(s.bucket)
			err := s.Replica.Under(s.bucket, s.depth, setOf(leaves), func(e *store.Entry) bool {
				out[0].held[string(e.Key)] = version{e.Hash, e.Record.Ballot, e.Record.Epoch, e.Record.Tombstone}
				return true
			})
			return errors.Join(err, s.Replica.Durable())
		}
		in, err := s.askOne(ctx, s.who[w], appendNodes(s.about(askList), s.depth, leaves))
		if err != nil {
			return err
		}
		out[w].forgot = unkai.Ballot(in.u64())
		for range in.list(22, maxList) {
			v, key := in.version()
			out[w].held[string(key)] = v
		}
		return in.end()
	})
	return out, err
}

// keys are those that somebody holds, each once, in order.
func keys(lists []list) []string {
	all := map[string]struct{}{}
	for w := range lists {
		for key := range lists[w].held {
			all[key] = struct{}{}
		}
	}
	return slices.Sorted(maps.Keys(all))
}
