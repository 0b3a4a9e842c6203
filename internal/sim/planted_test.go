package sim_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

var planted = flag.Bool("planted", false, "build nodes with mistakes in them, and see that the worlds find each; some minutes")

// mistake is one that somebody might make.
type mistake struct {
	name  string
	seeds int // worlds in which it has to be found
	edits []edit
	args  []string // of the worlds, if not just any will find it
}

// edit is a change of one file of the module.
type edit struct {
	file    string
	is, was string // what stands in it, and what takes its place
}

var mistakes = []mistake{
	{"acknowledged at W-1", 20, []edit{{
		"internal/node/coordinator/lead.go",
		"		if q.route.Write.Enough(p.Tally.Yes) {\n			s := c.stripe",
		"		if p.Tally.Yes.Count() >= q.route.Write.Present.Need-1 {\n			s := c.stripe",
	}}, nil},
	{"a read does not finish what it found unfinished", 40, []edit{{
		"internal/node/coordinator/lead.go",
		"(absent || r.route.Chosen(q.tally.Epoch, q.holding())) && !r.unsettled(q) {",
		"(absent || q.holding() > 0) {",
	}}, nil},
	{"a promise is forgotten at a restart", 120, []edit{{
		"internal/node/replica/replica.go",
		"	rec := f.Record\n	rec.Promise = s.Promised\n	return r.write(c, l, &f, rec, f.Fetched, f.Accessed, false)",
		"	l.Unlock()\n	c.Status = OK\n	return true",
	}}, []string{"-test.run", "^TestWorlds$", "-often", "crash,power cut,half"}},
	{"what is in doubt is tried again", 40, []edit{{
		"internal/node/gateway/fan.go",
		"if sent && !command.ReadsOnly(&f.b.Ops[i]) {",
		"if false && sent && !command.ReadsOnly(&f.b.Ops[i]) {",
	}}, nil},
	{"an earlier topology is not fenced", 40, []edit{{
		"internal/node/replica/replica.go",
		"if c.Epoch == route.Epoch && r.member(route) {",
		"if r.member(route) {",
	}}, []string{"-test.run", "^TestHandOver$/stall_leaving$", "-steps"}},
	{"an old copy of a data directory is not noticed", 80, []edit{{
		"internal/node/rebirth.go",
		"if n.restored = n.book.Older(); n.restored && n.cfg.Restored {",
		"if n.restored {",
	}}, []string{"-test.run", "^TestWorlds$", "-often", "backup,restore"}},
	{"an emptied node goes on as the one it was", 60, []edit{{
		"internal/node/topology.go",
		"top, err := n.join(ctx, !n.dir.Created())",
		"top, err := n.join(ctx, false)",
	}}, nil},
	{"a tombstone is purged after a time, without asking", 40, []edit{{
		"internal/node/replica/sweep.go",
		"		if hold.Held == NotHeld {\n",
		"		if hold.Held == NotHeld || true {\n",
	}}, nil},
	{"a bucket is read at its new set before anybody has settled it", 60, []edit{{
		"internal/core/topology/moving.go",
		"	return said >= len(s.Replicas)-write+1",
		"	_ = write\n	return said >= 0",
	}}, nil},
	{"the old copy is dropped before the switch", 60, []edit{
		{
			"internal/node/antientropy/work.go",
			"		m.settled.Store(b, arrival{since, bytes})",
			"		m.settled.Store(b, arrival{since, bytes})\n		if r := m.Topology().Route(b); !slices.ContainsFunc(r.Members, func(id unkai.NodeID) bool {\n			return id == m.Self && r.Write.Joining.Members.Has(slices.Index(r.Members, id))\n		}) {\n			_ = m.Replica.Drop(b)\n		}",
		},
		{
			"internal/node/replica/replica.go",
			"	if r.member(r.topology().Route(b)) {\n		return nil",
			"	if route := r.topology().Route(b); r.member(route) && !route.Joining {\n		return nil",
		},
	}, nil},
	{"records written together take the place of newer ones", 40, []edit{{
		"internal/sim/bulk.go",
		"	return !known && !full",
		"	_ = known\n	return !full",
	}}, nil},
	{"what was left out of records written together counts as written", 40, []edit{{
		"internal/node/replica/bulk.go",
		"fit, a.left[:0], &store.Write{Done: a})",
		"fit, a.left[:0], &store.Write{Done: a})[:0]",
	}}, nil},
	{"a bucket is switched before its keys were settled", 60, []edit{{
		"internal/node/antientropy/work.go",
		"	bytes, err := bring(ctx, b, since)",
		"	bytes, err := int64(0), error(nil)\n	_ = bring",
	}}, nil},
}

// Each mistake is found by a world that has it.
func TestPlantedMistakesAreFound(t *testing.T) {
	if !*planted {
		t.Skip("it builds the nodes anew for each mistake: run it with -planted")
	}
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range mistakes {
		t.Run(m.name, func(t *testing.T) {
			program := m.build(t, root)
			for tried := 1; tried <= m.seeds; tried++ {
				args := m.args
				if args == nil {
					args = []string{"-test.run", "^TestWorlds$"}
				}
				run := exec.Command(program, append(slices.Clone(args), "-seed", strconv.Itoa(1000+tried))...)
				run.Env = append(os.Environ(), "TMPDIR="+t.TempDir())
				out, err := run.CombinedOutput()
				if err == nil {
					continue
				}
				if !strings.Contains(string(out), "    --- FAIL: Test") {
					t.Fatalf("it did not run: %v\n%s", err, out)
				}
				t.Logf("found in world %d: %s", tried, firstFailure(string(out)))
				return
			}
			t.Errorf("not found in %d worlds", m.seeds)
		})
	}
}

// Each mistake can still be made: what it takes the place of is there.
func TestMistakesCanBePlanted(t *testing.T) {
	for _, m := range mistakes {
		for _, e := range m.edits {
			e.plant(t, filepath.Join("..", ".."))
		}
	}
}

// plant is the file with the mistake in it.
func (e *edit) plant(t *testing.T, root string) string {
	t.Helper()
	right, err := os.ReadFile(filepath.Join(root, e.file))
	if err != nil {
		t.Fatal(err)
	}
	if strings.Count(string(right), e.is) != 1 {
		t.Fatalf("%s has changed: what a mistake takes the place of is not there once:\n%s", e.file, e.is)
	}
	return strings.Replace(string(right), e.is, e.was, 1)
}

// build makes this test with the mistake in it.
func (m *mistake) build(t *testing.T, root string) (program string) {
	t.Helper()
	dir := t.TempDir()
	write := func(name, text string) string {
		name = filepath.Join(dir, name)
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	files := map[string]string{}
	for i, e := range m.edits {
		files[filepath.Join(root, e.file)] = write(fmt.Sprintf("%d.go", i), e.plant(t, root))
	}
	replace, err := json.Marshal(map[string]map[string]string{"Replace": files})
	if err != nil {
		t.Fatal(err)
	}
	overlay := write("overlay.json", string(replace))
	program = filepath.Join(dir, "sim.test")
	if out, err := exec.Command("go", "test", "-c", "-vet=off", "-overlay", overlay, "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("building it: %v\n%s", err, out)
	}
	return program
}

// firstFailure is the line that says what was found.
func firstFailure(out string) string {
	for line := range strings.Lines(out) {
		if strings.Contains(line, "_test.go:") && !strings.Contains(line, "answered") {
			return strings.TrimSpace(line)
		}
	}
	return "it failed"
}
