package command_test

import (
	"bytes"
	"math"
	"testing"

	"pgregory.net/rapid"

	"unkai"
	"unkai/internal/core/command"
)

const now = 1_000_000

var law = command.Law{Now: now, CAS: 77, MaxValue: 100}

func item(value string) unkai.Item { return unkai.Item{Value: []byte(value), CAS: 5} }

// What memcached 1.6 answers, as observed on one.
func TestApply(t *testing.T) {
	stale := unkai.Item{Value: []byte("99"), CAS: 5, Stale: true}
	won := unkai.Item{Value: []byte("99"), CAS: 5, Stale: true, Won: true}
	for _, c := range []struct {
		name   string
		old    unkai.Item
		op     unkai.Op
		status unkai.Status
		item   unkai.Item // that stands afterwards
		same   bool       // nothing changed
	}{
		{name: "get of nothing", status: unkai.Miss, same: true},
		{name: "get", old: item("x"), status: unkai.OK, item: item("x"), same: true},
		{name: "get of the expired removes it", old: unkai.Item{CAS: 5, Expiry: now}, status: unkai.Miss},
		{name: "get of what expires later", old: unkai.Item{CAS: 5, Expiry: now + 1}, status: unkai.OK, item: unkai.Item{CAS: 5, Expiry: now + 1}, same: true},
		{name: "gat", old: item("x"), op: unkai.Op{Retouch: true, Expiry: 9}, status: unkai.OK, item: unkai.Item{Value: []byte("x"), CAS: 5, Expiry: 9}},
		{name: "touch keeps the cas unique", old: item("x"), op: unkai.Op{Kind: unkai.Touch, Expiry: 9}, status: unkai.OK, item: unkai.Item{Value: []byte("x"), CAS: 5, Expiry: 9}},
		{name: "touch of nothing", op: unkai.Op{Kind: unkai.Touch, Expiry: 9}, status: unkai.Miss, same: true},
		{name: "classic get of the stale hands out nothing", old: stale, status: unkai.OK, item: stale, same: true},
		{name: "first meta get of the stale wins", old: stale, op: unkai.Op{Meta: true}, status: unkai.OK, item: won},
		{name: "second meta get of the stale does not", old: won, op: unkai.Op{Meta: true}, status: unkai.OK, item: won, same: true},
		{name: "recache of what lives long", old: unkai.Item{CAS: 5, Expiry: now + 10}, op: unkai.Op{Meta: true, Recache: now + 10}, status: unkai.OK, item: unkai.Item{CAS: 5, Expiry: now + 10}, same: true},
		{name: "recache of what expires sooner wins", old: unkai.Item{CAS: 5, Expiry: now + 9}, op: unkai.Op{Meta: true, Recache: now + 10}, status: unkai.OK, item: unkai.Item{CAS: 5, Expiry: now + 9, Won: true}},
		{name: "recache of the eternal", old: item("x"), op: unkai.Op{Meta: true, Recache: math.MaxInt64}, status: unkai.OK, item: item("x"), same: true},
		{name: "vivify", op: unkai.Op{Meta: true, Vivify: true, VivifyExpiry: 8, Retouch: true, Expiry: 9}, status: unkai.OK, item: unkai.Item{CAS: 77, Expiry: 8, Won: true}},

		{name: "set", op: unkai.Op{Kind: unkai.Set, Value: []byte("v"), Flags: 3}, status: unkai.OK, item: unkai.Item{Value: []byte("v"), Flags: 3, CAS: 77}},
		{name: "set over the stale", old: won, op: unkai.Op{Kind: unkai.Set, Value: []byte("v")}, status: unkai.OK, item: unkai.Item{Value: []byte("v"), CAS: 77}},
		{name: "set with a chosen unique", op: unkai.Op{Kind: unkai.Set, Value: []byte("v"), NewCAS: 1234}, status: unkai.OK, item: unkai.Item{Value: []byte("v"), CAS: 1234}},
		{name: "add to nothing", op: unkai.Op{Kind: unkai.Add, Value: []byte("v")}, status: unkai.OK, item: unkai.Item{Value: []byte("v"), CAS: 77}},
		{name: "add to something", old: item("x"), op: unkai.Op{Kind: unkai.Add}, status: unkai.NotStored, same: true},
		{name: "add to the expired", old: unkai.Item{CAS: 5, Expiry: 1}, op: unkai.Op{Kind: unkai.Add, Value: []byte("v")}, status: unkai.OK, item: unkai.Item{Value: []byte("v"), CAS: 77}},
		{name: "replace nothing", op: unkai.Op{Kind: unkai.Replace}, status: unkai.NotStored, same: true},
		{name: "replace the expired removes it", old: unkai.Item{CAS: 5, Expiry: 1}, op: unkai.Op{Kind: unkai.Replace}, status: unkai.NotStored},
		{name: "cas", old: item("x"), op: unkai.Op{Kind: unkai.Set, Compare: true, CAS: 5, Value: []byte("v")}, status: unkai.OK, item: unkai.Item{Value: []byte("v"), CAS: 77}},
		{name: "cas that lost", old: item("x"), op: unkai.Op{Kind: unkai.Set, Compare: true, CAS: 4}, status: unkai.Exists, same: true},
		{name: "cas of nothing", op: unkai.Op{Kind: unkai.Set, Compare: true, CAS: 4}, status: unkai.Miss, same: true},
		{name: "replace with cas of nothing", op: unkai.Op{Kind: unkai.Replace, Compare: true, CAS: 4}, status: unkai.Miss, same: true},
		{name: "late cas that may be stale", old: unkai.Item{Value: []byte("x"), CAS: 5, Expiry: now + 9, Won: true}, op: unkai.Op{Kind: unkai.Set, Compare: true, CAS: 4, Invalidate: true, Value: []byte("v"), Expiry: now + 1}, status: unkai.OK, item: unkai.Item{Value: []byte("v"), CAS: 77, Stale: true, Won: true, Expiry: now + 9}},
		{name: "early cas is never stale", old: item("x"), op: unkai.Op{Kind: unkai.Set, Compare: true, CAS: 6, Invalidate: true}, status: unkai.Exists, same: true},

		{name: "append", old: unkai.Item{Value: []byte("x"), Flags: 3, Expiry: now + 9, CAS: 5}, op: unkai.Op{Kind: unkai.Append, Value: []byte("y"), Flags: 8}, status: unkai.OK, item: unkai.Item{Value: []byte("xy"), Flags: 3, Expiry: now + 9, CAS: 77}},
		{name: "prepend", old: item("x"), op: unkai.Op{Kind: unkai.Prepend, Value: []byte("y")}, status: unkai.OK, item: unkai.Item{Value: []byte("yx"), CAS: 77}},
		{name: "append to nothing", op: unkai.Op{Kind: unkai.Append, Value: []byte("y")}, status: unkai.NotStored, same: true},
		{name: "append to nothing that vivifies", op: unkai.Op{Kind: unkai.Append, Value: []byte("y"), Vivify: true, VivifyExpiry: 9}, status: unkai.OK, item: unkai.Item{Value: []byte("y"), CAS: 77, Expiry: 9}},
		{name: "append too much", old: item("x"), op: unkai.Op{Kind: unkai.Append, Value: make([]byte, 100)}, status: unkai.NotStored, same: true},
		{name: "append with another unique", old: item("x"), op: unkai.Op{Kind: unkai.Append, Compare: true, CAS: 9}, status: unkai.Exists, same: true},

		{name: "incr", old: item("9"), op: unkai.Op{Kind: unkai.Increment, Delta: 1}, status: unkai.OK, item: unkai.Item{Value: []byte("10"), CAS: 77}},
		{name: "incr wraps and keeps the length", old: item("18446744073709551615"), op: unkai.Op{Kind: unkai.Increment, Delta: 2}, status: unkai.OK, item: unkai.Item{Value: []byte("1                   "), CAS: 77}},
		{name: "decr keeps the length", old: item("10"), op: unkai.Op{Kind: unkai.Decrement, Delta: 1}, status: unkai.OK, item: unkai.Item{Value: []byte("9 "), CAS: 77}},
		{name: "decr stops at 0", old: item("5"), op: unkai.Op{Kind: unkai.Decrement, Delta: 6}, status: unkai.OK, item: unkai.Item{Value: []byte("0"), CAS: 77}},
		{name: "incr of the same length leaves the marks", old: won, op: unkai.Op{Kind: unkai.Decrement, Delta: 1}, status: unkai.OK, item: unkai.Item{Value: []byte("98"), CAS: 77, Stale: true, Won: true}},
		{name: "incr that grows clears them", old: won, op: unkai.Op{Kind: unkai.Increment, Delta: 1}, status: unkai.OK, item: unkai.Item{Value: []byte("100"), CAS: 77}},
		{name: "incr of nothing", op: unkai.Op{Kind: unkai.Increment}, status: unkai.Miss, same: true},
		{name: "incr that vivifies", op: unkai.Op{Kind: unkai.Increment, Vivify: true, Initial: 13, VivifyExpiry: 8}, status: unkai.OK, item: unkai.Item{Value: []byte("13"), CAS: 77, Expiry: 8}},
		{name: "incr of a word", old: item("x"), op: unkai.Op{Kind: unkai.Increment}, status: unkai.NotNumber, same: true},

		{name: "delete", old: item("x"), op: unkai.Op{Kind: unkai.Delete}, status: unkai.OK},
		{name: "delete nothing", op: unkai.Op{Kind: unkai.Delete}, status: unkai.Miss, same: true},
		{name: "delete with another unique", old: item("x"), op: unkai.Op{Kind: unkai.Delete, Compare: true, CAS: 9}, status: unkai.Exists, same: true},
		{name: "invalidate", old: won, op: unkai.Op{Kind: unkai.Delete, Invalidate: true, Retouch: true, Expiry: 9}, status: unkai.OK, item: unkai.Item{Value: []byte("99"), CAS: 77, Stale: true, Expiry: 9}},
		{name: "drop the value", old: item("x"), op: unkai.Op{Kind: unkai.Delete, DropValue: true}, status: unkai.OK, item: unkai.Item{CAS: 77}},
	} {
		t.Run(c.name, func(t *testing.T) {
			out, _ := law.Apply(c.old, &c.op, nil)
			if out.Result.Status != c.status || out.Changed == c.same {
				t.Fatalf("status %d, changed %v; want %d, %v", out.Result.Status, out.Changed, c.status, !c.same)
			}
			if out.Changed && !same(out.Item, c.item) {
				t.Fatalf("leaves %+v, want %+v", out.Item, c.item)
			}
		})
	}
}

