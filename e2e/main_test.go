// Package e2e tests the real binary from outside: real processes on real
// sockets, beside a real memcached and real clients, with kills and full disks.
// See docs/TESTING.md.
package e2e

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
)

var (
	update = flag.Bool("update", false, "rewrite testdata/*.txt with what memcached answers")

	// seedFlag starts every random choice of a run; 0 takes a new one.
	seedFlag = envNumber("UNKAI_E2E_SEED", 0)
	inCI     = os.Getenv("UNKAI_CI") == "1"

	scratch string // for what all tests share
)

func TestMain(m *testing.M) {
	flag.Parse()
	var err error
	if scratch, err = os.MkdirTemp("", "unkai-e2e-"); err != nil {
		fmt.Fprintln(os.Stderr, "making a directory for the tests:", err)
		os.Exit(1)
	}
	if err := watchMachine(scratch); err != nil {
		fmt.Fprintln(os.Stderr, "watching the machine:", err)
		os.Exit(1)
	}
	code := m.Run()
	if err := os.RemoveAll(scratch); err != nil {
		fmt.Fprintln(os.Stderr, "removing the directory of the tests:", err)
	}
	os.Exit(code)
}

// binary is the path of unkai, built once for the whole run unless one is given.
var binary = sync.OnceValues(func() (string, error) {
	if given := os.Getenv("UNKAI_E2E_BINARY"); given != "" {
		return given, nil
	}
	if err := touchSources(); err != nil {
		return "", err
	}
	path := filepath.Join(scratch, "unkai")
	args := []string{"build", "-o", path}
	if os.Getenv("UNKAI_E2E_RACE") == "1" {
		args = append(args, "-race")
	}
	if out, err := exec.Command("go", append(args, "unkai/cmd/unkai")...).CombinedOutput(); err != nil {
		return "", fmt.Errorf("building unkai: %w\n%s", err, out)
	}
	return path, nil
})

// touchSources looks at every source of the binary. go test keeps a result until
// a file changes that the test has looked at, and it does not see what go build
// looks at.
func touchSources() error {
	for _, dir := range []string{"../cmd", "../internal", "../go.mod"} {
		err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
			if err == nil {
				_, err = os.Stat(path)
			}
			if errors.Is(err, fs.ErrNotExist) {
				return nil // an editor's file, gone again
			}
			return err
		})
		if err != nil {
			return fmt.Errorf("looking at the sources: %w", err)
		}
	}
	return nil
}

// skip leaves a test out because this machine lacks something. In CI nothing
// may be left out, so there it fails: this is the one place that decides it.
func skip(t testing.TB, format string, args ...any) {
	t.Helper()
	if inCI {
		t.Fatalf("CI must not skip: "+format, args...)
	}
	t.Skipf(format, args...)
}

// need returns the path of a program, or skips the test.
func need(t testing.TB, program, debian string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		skip(t, "%s is missing (Debian: %s)", program, debian)
	}
	return path
}

// envNumber reads a number that shapes a run.
func envNumber(name string, otherwise int64) int64 {
	s := os.Getenv(name)
	if s == "" {
		return otherwise
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		panic(fmt.Sprintf("%s=%q is not a number", name, s))
	}
	return n
}

// seed is where a test's random choices start; a failed test names it.
func seed(t testing.TB) uint64 {
	s := uint64(seedFlag)
	if s == 0 {
		s = uint64(rand.Uint32()) + 1
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("replay: UNKAI_E2E_SEED=%d go test ./e2e -run '^%s$'", s, t.Name())
		}
	})
	return s
}

// random is a source for one actor of a test with that seed.
func random(seed uint64, actor int) *rand.Rand {
	return rand.New(rand.NewPCG(seed, uint64(actor)))
}
