package sim_test

import (
	"encoding/json"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

var planted = flag.Bool("planted", false, "build nodes with mistakes in them, and see that the worlds find each; some minutes")

// mistake is one that somebody might make.
type mistake struct {
	name, file string // of the module
	is, was    string // what stands in the file, and what takes its place
	seeds      int    // worlds in which it has to be found
}

var mistakes = []mistake{
	{
		"acknowledged at W-1", "internal/node/coordinator/lead.go",
		"		if q.route.Write.Enough(p.Tally.Yes) {\n			s := c.stripe",
		"		if p.Tally.Yes.Count() >= q.route.Write.Present.Need-1 {\n			s := c.stripe", 20,
	},
	{
		"a read does not finish what it found unfinished", "internal/node/coordinator/lead.go",
		"(absent || r.route.Chosen(q.tally.Epoch, q.holding())) && !r.unsettled(q) {",
		"(absent || q.holding() > 0) {", 40,
	},
	{
		"a promise is forgotten at a restart", "internal/node/replica/replica.go",
		"	rec := f.Record\n	rec.Promise = s.Promised\n	return r.write(c, l, &f, rec, f.Fetched, f.Accessed, false)",
		"	l.Unlock()\n	c.Status = OK\n	return true", 40,
	},
	{
		"what is in doubt is tried again", "internal/node/gateway/fan.go",
		"if sent && !command.ReadsOnly(&f.b.Ops[i]) {",
		"if false && sent && !command.ReadsOnly(&f.b.Ops[i]) {", 40,
	},
	{
		"an earlier topology is not fenced", "internal/node/replica/replica.go",
		"if c.Epoch == route.Epoch && r.member(route) {",
		"if r.member(route) {", 300,
	},
	{
		"an old copy of a data directory is not noticed", "internal/node/rebirth.go",
		"if n.restored = n.book.older(); n.restored && n.cfg.Restored {", "if n.restored {", 200,
	},
	{
		"a bucket is switched before its keys were settled", "internal/node/antientropy/mover.go",
		"	bytes, err := bring(ctx, b, since)", "	bytes, err := int64(0), error(nil)\n	_ = bring", 60,
	},
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
				run := exec.Command(program, "-test.run", "^TestWorlds$", "-seed", strconv.Itoa(1000+tried))
				run.Env = append(os.Environ(), "TMPDIR="+t.TempDir())
				out, err := run.CombinedOutput()
				if err == nil {
					continue
				}
				if !strings.Contains(string(out), "--- FAIL: TestWorlds/") {
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
		m.plant(t, filepath.Join("..", ".."))
	}
}

// plant is the file with the mistake in it.
func (m *mistake) plant(t *testing.T, root string) string {
	t.Helper()
	right, err := os.ReadFile(filepath.Join(root, m.file))
	if err != nil {
		t.Fatal(err)
	}
	if strings.Count(string(right), m.is) != 1 {
		t.Fatalf("%s has changed: what the mistake %q takes the place of is not there once:\n%s", m.file, m.name, m.is)
	}
	return strings.Replace(string(right), m.is, m.was, 1)
}

// build makes this test with the mistake in it.
func (m *mistake) build(t *testing.T, root string) (program string) {
	t.Helper()
	file := filepath.Join(root, m.file)
	dir := t.TempDir()
	wrong, overlay := filepath.Join(dir, filepath.Base(m.file)), filepath.Join(dir, "overlay.json")
	replace, err := json.Marshal(map[string]map[string]string{"Replace": {file: wrong}})
	if err != nil {
		t.Fatal(err)
	}
	for path, text := range map[string]string{wrong: m.plant(t, root), overlay: string(replace)} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
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
