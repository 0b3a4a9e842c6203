package directory

import (
	"errors"
	"path/filepath"
	"testing"

	"unkai"
)

// A node that starts again at another address is found there, also when its clock
// was set back meanwhile.
func TestBookOfAClockSetBack(t *testing.T) {
	file := File(filepath.Join(t.TempDir(), bookFile))
	var last Address
	for _, life := range []struct {
		addr string
		now  int64
	}{{"a:1", 1000}, {"b:1", 10}, {"c:1", 5}} {
		b, err := openBook(file, 7, func(unkai.NodeID, string) {})
		if err != nil {
			t.Fatal(err)
		}
		if err := b.TellOwn(life.addr, life.now); err != nil {
			t.Fatal(err)
		}
		own := b.All()[unkai.NodeID(7).String()]
		if own.Peer != life.addr || own.Told <= last.Told {
			t.Errorf("%+v after %+v", own, last)
		}
		last = own
	}
}

// Others remember what a node told them last, and tell it when it comes back with
// the memory of an earlier time.
func TestBookOfAnEarlierTime(t *testing.T) {
	dir := t.TempDir()
	open := func(name string) *Book {
		b, err := openBook(File(filepath.Join(dir, name)), 7, func(unkai.NodeID, string) {})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	own := func(b *Book) map[string]Address {
		return map[string]Address{"0000000000000007": b.All()["0000000000000007"]}
	}
	b := open("book")
	if err := b.TellOwn("a:1", 1000); err != nil {
		t.Fatal(err)
	}
	before, err := b.file.Load()
	if err != nil {
		t.Fatal(err)
	}
	if err := b.TellOwn("a:1", 900); err != nil { // it is still there
		t.Fatal(err)
	}
	if err := b.Learn(own(b)); err != nil || b.Older() {
		t.Errorf("%v, older %v after what it told itself", err, b.Older())
	}
	if err := File(filepath.Join(dir, "copy")).Save(before); err != nil {
		t.Fatal(err)
	}
	again := open("copy")
	if err := again.Learn(own(b)); err != nil || !again.Older() {
		t.Errorf("%v, older %v", err, again.Older())
	}
	again = open("copy")
	if err := again.TellOwn("a:1", 5000); err != nil { // nobody could be asked
		t.Fatal(err)
	}
	other, err := openBook(File(filepath.Join(dir, "other")), 8, func(unkai.NodeID, string) {})
	if err != nil {
		t.Fatal(err)
	}
	for _, told := range []*Book{b, again} {
		if err := other.Learn(told.All()); err != nil {
			t.Fatal(err)
		}
	}
	if err := again.Learn(other.All()); !errors.Is(err, ErrOlder) {
		t.Errorf("%v when it hears of it late", err)
	}
	again = open("copy")
	if err := again.Learn(other.All()); err != nil || !again.Older() {
		t.Errorf("%v, older %v when it starts once more", err, again.Older())
	}
	for i := range int64(3) { // it has begun anew
		if err := again.TellOwn("a:1", 100+i); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(other.Learn(again.All()), again.Learn(other.All())); err != nil {
			t.Error(err)
		}
	}
}

// Who could ask nobody compares what it knew when it started, however often it has
// started, and however long it has been there since.
func TestBookOfWhoCouldAskNobody(t *testing.T) {
	dir := t.TempDir()
	open := func(name string, self unkai.NodeID) *Book { return bookAt(t, filepath.Join(dir, name), self) }
	b, other := open("book", 7), open("other", 8)
	if err := b.TellOwn("a:1", 1000); err != nil {
		t.Fatal(err)
	}
	old, err := b.file.Load()
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(b.TellOwn("a:1", 2000), other.Learn(b.All())); err != nil {
		t.Fatal(err)
	}
	if err := b.file.Save(old); err != nil { // the copy is put back
		t.Fatal(err)
	}
	for range 3 {
		b = open("book", 7)
		b.KeepOwn()
	}
	if err := other.Learn(b.All()); err != nil {
		t.Fatal(err)
	}
	if err := b.Learn(other.All()); !errors.Is(err, ErrOlder) {
		t.Errorf("it hears %v", err)
	}
}

// What it learns of others is no reason to write down that it was there.
func TestBookOfWhoCouldAskNobodyKeepsWhatItKnew(t *testing.T) {
	file := File(filepath.Join(t.TempDir(), "book"))
	open := func() *Book { return bookAt(t, string(file), 7) }
	b := open()
	if err := b.TellOwn("a:1", 1000); err != nil {
		t.Fatal(err)
	}
	b = open()
	b.KeepOwn()
	if err := b.Learn(map[string]Address{unkai.NodeID(8).String(): {Peer: "b:1", Told: 3000}}); err != nil {
		t.Fatal(err)
	}
	b = open()
	if _, ok := b.Nodes()[8]; !ok {
		t.Error("what it learnt was not kept")
	}
	err := b.Learn(map[string]Address{unkai.NodeID(7).String(): {Peer: "a:1", Told: 2000}})
	if err != nil || !b.Older() {
		t.Errorf("%v, older %v, when it starts again", err, b.Older())
	}
}

// Who crashes before another has answered it has not lost anything by that.
func TestBookOfWhoCouldAskNobodyAndCrashed(t *testing.T) {
	dir := t.TempDir()
	open := func(name string, self unkai.NodeID) *Book { return bookAt(t, filepath.Join(dir, name), self) }
	b, other := open("book", 7), open("other", 8)
	if err := errors.Join(b.TellOwn("a:1", 1000), other.Learn(b.All())); err != nil {
		t.Fatal(err)
	}
	b = open("book", 7)
	b.KeepOwn()
	if err := other.Learn(b.All()); err != nil { // its hello arrives, and no answer
		t.Fatal(err)
	}
	b = open("book", 7)
	if err := b.Learn(other.All()); err != nil || b.Older() {
		t.Errorf("it takes itself for an older copy: %v", err)
	}
}

func bookAt(t *testing.T, file string, self unkai.NodeID) *Book {
	t.Helper()
	b, err := openBook(File(file), self, func(unkai.NodeID, string) {})
	if err != nil {
		t.Fatal(err)
	}
	return b
}
