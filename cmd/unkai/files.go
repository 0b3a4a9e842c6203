package main

import (
	"fmt"
	"syscall"

	"unkai/internal/node"
)

// Files that a node opens beside its clients' connections: the tables and logs
// of the disk store, the side door's connections, and a few.
const (
	filesOfStore = 1100
	filesOfRest  = 128
)

func filesNeeded(cfg *node.Config) uint64 {
	need := cfg.MaxConns + filesOfRest
	if cfg.Store == node.Disk {
		need += filesOfStore
	}
	return uint64(need)
}

// fileLimit is the system's limit on open files of this process.
type fileLimit struct {
	get func(*syscall.Rlimit) error
	set func(*syscall.Rlimit) error
}

var ownFileLimit = fileLimit{
	get: func(l *syscall.Rlimit) error { return syscall.Getrlimit(syscall.RLIMIT_NOFILE, l) },
	set: func(l *syscall.Rlimit) error { return syscall.Setrlimit(syscall.RLIMIT_NOFILE, l) },
}

// raise makes sure that the process may open so many files: a store that runs
// out of them in the middle of its work is as good as broken. (At its start Go
// has raised the soft limit to the hard one.)
func (f fileLimit) raise(need uint64) error {
	var l syscall.Rlimit
	if err := f.get(&l); err != nil {
		return fmt.Errorf("read the limit on open files: %w", err)
	}
	if l.Cur >= need {
		return nil
	}
	have := l.Cur
	l.Cur, l.Max = need, max(l.Max, need)
	if err := f.set(&l); err != nil {
		return fmt.Errorf("%d open files are allowed and %d are needed: raise the limit (ulimit -n %d, or LimitNOFILE=%d in a systemd unit), or lower --max-connections (%w)",
			have, need, need, need, err)
	}
	return nil
}
