package sim

import (
	"bytes"
	"fmt"
	"iter"
	"maps"
	"slices"
	"time"

	"unkai"
	"unkai/internal/store"
)

func (e *Engine) broken() error {
	if e.dead {
		return fmt.Errorf("simulated disk: %w", store.ErrBroken)
	}
	return nil
}

// name tells a key apart from the same key in another bucket.
func name(b unkai.Bucket, key string) string { return fmt.Sprintf("%d %s", b, key) }

// Get implements store.Engine.
func (e *Engine) Get(b unkai.Bucket, _ uint64, key, dst []byte, a store.Access) (store.Found, []byte, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	f, err := e.find(b, key, false)
	if err != nil {
		return f, dst, err
	}
	start := len(dst)
	dst = append(dst, f.Record.Item.Value...)
	f.Record.Item.Value = dst[start:len(dst):len(dst)]
	if a != store.NoAccess && f.Record.Ballot != 0 {
		e.marks[name(b, string(key))] = mark{true, uint32(a)}
	}
	return f, dst, nil
}

// Head implements store.Engine.
func (e *Engine) Head(b unkai.Bucket, _ uint64, key []byte) (store.Found, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	f, err := e.find(b, key, true)
	f.Record.Item.Value = nil
	return f, err
}

// find gives the record with its own value, or all but that. The lock is held.
func (e *Engine) find(b unkai.Bucket, key []byte, head bool) (store.Found, error) {
	if err := e.broken(); err != nil {
		return store.Found{}, err
	}
	k, ok := e.now.bucket(b).records[string(key)]
	if !ok {
		return store.Found{}, nil
	}
	if k.spoilt != nil && (!head || !k.apart) {
		e.stats.Damaged++
		return store.Found{}, k.damage(string(key))
	}
	m, unsynced := e.marks[name(b, string(key))], e.unsynced[name(b, string(key))] > 0
	return store.Found{
		Record: k.record, Size: len(k.record.Item.Value), Unsynced: unsynced, Fetched: m.fetched, Accessed: m.accessed,
	}, nil
}

// Write implements store.Engine.
func (e *Engine) Write(w *store.Write) {
	e.mu.Lock()
	if err := e.write(w); err != nil {
		e.mu.Unlock()
		tell(w, err)
		return
	}
	e.mu.Unlock()
}

func (e *Engine) write(w *store.Write) error {
	if err := e.broken(); err != nil {
		return err
	}
	if err := w.Record.Check(); err != nil {
		return err
	}
	key, b := string(w.Key), w.Bucket
	was := e.now.bucket(b).records[key]
	switch old := &was.record; {
	case w.Heal && was.spoilt == nil:
		return store.ErrConflict
	case w.Heal:
	case was.spoilt != nil && !was.apart:
		return was.damage(key)
	case old.Ballot != w.Expect || old.Promise != w.Promised:
		return store.ErrConflict
	}
	if e.full && grows(&was.record, &w.Record) {
		return fmt.Errorf("simulated disk: %w", store.ErrFull)
	}
	e.put(b, w.Hash, key, w.Record, mark{w.Fetched, w.Accessed}, newTeller(w, w.Key, w.Record.Promise, 1), false)
	return nil
}

// put has a record in the place of what there is of a key. The lock is held.
func (e *Engine) put(b unkai.Bucket, hash uint64, key string, r store.Record, m mark, told *teller, slow bool) {
	h := held{hash: hash, record: r}
	h.record.Item.Value = bytes.Clone(r.Item.Value)
	if m.accessed == 0 {
		m.accessed = uint32(time.Now().Unix())
	}
	e.marks[name(b, key)] = m
	e.stats.Writes++
	e.apply(change{bucket: b, key: key, do: func(d *Disk) { d.bucket(b).records[key] = h }, told: told, slow: slow})
}

// grows reports whether a record needs more room than the one that it replaces.
func grows(old, next *store.Record) bool {
	switch next.Kind() {
	case store.KindItem:
		return old.Kind() != store.KindItem || len(next.Item.Value) > len(old.Item.Value)
	case store.KindPromise:
		return old.Kind() == store.KindNone
	default:
		return false
	}
}

// Scan implements store.Engine.
func (e *Engine) Scan(b unkai.Bucket) iter.Seq2[store.Entry, error] {
	return func(yield func(store.Entry, error) bool) {
		s, err := e.Snapshot(b)
		if err != nil {
			yield(store.Entry{}, err)
			return
		}
		s.All()(yield)
	}
}

type snapshot []seen

// seen is what a scan says of one key.
type seen struct {
	store.Entry
	err error
}

// Snapshot implements store.Engine.
func (e *Engine) Snapshot(b unkai.Bucket) (store.Snapshot, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.broken(); err != nil {
		return nil, err
	}
	records := e.now.bucket(b).records
	s := make(snapshot, 0, len(records))
	for _, key := range slices.Sorted(maps.Keys(records)) {
		h := records[key]
		if h.spoilt != nil {
			s = append(s, seen{store.Entry{Hash: h.hash, Key: []byte(key)}, h.damage(key)})
			continue
		}
		s = append(s, seen{store.Entry{Hash: h.hash, Key: []byte(key), Record: h.record}, nil})
	}
	return s, nil
}

// All implements store.Snapshot.
func (s snapshot) All() iter.Seq2[store.Entry, error] {
	return func(yield func(store.Entry, error) bool) {
		for _, e := range s {
			if !yield(e.Entry, e.err) {
				return
			}
		}
	}
}

// Close implements store.Snapshot.
func (s snapshot) Close() error { return nil }
