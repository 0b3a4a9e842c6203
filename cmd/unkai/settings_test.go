package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
)

// shelf has a flag of each kind.
type shelf struct {
	flags *pflag.FlagSet
	name  string
	large size
	count int
	wait  time.Duration
	mode  string
	join  []string
}

func newShelf() *shelf {
	s := &shelf{flags: pflag.NewFlagSet("test", pflag.ContinueOnError), name: "default", large: 1 << 20, count: 7, mode: "a"}
	f := s.flags
	f.String(configFlag, "", "")
	f.StringVar(&s.name, "name", s.name, "")
	f.Var(&s.large, "max-value", "")
	f.IntVar(&s.count, "count", s.count, "")
	f.DurationVar(&s.wait, "idle-timeout", time.Minute, "")
	f.Var(choice{&s.mode, []string{"a", "b"}}, "mode", "")
	f.StringSliceVar(&s.join, "join", nil, "")
	return s
}

func environment(vars map[string]string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		v, ok := vars[name]
		return v, ok
	}
}

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "unkai.toml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestPrecedence(t *testing.T) {
	file := write(t, "name = 'file'\nmax-value = '3MiB'\ncount = 3\nidle-timeout = '3s'\nmode = 'b'\njoin = ['x:1', 'y:2']\n")
	env := map[string]string{
		"UNKAI_NAME": "env", "UNKAI_MAX_VALUE": "2m", "UNKAI_COUNT": "2", "UNKAI_IDLE_TIMEOUT": "2s", "UNKAI_MODE": "", "UNKAI_JOIN": "e:1,f:2",
	}
	for _, test := range []struct {
		name string
		args []string
		env  map[string]string
		want shelf
		from string // of the name
	}{
		{"default", nil, nil, shelf{name: "default", large: 1 << 20, count: 7, wait: time.Minute, mode: "a"}, ""},
		{
			"file", []string{"--config", file}, nil,
			shelf{name: "file", large: 3 << 20, count: 3, wait: 3 * time.Second, mode: "b", join: []string{"x:1", "y:2"}}, file + ":1",
		},
		{
			"environment", nil, env,
			shelf{name: "env", large: 2 << 20, count: 2, wait: 2 * time.Second, mode: "a", join: []string{"e:1", "f:2"}}, "UNKAI_NAME",
		},
		{
			// The empty variable counts as not given.
			"environment before file", []string{"--config", file}, env,
			shelf{name: "env", large: 2 << 20, count: 2, wait: 2 * time.Second, mode: "b", join: []string{"e:1", "f:2"}}, "UNKAI_NAME",
		},
		{
			"flag before all", []string{"--config", file, "--name", "flag", "--join", "z:1", "--max-value=1k"}, env,
			shelf{name: "flag", large: 1 << 10, count: 2, wait: 2 * time.Second, mode: "b", join: []string{"z:1"}}, "--name",
		},
		{
			"a flag with the default's value", []string{"--config", file, "--name", "default"}, env,
			shelf{name: "default", large: 2 << 20, count: 2, wait: 2 * time.Second, mode: "b", join: []string{"e:1", "f:2"}}, "--name",
		},
		{
			"file named by the environment", nil, map[string]string{"UNKAI_CONFIG": file},
			shelf{name: "file", large: 3 << 20, count: 3, wait: 3 * time.Second, mode: "b", join: []string{"x:1", "y:2"}}, file + ":1",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newShelf()
			if err := s.flags.Parse(test.args); err != nil {
				t.Fatal(err)
			}
			from, err := settle(s.flags, environment(test.env))
			if err != nil {
				t.Fatal(err)
			}
			w := test.want
			if s.name != w.name || s.large != w.large || s.count != w.count || s.wait != w.wait || s.mode != w.mode || !slices.Equal(s.join, w.join) {
				s.flags, w.flags = nil, nil
				t.Errorf("got %+v, want %+v", *s, w)
			}
			if from["name"] != test.from {
				t.Errorf("the name is said to come from %q, want %q", from["name"], test.from)
			}
		})
	}
}

