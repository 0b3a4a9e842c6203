package store

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"hash/crc32"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"unkai"
)

// drawRecord makes up any record that the contract allows.
func drawRecord(t *rapid.T) Record {
	r := Record{
		Ballot:    unkai.Ballot(rapid.Uint64().Draw(t, "ballot")),
		Epoch:     unkai.Epoch(rapid.Uint32().Draw(t, "epoch")),
		Tombstone: rapid.Bool().Draw(t, "tombstone"),
	}
	r.Promise = unkai.Ballot(rapid.OneOf(
		rapid.Just(uint64(r.Ballot)), rapid.Just(max(uint64(r.Ballot), uint64(r.Ballot.Heir()))), rapid.Uint64Min(uint64(r.Ballot))).Draw(t, "promise"))
	if r.Ballot == 0 {
		r.Tombstone, r.Promise = false, max(r.Promise, 1)
	}
	if r.Kind() != KindItem {
		return r
	}
	r.Item = unkai.Item{
		Value:  rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "value"),
		Flags:  rapid.OneOf(rapid.Just(uint32(0)), rapid.Uint32()).Draw(t, "flags"),
		Expiry: rapid.OneOf(rapid.Just(int64(0)), rapid.Int64()).Draw(t, "expiry"),
		CAS:    rapid.OneOf(rapid.Just(uint64(r.Ballot)), rapid.Uint64()).Draw(t, "cas"),
		Stale:  rapid.Bool().Draw(t, "stale"),
		Won:    rapid.Bool().Draw(t, "won"),
	}
	return r
}

func equal(a, b Record) bool {
	if !bytes.Equal(a.Item.Value, b.Item.Value) {
		return false
	}
	a.Item.Value, b.Item.Value = nil, nil
	return a.Ballot == b.Ballot && a.Promise == b.Promise && a.Epoch == b.Epoch && a.Tombstone == b.Tombstone &&
		a.Item.Flags == b.Item.Flags && a.Item.Expiry == b.Item.Expiry && a.Item.CAS == b.Item.CAS &&
		a.Item.Stale == b.Item.Stale && a.Item.Won == b.Item.Won
}

// TestRecordRoundTrip: what is read is what was written, its length is what
// was foretold, and under another key or with any bit changed it is damaged.
func TestRecordRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := drawRecord(t)
		key := rapid.SliceOfN(rapid.Byte(), 1, unkai.MaxKeyLen).Draw(t, "key")
		before := rapid.SliceOfN(rapid.Byte(), 0, 10).Draw(t, "before")
		out := AppendRecord(bytes.Clone(before), key, &r)
		if !bytes.HasPrefix(out, before) {
			t.Fatal("what was in dst has changed")
		}
		b := out[len(before):]
		if len(b) != EncodedLen(&r) || len(b) > len(r.Item.Value)+MaxRecordOverhead {
			t.Fatalf("%d bytes long, foretold %d, at most %d",
				len(b), EncodedLen(&r), len(r.Item.Value)+MaxRecordOverhead)
		}
		got, err := DecodeRecord(key, b)
		if err != nil {
			t.Fatal(err)
		}
		if !equal(got, r) {
			t.Fatalf("read %+v, wrote %+v", got, r)
		}
		if p := PromiseOf(b); p != r.Promise {
			t.Fatalf("promise of the encoded record is %v, want %v", p, r.Promise)
		}
		refused := func(what string, key, b []byte) {
			if _, err := DecodeRecord(key, b); !errors.Is(err, ErrDamaged) {
				t.Fatalf("%s: %v, want ErrDamaged", what, err)
			}
		}
		bit := rapid.IntRange(0, len(b)*8-1).Draw(t, "bit")
		b[bit/8] ^= 1 << (bit % 8)
		refused("a flipped bit", key, b)
		b[bit/8] ^= 1 << (bit % 8)
		refused("cut", key, b[:rapid.IntRange(0, len(b)-1).Draw(t, "cut")])
		other := bytes.Clone(key)
		other[0] ^= 1
		refused("another key", other, b)
	})
}