func same(a, b unkai.Item) bool {
	return bytes.Equal(a.Value, b.Value) && a.Flags == b.Flags && a.Expiry == b.Expiry && a.CAS == b.CAS && a.Stale == b.Stale && a.Won == b.Won
}

// What memcached takes for a number, as observed on one.
func TestNumbers(t *testing.T) {
	for value, want := range map[string]string{
		"0": "1", "18446744073709551615": "0", " 12": "13", "12 ": "13", "1 2": "2", "1\x002": "2", "1\v2": "2",
		"007": "8", "0000000000000000000000001": "2", "+12": "13", " -9223372036854775900": "9223372036854775717", "-0": "1",
	} {
		old := unkai.Item{Value: []byte(value), CAS: 1}
		out, _ := law.Apply(old, &unkai.Op{Kind: unkai.Increment, Delta: 1}, nil)
		if got := string(bytes.TrimRight(out.Item.Value, " ")); out.Result.Status != unkai.OK || got != want {
			t.Errorf("%q + 1 is %q (status %d), want %q", value, got, out.Result.Status, want)
		}
	}
	for _, value := range []string{"", " ", "-", " - ", "--1", "-1", " -12", "1a2", "18446744073709551616", "100000000000000000000", "x"} {
		old := unkai.Item{Value: []byte(value), CAS: 1}
		if out, _ := law.Apply(old, &unkai.Op{Kind: unkai.Increment, Delta: 1}, nil); out.Result.Status != unkai.NotNumber {
			t.Errorf("%q is taken for a number: %d", value, out.Result.Number)
		}
	}
}

