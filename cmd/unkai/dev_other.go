//go:build !linux

package main

import (
	"os/exec"
	"syscall"
)

// endWithParent gives a process a group of its own, so that Ctrl-C comes to this
// one only, which then ends it. Nothing more can be asked of this system.
func endWithParent(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }
