package manager_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"unkai/internal/core/topology"
	"unkai/internal/node/manager"
)

// memory is a file that a test can look into and break.
type memory struct {
	mu   sync.Mutex
	b    []byte
	fail error
}

func (m *memory) breakWith(err error) {
	m.mu.Lock()
	m.fail = err
	m.mu.Unlock()
}

func (m *memory) Load() ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.b == nil {
		return nil, fs.ErrNotExist
	}
	return m.b, nil
}

func (m *memory) Save(b []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail == nil {
		m.b = b
	}
	return m.fail
}

func now() int64 { return time.Now().UnixMilli() }

func first() (topology.Topology, error) {
	return topology.New(1, 16, 3, 2, 2, topology.Node{ID: 10, Weight: 1}), nil
}

func config(f *memory) manager.Config {
	return manager.Config{
		Self: 10, Topology: f, Decree: &memory{}, Now: now, Log: slog.New(slog.DiscardHandler),
		Changed: func() {}, Timeout: time.Second,
	}
}

func open(t *testing.T, f *memory, changed func()) *manager.Manager {
	t.Helper()
	cfg := config(f)
	cfg.Changed = changed
	m, err := manager.Open(cfg, first)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestFlushIsRememberedAndTold(t *testing.T) {
	f, changes := &memory{}, 0
	m := open(t, f, func() { changes++ })
	if err := m.Flush(0); err != nil {
		t.Fatal(err)
	}
	if top := m.Topology(); top.Epoch != 2 || !top.Forgotten(1) || changes != 1 {
		t.Errorf("%+v after %d changes", top, changes)
	}
	if top := open(t, f, func() {}).Topology(); top.Epoch != 2 || !top.Forgotten(1) {
		t.Errorf("after a restart: %+v", top)
	}
}

func TestLateFlushComesInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := open(t, &memory{}, func() {})
		defer func() { _ = m.Close() }()
		if err := m.Flush(now() + 10_000); err != nil {
			t.Fatal(err)
		}
		time.Sleep(9 * time.Second)
		if m.Topology().Flushed != 0 {
			t.Error("flushed too early")
		}
		time.Sleep(2 * time.Second)
		if top := m.Topology(); !top.Forgotten(top.Flushed-1) || top.FlushAt != 0 {
			t.Errorf("not flushed: %+v", top)
		}
	})
}

func TestLateFlushSurvivesARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &memory{}
		m := open(t, f, func() {})
		if err := m.Flush(now() + 10_000); err != nil {
			t.Fatal(err)
		}
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if m.Topology().Flushed != 0 {
			t.Error("a closed manager flushed")
		}
		m = open(t, f, func() {})
		defer func() { _ = m.Close() }()
		synctest.Wait()
		if m.Topology().Flushed == 0 {
			t.Error("the flush was forgotten")
		}
	})
}

func TestALaterFlushTakesThePlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := open(t, &memory{}, func() {})
		defer func() { _ = m.Close() }()
		for _, at := range []int64{10_000, 60_000} {
			if err := m.Flush(now() + at); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(30 * time.Second)
		if m.Topology().Flushed != 0 {
			t.Error("the earlier one was carried out")
		}
		time.Sleep(31 * time.Second)
		if m.Topology().Flushed == 0 {
			t.Error("the later one was not")
		}
	})
}

// What could not be written down has not happened.
func TestADiskThatFails(t *testing.T) {
	f := &memory{}
	m := open(t, f, func() {})
	full := errors.New("no space")
	f.breakWith(full)
	if err := m.Flush(0); !errors.Is(err, full) {
		t.Errorf("flush: %v", err)
	}
	if top := m.Topology(); top.Epoch != 1 {
		t.Errorf("epoch %d", top.Epoch)
	}
}

func TestADiskThatFailsWhenAFlushIsDue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &memory{}
		m := open(t, f, func() {})
		defer func() { _ = m.Close() }()
		if err := m.Flush(now() + 1000); err != nil {
			t.Fatal(err)
		}
		f.breakWith(errors.New("no space"))
		time.Sleep(5 * time.Second)
		if m.Topology().Flushed != 0 {
			t.Error("flushed without writing it down")
		}
		f.breakWith(nil)
		time.Sleep(2 * time.Second)
		if m.Topology().Flushed == 0 {
			t.Error("not tried again")
		}
	})
}

func TestASpoiledFileIsRefused(t *testing.T) {
	good := &memory{}
	open(t, good, func() {})
	text := former(t, good.b)
	for i := range good.b {
		bad := bytes.Clone(good.b)
		bad[i] ^= 1
		if _, err := manager.Open(config(&memory{b: bad}), first); err == nil {
			t.Errorf("opened with another byte %d", i)
		}
	}
	for _, b := range []string{"", "{", strings.Replace(text, `"epoch":1`, `"epoch":0`, 1), strings.Replace(text, `"buckets":16`, `"buckets":17`, 1)} {
		if _, err := manager.Open(config(&memory{b: []byte(b)}), first); err == nil {
			t.Errorf("opened %q", b)
		}
	}
}

// former is a topology as it was kept before there was a shorter form.
func former(t *testing.T, b []byte) string {
	t.Helper()
	top, err := topology.Decode(b)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(top)
	if err != nil {
		t.Fatal(err)
	}
	return string(text) + "\n"
}

// A file of the former form is read, and what was promised on top of it holds.
func TestAFormerFileIsRead(t *testing.T) {
	f := &memory{}
	m := open(t, f, func() {})
	if err := m.Flush(0); err != nil {
		t.Fatal(err)
	}
	f.b = []byte(former(t, f.b))
	m = open(t, f, func() {})
	if top := m.Topology(); top.Epoch != 2 || top.Flushed != 2 {
		t.Errorf("%+v", top)
	}
	if err := m.Flush(0); err != nil {
		t.Fatal(err)
	}
	if f.b[0] == '{' {
		t.Error("it is kept in the former form")
	}
	if top := open(t, f, func() {}).Topology(); top.Epoch != 3 {
		t.Errorf("%+v", top)
	}
}

// A moment so far away that no timer can hold it must not make one that fires
// all the time.
func TestAVeryLateFlushWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var looks atomic.Int64
		cfg := config(&memory{})
		cfg.Now = func() int64 { looks.Add(1); return now() }
		m, err := manager.Open(cfg, first)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = m.Close() }()
		if err := m.Flush(math.MaxInt64); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Hour)
		if n := looks.Load(); n > 100 || m.Topology().Flushed != 0 {
			t.Errorf("%d looks at the clock; flushed in epoch %d", n, m.Topology().Flushed)
		}
	})
}

// What may stand after a restart is what new writes must be of.
func TestAnUncertainSaveIsAdopted(t *testing.T) {
	f := &memory{}
	m := open(t, f, func() {})
	f.breakWith(fmt.Errorf("%w: disk", manager.ErrUncertain))
	if err := m.Flush(0); err == nil {
		t.Error("no error")
	}
	if e := m.Topology().Epoch; e != 2 {
		t.Errorf("epoch %d", e)
	}
}
