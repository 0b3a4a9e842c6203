package directory

import (
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
)

// Ballots is the file that remembers up to where this node may have used the
// counters of ballots, so that no life of it uses one again.
type Ballots struct{ file File }

// Floor reads it; 0 for a new node.
func (b Ballots) Floor() (uint64, error) {
	text, err := b.file.Load()
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read which ballots were used: %w", err)
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 48)
	if err != nil {
		return 0, fmt.Errorf("read which ballots were used: %s: %w", string(b.file), err)
	}
	return n, nil
}

// Reserve writes it down.
func (b Ballots) Reserve(upTo uint64) error {
	if err := b.file.Save([]byte(strconv.FormatUint(upTo, 10) + "\n")); err != nil {
		return fmt.Errorf("reserve ballots: %w", err)
	}
	return nil
}