func anyItem(t *rapid.T, name string) unkai.Item {
	if rapid.Bool().Draw(t, name+" absent") {
		return unkai.Item{}
	}
	return unkai.Item{
		Value:  rapid.SliceOfN(rapid.SampledFrom([]byte("0159 x")), 0, 6).Draw(t, name+" value"),
		Flags:  rapid.Uint32Max(3).Draw(t, name+" flags"),
		Expiry: rapid.SampledFrom([]int64{0, 1, now - 1, now, now + 1, now + 60_000}).Draw(t, name+" expiry"),
		CAS:    rapid.Uint64Range(1, 4).Draw(t, name+" cas"),
		Stale:  rapid.Bool().Draw(t, name+" stale"),
		Won:    rapid.Bool().Draw(t, name+" won"),
	}
}

func anyOp(t *rapid.T) unkai.Op {
	flag := func(name string) bool { return rapid.Bool().Draw(t, name) }
	when := rapid.SampledFrom([]int64{0, 1, now, now + 1, now + 60_000})
	return unkai.Op{
		Kind:  unkai.Kind(rapid.IntRange(0, int(unkai.Kinds)-1).Draw(t, "kind")),
		Value: rapid.SliceOfN(rapid.Byte(), 0, 4).Draw(t, "value"), Flags: 1, Expiry: when.Draw(t, "expiry"),
		Compare: flag("compare"), CAS: rapid.Uint64Range(0, 5).Draw(t, "cas"), Delta: rapid.Uint64().Draw(t, "delta"),
		Vivify: flag("vivify"), VivifyExpiry: when.Draw(t, "vivify expiry"), Retouch: flag("retouch"),
		Recache: when.Draw(t, "recache"), Invalidate: flag("invalidate"), DropValue: flag("drop"), Meta: flag("meta"),
	}
}

