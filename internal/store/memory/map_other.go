//go:build !unix

package memory

// mapMemory takes n bytes of the Go heap, in which there are no pointers.
func mapMemory(n int) ([]byte, error) { return make([]byte, n), nil }

// lend reports that the system does not take a part of the heap.
func lend([]byte) bool { return false }

// unmapMemory leaves it to the collector.
func unmapMemory([]byte) error { return nil }