// goldens are records as version 1 writes them. They stay, whatever comes:
// data on disk looks like this.
var goldens = []struct {
	name   string
	key    string
	record Record
	bytes  string
}{
	{"plain", "k", Record{
		Ballot: 0x0102030405060708, Promise: 0x0102030405060708, Epoch: 9,
		Item: unkai.Item{Value: []byte("value"), CAS: 0x0102030405060708},
	}, "01 00 09000000 0807060504030201 76616c7565 42102b4f"},
	{"empty value", "cart:7", Record{
		Ballot: 1 << 16, Promise: 1 << 16, Epoch: 1, Item: unkai.Item{CAS: 1 << 16},
	}, "01 00 01000000 0000010000000000 b4694c82"},
	{"tombstone", "k", Record{Ballot: 0x50003, Promise: 0x60004, Epoch: 2, Tombstone: true}, "01 09 02000000 0300050000000000 0400060000000000 b3de0cea"},
	{"promised to the same", "k", Record{
		Ballot: 0x50003, Promise: unkai.Ballot(5<<16 | 3).Heir(), Epoch: 9, Item: unkai.Item{Value: []byte("value"), CAS: 0x50003},
	}, "01 80 09000000 0300050000000000 76616c7565 b08389c8"},
	{"tombstone, promised to the same", "k", Record{Ballot: 0x50003, Promise: unkai.Ballot(5<<16 | 3).Heir(), Epoch: 2, Tombstone: true}, "01 81 02000000 0300050000000000 11762b0f"},
	{"only promised", "k", Record{Promise: 0x60004}, "01 08 00000000 0000000000000000 0400060000000000 785a8f9b"},
	{"everything", "\x00\xff", Record{
		Ballot: 0x50003, Promise: 0x60004, Epoch: 0xfffffffe,
		Item: unkai.Item{
			Value: []byte{0, '\r', '\n', 0xff}, Flags: 0xdeadbeef, Expiry: 1_700_000_000_123,
			CAS: 77, Stale: true, Won: true,
		},
	}, "01 7e feffffff 0300050000000000 0400060000000000 4d00000000000000 efbeadde 7b68e5cf8b010000 000d0aff d090bd22"},
}

func TestRecordGolden(t *testing.T) {
	for _, g := range goldens {
		t.Run(g.name, func(t *testing.T) {
			want := strings.ReplaceAll(g.bytes, " ", "")
			if got := hex.EncodeToString(AppendRecord(nil, []byte(g.key), &g.record)); got != want {
				t.Errorf("written as\n%s, want\n%s", got, want)
			}
			b, err := hex.DecodeString(want)
			if err != nil {
				t.Fatal(err)
			}
			r, err := DecodeRecord([]byte(g.key), b)
			if err != nil {
				t.Fatal(err)
			}
			if !equal(r, g.record) {
				t.Errorf("read %+v, want %+v", r, g.record)
			}
		})
	}
}

// seal appends the right checksum to the body of a record.
func seal(key, body []byte) []byte {
	sum := crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, body)
	return binary.LittleEndian.AppendUint32(bytes.Clone(body), sum)
}

// TestRecordUnknown: what a later version may write is refused, though its
// checksum is right.
func TestRecordUnknown(t *testing.T) {
	key := []byte("k")
	r := Record{Ballot: 2 << 16, Promise: 2 << 16, Item: unkai.Item{CAS: 2 << 16}}
	good := AppendRecord(nil, key, &r)
	body := good[:len(good)-recordSum]
	if _, err := DecodeRecord(key, seal(key, body)); err != nil {
		t.Fatalf("the record itself: %v", err)
	}
	for _, c := range []struct {
		why    string
		change func(b []byte) []byte
	}{
		{"version", func(b []byte) []byte { b[0] = 2; return b }},
		{"version", func(b []byte) []byte { b[0] = 0; return b }},
		{"contradict", func(b []byte) []byte {
			b[1] |= fieldPromise | fieldNext
			return append(b, 255, 255, 255, 0, 0, 0, 0, 0)
		}},
		{"contradict", func(b []byte) []byte { b[1] |= fieldTombstone | fieldStale; return b }},
		{"contradict", func(b []byte) []byte { b[1] |= fieldTombstone | fieldWon; return b }},
		{"contradict", func(b []byte) []byte { b[1] |= fieldTombstone | fieldFlags; return append(b, 0, 0, 0, 0) }},
		{"contradict", func(b []byte) []byte { b[1] |= fieldTombstone | fieldCAS; return append(b, 0, 0, 0, 0, 0, 0, 0, 0) }},
		{"contradict", func(b []byte) []byte { b[1] |= fieldTombstone | fieldExpiry; return append(b, 0, 0, 0, 0, 0, 0, 0, 0) }},
		{"where there is none", func(b []byte) []byte { b[1] |= fieldTombstone; return append(b, "value"...) }},
		{"where there is none", func(b []byte) []byte {
			clear(b[6:14])
			b[1] |= fieldPromise
			return append(b, "\x01\x00\x01\x00\x00\x00\x00\x00value"...)
		}},
		{"says nothing", func(b []byte) []byte { clear(b[6:14]); return b }},
		{"below", func(b []byte) []byte { copy(b[6:14], "\xff\xff\xff\xff\xff\xff\xff\xff"); b[1] |= fieldNext; return b }},
		{"too few", func(b []byte) []byte { b[1] |= fieldPromise; return append(b, 1, 2, 3, 4, 5, 6, 7) }},
		{"too few", func(b []byte) []byte { b[1] |= fieldFlags | fieldExpiry; return append(b, 1, 2, 3, 4, 5) }},
		{"below", func(b []byte) []byte { b[1] |= fieldPromise; return append(b, 1, 0, 0, 0, 0, 0, 0, 0) }},
		{"too few", func(b []byte) []byte { return b[:recordFixed-1] }},
	} {
		_, err := DecodeRecord(key, seal(key, c.change(bytes.Clone(body))))
		if !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), c.why) {
			t.Errorf("got %v, want ErrDamaged for %s", err, c.why)
		}
	}
}

