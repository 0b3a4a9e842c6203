package memory

import (
	"errors"
	"fmt"
	"iter"

	"unkai"
	"unkai/internal/store"
)

// Ingest implements store.Engine. Nobody else may write to the bucket
// meanwhile; a replica that is being filled has its fence for that.
func (e *Engine) Ingest(b unkai.Bucket, records iter.Seq2[store.Entry, error]) error {
	if !e.beginFilling(b) {
		return fmt.Errorf("memory: ingest into bucket %d: %w", b, store.ErrNotEmpty)
	}
	defer e.endFilling(b)
	for en, err := range records {
		if err == nil {
			err = e.add(b, en)
		}
		if err != nil {
			e.empty(b, false)
			return fmt.Errorf("memory: ingest into bucket %d: %w", b, err)
		}
	}
	return nil
}

// add writes a record that must be new.
func (e *Engine) add(b unkai.Bucket, en store.Entry) error {
	w := store.Write{Bucket: b, Hash: en.Hash, Key: en.Key, Record: en.Record}
	err := e.write(&w)
	if errors.Is(err, store.ErrConflict) {
		return fmt.Errorf("key %q comes twice: %w", en.Key, err)
	}
	return err
}

// beginFilling reports whether the bucket is empty and nobody else fills it.
func (e *Engine) beginFilling(b unkai.Bucket) bool {
	e.filling.Lock()
	defer e.filling.Unlock()
	if e.filling.buckets[b] {
		return false
	}
	e.lock(b)
	defer e.unlock(b)
	parts, _ := e.bucketParts(b)
	for i := range parts {
		if parts[i].inUse() {
			return false
		}
	}
	e.filling.buckets[b] = true
	return true
}

func (e *Engine) endFilling(b unkai.Bucket) {
	e.filling.Lock()
	delete(e.filling.buckets, b)
	e.filling.Unlock()
}

// Drop implements store.Engine.
func (e *Engine) Drop(b unkai.Bucket) error {
	e.empty(b, true)
	return nil
}

// empty forgets all records of a bucket at one moment, and the floor too if
// asked to. The slots are given back after that, table by table.
func (e *Engine) empty(b unkai.Bucket, floor bool) {
	parts, first := e.bucketParts(b)
	type index struct {
		dir   []table
		depth uint8
	}
	was := make([]index, len(parts))
	e.lock(b)
	for i := range parts {
		p, s := &parts[i], e.shardOf(first+i)
		was[i] = index{p.dir, p.depth}
		s.counts.sub(p.counts)
		p.dir, p.depth, p.counts = nil, 0, counts{}
	}
	if floor {
		e.floors[b].Store(0)
	}
	e.unlock(b)
	for i := range parts {
		p, s := &parts[i], e.shardOf(first+i)
		each(was[i].dir, was[i].depth, func(t *table, _ uint32) {
			s.mu.Lock()
			s.releaseTable(p, t, b)
			s.mu.Unlock()
		})
	}
}

// releaseTable gives back a table and all its records. What is damaged cannot
// say what it holds, and keeps it until the process ends.
func (s *shard) releaseTable(p *part, t *table, b unkai.Bucket) {
	for _, en := range s.entries(t) {
		if en == 0 || !en.intact() {
			continue
		}
		if h, ok := parse(s.at(en.loc())); ok && h.intact(b) {
			s.releaseRecord(p, en.loc(), &h)
		}
	}
	s.release(p, t.loc)
}
