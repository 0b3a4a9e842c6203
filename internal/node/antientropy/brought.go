package antientropy

import (
	"encoding/binary"
	"errors"
	"slices"
	"sync"

	"unkai"
	"unkai/internal/core/ring"
	"unkai/internal/node/replica"
	"unkai/internal/store"
)

// leastBrought is the length of the shortest.
const leastBrought = 1 + 1 + 1 + 18

// appendBrought appends a record that a job brings, without its promise.
func appendBrought(b []byte, e *store.Entry) []byte {
	rec := e.Record
	rec.Promise = rec.Ballot
	b = binary.AppendUvarint(appendKey(b, e.Key), uint64(store.EncodedLen(&rec)))
	return store.AppendRecord(b, e.Key, &rec)
}

// brought reads such records to the message's end, as entry does.
func (in *reader) brought(dst []store.Entry, space ring.Space, b unkai.Bucket) ([]store.Entry, error) {
	n := in.list(leastBrought, maxBrought/leastBrought+1)
	dst = slices.Grow(dst, n)
	for range n {
		key := in.key()
		size, took := binary.Uvarint(in.b)
		if took <= 0 || size > uint64(len(in.b)) {
			return dst, errShort
		}
		in.b = in.b[took:]
		raw := in.take(int(size))
		hash := space.Hash(key)
		if in.short || len(key) == 0 || len(key) > unkai.MaxKeyLen || space.Bucket(hash) != b {
			return dst, errShort
		}
		rec, err := store.DecodeRecord(key, raw)
		if err == nil {
			err = replica.CheckReach(rec.Ballot)
		}
		if err != nil {
			return dst, err
		}
		dst = append(dst, store.Entry{Hash: hash, Key: key, Record: rec})
	}
	return dst, in.end()
}

// servePacked does what serveBring does with records that are compressed.
func (r *Repairer) servePacked(in *reader, b unkai.Bucket, at unkai.Epoch) ([]byte, error) {
	room := messages.Get().(*[]byte)
	defer messages.Put(room)
	body, err := unpack(*room, in.b)
	if err != nil {
		return nil, err
	}
	if cap(body) <= keptMessage {
		*room = body
	}
	return r.serveBring(&reader{b: body}, b, at)
}

// serveBring takes over records that a present replica knows to be chosen.
func (r *Repairer) serveBring(in *reader, b unkai.Bucket, at unkai.Epoch) ([]byte, error) {
	level := in.u8()
	if level > maxLevel && level != noSums {
		return nil, errShort
	}
	room := entriesOf.Get().(*[]store.Entry)
	entries, err := in.brought((*room)[:0], r.Topology().Space(), b)
	defer func() {
		clear(entries) // they alias the message
		*room = entries
		entriesOf.Put(room)
	}()
	if err != nil {
		return nil, err
	}
	adopting := r.Replica.AdoptAll(b, at, entries)
	// Before it is durable: so both wait for the same sync.
	reported := r.report(b, level)
	adopted, others, err := adopting.Wait()
	if err != nil {
		return nil, err
	}
	r.stats.adopted.Add(int64(adopted))
	failed := byte(0) // what was refused is told by the tree
	for _, c := range others {
		// So is what is damaged here: it is healed when the bucket has arrived, and W of
		// the others hold it by then.
		if r.fateOf(c) == fateFailed && !errors.Is(c.Err, store.ErrDamaged) {
			failed = 1
		}
	}
	sums, err := reported()
	return append([]byte{byte(stateOK), failed}, sums...), err
}

// entriesOf keeps the memory of records that are taken over.
var entriesOf = sync.Pool{New: func() any { return new([]store.Entry) }}

// report begins to tell what this replica holds of a bucket, and gives what waits until
// that is durable.
func (r *Repairer) report(b unkai.Bucket, level byte) func() ([]byte, error) {
	if level == noSums {
		return func() ([]byte, error) { return nil, nil }
	}
	for n := int(level); n >= 0; n-- {
		if sums, ok := r.Replica.Sums(nil, b, n, nodesOf(n)); ok {
			durable := r.Replica.BeginDurable()
			return func() ([]byte, error) { return appendSums(nil, n, sums), durable() }
		}
	}
	return func() ([]byte, error) { return []byte{noSums}, nil } // it has to be counted first
}
