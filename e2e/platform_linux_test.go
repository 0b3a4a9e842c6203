package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
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
	if err := leftovers(); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := syscall.Mount(fmt.Sprint(mountedBy, os.Getpid()), dir, "tmpfs", 0, fmt.Sprint("size=", size)); err != nil {
		skip(t, "mounting a small disk: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Errorf("unmounting %s: %v", dir, err)
		}
	})
	return dir
}

// mountedBy, and the number of the process of the tests, is what a small disk is called.
const mountedBy = "unkai-e2e-"

// leftovers unmounts the small disks of tests that were killed before they could: each
// keeps its memory. Tests that run are left alone.
func leftovers() error {
	list, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return fmt.Errorf("looking for small disks that were left behind: %w", err)
	}
	for line := range strings.Lines(string(list)) {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		name, ours := strings.CutPrefix(fields[0], mountedBy)
		pid, err := strconv.Atoi(name)
		if !ours || err != nil || syscall.Kill(pid, 0) == nil {
			continue
		}
		// Another one may do the same at this moment.
		if err := syscall.Unmount(fields[1], syscall.MNT_DETACH); err != nil && !errors.Is(err, syscall.EINVAL) && !errors.Is(err, syscall.ENOENT) {
			return fmt.Errorf("unmounting %s, which was left behind: %w", fields[1], err)
		}
	}
	return nil
}

// What tests that were killed had mounted is unmounted; what those have that run is not.
func TestLeftovers(t *testing.T) {
	mine := diskOf(t, 1<<20)
	gone := exec.Command("true")
	if err := gone.Run(); err != nil {
		t.Fatal(err)
	}
	theirs := t.TempDir()
	if err := syscall.Mount(fmt.Sprint(mountedBy, gone.ProcessState.Pid()), theirs, "tmpfs", 0, "size=65536"); err != nil {
		t.Fatal(err)
	}
	if err := leftovers(); err != nil {
		t.Error(err)
	}
	list, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(list), " "+theirs+" ") {
		t.Error("what was left behind is there still")
		_ = syscall.Unmount(theirs, 0) // or its directory could not be removed
	}
	if !strings.Contains(string(list), " "+mine+" ") {
		t.Error("a disk in use was unmounted")
	}
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
