package antientropy

import (
	"context"
	"errors"
	"math/bits"
	"slices"

	"unkai"
	"unkai/internal/core/merkle"
	"unkai/internal/core/register"
	"unkai/internal/core/ring"
	"unkai/internal/node/replica"
)

// lack is a record that some replicas hold and others do not.
type lack struct {
	key     string
	version version
	from    int    // who holds it
	lacking uint64 // who does not, a bit for each
	chosen  bool   // it is known to be
	purged  bool   // it is a tombstone that somebody who does not hold it makes up for
}

// mendLeaves makes the replicas equal in some leaves. It notes in which of them somebody
// holds a tombstone that others have purged, or might as well have.
func (s *session) mendLeaves(ctx context.Context, leaves []uint32, purged map[uint32]struct{}) error {
	lists, err := s.lists(ctx, leaves)
	if errors.Is(err, errTooLarge) && len(leaves) > 1 {
		half := len(leaves) / 2
		return errors.Join(s.mendLeaves(ctx, leaves[:half], purged), s.mendLeaves(ctx, leaves[half:], purged))
	}
	if err != nil {
		return err
	}
	carried, settled := make([][]lack, len(s.who)), make([][][]byte, len(s.who))
	for _, key := range keys(lists) {
		l, ok := s.lack(lists, key)
		if ok {
			s.keys++
		}
		switch {
		case !ok:
			if l.purged {
				purged[merkle.Node(l.version.hash, uint(bits.TrailingZeros(uint(s.top.Buckets))), s.depth)] = struct{}{}
			}
		case l.chosen:
			carried[l.from] = append(carried[l.from], l)
		default:
			// Only a round can tell what becomes of it. It is begun where it is held:
			// the others may be content with what they have.
			settled[l.from] = append(settled[l.from], []byte(key))
		}
	}
	for w := range s.who {
		for part := range slices.Chunk(carried[w], maxKeys) {
			if err := s.carry(ctx, w, part); err != nil {
				return err
			}
		}
	}
	return s.everyone(ctx, func(w int) error { return s.settleAt(ctx, w, settled[w]) })
}

// lack says who lacks what of a key, if anybody does.
func (s *session) lack(lists []list, key string) (lack, bool) {
	l := lack{key: key, from: -1}
	for w := range lists {
		v, ok := lists[w].held[key]
		if !ok || s.top.Forgotten(v.epoch) {
			continue
		}
		if l.from < 0 || (register.State{Accepted: v.ballot, Epoch: v.epoch}).After(l.version.epoch, l.version.ballot) {
			l.version, l.from = v, w
		}
	}
	if l.from < 0 {
		return l, false
	}
	var same []unkai.NodeID
	for w := range lists {
		v, ok := lists[w].held[key]
		switch {
		case ok && v.ballot == l.version.ballot:
			same = append(same, s.who[w])
		case !ok && l.version.tombstone && l.version.ballot <= lists[w].forgot:
			l.purged = true // there, or might as well have been
		default:
			l.lacking |= 1 << w
		}
	}
	route := s.route
	l.chosen = route.Chosen(l.version.epoch, holders(route, same))
	return l, l.lacking != 0
}

// carry has chosen records of one holder adopted by those who lack them, a message
// at a time: values are long.
func (s *session) carry(ctx context.Context, from int, lacks []lack) error {
	for len(lacks) > 0 {
		entries, about, err := s.fetch(ctx, from, lacks)
		if err == nil {
			err = s.spread(ctx, entries, lacks[:about])
		}
		if err != nil {
			return err
		}
		lacks = lacks[about:]
	}
	return nil
}

