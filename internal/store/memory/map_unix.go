//go:build unix

package memory

import "golang.org/x/sys/unix"

// mapMemory takes n bytes from the system. What is not touched costs nothing.
func mapMemory(n int) ([]byte, error) {
	m, err := unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, mapFlags)
	if err == nil {
		preferLarge(m)
	}
	return m, err
}

// lend gives memory to the system until it is touched again. It reports
// whether the system took it.
func lend(m []byte) bool { return unix.Madvise(m, unix.MADV_DONTNEED) == nil }

func unmapMemory(m []byte) error { return unix.Munmap(m) }
