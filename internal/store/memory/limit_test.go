package memory

import (
	"errors"
	"fmt"
	"testing"

	"unkai"
	"unkai/internal/store"
)

// fillUp writes values of size bytes under new keys until growth is refused.
func fillUp(t *testing.T, e *Engine, prefix string, size int) (keys [][]byte) {
	t.Helper()
	for i := 0; ; i++ {
		key := fmt.Append(nil, prefix, i)
		w := write(0, key, 0, 1<<16, make([]byte, size))
		if e.Write(w); w.Err != nil {
			if !errors.Is(w.Err, store.ErrFull) {
				t.Fatal(w.Err)
			}
			return keys
		}
		keys = append(keys, key)
	}
}

func purgeAll(t *testing.T, e *Engine, keys [][]byte, at unkai.Ballot) {
	t.Helper()
	for _, key := range keys {
		if err := e.Purge(0, hashOf(key), key, at); err != nil {
			t.Fatal(err)
		}
	}
}

// TestMemoryMoves: what short values leave, long ones can use, and back.
func TestMemoryMoves(t *testing.T) {
	const limit = 8 << 20
	e := open(t, Config{Buckets: 1, Limit: limit})
	defer func() { _ = e.Close() }()
	for _, size := range []int{0, 100, 1000, 10_000, 20_000, 300_000, 100, 0} {
		keys := fillUp(t, e, "k", size)
		if st := e.Stats(); st.Used > limit {
			t.Errorf("values of %d bytes: %d bytes are used", size, st.Used)
		}
		if sum := len(keys) * size; size > 0 && sum < limit*55/100 {
			t.Errorf("values of %d bytes: only %d bytes fit", size, sum)
		}
		purgeAll(t, e, keys, 1<<16)
		if st := e.Stats(); st.Used != 0 || st.Full {
			t.Errorf("values of %d bytes: all purged, %d bytes are used", size, st.Used)
		}
	}
}

// TestAtTheLimit: what does not grow works where growth is refused.
func TestAtTheLimit(t *testing.T) {
	for _, size := range []int{60, 1000, 30_000} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			const limit = 8 << 20
			e := open(t, Config{Buckets: 1, Limit: limit})
			defer func() { _ = e.Close() }()
			keys := fillUp(t, e, "k", size)
			if size < maxSlot/2 {
				for i, key := range keys {
					w := write(0, key, 1<<16, 2<<16, make([]byte, size-i%60))
					if e.Write(w); w.Err != nil {
						t.Fatalf("overwrite with %d bytes: %v", len(w.Record.Item.Value), w.Err)
					}
				}
			}
			// A delete of a key never heard of takes from the reserve.
			w := write(0, []byte("never heard of"), 0, 1<<16, nil)
			w.Record.Tombstone, w.Record.Item = true, unkai.Item{}
			if e.Write(w); w.Err != nil {
				t.Errorf("delete of an unknown key: %v", w.Err)
			}
			if st := e.Stats(); st.Used > limit {
				t.Errorf("%d bytes are used", st.Used)
			}
			// Deletes work even while a snapshot keeps all that was.
			sn, err := e.Snapshot(0)
			if err != nil {
				t.Fatal(err)
			}
			for _, key := range keys {
				r, err := get(e, 0, key)
				if err != nil {
					t.Fatal(err)
				}
				w := write(0, key, r.Ballot, 3<<16, nil)
				w.Record.Tombstone, w.Record.Item = true, unkai.Item{}
				w.Record.Promise += 1 << 16 // the longest there is
				if e.Write(w); w.Err != nil {
					t.Fatalf("delete: %v", w.Err)
				}
			}
			n := 0
			for en, err := range sn.All() {
				if err != nil {
					t.Fatal(err)
				}
				if !en.Record.Tombstone {
					n++
				}
			}
			if n != len(keys) {
				t.Errorf("%d in the snapshot, want %d", n, len(keys))
			}
			if err := sn.Close(); err != nil {
				t.Fatal(err)
			}
			purgeAll(t, e, keys, 3<<16)
			if st := e.Stats(); st.Used > 10*pageSize || st.Full {
				t.Errorf("after all was purged: %+v", st)
			}
		})
	}
}
