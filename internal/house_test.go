// Package internal_test holds the rules of the house.
package internal_test

import (
	"bufio"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "unkai"

// room is a row of the table in docs/ARCHITECTURE.md.
type room struct {
	may   []string
	doors []string
}

// belongsToAll are libraries that stand for the operating system.
var belongsToAll = []string{"golang.org/x/sys", "golang.org/x/term"}

// impure are what a law may not know: the world, time, chance and waiting.
var impure = []string{
	"bufio", "context", "crypto", "database", "io", "log", "math/rand", "net", "os", "runtime", "sync", "syscall", "time", "unsafe",
}

func readTable(t *testing.T) map[string]room {
	t.Helper()
	f, err := os.Open("../docs/ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	rooms := map[string]room{}
	for s := bufio.NewScanner(f); s.Scan(); {
		cells := strings.Split(s.Text(), "|")
		if len(cells) != 6 || !strings.HasPrefix(strings.TrimSpace(cells[1]), "`") {
			continue
		}
		rooms[names(cells[1])[0]] = room{may: names(cells[3]), doors: names(cells[4])}
	}
	if len(rooms) == 0 {
		t.Fatal("docs/ARCHITECTURE.md has no table of packages")
	}
	return rooms
}

// names are the words in back quotes.
func names(cell string) (out []string) {
	for i, s := range strings.Split(cell, "`") {
		if i%2 == 1 {
			out = append(out, s)
		}
	}
	return out
}

// source is a parsed file of the module.
type source struct {
	path, pkg string
	test      bool
	file      *ast.File
}

func readSources(t *testing.T) []source {
	t.Helper()
	var out []source
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() && filepath.Ext(path) != ".go" {
			return err
		}
		if d.IsDir() {
			if name := d.Name(); name != ".." && (strings.HasPrefix(name, ".") || name == "testdata") {
				return fs.SkipDir
			}
			return nil
		}
		rel, err := filepath.Rel("..", path)
		if err != nil {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution|parser.ParseComments)
		if err != nil {
			return err
		}
		pkg := filepath.ToSlash(filepath.Dir(rel))
		if pkg == "." {
			pkg = "~"
		}
		out = append(out, source{path: rel, pkg: pkg, test: strings.HasSuffix(path, "_test.go"), file: file})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func imports(s source) (out []string) {
	for _, i := range s.file.Imports {
		path, err := strconv.Unquote(i.Path.Value)
		if err != nil {
			panic(err)
		}
		out = append(out, path)
	}
	return out
}

func under(path, root string) bool { return path == root || strings.HasPrefix(path, root+"/") }

func TestEveryPackageHasItsPlace(t *testing.T) {
	rooms, seen := readTable(t), map[string]bool{}
	for _, s := range readSources(t) {
		if s.pkg == "internal" {
			continue // this test
		}
		seen[s.pkg] = true
		if _, ok := rooms[s.pkg]; !ok {
			t.Errorf("%s: package %s is not in the table of docs/ARCHITECTURE.md", s.path, s.pkg)
		}
	}
	for pkg := range rooms {
		if !seen[pkg] {
			t.Errorf("docs/ARCHITECTURE.md: package %s does not exist", pkg)
		}
	}
}

func TestImportsGoDownwards(t *testing.T) {
	rooms := readTable(t)
	for _, s := range readSources(t) {
		if s.test {
			continue
		}
		for _, path := range imports(s) {
			to, ours := strings.CutPrefix(path, module+"/")
			switch {
			case path == module:
			case ours:
				if !slices.Contains(rooms[s.pkg].may, to) {
					t.Errorf("%s: %s may not import %s", s.path, s.pkg, to)
				}
			case strings.Contains(strings.Split(path, "/")[0], "."):
				checkDoor(t, rooms, s, path)
			}
		}
	}
}

// checkDoor complains when a library is imported outside of its door.
func checkDoor(t *testing.T, rooms map[string]room, s source, path string) {
	t.Helper()
	for _, lib := range belongsToAll {
		if under(path, lib) {
			return
		}
	}
	for _, lib := range rooms[s.pkg].doors {
		if under(path, lib) {
			return
		}
	}
	t.Errorf("%s: %s is not the door of %s", s.path, s.pkg, path)
}

func TestEachLibraryHasOneDoor(t *testing.T) {
	owner := map[string]string{}
	for pkg, r := range readTable(t) {
		for _, lib := range r.doors {
			if other, ok := owner[lib]; ok {
				t.Errorf("%s has two doors: %s and %s", lib, other, pkg)
			}
			owner[lib] = pkg
		}
	}
}

func TestLawsArePure(t *testing.T) {
	for _, s := range readSources(t) {
		if s.test || !strings.HasPrefix(s.pkg, "internal/core/") && s.pkg != "~" {
			continue
		}
		for _, path := range imports(s) {
			for _, bad := range impure {
				if under(path, bad) {
					t.Errorf("%s: a law may not import %s", s.path, path)
				}
			}
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			switch n.(type) {
			case *ast.GoStmt, *ast.SelectStmt, *ast.SendStmt, *ast.ChanType:
				t.Errorf("%s: a law may not start goroutines or use channels", s.path)
				return false
			}
			return true
		})
	}
}

// A package without a first sentence cannot be found by reading.
func TestEveryPackageHasOneDescription(t *testing.T) {
	docs := map[string]int{}
	for _, s := range readSources(t) {
		if s.test {
			continue
		}
		docs[s.pkg] += 0
		if s.file.Doc != nil {
			docs[s.pkg]++
		}
	}
	for pkg, n := range docs {
		if n != 1 {
			t.Errorf("package %s has %d descriptions; it wants one", pkg, n)
		}
	}
}

func TestNoRoomIsCalledAfterNothing(t *testing.T) {
	for _, s := range readSources(t) {
		for _, part := range append(strings.Split(s.pkg, "/"), strings.TrimSuffix(filepath.Base(s.path), ".go")) {
			if slices.Contains([]string{"util", "utils", "common", "helper", "helpers", "misc"}, part) {
				t.Errorf("%s: %q says nothing about what is in it", s.path, part)
			}
		}
	}
}
