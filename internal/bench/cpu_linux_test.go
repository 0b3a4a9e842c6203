package bench

import (
	"os"
	"testing"
	"time"
)

func TestParseStat(t *testing.T) {
	const line = "42 (a name) with (parens) S 1 42 42 0 -1 4194560 1 2 3 4 150 25 7 8 20 0 4 0 99 1 1\n"
	if got, err := parseStat([]byte(line)); err != nil || got != 1750*time.Millisecond {
		t.Errorf("got %v, %v, want 1.75 s", got, err)
	}
	for _, bad := range []string{"", "42 (x) S 1 2", "42 (x) S 1 42 42 0 -1 4194560 1 2 3 4 x 25 7 8"} {
		if _, err := parseStat([]byte(bad)); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

func TestCPUOfAProcess(t *testing.T) {
	until := cpuOfThisProcess() + 30*time.Millisecond
	for cpuOfThisProcess() < until {
	}
	if got, err := cpuOf(os.Getpid()); err != nil || got < 20*time.Millisecond {
		t.Errorf("got %v, %v", got, err)
	}
	if _, err := cpuOf(-1); err == nil {
		t.Error("a process that cannot be has CPU time")
	}
}
