package disk

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"unkai/internal/store"
)

// counts are the totals that are kept beside the records, in the same batches.
type counts struct {
	items, tombstones, promises int64
	bytes                       int64 // of keys and values of items
}

// countOf counts one record, whose key and value have n bytes.
func countOf(k store.Kind, n int) counts {
	switch k {
	case store.KindItem:
		return counts{items: 1, bytes: int64(n)}
	case store.KindTombstone:
		return counts{tombstones: 1}
	case store.KindPromise:
		return counts{promises: 1}
	default:
		return counts{}
	}
}

func countOfEntry(t *store.Entry) counts {
	return countOf(t.Record.Kind(), len(t.Key)+len(t.Record.Item.Value))
}

func (c *counts) add(o counts) {
	c.items += o.items
	c.tombstones += o.tombstones
	c.promises += o.promises
	c.bytes += o.bytes
}

func (c *counts) sub(o counts) {
	c.items -= o.items
	c.tombstones -= o.tombstones
	c.promises -= o.promises
	c.bytes -= o.bytes
}

// appendTo appends the sealed value of countsKey.
func (c *counts) appendTo(dst []byte) []byte {
	start := len(dst)
	dst = c.appendPlain(dst)
	return append(dst[:start], seal(countsKey, dst[start:])...)
}

// appendExpecting appends the same with what is to be added if the store holds a record of key.
func appendExpecting(dst []byte, now, more counts, key []byte) []byte {
	start := len(dst)
	dst = append(more.appendPlain(now.appendPlain(dst)), key...)
	return append(dst[:start], seal(countsKey, dst[start:])...)
}

func (c *counts) appendPlain(dst []byte) []byte {
	for _, n := range [...]int64{c.items, c.tombstones, c.promises, c.bytes} {
		dst = binary.LittleEndian.AppendUint64(dst, uint64(n))
	}
	return dst
}

const countsSize = 32

// decode reads what appendTo or appendExpecting wrote.
func (c *counts) decode(sealed []byte) (more counts, key []byte, err error) {
	v, err := unseal(countsKey, sealed)
	if err != nil {
		return more, nil, err
	}
	if len(v) != countsSize && len(v) <= 2*countsSize {
		return more, nil, errMeta
	}
	c.decodePlain(v)
	if len(v) > countsSize {
		more.decodePlain(v[countsSize:])
		key = v[2*countsSize:]
	}
	return more, key, nil
}

func (c *counts) decodePlain(v []byte) {
	for i, n := range [...]*int64{&c.items, &c.tombstones, &c.promises, &c.bytes} {
		*n = int64(binary.LittleEndian.Uint64(v[8*i:]))
	}
}

// readCounts reads what the store counted last.
func (e *Engine) readCounts() error {
	v, closer, err := e.db.Get(countsKey)
	if err != nil {
		return fmt.Errorf("reading the counts: %w", err)
	}
	v = append([]byte(nil), v...)
	if err := closer.Close(); err != nil {
		return fmt.Errorf("reading the counts: %w", err)
	}
	sum, key, err := e.total.decode(v)
	if err != nil {
		return fmt.Errorf("reading the counts: %w", err)
	}
	e.tables.expected = key != nil
	if key != nil {
		there, err := e.holds(key)
		if err != nil {
			return fmt.Errorf("reading the counts: %w", err)
		}
		if there {
			e.total.add(sum)
		}
	}
	total := e.total
	e.adjust.Store(&total)
	return nil
}

// holds reports whether there is a record of a key with which a table was to begin. Where that
// cannot be read, the pebble knows without a look at its tables where they begin.
func (e *Engine) holds(key []byte) (bool, error) {
	_, closer, err := e.db.Get(key)
	switch {
	case err == nil:
		return true, closer.Close()
	case errors.Is(err, pebble.ErrNotFound):
		return false, nil
	}
	levels, err := e.db.SSTables()
	for _, tables := range levels {
		for i := range tables {
			if first := &tables[i].Smallest; first.Kind() == pebble.InternalKeyKindSet && bytes.Equal(first.UserKey, key) {
				return true, nil
			}
		}
	}
	return false, err
}
