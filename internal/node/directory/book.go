package directory

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"sync"

	"unkai"
)

// Book is where nodes are believed to be. It is written down, so that a cluster
// whose nodes have all been stopped finds itself again.
//
// Of this node others remember what it told them last, and it tells more every
// few seconds. So they know when it comes back with the memory of an earlier
// time, from an old copy of its directory.
type Book struct {
	file File
	self unkai.NodeID
	tell func(unkai.NodeID, string)

	mu    sync.Mutex
	known map[unkai.NodeID]Address
	kept  map[unkai.NodeID]int64 // Told, as it is in the file
	told  bool                   // in this life
	heard int64                  // the latest Told of this node that others remember
}

// Address is where a node said it is. A later word of its own counts more:
// Told rises with every start of that node, and while it runs.
type Address struct {
	Peer string `json:"peer"`
	Told int64  `json:"told"` // milliseconds since 1970, by that node's clock
	// Before is what Told was before: who remembers a later one knows of a time that
	// the node has forgotten.
	Before int64 `json:"before,omitempty"`
}

const (
	// maxBook bounds the addresses that are kept.
	maxBook = 4096
	// latestTold bounds what is believed, so that it can still rise.
	latestTold = 1 << 53
	// stale is by how much Told in the file may be behind, in milliseconds.
	stale = 60_000
)

// ErrOlder says that others remember a later time of this node than it does itself.
var ErrOlder = errors.New("other nodes remember a later time of this node than its data directory does: that is an older copy, or there are two; if there is only this one, start it again, and it begins anew with what the others hold")

// openBook reads the book; tell hears of every address in it, now and later.
func openBook(file File, self unkai.NodeID, tell func(unkai.NodeID, string)) (*Book, error) {
	b := &Book{file: file, self: self, tell: tell, known: map[unkai.NodeID]Address{}, kept: map[unkai.NodeID]int64{}}
	text, err := file.Load()
	if errors.Is(err, fs.ErrNotExist) {
		return b, nil
	}
	var byName map[string]Address
	if err == nil {
		err = json.Unmarshal(text, &byName)
	}
	if err != nil {
		return nil, fmt.Errorf("read the addresses of the other nodes: %w", err)
	}
	for name, a := range byName {
		id, err := unkai.ParseNodeID(name)
		if err != nil {
			return nil, fmt.Errorf("read the addresses of the other nodes: %w", err)
		}
		b.known[id], b.kept[id] = a, a.Told
		b.tell(id, a.Peer)
	}
	return b, nil
}

// Older reports whether others remember a later time of this node than the book.
func (b *Book) Older() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.heard > b.known[b.self].Told
}

// TellOwn puts in where this node is now. That counts more than what it told
// before, even if its clock was set back since.
func (b *Book) TellOwn(addr string, now int64) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	// What it has heard of it knows of: then it began anew.
	before := max(b.known[b.self].Told, b.heard)
	own := Address{addr, max(now, before+1), before}
	// Durable before others hear of it.
	if err := b.save(own); err != nil {
		return err
	}
	b.known[b.self], b.told = own, true
	return nil
}

// KeepOwn is for who may have an older copy of the book, as nobody could be asked: what
// that says of the node itself stays, here and for others, until somebody has compared it.
func (b *Book) KeepOwn() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.told = true
}

// Learn takes notice of addresses that are newer than those known. Its error may
// be ErrOlder.
func (b *Book) Learn(byName map[string]Address) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	news, older := false, false
	for name, a := range byName {
		id, err := unkai.ParseNodeID(name)
		if err != nil {
			return err
		}
		if a.Told > latestTold {
			return fmt.Errorf("node %v cannot have told its address at %d ms since 1970", id, a.Told)
		}
		if id == b.self {
			b.heard = max(b.heard, a.Told)
			older = b.told && a.Told > b.known[id].Told
			continue
		}
		old, ok := b.known[id]
		if ok && old == a { // it may have been met under another name since
			b.tell(id, a.Peer)
		}
		if ok && old.Told >= a.Told || a.Peer == "" || !ok && len(b.known) >= maxBook {
			continue
		}
		if ok && a.Before != 0 && a.Before < old.Told {
			a.Told, a.Before = a.Told+1, 0 // so it will hear, and stop: see ErrOlder
		}
		b.known[id] = a
		b.tell(id, a.Peer)
		news = news || old.Peer != a.Peer || a.Told-b.kept[id] > stale
	}
	var err error
	if news {
		err = b.save(b.known[b.self])
	}
	if older {
		err = errors.Join(err, ErrOlder)
	}
	return err
}

// save writes the book down, with this about the node itself.
func (b *Book) save(own Address) error {
	names := b.names()
	delete(names, b.self.String())
	if own != (Address{}) {
		names[b.self.String()] = own
	}
	text, err := json.MarshalIndent(names, "", "  ")
	if err == nil {
		err = b.file.Save(append(text, '\n'))
	}
	if err != nil {
		return fmt.Errorf("write the addresses of the other nodes: %w", err)
	}
	for id, a := range b.known {
		b.kept[id] = a.Told
	}
	return nil
}

func (b *Book) names() map[string]Address {
	out := make(map[string]Address, len(b.known))
	for id, a := range b.known {
		out[id.String()] = a
	}
	return out
}

// All are the addresses known.
func (b *Book) All() map[string]Address {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.names()
}

// Nodes are the nodes whose addresses are known.
func (b *Book) Nodes() map[unkai.NodeID]Address {
	b.mu.Lock()
	defer b.mu.Unlock()
	return maps.Clone(b.known)
}

// Peer is where a node was seen last; "": nobody knows.
func (b *Book) Peer(id unkai.NodeID) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.known[id].Peer
}
