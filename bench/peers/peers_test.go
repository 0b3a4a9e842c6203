package main

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestRatiosAreOfTheSameRound(t *testing.T) {
	r := report{Systems: []system{{Name: "unkai"}, {Name: "etcd"}, {Name: "redis"}}}
	for round, rates := range [][2]float64{{100, 50}, {900, 300}, {80, 20}} {
		r.Measured = append(r.Measured,
			measured{System: "unkai", Round: round + 1, Reads: load{PerSecond: rates[0], ServerCPU: 10}},
			measured{System: "etcd", Round: round + 1, Reads: load{PerSecond: rates[1], ServerCPU: 40}})
	}
	r.compare()
	got := r.Ratios[0]
	if got.What != "reads" || got.Peer != "etcd" || got.Median != 3 || got.Min != 2 || got.Max != 4 || got.CPU != 0.25 {
		t.Errorf("got %+v, want 3 (2–4), CPU 0.25", got)
	}
	if v := got.verdict(); v != "≥ 2: met" {
		t.Errorf("verdict %q", v)
	}
	got.Median = 1.99
	if v := got.verdict(); v != "≥ 2: MISSED" {
		t.Errorf("verdict %q", v)
	}
	if slices.ContainsFunc(r.Ratios, func(x ratio) bool { return x.Peer != "etcd" }) {
		t.Errorf("there are ratios to what did not run: %+v", r.Ratios)
	}
}

func TestMissingSystemsAreNamed(t *testing.T) {
	var out bytes.Buffer
	r := report{Missing: []missing{{Name: "redis", Why: "not installed", Get: "apt-get install redis-server"}}}
	if err := r.print(&out); err != nil {
		t.Fatal(err)
	}
	if s := out.String(); !strings.Contains(s, "MISSING") || !strings.Contains(s, "apt-get install redis-server") {
		t.Errorf("nothing is said of what is missing:\n%s", s)
	}
}

func TestAKillIsJudgedByWhenOperationsWereDue(t *testing.T) {
	const ms = time.Millisecond
	broken := errors.New("broken")
	k := judge([][]asked{
		{ // waits for 300 ms, then works off what was due meanwhile
			{due: 900 * ms, end: 901 * ms},
			{due: 1000 * ms, end: 1300 * ms},
			{due: 1100 * ms, end: 1301 * ms},
			{due: 2100 * ms, end: 2102 * ms},
		},
		{ // is refused twice, and served again 450 ms after it first asked
			{due: 1050 * ms, end: 1051 * ms, err: broken},
			{due: 1250 * ms, end: 1251 * ms, err: broken},
			{due: 1450 * ms, end: 1500 * ms},
		},
	}, 1000*ms, 3000*ms)
	want := kill{Before: 1, First: 300, Later: 2, GapBefore: 1, GapFirst: 450, GapLater: 2, FailedFirst: 2, Error: "broken"}
	if k != want {
		t.Errorf("got  %+v\nwant %+v", k, want)
	}
	k = judge([][]asked{{{due: 1200 * ms, end: 1300 * ms, err: broken}}}, 1000*ms, 3000*ms)
	if !k.GapOpen || k.GapFirst != 1800 {
		t.Errorf("who is never served again has %+v", k)
	}
}

func TestCPUTimeOfAProcessWithAnyName(t *testing.T) {
	d, err := parseStat([]byte("7 (a) b) S 1 1 1 0 -1 0 0 0 0 0 12 30 0 0 20 0 1 0 5 0 0"))
	if err != nil || d != 420*time.Millisecond {
		t.Errorf("got %v, %v; want 420ms", d, err)
	}
	if _, err := parseStat([]byte("7 (a) S 1")); err == nil {
		t.Error("half a line is taken for a whole one")
	}
}

// wobbly wins every second time and fails every tenth.
type wobbly struct {
	client
	n int
}

var errWobbly = errors.New("wobbly")

func (w *wobbly) swap(string, []byte) (bool, error) {
	if w.n++; w.n%10 == 0 {
		return false, errWobbly
	}
	time.Sleep(10 * time.Microsecond)
	return w.n%2 == 0, nil
}

func TestOnlyWhatHasWonCounts(t *testing.T) {
	w := &wobbly{}
	l, err := plan{keys: 1}.load(t.Context(), []client{w}, &pack{}, func(c client, _ int, _ *rand.Rand, v []byte) (bool, error) {
		return c.swap("", v)
	}, 20*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	if l.Failed != w.n/10 || l.Won != w.n/2-l.Failed || l.Lost != w.n-w.n/2 || l.Error != errWobbly.Error() {
		t.Errorf("of %d: %+v", w.n, l)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := (plan{}).load(ctx, nil, &pack{}, nil, time.Second); err == nil {
		t.Error("a measurement that was stopped counts")
	}
}

func TestFlags(t *testing.T) {
	if _, err := parse([]string{"--only", "unkai,etdc"}); err == nil {
		t.Error("a system that does not exist is not complained about")
	}
	s, err := parse([]string{"--rounds", "2", "--only", "unkai,redis"})
	if err != nil || s.rounds != 2 || s.connections != 64 {
		t.Errorf("%+v, %v", s, err)
	}
}

// One short round of every system that can be had.
func TestAllSystemsWork(t *testing.T) {
	if testing.Short() {
		t.Skip("builds and starts whole clusters: left out with -short")
	}
	s, err := parse([]string{"--duration", "300ms", "--keys", "100", "--dir", t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	bin := t.TempDir()
	for _, c := range contestants() {
		t.Run(c.name, func(t *testing.T) {
			if c.program, err = c.find(t.Context(), bin, s); err != nil {
				t.Skipf("%v; get it: %s", err, c.get)
			}
			s.after = 0
			m, err := s.measure(t.Context(), c, t.TempDir()+"/data", 0)
			if err != nil {
				t.Fatal(err)
			}
			for _, ph := range phases {
				if l := ph.of(m); l.Won == 0 || l.Failed > 0 || l.ServerCPU == 0 {
					t.Errorf("%s: %+v", ph.name, l)
				}
			}
		})
	}
}
