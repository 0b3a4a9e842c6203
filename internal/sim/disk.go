package sim

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"unkai"
	"unkai/internal/store"
)

// Disk is what of a node's store outlives it. The zero value is empty. An Engine
// that is opened on it takes it over.
type Disk struct {
	buckets map[unkai.Bucket]*bucket
	// Lies, for a test of the simulation, makes the engine call writes durable
	// that are not.
	Lies bool
}

// bucket is the records and the floor of one bucket.
type bucket struct {
	records map[string]held
	floor   unkai.Ballot
}

type held struct {
	hash   uint64
	record store.Record
	// spoilt, if not nil, is what the disk has in the place of the record by now: who
	// reads it finds that it is damaged.
	spoilt []byte
	apart  bool // the damage is in the value, at which Head does not look
}

func (d *Disk) bucket(b unkai.Bucket) *bucket {
	if d.buckets == nil {
		d.buckets = map[unkai.Bucket]*bucket{}
	}
	k := d.buckets[b]
	if k == nil {
		k = &bucket{records: map[string]held{}}
		d.buckets[b] = k
	}
	return k
}

// change is one step of the journal: what it does to buckets, and who is told
// when it is durable.
type change struct {
	do    func(*Disk)
	told  *store.Write
	order []byte // what it was about: the write is its owner's
}

// Engine is a store.Engine on a Disk: what is written is seen at once and is
// durable some time later, in order. A Crash forgets what is not.
type Engine struct {
	mu      sync.Mutex
	disk    *Disk
	now     Disk // as applied
	full    bool // growth is refused
	dropped int  // buckets so far
	marks   map[string]mark
	journal []change // applied, and not durable
	last    map[string]int
	base    int // how many changes came before journal[0]
	rng     *rand.Rand
	dead    bool
	closing bool
	wake    chan struct{}
	ended   chan struct{}
	stats   store.Stats
	tell    func(order []byte, done func())
}

type mark struct {
	fetched  bool
	accessed uint32
}

// Open opens a disk. The seed decides how long it takes to make writes durable,
// and what a crash leaves.
//
// tell, if not nil, is given what lets writers know that their writes are durable,
// and sees that it is done. Of those that are durable at once it is told an order
// that does not depend on who came first.
func Open(d *Disk, seed uint64, tell func(order []byte, done func())) *Engine {
	e := &Engine{
		disk: d, marks: map[string]mark{}, last: map[string]int{}, rng: rand.New(rand.NewPCG(seed, 0xd15c)),
		wake: make(chan struct{}, 1), ended: make(chan struct{}), tell: tell,
	}
	if tell == nil {
		e.tell = func(_ []byte, done func()) { done() }
	}
	e.now = *d.clone()
	go e.sync()
	return e
}

func (d *Disk) clone() *Disk {
	c := &Disk{Lies: d.Lies}
	for b, k := range d.buckets {
		c.bucket(b).floor = k.floor
		maps.Copy(c.bucket(b).records, k.records)
	}
	return c
}

// Durable is a copy of what a crash would leave for certain.
func (e *Engine) Durable() *Disk {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.disk.clone()
}

// Crash ends the engine as a loss of power does: of what was not durable the
// disk has a beginning, which may be nothing.
func (e *Engine) Crash() {
	e.mu.Lock()
	if e.dead {
		e.mu.Unlock()
		return
	}
	e.dead = true
	lost := e.journal
	e.journal = nil
	if !e.disk.Lies {
		for _, c := range lost[:e.rng.IntN(len(lost)+1)] {
			c.do(e.disk)
		}
	}
	e.mu.Unlock()
	e.nudge()
	for _, c := range lost {
		tell(c.told, fmt.Errorf("power was lost: %w", store.ErrBroken))
	}
}

func tell(w *store.Write, err error) {
	w.Err = err
	w.Done.WriteDone(w)
}

