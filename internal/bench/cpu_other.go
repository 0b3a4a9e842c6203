//go:build !unix

package bench

import "time"

// cpuOfThisProcess is not known here.
func cpuOfThisProcess() time.Duration { return 0 }