// FuzzDecodeRecord: whatever the bytes, reading them ends, in a record that is
// written and read again as itself or in ErrDamaged. With sealed, the checksum
// is made right first, so that what is behind it is reached too.
func FuzzDecodeRecord(f *testing.F) {
	for _, g := range goldens {
		b := AppendRecord(nil, []byte(g.key), &g.record)
		f.Add([]byte(g.key), b, false)
		f.Add([]byte(g.key), b[:len(b)-recordSum], true)
	}
	f.Fuzz(func(t *testing.T, key, b []byte, sealed bool) {
		if sealed {
			b = seal(key, b)
		}
		r, err := DecodeRecord(key, b)
		if err != nil {
			if !errors.Is(err, ErrDamaged) {
				t.Fatalf("error %v, want ErrDamaged", err)
			}
			return
		}
		if err := r.Check(); err != nil {
			t.Fatal(err)
		}
		again, err := DecodeRecord(key, AppendRecord(nil, key, &r))
		if err != nil {
			t.Fatal(err)
		}
		if !equal(again, r) {
			t.Fatalf("read %+v, wrote it, and read %+v", r, again)
		}
	})
}

func TestStatsAdd(t *testing.T) {
	s := Stats{Items: 1, Tombstones: 2, Promises: 12, Bytes: 3, Used: 4, Limit: 5, Damaged: 6, Syncs: 7, Writes: 8, CacheHits: 9, CacheMiss: 10, CacheBytes: 11}
	s.Add(Stats{Items: 10, Tombstones: 20, Promises: 120, Bytes: 30, Used: 40, Limit: 50, Full: true, Damaged: 60, Syncs: 70, Writes: 80, CacheHits: 90, CacheMiss: 100, CacheBytes: 110})
	want := Stats{Items: 11, Tombstones: 22, Promises: 132, Bytes: 33, Used: 44, Limit: 55, Full: true, Damaged: 66, Syncs: 77, Writes: 88, CacheHits: 99, CacheMiss: 110, CacheBytes: 121}
	if s != want {
		t.Errorf("sum is %+v, want %+v", s, want)
	}
}

// TestMayBe: of a record with one flipped bit, or with a damaged value, it is
// known what it was.
func TestMayBe(t *testing.T) {
	key := []byte("k")
	for _, g := range goldens {
		good := AppendRecord(nil, key, &g.record)
		wrong := func(what string, at int, b []byte) {
			if k, n := MayBe(key, b); k != g.record.Kind() || n != len(g.record.Item.Value) {
				t.Errorf("%s, %s %d: kind %d of %d bytes", g.name, what, at, k, n)
			}
		}
		for i := range 8 * len(good) {
			b := bytes.Clone(good)
			b[i/8] ^= 1 << (i % 8)
			wrong("bit", i, b)
		}
		for i := len(good) - recordSum - len(g.record.Item.Value); i < len(good)-1; i++ {
			b := bytes.Clone(good)
			b[i], b[i+1] = b[i]^0x55, b[i+1]^0xaa
			wrong("byte", i, b)
		}
	}
	for n := range 20 {
		MayBe(key, make([]byte, n)) // and ends, whatever it is given
	}
}
