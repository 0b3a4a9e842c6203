package e2e

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// refused starts unkai where it must not start, and returns what it says.
func refused(t *testing.T, s serve) string {
	t.Helper()
	p := s.launch(t)
	if code := p.awaitExit(t); code <= 0 {
		t.Fatalf("exit code %d:\n%s", code, p.output)
	}
	said := p.output.String()
	if !strings.Contains(said, s.dir) {
		t.Errorf("the message does not name %s:\n%s", s.dir, said)
	}
	if strings.Contains(said, "panic") || strings.Contains(said, "goroutine ") {
		t.Errorf("this is no message for a person:\n%s", said)
	}
	return said
}

// A data directory belongs to one process at a time.
func TestDataDirTwice(t *testing.T) {
	onEveryStore(t, func(t *testing.T, store string) {
		first := newServe(t, store)
		p := first.start(t)
		w := connect(t, p)
		w.want(t, "set k 0 0 1\r\nx\r\n", "STORED")
		second := newServe(t, store)
		second.dir = first.dir
		refused(t, second)
		w.want(t, "get k\r\n", "VALUE k 0 1\nx\nEND")
		// A killed process leaves no lock behind.
		p.kill(t)
		connect(t, first.start(t)).want(t, "set k 0 0 1\r\nx\r\n", "STORED")
	})
}

// A directory that holds something else is left alone.
func TestDataDirOfSomebodyElse(t *testing.T) {
	onEveryStore(t, func(t *testing.T, store string) {
		s := newServe(t, store)
		mine := filepath.Join(s.dir, "thesis.txt")
		if err := os.MkdirAll(s.dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(mine, []byte("years of work"), 0o644); err != nil {
			t.Fatal(err)
		}
		refused(t, s)
		files, err := os.ReadDir(s.dir)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := os.ReadFile(mine); err != nil || string(b) != "years of work" || len(files) != 1 {
			t.Errorf("the directory was changed: %q %v, %v", b, err, files)
		}
	})
}

// A file is not a directory.
func TestDataDirIsAFile(t *testing.T) {
	s := newServe(t, "disk")
	if err := os.WriteFile(s.dir, []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	refused(t, s)
}

// A taken port is said at the start, by an exit code and a message.
func TestPortTaken(t *testing.T) {
	first := newServe(t, "memory")
	first.start(t)
	second := newServe(t, "memory")
	second.addr = first.addr
	p := second.launch(t)
	if code := p.awaitExit(t); code <= 0 || !strings.Contains(p.output.String(), first.addr) {
		t.Errorf("exit code %d:\n%s", code, p.output)
	}
}

// A full disk refuses growth with an error, still reads and deletes, and
// recovers by itself once there is room.
func TestDiskFull(t *testing.T) {
	disk := smallDisk(t)
	s := newServe(t, "disk")
	s.dir = filepath.Join(disk, "data")
	p := s.start(t)
	t.Cleanup(func() { p.kill(t) }) // before the disk goes
	w := connect(t, p)
	value := make([]byte, 96_000)
	for i := range value {
		value[i] = 0x80 | byte(rand.Uint32()) // compresses badly, and ends no line
	}
	set := func(i int) string {
		return w.ask(t, fmt.Sprintf("set k%d 0 0 %d\r\n%s\r\n", i, len(value), value))
	}
	stored := 0
	for ; stored < 20_000; stored++ {
		reply := set(stored)
		if reply == "STORED" {
			continue
		}
		if !strings.HasPrefix(reply, "SERVER_ERROR ") {
			t.Fatalf("a full disk was answered with %q", reply)
		}
		break
	}
	t.Logf("%d values of %d bytes on a disk of 1 GiB", stored, len(value))
	// While it is full: reads and deletes work, and small things do not break it.
	whole := func(i int) {
		t.Helper()
		w.want(t, fmt.Sprintf("get k%d\r\n", i), fmt.Sprintf("VALUE k%d 0 %d\n%s\nEND", i, len(value), value))
	}
	for i := 0; i < stored; i += max(1, stored/20) {
		whole(i)
	}
	kept := stored / 10
	for i := kept; i < stored; i++ {
		w.want(t, fmt.Sprintf("delete k%d\r\n", i), "DELETED")
	}
	eventually(t, "the disk has room again", func() error {
		if reply := set(kept); reply != "STORED" {
			return errors.New(reply)
		}
		return nil
	})
	for i := range kept {
		whole(i)
	}
	// And nothing of it is lost or back after a crash.
	p.kill(t)
	p = s.start(t)
	w = connect(t, p)
	for i := range kept + 1 {
		whole(i)
	}
	w.want(t, fmt.Sprintf("get k%d k%d\r\n", kept+1, stored-1), "END")
}

// Somebody else takes the space of the disk but for a little, and gives it back:
// growth is refused meanwhile, and nothing else happens.
func TestDiskFullOfOthers(t *testing.T) {
	disk := smallDisk(t)
	s := newServe(t, "disk")
	s.dir = filepath.Join(disk, "data")
	p := s.start(t)
	t.Cleanup(func() { p.kill(t) })
	w := connect(t, p)
	w.want(t, "set before 0 0 1\r\nx\r\nset gone 0 0 1\r\nx\r\n", "STORED\nSTORED")
	others := filepath.Join(disk, "others")
	fillDisk(t, disk, others, 40<<20)
	value := strings.Repeat("v", 10_000)
	eventually(t, "growth is refused", func() error {
		reply := w.ask(t, "set during 0 0 10000\r\n"+value+"\r\n")
		if strings.HasPrefix(reply, "SERVER_ERROR ") {
			return nil
		}
		return errors.New(reply)
	})
	w.want(t, "get before\r\ndelete gone\r\nget gone\r\n", "VALUE before 0 1\nx\nEND\nDELETED\nEND")
	if code, body := p.fetch(t, "/healthz"); code != http.StatusOK {
		t.Errorf("/healthz: %d %s", code, body)
	}
	if err := os.Remove(others); err != nil {
		t.Fatal(err)
	}
	eventually(t, "growth works again", func() error {
		if reply := w.ask(t, "set after 0 0 10000\r\n"+value+"\r\n"); reply != "STORED" {
			return errors.New(reply)
		}
		return nil
	})
	w.want(t, "get before gone\r\n", "VALUE before 0 1\nx\nEND")
}

// Not a byte is left, from one moment to the next: whether the server can still
// refuse or has to stop, it says so, and what it had acknowledged is there once
// there is room.
func TestDiskSuddenlyFull(t *testing.T) {
	disk := smallDisk(t)
	s := newServe(t, "disk")
	s.dir = filepath.Join(disk, "data")
	p := s.start(t)
	t.Cleanup(func() { p.kill(t) })
	others := filepath.Join(disk, "others")
	w := connect(t, p)
	value := strings.Repeat("v", 10_000)
	fillDisk(t, disk, others, 0)
	stored := 0
	for refused := 0; refused < 10; {
		units, err := w.exchange(fmt.Appendf(nil, "set k%d 0 0 %d\r\n%s\r\n", stored, len(value), value))
		if err != nil {
			if code := p.awaitExit(t); code <= 0 || !strings.Contains(p.output.String(), "no space left on device") {
				t.Fatalf("the connection ended with %v and the server with %d", err, code)
			}
			break
		}
		switch {
		case units[0].line == "STORED":
			stored++
		case strings.HasPrefix(units[0].line, "SERVER_ERROR "):
			refused++
		default:
			t.Fatalf("a full disk was answered with %q", units)
		}
	}
	p.kill(t)
	if err := os.Remove(others); err != nil {
		t.Fatal(err)
	}
	p = s.start(t)
	w = connect(t, p)
	for i := range stored {
		w.want(t, fmt.Sprintf("get k%d\r\n", i), fmt.Sprintf("VALUE k%d 0 %d\n%s\nEND", i, len(value), value))
	}
	w.want(t, "set fine 0 0 1\r\nx\r\n", "STORED")
}

// fillDisk writes a file until so many bytes are left.
func fillDisk(t *testing.T, disk, path string, left int64) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}()
	for block := make([]byte, 1<<20); freeBytes(t, disk) > left; {
		if _, err := f.Write(block); errors.Is(err, syscall.ENOSPC) {
			return
		} else if err != nil {
			t.Fatalf("filling the disk: %v", err)
		}
	}
}

