package disk

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

func TestOpenTwice(t *testing.T) {
	for name, fs := range map[string]FS{"files": nil, "memory": vfs.NewMem()} {
		cfg := small(fs)
		if fs == nil {
			cfg.Dir = t.TempDir()
		}
		e := mustOpen(t, cfg)
		if _, err := Open(cfg); !errors.Is(err, ErrInUse) {
			t.Errorf("%s: opened twice: %v", name, err)
		}
		mustClose(t, e)
		mustClose(t, mustOpen(t, cfg))
	}
}

func TestOpenOtherBuckets(t *testing.T) {
	cfg := small(vfs.NewMem())
	mustClose(t, mustOpen(t, cfg))
	cfg.Buckets *= 2
	if _, err := Open(cfg); !errors.Is(err, ErrBuckets) || !strings.Contains(err.Error(), "16, configured are 32") {
		t.Errorf("got %v", err)
	}
}

func TestOpenNewerFormat(t *testing.T) {
	cfg := small(vfs.NewMem())
	e := mustOpen(t, cfg)
	v := binary.LittleEndian.AppendUint16(nil, formatVersion+1)
	v = binary.LittleEndian.AppendUint32(v, uint32(cfg.Buckets))
	if err := e.db.Set(formatKey, seal(formatKey, v), pebble.Sync); err != nil {
		t.Fatal(err)
	}
	mustClose(t, e)
	if _, err := Open(cfg); !errors.Is(err, ErrFormat) {
		t.Errorf("got %v", err)
	}
}

func TestOpenForeign(t *testing.T) {
	t.Run("files", func(t *testing.T) {
		cfg := small(nil)
		cfg.Dir = t.TempDir()
		if err := os.WriteFile(filepath.Join(cfg.Dir, "thesis.txt"), []byte("mine"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(cfg); !errors.Is(err, ErrForeign) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("a pebble", func(t *testing.T) {
		cfg := small(vfs.NewMem())
		db, err := pebble.Open(cfg.Dir, &pebble.Options{FS: cfg.FS, Logger: pebbleLog{&Engine{log: silent}}})
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(db.Set([]byte("a"), []byte("b"), pebble.Sync), db.Close()); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(cfg); !errors.Is(err, ErrForeign) {
			t.Errorf("got %v", err)
		}
	})
}

func TestParseSync(t *testing.T) {
	for _, s := range []Sync{Always, Interval, Off} {
		if got, err := ParseSync(s.String()); got != s || err != nil {
			t.Errorf("%v: %v %v", s, got, err)
		}
	}
	if _, err := ParseSync("never"); err == nil {
		t.Error("never is a policy")
	}
}
