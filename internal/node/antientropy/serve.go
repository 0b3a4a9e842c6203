package antientropy

import (
	"errors"
	"slices"

	"unkai"
	"unkai/internal/core/merkle"
	"unkai/internal/store"
)

// Serve answers another node's question. It may wait for this node's disk, and for
// other nodes.
func (r *Repairer) Serve(_ unkai.NodeID, question []byte) ([]byte, error) {
	in := reader{b: question}
	a := asked(in.u8())
	switch a {
	case askRoots:
		return r.serveRoots(&in)
	case askPending:
		return r.servePending(&in)
	case askWhole:
		return r.serveWhole(&in)
	}
	b, e := in.bucket()
	if in.short || int(b) >= r.Topology().Buckets {
		return nil, errShort
	}
	if a == askSurvey || a == askBring || a == askBringPacked || a == askFloor {
		return r.serveMove(&in, a, b, e)
	}
	if !r.holds(b, e) {
		return []byte{byte(stateFenced)}, nil
	}
	switch a {
	case askSums:
		return r.serveSums(&in, b)
	case askList:
		return r.serveList(&in, b)
	case askRecords:
		return r.serveRecords(&in, b)
	case askAdopt:
		return r.serveAdopt(&in, b, e)
	case askSettle:
		return r.serveSettle(&in)
	case askLevel:
		return r.serveLevel(&in, b)
	default:
		return nil, errShort
	}
}

// holds reports whether this node is a present replica of a bucket in that epoch.
func (r *Repairer) holds(b unkai.Bucket, e unkai.Epoch) bool {
	route := r.Topology().Route(b)
	return route.Epoch == e && slices.Contains(present(route), r.Self)
}

// serveMove answers who brings a bucket on its way: a replica of either set may.
func (r *Repairer) serveMove(in *reader, a asked, b unkai.Bucket, e unkai.Epoch) ([]byte, error) {
	switch route := r.Topology().Route(b); {
	case route.Epoch != e || !slices.Contains(route.Members, r.Self):
		return []byte{byte(stateFenced)}, nil
	case a == askSurvey:
		return r.serveSurvey(in, b)
	case a == askFloor:
		return r.serveFloor(in, b)
	case a == askBringPacked:
		return r.servePacked(in, b, e)
	default:
		return r.serveBring(in, b, e)
	}
}

func (r *Repairer) serveRoots(in *reader) ([]byte, error) {
	buckets := r.Topology().Buckets
	var out []byte
	for n := 0; len(in.b) > 0; n++ {
		b, e := in.bucket()
		if in.short || int(b) >= buckets || n >= maxBuckets {
			return nil, errShort
		}
		t, s := r.Replica.Tree(b), stateOK
		switch {
		case !r.holds(b, e):
			s = stateFenced
		case !t.Known:
			s = stateUnknown
		}
		out = u32(u64(append(out, byte(s), byte(t.Depth)), t.Root), uint32(t.Records))
	}
	return out, nil
}

// nodes reads a level and nodes of it.
func (in *reader) nodes() (level int, nodes []uint32) {
	if level = int(in.u8()); level > merkle.MaxDepth {
		in.short, in.b, level = true, nil, 0
	}
	nodes = make([]uint32, in.list(4, maxNodes))
	for i := range nodes {
		nodes[i] = in.u32()
	}
	return level, nodes
}

func (r *Repairer) serveSums(in *reader, b unkai.Bucket) ([]byte, error) {
	level, nodes := in.nodes()
	if err := in.end(); err != nil {
		return nil, err
	}
	sums, ok := r.Replica.Sums(nil, b, level, slices.Values(nodes))
	if !ok {
		return []byte{byte(stateUnknown)}, nil
	}
	out := u32([]byte{byte(stateOK)}, uint32(len(sums)))
	for _, s := range sums {
		out = u64(out, s)
	}
	return out, nil
}

func (r *Repairer) serveList(in *reader, b unkai.Bucket) ([]byte, error) {
	level, nodes := in.nodes()
	if err := in.end(); err != nil {
		return nil, err
	}
	const head = 1 + 8
	out := u32(u64([]byte{byte(stateOK)}, uint64(r.Replica.Forgot(b))), 0)
	n := uint32(0)
	err := r.Replica.Under(b, level, setOf(nodes), func(e *store.Entry) bool {
		out = appendVersion(out, e.Key, &version{e.Hash, e.Record.Ballot, e.Record.Epoch, e.Record.Tombstone})
		n++
		return len(out) < maxList
	})
	if err != nil {
		return nil, err
	}
	if len(out) >= maxList {
		return []byte{byte(stateTooLarge)}, nil
	}
	if err := r.Replica.Durable(); err != nil { // what others are told of must not be lost
		return nil, err
	}
	copy(out[head:], u32(nil, n))
	return out, nil
}

func setOf(nodes []uint32) map[uint32]struct{} {
	set := make(map[uint32]struct{}, len(nodes))
	for _, n := range nodes {
		set[n] = struct{}{}
	}
	return set
}

func (r *Repairer) serveRecords(in *reader, b unkai.Bucket) ([]byte, error) {
	wanted := make([]want, in.list(17, maxKeys))
	for i := range wanted {
		wanted[i].hash, wanted[i].ballot, wanted[i].key = in.u64(), unkai.Ballot(in.u64()), in.key()
	}
	if err := in.end(); err != nil {
		return nil, err
	}
	entries, err := r.records(b, wanted)
	if err != nil {
		return nil, err
	}
	out := u32([]byte{byte(stateOK)}, uint32(len(entries)))
	for i := range entries {
		out = appendEntry(out, &entries[i])
	}
	return out, nil
}

// want names a record.
type want struct {
	hash   uint64
	ballot unkai.Ballot
	key    []byte
}

// records are those of the wanted that this node still holds, as far as they fit in a
// message; the first always does.
func (r *Repairer) records(b unkai.Bucket, wanted []want) ([]entry, error) {
	var out []entry
	size := 0
	for _, w := range wanted {
		if size >= maxRecords {
			break
		}
		f, _, err := r.Replica.Get(b, w.hash, w.key, nil)
		if errors.Is(err, store.ErrDamaged) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if f.Record.Ballot != w.ballot {
			continue
		}
		out = append(out, entry{w.hash, w.key, f.Record, f.Fetched, f.Accessed})
		size += len(w.key) + f.Size + store.MaxRecordOverhead
	}
	return out, nil
}
