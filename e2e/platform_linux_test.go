package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
)

// endWithTests makes a process end when the test binary does, however it ends.
func endWithTests(c *exec.Cmd) {
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}

// smallDisk is a directory on a disk of 1 GiB.
func smallDisk(t *testing.T) string {
	t.Helper()
	return diskOf(t, 1<<30)
}

// diskOf is a directory on a disk of so many bytes of memory.
func diskOf(t *testing.T, size int) string {
	t.Helper()
	if os.Getuid() != 0 {
		skip(t, "mounting a small disk needs root")
	}
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprint("size=", size)); err != nil {
		skip(t, "mounting a small disk: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Errorf("unmounting %s: %v", dir, err)
		}
	})
	return dir
}

// freeBytes is how much room a disk has.
func freeBytes(t *testing.T, disk string) int64 {
	t.Helper()
	var s syscall.Statfs_t
	if err := syscall.Statfs(disk, &s); err != nil {
		t.Fatalf("asking for the room on %s: %v", disk, err)
	}
	return int64(s.Bavail) * s.Bsize
}