// spread gives records to those who lack them.
func (s *session) spread(ctx context.Context, entries []entry, lacks []lack) error {
	byKey := make(map[string]*entry, len(entries))
	for i := range entries {
		byKey[string(entries[i].key)] = &entries[i]
	}
	return s.everyone(ctx, func(w int) error {
		var given []*entry
		for i := range lacks {
			e := byKey[lacks[i].key]
			if lacks[i].lacking&(1<<w) != 0 && e != nil && e.record.Ballot == lacks[i].version.ballot {
				given = append(given, e)
			}
		}
		fates, err := s.give(ctx, w, given)
		var settle [][]byte // something higher was promised there: a round comes above it
		for i, f := range fates {
			switch f {
			case fateAdopted:
				s.tally.brought.Add(1)
			case fateRefused:
				settle = append(settle, given[i].key)
			case fateFailed:
				s.tally.failed.Add(1)
			}
		}
		return errors.Join(err, s.settleAt(ctx, w, settle))
	})
}

// fetch gets the first records that are lacking from their holder, as many as a
// message has, without those that have changed. It tells also how many those were
// about.
func (s *session) fetch(ctx context.Context, from int, lacks []lack) (got []entry, about int, err error) {
	wanted := make([]want, len(lacks))
	for i, l := range lacks {
		wanted[i] = want{l.version.hash, l.version.ballot, []byte(l.key)}
	}
	if from == 0 {
		got, err = s.records(s.bucket, wanted)
	} else {
		got, err = s.fetchFrom(ctx, s.who[from], s.top.Space(), wanted)
	}
	if err != nil || len(got) == 0 {
		return nil, len(lacks), err
	}
	last := got[len(got)-1].key
	at := slices.IndexFunc(wanted, func(w want) bool { return string(w.key) == string(last) })
	if at < 0 {
		return nil, 0, errShort
	}
	return got, at + 1, nil
}

func (s *session) fetchFrom(ctx context.Context, from unkai.NodeID, space ring.Space, wanted []want) ([]entry, error) {
	q := u32(s.about(askRecords), uint32(len(wanted)))
	for _, w := range wanted {
		q = appendKey(u64(u64(q, w.hash), uint64(w.ballot)), w.key)
	}
	in, err := s.askOne(ctx, from, q)
	if err != nil {
		return nil, err
	}
	got := make([]entry, in.list(17, maxKeys))
	for i := range got {
		if got[i], err = in.entry(space, s.bucket); err != nil {
			return nil, err
		}
	}
	return got, in.end()
}

// give has one replica adopt records, and tells what became of each.
func (s *session) give(ctx context.Context, w int, given []*entry) (fates []fate, err error) {
	if w == 0 {
		calls := make([]replica.Call, len(given))
		for i, e := range given {
			calls[i] = e.adoption(s.bucket, s.route.Epoch)
		}
		return s.adopt(calls), nil
	}
	for len(given) > 0 {
		q := s.about(askAdopt)
		at := len(q)
		q = u32(q, 0)
		n := 0
		for n < len(given) && len(q) < maxRecords {
			q = appendEntry(q, given[n])
			n++
		}
		copy(q[at:], u32(nil, uint32(n)))
		in, err := s.askOne(ctx, s.who[w], q)
		if err != nil {
			return fates, err
		}
		if in.list(1, maxKeys) != n {
			return fates, errShort
		}
		for range n {
			f := fate(in.u8())
			if f == fateAdopted {
				s.stats.brought.Add(1)
			}
			fates = append(fates, f)
		}
		given = given[n:]
	}
	return fates, nil
}

// settleAt has a replica's own coordinator settle keys.
func (s *session) settleAt(ctx context.Context, w int, keys [][]byte) error {
	s.tally.settled.Add(int64(len(keys)))
	if w == 0 {
		return s.settle(keys)
	}
	for part := range slices.Chunk(keys, maxSettled) {
		q := u32(s.about(askSettle), uint32(len(part)))
		for _, key := range part {
			q = appendKey(q, key)
		}
		if _, err := s.askOne(ctx, s.who[w], q); err != nil {
			return err
		}
	}
	return nil
}

// maxSettled is how many keys a replica is asked to settle at once.
const maxSettled = 128
