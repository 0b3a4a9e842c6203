package bench

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// readNow and writeNow are for descriptors that do not block: nothing is told
// to Go's scheduler, which would prepare for a long absence.

func readNow(fd int, b []byte) (int, unix.Errno) { return rawIO(unix.SYS_READ, fd, b) }

func writeNow(fd int, b []byte) (int, unix.Errno) { return rawIO(unix.SYS_WRITE, fd, b) }

func rawIO(call uintptr, fd int, b []byte) (int, unix.Errno) {
	n, _, errno := unix.RawSyscall(call, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}
