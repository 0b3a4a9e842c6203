//go:build unix

package disk

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// mapArena takes n zero bytes from the system and not from the Go heap: the
// collector neither scans nor counts them, and pages are only taken when used.
func mapArena(n int) ([]byte, error) {
	b, err := unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return nil, fmt.Errorf("taking %d bytes of memory: %w", n, err)
	}
	return b, nil
}

func unmapArena(b []byte) error { return unix.Munmap(b) }
