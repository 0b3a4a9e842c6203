// Package directory keeps what a node must not forget: its data directory, who the node
// is, and where the other nodes are believed to be.
package directory

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"unkai"
)

// Directory is a node's data directory: who the node is, and where its rooms
// keep what they must not forget.
//
//	node           the node's id and kind of store; made once
//	topology       the manager's: the newest one it knows
//	decree         the manager's: what it promised about the next one
//	ballots        up to where the counters of ballots may have been used
//	book           where the other nodes were last
//	mark           the number that the store was last marked with
//	lock           held while a process uses the directory
//	store/         the engine's
type Directory struct {
	path     string
	lock     *os.File
	identity identity
	created  bool
}

// identity is what the file node holds.
type identity struct {
	Format int    `json:"format"`
	Node   string `json:"node"`
	Store  string `json:"store"`
}

const directoryFormat = 1

// The files of a data directory.
const (
	identityFile = "node"
	topologyFile = "topology"
	decreeFile   = "decree"
	ballotsFile  = "ballots"
	bookFile     = "book"
	markFile     = "mark"
	lockFile     = "lock"
	storeDir     = "store"
)

// Open opens a node's directory, or makes an empty one a node's.
func Open(path, kind string, random func() (uint64, error)) (*Directory, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("create the data directory: %w", err)
	}
	if err := ours(path); err != nil {
		return nil, err
	}
	d := &Directory{path: path}
	var err error
	if d.lock, err = lockDirectory(filepath.Join(path, lockFile)); err != nil {
		return nil, err
	}
	if err := d.identify(kind, random); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// ours refuses a directory in which somebody else keeps things.
func ours(path string) error {
	entries, err := os.ReadDir(path)
	if err != nil {
		return fmt.Errorf("read the data directory: %w", err)
	}
	for _, e := range entries {
		if e.Name() == identityFile {
			return nil
		}
	}
	for _, e := range entries {
		if e.Name() != lockFile && e.Name() != "lost+found" && !strings.HasSuffix(e.Name(), temporary) {
			return fmt.Errorf("%s holds %s and no %s: it is not a data directory of Unkai; name an empty one with --data", path, e.Name(), identityFile)
		}
	}
	return nil
}

func lockDirectory(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the lock of the data directory: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		err = fmt.Errorf("%s is in use by another process (%w); stop it, or name another directory with --data", filepath.Dir(path), err)
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func (d *Directory) identify(kind string, random func() (uint64, error)) error {
	b, err := d.file(identityFile).Load()
	if errors.Is(err, fs.ErrNotExist) {
		id, err := random()
		if err != nil {
			return fmt.Errorf("choose a node id: %w", err)
		}
		d.created = true
		d.identity = identity{Format: directoryFormat, Node: unkai.NodeID(id | 1).String(), Store: kind}
		b, err := json.MarshalIndent(d.identity, "", "  ")
		if err != nil {
			return fmt.Errorf("write who this node is: %w", err)
		}
		return d.file(identityFile).Save(append(b, '\n'))
	}
	if err != nil {
		return fmt.Errorf("read who this node is: %w", err)
	}
	if err := json.Unmarshal(b, &d.identity); err != nil {
		return fmt.Errorf("read who this node is: %s: %w", filepath.Join(d.path, identityFile), err)
	}
	switch {
	case d.identity.Format > directoryFormat:
		return fmt.Errorf("%s has format %d and this version knows %d: it was written by a newer version; run that one", d.path, d.identity.Format, directoryFormat)
	case d.identity.Format < 1:
		return fmt.Errorf("%s: format %d is not one", filepath.Join(d.path, identityFile), d.identity.Format)
	case d.identity.Store != kind:
		return fmt.Errorf("%s belongs to a node with --store %s, not %s; name another directory with --data", d.path, d.identity.Store, kind)
	}
	_, err = unkai.ParseNodeID(d.identity.Node)
	return err
}

// Node is who the node is.
func (d *Directory) Node() unkai.NodeID {
	id, err := unkai.ParseNodeID(d.identity.Node)
	if err != nil {
		panic(err) // checked by identify
	}
	return id
}

// Created reports whether the directory was made a node's when it was opened.
func (d *Directory) Created() bool { return d.created }

// Topology is the manager's newest topology.
func (d *Directory) Topology() File { return d.file(topologyFile) }

// Decree is what the manager promised about the next topology.
func (d *Directory) Decree() File { return d.file(decreeFile) }

// Ballots are those that may have been used.
func (d *Directory) Ballots() Ballots { return Ballots{d.file(ballotsFile)} }

// Mark is what the store was last marked with.
func (d *Directory) Mark() Mark { return Mark{d.file(markFile)} }

// Book opens the book of the node's; tell hears of every address in it, now and later.
func (d *Directory) Book(tell func(unkai.NodeID, string)) (*Book, error) {
	return openBook(d.file(bookFile), d.Node(), tell)
}

// Store is where the engine keeps what it holds.
func (d *Directory) Store() string { return filepath.Join(d.path, storeDir) }

func (d *Directory) file(name string) File { return File(filepath.Join(d.path, name)) }

// Close lets another process use the directory.
func (d *Directory) Close() error { return d.lock.Close() }