// The memory store refuses growth at its limit, evicts nothing, and takes
// values again after deletes.
func TestMemoryFull(t *testing.T) {
	p := newServe(t, "memory", "--memory", "64MB").start(t)
	w := connect(t, p)
	value := strings.Repeat("0123456789", 1000)
	key := func(i int) string { return fmt.Sprintf("k%d", i) }
	set := func(i int) string { return w.ask(t, "set "+key(i)+" 0 0 10000\r\n"+value+"\r\n") }
	stored := 0
	for ; stored < 20_000; stored++ {
		if reply := set(stored); reply == "SERVER_ERROR out of memory storing object" {
			break
		} else if reply != "STORED" {
			t.Fatalf("full memory was answered with %q", reply)
		}
	}
	if stored == 20_000 {
		t.Fatal("200 MB fit into 64 MB")
	}
	if stored < 4000 {
		t.Errorf("only %d values of 10 kB fit into 64 MB", stored)
	}
	w.want(t, "ms "+key(stored)+" 10000\r\n"+value+"\r\n", "SERVER_ERROR out of memory storing object")
	for i := range stored {
		w.want(t, "get "+key(i)+"\r\n", "VALUE "+key(i)+" 0 10000\n"+value+"\nEND")
	}
	for i := range stored / 2 {
		w.want(t, "delete "+key(i)+"\r\n", "DELETED")
	}
	eventually(t, "there is room again", func() error {
		if reply := set(0); reply != "STORED" {
			return errors.New(reply)
		}
		return nil
	})
	w.want(t, "get "+key(stored-1)+"\r\n", "VALUE "+key(stored-1)+" 0 10000\n"+value+"\nEND")
	if rss := p.residentBytes(t); rss > 512<<20 {
		t.Errorf("%d MB resident with a limit of 64 MB for data", rss>>20)
	}
}
