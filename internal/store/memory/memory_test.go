package memory

import (
	"testing"

	"unkai/internal/store"
	"unkai/internal/store/storetest"
)

func open(t testing.TB, cfg Config) *Engine {
	t.Helper()
	e, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestEngine(t *testing.T) {
	for name, buckets := range map[string]int{"16 buckets": 16, "1024 buckets": 1024} {
		t.Run(name, func(t *testing.T) {
			storetest.Run(t, func(t *testing.T, opts storetest.Options) store.Engine {
				return open(t, Config{Buckets: buckets, Limit: opts.Limit})
			})
		})
	}
}

func TestCheckpoint(t *testing.T) {
	cfg := Config{Buckets: 16}
	storetest.RunCheckpoint(t,
		func(t *testing.T, _ storetest.Options) store.Engine { return open(t, cfg) },
		func(t *testing.T, dir string) store.Engine {
			e, err := Restore(cfg, dir)
			if err != nil {
				t.Fatal(err)
			}
			return e
		})
}
