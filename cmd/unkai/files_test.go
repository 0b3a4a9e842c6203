package main

import (
	"strings"
	"syscall"
	"testing"

	"unkai/internal/node"
)

func TestOpenFiles(t *testing.T) {
	const need = 1000
	for _, test := range []struct {
		name      string
		cur, max  uint64
		mayRaise  uint64 // the highest hard limit that the system gives
		wantError bool
		want      uint64 // soft limit after
	}{
		{"enough", 2000, 2000, 0, false, 2000},
		{"exactly enough", need, need, 0, false, need},
		{"the soft limit can be raised", 500, 2000, 2000, false, need},
		{"the hard limit can be raised", 500, 500, 4000, false, need},
		{"it cannot", 500, 500, 500, true, 500},
	} {
		t.Run(test.name, func(t *testing.T) {
			now := syscall.Rlimit{Cur: test.cur, Max: test.max}
			l := fileLimit{
				get: func(l *syscall.Rlimit) error { *l = now; return nil },
				set: func(l *syscall.Rlimit) error {
					if l.Max > test.mayRaise || l.Cur > l.Max {
						return syscall.EPERM
					}
					now = *l
					return nil
				},
			}
			err := l.raise(need)
			if (err != nil) != test.wantError || now.Cur != test.want {
				t.Fatalf("%v, the limit is %d", err, now.Cur)
			}
			if err != nil && !strings.Contains(err.Error(), "ulimit -n 1000") {
				t.Errorf("%q does not say what to do", err)
			}
		})
	}
}

func TestFilesNeeded(t *testing.T) {
	cfg := node.Config{Store: node.Memory, MaxConns: 100}
	inMemory := filesNeeded(&cfg)
	cfg.Store = node.Disk
	if onDisk := filesNeeded(&cfg); inMemory <= 100 || onDisk < inMemory+1000 {
		t.Errorf("%d files in memory, %d on disk", inMemory, onDisk)
	}
}
