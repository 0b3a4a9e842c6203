package sim

import (
	"errors"
	"maps"
	"math/rand/v2"
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
	// Leaves has WriteNew leave some records out that it could write, as an engine may
	// that others come in between of.
	Leaves bool
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

// Engine is a store.Engine on a Disk: what is written is seen at once and is
// durable some time later, in order but for the records of a WriteNew. A Crash forgets
// what is not.
type Engine struct {
	mu       sync.Mutex
	disk     *Disk
	now      Disk // as applied
	full     bool // growth is refused
	dropped  int  // buckets so far that held something
	marks    map[string]mark
	journal  []change       // applied, and not durable
	unsynced map[string]int // how many of them are of a key
	seed     uint64
	rng      *rand.Rand
	dead     bool
	closing  bool
	wake     chan struct{}
	ended    chan struct{}
	stats    store.Stats
	tell     func(order []byte, done func())
	ran      func() // is told of each run of records
	cut      func() // and of those that a crash came in between of
}

type mark struct {
	fetched  bool
	accessed uint32
}

var _ store.Engine = (*Engine)(nil)

// Open opens a disk. The seed decides how long it takes to make writes durable,
// and what a crash leaves.
//
// tell, if not nil, is given what lets writers know that their writes are durable,
// and sees that it is done. Of those that are durable at once it is told an order
// that does not depend on who came first.
func Open(d *Disk, seed uint64, tell func(order []byte, done func())) *Engine {
	e := &Engine{
		disk: d, marks: map[string]mark{}, unsynced: map[string]int{}, seed: seed, rng: rand.New(rand.NewPCG(seed, 0xd15c)),
		wake: make(chan struct{}, 1), ended: make(chan struct{}), tell: tell,
	}
	e.ran, e.cut = func() {}, func() {}
	if tell == nil {
		e.tell = func(_ []byte, done func()) { done() }
	}
	e.now = *d.clone()
	go e.sync()
	return e
}

func (d *Disk) clone() *Disk {
	c := &Disk{Lies: d.Lies, Leaves: d.Leaves}
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

type written chan struct{}

// WriteDone implements store.Done.
func (w written) WriteDone(*store.Write) { w <- struct{}{} }

// Drop implements store.Engine.
func (e *Engine) Drop(b unkai.Bucket) error {
	return e.durable(func(k *bucket) error {
		if len(k.records) > 0 || k.floor > 0 {
			e.dropped++
		}
		return nil
	}, b, func(d *Disk) { *d.bucket(b) = bucket{records: map[string]held{}} })
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
	return e.await(func(*bucket) error { return nil }, change{bucket: b, about: ofFloor, do: func(d *Disk) {
		k := d.bucket(b)
		k.floor = max(k.floor, at)
	}})
}

// Purge implements store.Engine. Of several at one moment the order depends on nothing
// but their keys.
func (e *Engine) Purge(b unkai.Bucket, hash uint64, key []byte, at unkai.Ballot) error {
	own, floor := string(key), unkai.Ballot(0)
	time.Sleep(1 + time.Duration(hash%(1<<14)))
	return e.await(func(k *bucket) error {
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
	}, change{bucket: b, key: own, do: func(d *Disk) {
		k := d.bucket(b)
		delete(k.records, own)
		k.floor = max(k.floor, floor)
	}})
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
