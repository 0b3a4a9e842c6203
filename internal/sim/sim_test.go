package sim_test

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"unkai/internal/sim"
)

var (
	seed   = flag.Uint64("seed", 0, "run only the world of this seed")
	seeds  = flag.Int("seeds", 6, "how many worlds to run")
	from   = flag.Uint64("from", 1, "the first seed of those; 0: new ones each time")
	length = flag.Duration("length", 2*time.Minute, "how long things go wrong in each, in its own time")
	often  = flag.String("often", "", "faults that happen oftener than others, with commas in between")
	log    = flag.String("log", "", "write everything that happens to files of this name, with a number for each run")
)

var logs int // written so far

// next is the next seed of a series, or a new one. The same commit has the same worlds
// each time, unless somebody asks for others.
func next() uint64 {
	if *from == 0 {
		return rand.Uint64() >> 16
	}
	*from++
	return *from - 1
}

// inMemory is a directory for the nodes' own files, in memory where there is such a
// file system: they are synced often, and no real disk has to wait for that.
func inMemory(t *testing.T) string {
	dir, err := os.MkdirTemp("/dev/shm", "unkai-world-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// run runs the world of a configuration.
func run(t *testing.T, cfg sim.Config) *sim.Result {
	t.Helper()
	cfg.Dir = inMemory(t)
	if *log != "" {
		logs++
		f, err := os.Create(fmt.Sprintf("%s.%d", *log, logs))
		if err != nil {
			t.Fatal(err)
		}
		w := bufio.NewWriter(f)
		cfg.Log = w
		defer func() {
			if err := errors.Join(w.Flush(), f.Close()); err != nil {
				t.Error(err)
			}
		}()
	}
	var r *sim.Result
	synctest.Test(t, func(*testing.T) { r = sim.Run(cfg) })
	return r
}

// any is a configuration drawn by a seed.
func drawn(s uint64) sim.Config {
	r := rand.New(rand.NewPCG(s, 0xcf9))
	cfg := sim.Config{Seed: s, Length: *length, Nodes: 1 + r.IntN(5), Most: 6, Memory: r.IntN(4) == 0, Clients: 4 + r.IntN(6)}
	cfg.Rest = []time.Duration{20 * time.Millisecond, 100 * time.Millisecond, time.Second}[r.IntN(3)]
	cfg.Flush = r.IntN(3) == 0
	if *often != "" {
		cfg.Often = strings.Split(*often, ",")
	}
	cfg.Zones = max(0, r.IntN(6)-2)
	if r.IntN(3) == 0 {
		cfg.AutoReplace = time.Duration(2+r.IntN(6)) * time.Second
	}
	if r.IntN(3) == 0 && !cfg.Memory { // where a crash in the midst of a move may be one too many
		cfg.HandOver = sim.HandOver{Step: sim.Steps[r.IntN(len(sim.Steps))], Deed: sim.Deeds[r.IntN(len(sim.Deeds))]}
	}
	return cfg
}

// judge checks that a world ended as it must, and that its history is linearizable.
func judge(t *testing.T, r *sim.Result, seed uint64) {
	t.Helper()
	if r.Err != nil {
		t.Error(r.Err)
	}
	if v := r.History.Judge(10 * time.Minute); !v.OK {
		path := filepath.Join(os.TempDir(), fmt.Sprintf("unkai-world-%d.html", seed))
		f, err := os.Create(path)
		if err == nil {
			err = errors.Join(v.Draw(f), f.Close())
		}
		t.Errorf("%d operations are not linearizable (undecided: %v), those of %q; see %s (%v)", r.History.Len(), v.Undecided, r.History.Guilty(time.Second), path, err)
	}
}

// In so many worlds each of these has to have happened so often: about a third of what
// is common, that it does not depend on the seeds.
const many = 100

var least = map[string]int{
	"attach: done": 10, "attach by itself: done": 40, "detach: done": 12, "detach dead: done": 4, "detach by itself: done": 5,
	"replace: done": 15, "replace dead: done": 1, "weigh: done": 30, "rezone: done": 8, "rebalance: done": 5,
	"attach: cancelled": 6, "detach: cancelled": 8, "detach dead: cancelled": 4, "replace: cancelled": 8,
	"replace by itself: done": 2, "drain while a node is down": 4, "paused across a change of lead": 8,
	"run of records": 500, "run of records cut short": 15, "fault: half": 12, "fault: emptied": 6, "fault: restored": 1,
	"fault: spare takes over": 3, "fault: spare dies": 1, "given up for a node's silence": 1,
	"pause": 100, "resume": 100, "throttle": 100, "cancel": 40, "repair": 40, "refused, as one runs": 80,
}

// Whatever goes wrong, each key is one register, and afterwards every node
// answers for every key.
func TestWorlds(t *testing.T) {
	which := []uint64{*seed}
	if *seed == 0 {
		which = nil
		if testing.Short() {
			*seeds = min(*seeds, 2)
		}
		for range *seeds {
			which = append(which, next())
		}
	}
	did := map[string]int{}
	for _, s := range which {
		t.Run(strconv.FormatUint(s, 10), func(t *testing.T) {
			began := time.Now()
			cfg := drawn(s)
			r := run(t, cfg)
			t.Logf("%+v: %d answered, %d not applied, %d in doubt, %d events, faults %v, orders %v, %v", cfg, r.Answered, r.NotApplied, r.InDoubt, r.Events, r.Faults, r.Did, time.Since(began))
			for what, n := range r.Did {
				did[what] += n
			}
			for what, n := range r.Faults {
				did["fault: "+what] += n
			}
			judge(t, r, s)
			if t.Failed() {
				t.Logf("to see it again: go test ./internal/sim -run TestWorlds -seed %d -length %v -log world", s, *length)
			}
		})
	}
	for _, what := range slices.Sorted(maps.Keys(did)) {
		t.Logf("%5d %s", did[what], what)
	}
	if len(which) < many {
		return // too few to tell
	}
	for _, what := range slices.Sorted(maps.Keys(least)) {
		if did[what] < least[what] {
			t.Errorf("%d of %q in %d worlds, want %d at least: they prove little of it", did[what], what, len(which), least[what])
		}
	}
}

// One seed is one run, to the last message.
func TestASeedIsOneRun(t *testing.T) {
	s := *seed
	if s == 0 {
		s = next()
	}
	cfg := drawn(s)
	cfg.Length = 30 * time.Second
	first := run(t, cfg)
	for range 2 {
		if again := run(t, cfg); again.Trace != first.Trace || again.Events != first.Events || again.Answered != first.Answered {
			t.Errorf("seed %d: %d events with trace %x, and then %d with %x", s, first.Events, first.Trace, again.Events, again.Trace)
		}
	}
}

// A disk that calls writes durable that are not is found out.
func TestADiskThatLiesIsFoundOut(t *testing.T) {
	const most = 60
	for s := range uint64(most) {
		cfg := drawn(s + 1)
		cfg.Lies, cfg.Memory, cfg.Nodes = true, false, 3
		if r := run(t, cfg); r.Err != nil || !r.History.Judge(10*time.Minute).OK {
			return
		}
	}
	t.Errorf("%d worlds have not found it", most)
}
