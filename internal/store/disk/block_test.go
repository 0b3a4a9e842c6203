package disk

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"unkai/internal/store"
)

// A block of a table is checked before the pebble would look which of its bits has flipped,
// whatever is in it, and only one that is damaged is refused.
func TestLongBlocksAreCheckedFirst(t *testing.T) {
	const bucket = 2
	mem := vfs.NewMem()
	e := mustOpen(t, small(mem))
	d := newWaiter()
	values := map[string][]byte{}
	for _, size := range []int{10, 4 << 10, longBlock - 100, longBlock, longBlock + 100, 20_000, 70_000, 1 << 20} {
		random := make([]byte, size)
		for i := range random {
			random[i] = byte(rand.Uint32())
		}
		values[fmt.Sprintf("random %d", size)] = random
		values[fmt.Sprintf("plain %d", size)] = bytes.Repeat([]byte("plain text "), size/11+1)[:size]
	}
	for key, value := range values {
		w := store.Write{Bucket: bucket, Hash: testHash(key), Key: []byte(key), Record: benchRecord(1<<16, value), Done: d}
		e.Write(&w)
		if err := d.wait(); err != nil {
			t.Fatal(err)
		}
	}
	if err := e.db.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := e.db.Compact(t.Context(), []byte{0}, []byte{0xff}, false); err != nil {
		t.Fatal(err)
	}
	mustClose(t, e)
	e = mustOpen(t, small(mem)) // nothing is cached
	for key, value := range values {
		if _, v, err := e.Get(bucket, testHash(key), []byte(key), nil, 1); err != nil || !bytes.Equal(v, value) {
			t.Errorf("%s is read as %d bytes: %v", key, len(v), err)
		}
	}
	mustClose(t, e)

	const hurt = "random 1048576"
	flipIn(t, mem, values[hurt][len(values[hurt])/2:][:32])
	e = mustOpen(t, small(mem))
	for key, value := range values {
		_, v, err := e.Get(bucket, testHash(key), []byte(key), nil, 1)
		switch {
		case key != hurt && (err != nil || !bytes.Equal(v, value)):
			t.Errorf("%s is read as %d bytes: %v", key, len(v), err)
		case key == hurt && (!errors.Is(err, store.ErrDamaged) || !pebble.IsCorruptionError(err) || !strings.Contains(err.Error(), "the block at")):
			t.Errorf("%s, which is damaged, is read as %d bytes: %v", key, len(v), err)
		}
	}
	mustClose(t, e)
}

// flipIn flips a bit in the table that holds some bytes.
func flipIn(t *testing.T, fs vfs.FS, what []byte) {
	t.Helper()
	names, err := fs.List("store")
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		if !strings.HasSuffix(n, ".sst") {
			continue
		}
		f, err := fs.OpenReadWrite(fs.PathJoin("store", n), vfs.WriteCategoryUnspecified)
		if err != nil {
			t.Fatal(err)
		}
		all, err := io.ReadAll(f)
		if err != nil {
			t.Fatal(err)
		}
		if at := bytes.Index(all, what); at >= 0 {
			if _, err := f.WriteAt([]byte{all[at] ^ 4}, int64(at)); err != nil {
				t.Fatal(err)
			}
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
			return
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	t.Fatal("no table holds it")
}
