package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
)

// File systems that are memory.
const (
	tmpfs = 0x01021994
	ramfs = 0x858458f6
)

// diskUnder names the file system that a directory is on, and refuses memory:
// there a sync costs nothing.
func diskUnder(dir string) (string, error) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(dir, &s); err != nil {
		return "", fmt.Errorf("look at the file system: %w", err)
	}
	if s.Type == tmpfs || s.Type == ramfs {
		return "", errors.New(dir + " is in memory; give --dir a directory on a disk")
	}
	var info syscall.Stat_t
	if err := syscall.Stat(dir, &info); err != nil {
		return "", fmt.Errorf("look at the file system: %w", err)
	}
	device := fmt.Sprintf(" %d:%d ", info.Dev>>8&0xfff, info.Dev&0xff|info.Dev>>12&0xfff00)
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return "", fmt.Errorf("look at the file systems: %w", err)
	}
	for line := range strings.Lines(string(b)) {
		if before, after, ok := strings.Cut(line, " - "); ok && strings.Contains(before, device) {
			if f := strings.Fields(after); len(f) > 1 {
				return f[0] + " on " + f[1], nil
			}
		}
	}
	return fmt.Sprintf("file system %#x", s.Type), nil
}

// loadAverage is that of the whole machine, other programs included.
func loadAverage() string {
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	return strings.Join(strings.Fields(string(b))[:3], " ")
}
