package directory

import (
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
)

// Mark is the file that remembers what the store was last marked with, so that a
// store that was lost, or put back from an older copy, is not taken for the one
// that made this node's promises.
type Mark struct{ file File }

// Last reads it; 0 for a new node.
func (m Mark) Last() (uint64, error) {
	text, err := m.file.Load()
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read the mark of the store: %w", err)
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("read the mark of the store: %s: %w", string(m.file), err)
	}
	return n, nil
}

// Marked is an engine that can be marked.
type Marked interface {
	Mark() uint64
	SetMark(uint64) error
}

// Set marks the store, and then notes it: so the store is never behind.
func (m Mark) Set(e Marked, n uint64) error {
	if err := e.SetMark(n); err != nil {
		return err
	}
	if err := m.file.Save([]byte(strconv.FormatUint(n, 10) + "\n")); err != nil {
		return fmt.Errorf("note the mark of the store: %w", err)
	}
	return nil
}
