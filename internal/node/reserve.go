package node

import (
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
)

// counters is the file that remembers up to where this node may have used the
// counters of ballots, so that no life of it uses one again.
type counters struct{ file atomicFile }

// floor reads it; 0 for a new node.
func (c counters) floor() (uint64, error) {
	text, err := c.file.Load()
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read which ballots were used: %w", err)
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 48)
	if err != nil {
		return 0, fmt.Errorf("read which ballots were used: %s: %w", string(c.file), err)
	}
	return n, nil
}

// reserve writes it down.
func (c counters) reserve(upTo uint64) error {
	if err := c.file.Save([]byte(strconv.FormatUint(upTo, 10) + "\n")); err != nil {
		return fmt.Errorf("reserve ballots: %w", err)
	}
	return nil
}
