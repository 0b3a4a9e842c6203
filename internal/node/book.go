package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"sync"

	"unkai"
)

// book is where nodes are believed to be. It is written down, so that a cluster
// whose nodes have all been stopped finds itself again.
type book struct {
	file atomicFile
	tell func(unkai.NodeID, string)

	mu    sync.Mutex
	known map[unkai.NodeID]address
}

// address is where a node said it is. A later word of its own counts more:
// Told rises with every start of that node.
type address struct {
	Peer string `json:"peer"`
	Told int64  `json:"told"` // milliseconds since 1970, by that node's clock
}

// maxBook bounds the addresses that are kept.
const maxBook = 4096

// openBook reads the book; tell hears of every address in it, now and later.
func openBook(file atomicFile, tell func(unkai.NodeID, string)) (*book, error) {
	b := &book{file: file, tell: tell, known: map[unkai.NodeID]address{}}
	text, err := file.Load()
	if errors.Is(err, fs.ErrNotExist) {
		return b, nil
	}
	var byName map[string]address
	if err == nil {
		err = json.Unmarshal(text, &byName)
	}
	if err != nil {
		return nil, fmt.Errorf("read the addresses of the other nodes: %w", err)
	}
	return b, b.learn(byName)
}

// tellOwn puts in where this node is now. That counts more than what it told in
// earlier lives, even if its clock was set back since.
func (b *book) tellOwn(self unkai.NodeID, addr string, now int64) error {
	b.mu.Lock()
	told := max(now, b.known[self].Told+1)
	b.mu.Unlock()
	return b.learn(map[string]address{self.String(): {Peer: addr, Told: told}})
}

// learn takes notice of addresses that are newer than those known.
func (b *book) learn(byName map[string]address) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	news := false
	for name, a := range byName {
		id, err := unkai.ParseNodeID(name)
		if err != nil {
			return err
		}
		old, ok := b.known[id]
		if ok && old == a { // it may have been met under another name since
			b.tell(id, a.Peer)
		}
		if ok && old.Told >= a.Told || a.Peer == "" || !ok && len(b.known) >= maxBook {
			continue
		}
		b.known[id] = a
		b.tell(id, a.Peer)
		news = true
	}
	if !news {
		return nil
	}
	text, err := json.MarshalIndent(b.names(), "", "  ")
	if err != nil {
		return fmt.Errorf("write the addresses of the other nodes: %w", err)
	}
	if err := b.file.Save(append(text, '\n')); err != nil {
		return fmt.Errorf("write the addresses of the other nodes: %w", err)
	}
	return nil
}

func (b *book) names() map[string]address {
	out := make(map[string]address, len(b.known))
	for id, a := range b.known {
		out[id.String()] = a
	}
	return out
}

// all are the addresses known.
func (b *book) all() map[string]address {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.names()
}

// nodes are the nodes whose addresses are known.
func (b *book) nodes() map[unkai.NodeID]address {
	b.mu.Lock()
	defer b.mu.Unlock()
	return maps.Clone(b.known)
}
