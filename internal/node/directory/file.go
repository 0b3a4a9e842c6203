package directory

import (
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"strings"
)

// File is a small file that is replaced as a whole. Its last line is a
// checksum over the rest.
type File string

const (
	temporary = ".new"
	sumPrefix = "crc32c "
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Load reads the file and checks it.
func (f File) Load() ([]byte, error) {
	b, err := os.ReadFile(string(f))
	if err != nil {
		return nil, err
	}
	at := strings.LastIndex(string(b), sumPrefix)
	if at < 0 || string(b[at:]) != sum(b[:at]) {
		return nil, fmt.Errorf("%s is damaged: its checksum does not fit", string(f))
	}
	return b[:at], nil
}

func sum(b []byte) string { return fmt.Sprintf("%s%08x\n", sumPrefix, crc32.Checksum(b, castagnoli)) }

// ErrUncertain is what Save returns, wrapped, when the new content may be the one that is
// found after a crash.
var ErrUncertain = errors.New("may or may not have been saved")

// Save replaces the file, durably.
func (f File) Save(b []byte) error {
	tmp := string(f) + temporary
	file, err := os.OpenFile(tmp, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(append(b[:len(b):len(b)], sum(b)...))
	if err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return err
	}
	if err := os.Rename(tmp, string(f)); err != nil {
		return err
	}
	if err := syncDirectory(filepath.Dir(string(f))); err != nil {
		return fmt.Errorf("%w: %w", ErrUncertain, err)
	}
	return nil
}

func syncDirectory(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
