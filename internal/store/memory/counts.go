package memory

import "unkai/internal/store"

// counts of the records of a part or of a shard.
type counts struct {
	items, tombstones, promises int64
	bytes                       int64 // of keys and values of items
}

// countOf counts one record, whose key and value have n bytes.
func countOf(k store.Kind, n int) counts {
	switch k {
	case store.KindTombstone:
		return counts{tombstones: 1}
	case store.KindPromise:
		return counts{promises: 1}
	default:
		return counts{items: 1, bytes: int64(n)}
	}
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
