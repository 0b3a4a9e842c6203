package main

import (
	"os/exec"
	"syscall"
)

// endWithParent lets a process end when this one does, however that is. It has a
// group of its own, so that Ctrl-C comes to this one only.
func endWithParent(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
}