// What holds for every operation on every item.
func TestLaws(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		old, op := anyItem(t, "old"), anyOp(t)
		kept := unkai.Item{Value: bytes.Clone(old.Value)}
		scratch := []byte("before")
		out, grown := law.Apply(old, &op, scratch)
		expired := old.Exists() && old.Expiry != 0 && old.Expiry <= now
		switch {
		case !bytes.Equal(kept.Value, old.Value):
			t.Fatal("the old value was overwritten")
		case string(grown[:6]) != "before":
			t.Fatal("scratch was overwritten")
		case out.Result.Status == unkai.Unanswered:
			t.Fatal("no answer")
		case expired && !out.Changed:
			t.Fatal("an expired item was left standing")
		case !expired && !out.Changed && !same(out.Item, old) && out.Result.Status == unkai.OK:
			t.Fatal("changed, and did not say so")
		case out.Changed && out.Result.Status != unkai.OK && !expired:
			t.Fatal("changed although the operation was refused")
		case out.Changed && op.Kind != unkai.Delete && out.Result.Status == unkai.OK && !out.Item.Exists():
			t.Fatal("removed the item")
		case out.Item.Exists() && out.Item.CAS != old.CAS && out.Item.CAS != law.CAS:
			t.Fatalf("cas unique %d comes from nowhere", out.Item.CAS)
		case out.Changed && out.Item.Exists() && !bytes.Equal(out.Item.Value, old.Value) && out.Item.CAS == old.CAS:
			t.Fatal("another value under the same cas unique")
		case command.Blind(&op) && out.Result.Status != unkai.OK:
			t.Fatal("a blind set was refused")
		case command.ReadsOnly(&op) && out.Changed && !expired && !old.Stale:
			t.Fatal("a read changed a fresh item")
		case len(out.Item.Value) > max(law.MaxValue, len(old.Value), len(op.Value)):
			t.Fatal("the value is too long")
		}
	})
}

// Who was told that a key is gone can be told from who found it expired.
func TestExpiryBefore(t *testing.T) {
	for _, expiry := range []int64{0, 1, now, now + 1} {
		old := unkai.Item{CAS: 5, Expiry: expiry}
		for _, op := range []unkai.Op{{}, {Kind: unkai.Touch, Expiry: 9}, {Retouch: true, Expiry: 9}, {Vivify: true, VivifyExpiry: 9}} {
			if out, _ := law.Apply(old, &op, nil); out.Result.ExpiryBefore != expiry {
				t.Errorf("%+v: %d, want %d", op, out.Result.ExpiryBefore, expiry)
			}
		}
	}
}

func TestApplyDoesNotAllocate(t *testing.T) {
	scratch := make([]byte, 0, 256)
	old := item("41")
	ops := []unkai.Op{{}, {Kind: unkai.Set, Value: []byte("v")}, {Kind: unkai.Increment, Delta: 1}, {Kind: unkai.Append, Value: []byte("v")}, {Kind: unkai.Delete}}
	if n := testing.AllocsPerRun(100, func() {
		for i := range ops {
			_, scratch = law.Apply(old, &ops[i], scratch[:0])
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
