package disk

import (
	"bytes"
	"errors"

	"github.com/cockroachdb/pebble/v2"

	"unkai/internal/store"
)

// bulkMost is how many writes share one look at the pebble.
const bulkMost = 128

var _ store.Bulk = (*Engine)(nil)

// WriteAll implements store.Bulk. New keys that come in the pebble's order need one
// iterator together in place of a search each. What was written is not put into the
// cache: it would drive out what is read.
func (e *Engine) WriteAll(ws []*store.Write) {
	for len(ws) > 0 {
		n := 1
		for n < len(ws) && n < bulkMost && follows(ws[n-1], ws[n]) {
			n++
		}
		if n == 1 {
			e.Write(ws[0])
		} else {
			e.writeNew(ws[:n])
		}
		ws = ws[n:]
	}
}

// follows reports whether two writes are of new keys, the second behind the first.
func follows(a, b *store.Write) bool {
	return a.Bucket == b.Bucket && a.Expect == 0 && b.Expect == 0 && !a.Heal && !b.Heal &&
		(a.Hash < b.Hash || a.Hash == b.Hash && bytes.Compare(a.Key, b.Key) < 0)
}

// glance is what was seen of a key without its shard's lock held on to.
type glance struct {
	name    name
	version uint32
	known   bool // there is something of it, or may be
}

// writeNew writes keys of one bucket, in the pebble's order, of which mostly there is
// nothing yet. As in current, who finds a key's version unchanged knows that what
// was seen of it holds. All that it does not know takes the usual way.
func (e *Engine) writeNew(ws []*store.Write) {
	var glances [bulkMost]glance
	for i, w := range ws {
		g := &glances[i]
		mixed := mix(w.Bucket, w.Hash)
		s := &e.shards[shardOf(mixed)]
		s.mu.Lock()
		g.name = name{mixed, e.gens[w.Bucket].Load(), w.Bucket}
		g.version = s.versions[versionOf(mixed)]
		_, t := s.pending(g.name, w.Key) // what the cache has, the pebble has too
		s.mu.Unlock()
		g.known = t != nil
	}
	if err := e.lookUp(ws, glances[:len(ws)]); err != nil {
		for i := range ws {
			glances[i].known = true // what is damaged, and what not, is found one by one
		}
	}
	now := uint32(e.cfg.Now() / 1000)
	for i, w := range ws {
		if err := w.Record.Check(); err != nil || !e.applyNew(w, &glances[i], now) {
			e.Write(w)
		}
	}
	e.wake()
}

// lookUp finds out which of the keys the pebble knows.
func (e *Engine) lookUp(ws []*store.Write, glances []glance) (err error) {
	if e.loaded != nil {
		defer e.loaded()
	}
	first, last := ws[0], ws[len(ws)-1]
	it, err := e.db.NewIter(&pebble.IterOptions{
		LowerBound: appendRecordKey(nil, first.Bucket, first.Hash, first.Key),
		UpperBound: append(appendRecordKey(nil, last.Bucket, last.Hash, last.Key), 0),
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	var key []byte
	valid := it.First()
	for i, w := range ws {
		if !valid {
			break
		}
		key = appendRecordKey(key[:0], w.Bucket, w.Hash, w.Key)
		c := bytes.Compare(it.Key(), key)
		if c < 0 {
			valid = it.SeekGE(key)
			c = -1
			if valid {
				c = bytes.Compare(it.Key(), key)
			}
		}
		if valid && c == 0 {
			glances[i].known = true
		}
	}
	return it.Error()
}

// applyNew puts w into the group that gathers if nothing is in its way.
func (e *Engine) applyNew(w *store.Write, g *glance, now uint32) bool {
	if g.known || len(w.Key) > maxKeyLength {
		return false
	}
	i := shardOf(g.name.mixed)
	s := &e.shards[i]
	s.mu.Lock()
	defer s.mu.Unlock()
	if g.version != s.versions[versionOf(g.name.mixed)] || g.name.gen != e.gens[w.Bucket].Load() ||
		e.gates[w.Bucket].Load() != nil || e.admit(w, false, state{}) != nil {
		return false
	}
	w.Err = nil
	e.waiting.Add(weight(len(w.Key), len(w.Record.Item.Value)))
	s.append(g.name, w, state{}, now)
	p := s.gather()
	p.entries[len(p.entries)-1].cold = !w.Fetched
	if bit := uint64(1) << i; e.dirty.Load()&bit == 0 {
		e.dirty.Or(bit)
	}
	return true
}
