package disk

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"github.com/cockroachdb/pebble/v2"
)

// longBlock is from what length on the blocks of a table are checked before the pebble has
// them. Of one that is damaged it wants to know which bit has flipped, and sums the block
// anew for each of its first 40 kB: a minute of the processor's time where a value is long,
// at each read. Shorter ones cost it some milliseconds.
const longBlock = 8 << 10

// tableReader is a table that is read: a block at a time, with what seals it.
type tableReader struct {
	readFile
	name string
}

// ReadAt implements io.ReaderAt. What it finds damaged is pebble.ErrCorruption, as if the
// pebble had found it.
func (f *tableReader) ReadAt(p []byte, off int64) (int, error) {
	n, err := f.readFile.ReadAt(p, off)
	if err == nil && n >= longBlock && !sound(p[:n]) {
		return n, fmt.Errorf("the block at %d of %s is not what was written: %w", off, f.name, pebble.ErrCorruption)
	}
	return n, err
}

// sound reports whether a block ends with its checksum (LevelDB's, a masked CRC-32C), which
// is that of the block and of a byte that says how it is compressed.
func sound(block []byte) bool {
	end := len(block) - 4
	c := crc32.Checksum(block[:end], castagnoli)
	return binary.LittleEndian.Uint32(block[end:]) == (c>>15|c<<17)+0xa282ead8
}
