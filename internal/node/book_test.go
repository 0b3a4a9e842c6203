package node

import (
	"errors"
	"path/filepath"
	"testing"

	"unkai"
)

// A node that starts again at another address is found there, also when its clock
// was set back meanwhile.
func TestBookOfAClockSetBack(t *testing.T) {
	file := atomicFile(filepath.Join(t.TempDir(), bookFile))
	var last address
	for _, life := range []struct {
		addr string
		now  int64
	}{{"a:1", 1000}, {"b:1", 10}, {"c:1", 5}} {
		b, err := openBook(file, 7, func(unkai.NodeID, string) {})
		if err != nil {
			t.Fatal(err)
		}
		if err := b.tellOwn(life.addr, life.now); err != nil {
			t.Fatal(err)
		}
		own := b.all()[unkai.NodeID(7).String()]
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
	open := func(name string) *book {
		b, err := openBook(atomicFile(filepath.Join(dir, name)), 7, func(unkai.NodeID, string) {})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	own := func(b *book) map[string]address {
		return map[string]address{"0000000000000007": b.all()["0000000000000007"]}
	}
	b := open("book")
	if err := b.tellOwn("a:1", 1000); err != nil {
		t.Fatal(err)
	}
	before, err := b.file.Load()
	if err != nil {
		t.Fatal(err)
	}
	if err := b.tellOwn("a:1", 900); err != nil { // it is still there
		t.Fatal(err)
	}
	if err := b.learn(own(b)); err != nil || b.older() {
		t.Errorf("%v, older %v after what it told itself", err, b.older())
	}
	if err := atomicFile(filepath.Join(dir, "copy")).Save(before); err != nil {
		t.Fatal(err)
	}
	again := open("copy")
	if err := again.learn(own(b)); err != nil || !again.older() {
		t.Errorf("%v, older %v", err, again.older())
	}
	again = open("copy")
	if err := again.tellOwn("a:1", 5000); err != nil { // nobody could be asked
		t.Fatal(err)
	}
	other, err := openBook(atomicFile(filepath.Join(dir, "other")), 8, func(unkai.NodeID, string) {})
	if err != nil {
		t.Fatal(err)
	}
	for _, told := range []*book{b, again} {
		if err := other.learn(told.all()); err != nil {
			t.Fatal(err)
		}
	}
	if err := again.learn(other.all()); !errors.Is(err, errOlder) {
		t.Errorf("%v when it hears of it late", err)
	}
	again = open("copy")
	if err := again.learn(other.all()); err != nil || !again.older() {
		t.Errorf("%v, older %v when it starts once more", err, again.older())
	}
	for i := range int64(3) { // it has begun anew
		if err := again.tellOwn("a:1", 100+i); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(other.learn(again.all()), again.learn(other.all())); err != nil {
			t.Error(err)
		}
	}
}

// Who could ask nobody compares what it knew when it started, however often it has
// started, and however long it has been there since.
func TestBookOfWhoCouldAskNobody(t *testing.T) {
	dir := t.TempDir()
	open := func(name string, self unkai.NodeID) *book { return bookAt(t, filepath.Join(dir, name), self) }
	b, other := open("book", 7), open("other", 8)
	if err := b.tellOwn("a:1", 1000); err != nil {
		t.Fatal(err)
	}
	old, err := b.file.Load()
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(b.tellOwn("a:1", 2000), other.learn(b.all())); err != nil {
		t.Fatal(err)
	}
	if err := b.file.Save(old); err != nil { // the copy is put back
		t.Fatal(err)
	}
	for range 3 {
		b = open("book", 7)
		b.keepOwn()
	}
	if err := other.learn(b.all()); err != nil {
		t.Fatal(err)
	}
	if err := b.learn(other.all()); !errors.Is(err, errOlder) {
		t.Errorf("it hears %v", err)
	}
}

// What it learns of others is no reason to write down that it was there.
func TestBookOfWhoCouldAskNobodyKeepsWhatItKnew(t *testing.T) {
	file := atomicFile(filepath.Join(t.TempDir(), "book"))
	open := func() *book { return bookAt(t, string(file), 7) }
	b := open()
	if err := b.tellOwn("a:1", 1000); err != nil {
		t.Fatal(err)
	}
	b = open()
	b.keepOwn()
	if err := b.learn(map[string]address{unkai.NodeID(8).String(): {Peer: "b:1", Told: 3000}}); err != nil {
		t.Fatal(err)
	}
	b = open()
	if _, ok := b.nodes()[8]; !ok {
		t.Error("what it learnt was not kept")
	}
	err := b.learn(map[string]address{unkai.NodeID(7).String(): {Peer: "a:1", Told: 2000}})
	if err != nil || !b.older() {
		t.Errorf("%v, older %v, when it starts again", err, b.older())
	}
}

// Who crashes before another has answered it has not lost anything by that.
func TestBookOfWhoCouldAskNobodyAndCrashed(t *testing.T) {
	dir := t.TempDir()
	open := func(name string, self unkai.NodeID) *book { return bookAt(t, filepath.Join(dir, name), self) }
	b, other := open("book", 7), open("other", 8)
	if err := errors.Join(b.tellOwn("a:1", 1000), other.learn(b.all())); err != nil {
		t.Fatal(err)
	}
	b = open("book", 7)
	b.keepOwn()
	if err := other.learn(b.all()); err != nil { // its hello arrives, and no answer
		t.Fatal(err)
	}
	b = open("book", 7)
	if err := b.learn(other.all()); err != nil || b.older() {
		t.Errorf("it takes itself for an older copy: %v", err)
	}
}

func bookAt(t *testing.T, file string, self unkai.NodeID) *book {
	t.Helper()
	b, err := openBook(atomicFile(file), self, func(unkai.NodeID, string) {})
	if err != nil {
		t.Fatal(err)
	}
	return b
}
