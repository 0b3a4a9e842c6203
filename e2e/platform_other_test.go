//go:build !linux

package e2e

import (
	"os/exec"
	"testing"
)

func endWithTests(*exec.Cmd) {}

func smallDisk(t *testing.T) string {
	t.Helper()
	skip(t, "small disks are mounted on Linux only")
	return ""
}

func diskOf(t *testing.T, _ int) string { return smallDisk(t) }

func freeBytes(*testing.T, string) int64 { return 0 }