// What is wrong is said with the place where it is wrong.
func TestBadSettings(t *testing.T) {
	for _, test := range []struct {
		name, file string
		env        map[string]string
		want       []string
	}{
		{"unknown key", "name = 'x'\n\nmax-vale = 3\n", nil, []string{`unkai.toml:3: "max-vale" is not a setting; did you mean "max-value"?`}},
		{"unknown key, nothing like it", "q = 3\n", nil, []string{`unkai.toml:1: "q" is not a setting` + "\n"}},
		{"several", "cuont = 3\nnamee = 4\n", nil, []string{`unkai.toml:1: "cuont" is not a setting; did you mean "count"?`, `unkai.toml:2: "namee" is not a setting; did you mean "name"?`}},
		{"a table", "[server]\nname = 'x'\n", nil, []string{`unkai.toml:1: "server" is not a setting`}},
		{"a table under a known name", "[name]\nx = 1\n", nil, []string{`unkai.toml:1: name: want a text`}},
		{"dotted", "name.x = 'y'\n", nil, []string{`unkai.toml:1: "name.x" is not a setting; did you mean "name"?`}},
		{"the file cannot name a file", "config = 'x'\n", nil, []string{`"config" is not a setting`}},
		{"bad value", "name = 'x'\ncount = 'many'\n", nil, []string{`unkai.toml:2: count: "many": `}},
		{"bad choice", "mode = 'c'\n", nil, []string{`unkai.toml:1: mode: "c": want a or b`}},
		{"bad kind", "name = 1979-05-27\n", nil, []string{`unkai.toml:1: name: want a text`}},
		{"bad list", "join = [1, 2]\n", nil, []string{`unkai.toml:1: join: 1 is not a text`}},
		{"bad syntax", "name = 'x'\ncount = = 3\n", nil, []string{`unkai.toml:2:`}},
		{"twice", "name = 'x'\nname = 'y'\n", nil, []string{`unkai.toml`}},
		{"environment", "", map[string]string{"UNKAI_MAX_VALUE": "huge", "UNKAI_COUNT": "x"}, []string{`UNKAI_MAX_VALUE: max-value: "huge": want a number of bytes`, `UNKAI_COUNT: count: "x": `}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newShelf()
			if err := s.flags.Parse([]string{"--config", write(t, test.file)}); err != nil {
				t.Fatal(err)
			}
			_, err := settle(s.flags, environment(test.env))
			if err == nil {
				t.Fatal("no error")
			}
			for _, want := range test.want {
				if !strings.Contains(err.Error()+"\n", want) {
					t.Errorf("%q does not say %q", err, want)
				}
			}
		})
	}
}

func TestNoSuchFile(t *testing.T) {
	s := newShelf()
	missing := filepath.Join(t.TempDir(), "missing.toml")
	if err := s.flags.Parse([]string{"--config", missing}); err != nil {
		t.Fatal(err)
	}
	if _, err := settle(s.flags, environment(nil)); err == nil || !strings.Contains(err.Error(), missing) {
		t.Errorf("%v", err)
	}
}

func TestNearest(t *testing.T) {
	names := []string{"data", "listen", "max-value", "max-connections", "n", "r", "w", "log-level", "log-format"}
	for typed, want := range map[string]string{
		"lisen": "listen", "max-conns": "max-connections", "max_value": "max-value", "loglevel": "log-level", "dat": "data", "quux": "", "": "",
	} {
		if got := nearest(typed, names); got != want {
			t.Errorf("%q: %q, want %q", typed, got, want)
		}
	}
}

// The page for operators describes every setting, with its default.
func TestEverySettingIsDescribed(t *testing.T) {
	page, err := os.ReadFile("../../docs/OPERATING.md")
	if err != nil {
		t.Fatal(err)
	}
	serve := (&outside{}).serveCommand()
	for _, name := range append(settingNames(serve.Flags()), configFlag) {
		row := ""
		for line := range strings.Lines(string(page)) {
			if strings.HasPrefix(line, "| ") && strings.Contains(strings.SplitN(line, "|", 3)[1], "`--"+name+"`") {
				row = line
			}
		}
		if row == "" {
			t.Errorf("docs/OPERATING.md has no row for --%s", name)
			continue
		}
		f := serve.Flags().Lookup(name)
		if value := f.DefValue; value != "" && value != "[]" && !strings.Contains(strings.Split(row, "|")[2], value) {
			t.Errorf("docs/OPERATING.md does not say that the default of --%s is %s: %s", name, value, row)
		}
	}
}