func (e *Engine) nudge() {
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

// sync makes what was applied durable, a group at a time.
func (e *Engine) sync() {
	defer close(e.ended)
	for {
		time.Sleep(time.Nanosecond) // what is written at the same moment is in the same group
		e.mu.Lock()
		n, dead, closing := len(e.journal), e.dead, e.closing
		took := time.Duration(50_000 + e.rng.IntN(1_000_000))
		if e.rng.IntN(200) == 0 {
			took = time.Duration(e.rng.IntN(100_000_000))
		}
		e.mu.Unlock()
		switch {
		case dead || closing && n == 0:
			return
		case n == 0:
			<-e.wake
			continue
		}
		time.Sleep(took)
		e.mu.Lock()
		if e.dead {
			e.mu.Unlock()
			return
		}
		group := e.journal[:n]
		e.journal = slices.Clone(e.journal[n:])
		e.base += n
		for _, c := range group {
			if !e.disk.Lies || e.rng.IntN(4) > 0 {
				c.do(e.disk)
			}
		}
		e.stats.Syncs++
		e.mu.Unlock()
		for _, c := range group {
			if c.told != nil {
				e.tell(c.order, func() { tell(c.told, nil) })
			}
		}
	}
}

// apply does a change, now to what is seen and later to the disk. The lock is held.
func (e *Engine) apply(told *store.Write, do func(*Disk)) {
	do(&e.now)
	order := binary.BigEndian.AppendUint64(bytes.Clone(told.Key), uint64(told.Record.Promise))
	e.journal = append(e.journal, change{do, told, order})
	e.nudge()
}

func (e *Engine) broken() error {
	if e.dead {
		return fmt.Errorf("simulated disk: %w", store.ErrBroken)
	}
	return nil
}

// name tells a key apart from the same key in another bucket.
func name(b unkai.Bucket, key []byte) string { return fmt.Sprintf("%d %s", b, key) }

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
		e.marks[name(b, key)] = mark{true, uint32(a)}
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
	at, written := e.last[name(b, key)]
	m := e.marks[name(b, key)]
	return store.Found{
		Record: k.record, Size: len(k.record.Item.Value), Unsynced: written && at >= e.base, Fetched: m.fetched, Accessed: m.accessed,
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
	h := held{hash: w.Hash, record: w.Record}
	h.record.Item.Value = bytes.Clone(w.Record.Item.Value)
	m := mark{w.Fetched, w.Accessed}
	if m.accessed == 0 {
		m.accessed = uint32(time.Now().Unix())
	}
	e.marks[name(b, w.Key)] = m
	e.last[name(b, w.Key)] = e.base + len(e.journal)
	e.stats.Writes++
	e.apply(w, func(d *Disk) { d.bucket(b).records[key] = h })
	return nil
}

// Barrier implements store.Engine.
func (e *Engine) Barrier(w *store.Write) {
	e.mu.Lock()
	err := e.broken()
	if err == nil && len(e.journal) > 0 {
		e.apply(w, func(*Disk) {})
		e.mu.Unlock()
		return
	}
	e.mu.Unlock()
	tell(w, err)
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

// durable does a change and waits until it is durable.
func (e *Engine) durable(check func(*bucket) error, b unkai.Bucket, do func(*Disk)) error {
	done := make(written, 1)
	w := &store.Write{Done: done}
	e.mu.Lock()
	err := e.broken()
	if err == nil {
		err = check(e.now.bucket(b))
	}
	if err != nil {
		e.mu.Unlock()
		return err
	}
	e.apply(w, do)
	e.mu.Unlock()
	<-done
	return w.Err
}

type written chan struct{}

// WriteDone implements store.Done.
func (w written) WriteDone(*store.Write) { w <- struct{}{} }

// Ingest implements store.Engine.
func (e *Engine) Ingest(b unkai.Bucket, records iter.Seq2[store.Entry, error]) error {
	all := map[string]held{}
	for r, err := range records {
		if err != nil {
			return err
		}
		if err := r.Record.Check(); err != nil {
			return err
		}
		h := held{hash: r.Hash, record: r.Record}
		h.record.Item.Value = bytes.Clone(h.record.Item.Value)
		all[string(r.Key)] = h
	}
	return e.durable(func(k *bucket) error {
		switch {
		case len(k.records) > 0:
			return store.ErrNotEmpty
		case e.full && len(all) > 0:
			return fmt.Errorf("simulated disk: %w", store.ErrFull)
		}
		return nil
	}, b, func(d *Disk) { maps.Copy(d.bucket(b).records, all) })
}

// Drop implements store.Engine.
func (e *Engine) Drop(b unkai.Bucket) error {
	return e.durable(func(*bucket) error { e.dropped++; return nil }, b, func(d *Disk) { *d.bucket(b) = bucket{records: map[string]held{}} })
}

// drops is how many buckets were dropped so far.
func (e *Engine) drops() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.dropped
}

// Floor implements store.Engine.
func (e *Engine) Floor(b unkai.Bucket) unkai.Ballot {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.now.bucket(b).floor
}

// RaiseFloor implements store.Engine.
func (e *Engine) RaiseFloor(b unkai.Bucket, at unkai.Ballot) error {
	return e.durable(func(*bucket) error { return nil }, b, func(d *Disk) {
		k := d.bucket(b)
		k.floor = max(k.floor, at)
	})
}

// Purge implements store.Engine. Of several at one moment the order depends on nothing
// but their keys.
func (e *Engine) Purge(b unkai.Bucket, hash uint64, key []byte, at unkai.Ballot) error {
	own, floor := string(key), unkai.Ballot(0)
	time.Sleep(1 + time.Duration(hash%(1<<14)))
	return e.durable(func(k *bucket) error {
		h, ok := k.records[own]
		switch {
		case h.spoilt != nil && at == 0:
			return nil
		case h.spoilt != nil:
			return h.damage(own)
		case !ok || h.record.Ballot != at:
			return store.ErrConflict
		}
		floor = max(k.floor, h.record.Promise)
		return nil
	}, b, func(d *Disk) {
		k := d.bucket(b)
		delete(k.records, own)
		k.floor = max(k.floor, floor)
	})
}

// Checkpoint implements store.Engine; it has none.
func (e *Engine) Checkpoint(string) error {
	return errors.New("simulated disk: there are no checkpoints of it")
}

// Stats implements store.Engine.
func (e *Engine) Stats() store.Stats {
	e.mu.Lock()
	defer e.mu.Unlock()
	s := e.stats
	for _, k := range e.now.buckets {
		for key, h := range k.records {
			switch {
			case h.record.Ballot == 0:
				s.Promises++
			case h.record.Tombstone:
				s.Tombstones++
			default:
				s.Items++
				s.Bytes += int64(len(key) + len(h.record.Item.Value))
			}
		}
	}
	s.Used, s.Full = s.Bytes, e.full
	return s
}

// Close implements store.Engine.
func (e *Engine) Close() error {
	e.mu.Lock()
	e.closing = true
	e.mu.Unlock()
	e.nudge()
	<-e.ended
	return nil
}
