//go:build unix

package bench

import (
	"time"

	"golang.org/x/sys/unix"
)

// cpuOfThisProcess is the CPU time that it has used, in user and system mode.
func cpuOfThisProcess() time.Duration {
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &u) != nil {
		return 0 // it cannot fail with these arguments
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
