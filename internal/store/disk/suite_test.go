package disk

import (
	"io"
	"log/slog"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"unkai/internal/store"
	"unkai/internal/store/storetest"
)

// silent is a log that nobody reads.
var silent = slog.New(slog.NewTextHandler(io.Discard, nil))

// small is a configuration for tests, with everything in memory.
func small(fs FS) Config {
	return Config{Dir: "store", FS: fs, Buckets: storetest.Buckets, Cache: 8 << 20, Reserve: 1, Log: silent}
}

func mustOpen(t testing.TB, cfg Config) *Engine {
	t.Helper()
	e, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func mustClose(t testing.TB, e *Engine) {
	t.Helper()
	if err := e.Close(); err != nil {
		t.Error(err)
	}
}

func TestSuite(t *testing.T) {
	for _, policy := range []Sync{Always, Interval, Off} {
		t.Run(policy.String(), func(t *testing.T) {
			if testing.Short() && policy != Always {
				t.Skip("the same code, but for the syncs of the log")
			}
			storetest.Run(t, func(t *testing.T, opts storetest.Options) store.Engine {
				if opts.Limit != 0 {
					t.Skip("the limit of this engine is the disk's")
				}
				cfg := small(vfs.NewMem())
				cfg.Sync = policy
				return mustOpen(t, cfg)
			})
		})
	}
}

// TestSuiteTables makes tables of all that is written together.
func TestSuiteTables(t *testing.T) {
	storetest.Run(t, func(t *testing.T, opts storetest.Options) store.Engine {
		if opts.Limit != 0 {
			t.Skip("the limit of this engine is the disk's")
		}
		return eager(mustOpen(t, small(vfs.NewMem())))
	})
}

func TestSuiteRealFiles(t *testing.T) {
	storetest.Run(t, func(t *testing.T, opts storetest.Options) store.Engine {
		if opts.Limit != 0 {
			t.Skip("the limit of this engine is the disk's")
		}
		cfg := small(nil)
		cfg.Dir = t.TempDir()
		return mustOpen(t, cfg)
	})
}

func TestSuiteDurable(t *testing.T) {
	for _, policy := range []Sync{Always, Interval, Off} {
		t.Run(policy.String(), func(t *testing.T) {
			storetest.RunDurable(t, func(t *testing.T) func(t *testing.T) store.Engine {
				cfg := small(nil)
				cfg.Dir = t.TempDir()
				cfg.Sync = policy
				return func(t *testing.T) store.Engine { return mustOpen(t, cfg) }
			})
		})
	}
}

func TestSuiteCheckpoint(t *testing.T) {
	storetest.RunCheckpoint(t,
		func(t *testing.T, _ storetest.Options) store.Engine {
			cfg := small(nil)
			cfg.Dir = t.TempDir()
			return mustOpen(t, cfg)
		},
		func(t *testing.T, dir string) store.Engine {
			cfg := small(nil)
			cfg.Dir = dir
			return mustOpen(t, cfg)
		})
}
