package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/bradfitz/gomemcache/memcache"
)

// onEveryServer runs a test on each engine, and on memcached to know that the
// test itself is right.
func onEveryServer(t *testing.T, test func(t *testing.T, p *process)) {
	t.Run("memcached", func(t *testing.T) { test(t, startMemcached(t)) })
	onEveryStore(t, func(t *testing.T, store string) { test(t, newServe(t, store).start(t)) })
}

// runClient runs a program that says ok when all went well.
func runClient(t *testing.T, p *process, program string, args ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	out, err := exec.CommandContext(ctx, program, args...).CombinedOutput()
	if err != nil || !strings.HasSuffix(strings.TrimSpace(string(out)), "ok") {
		t.Errorf("against %s: %v\n%s", p.name, err, out)
	}
}

// host and port of a server, as clients want them.
func (p *process) hostPort(t *testing.T) (host, port string) {
	t.Helper()
	host, port, err := net.SplitHostPort(p.addr)
	if err != nil {
		t.Fatal(err)
	}
	return host, port
}

func TestClientPython(t *testing.T) {
	// Debian's own interpreter is the one that has Debian's packages.
	python := need(t, "/usr/bin/python3", "python3")
	if err := exec.Command(python, "-c", "import pymemcache").Run(); err != nil {
		skip(t, "pymemcache is missing (Debian: python3-pymemcache)")
	}
	onEveryServer(t, func(t *testing.T, p *process) {
		host, port := p.hostPort(t)
		runClient(t, p, python, "testdata/clients/client.py", host, port)
	})
}

func TestClientPerl(t *testing.T) {
	perl := need(t, "perl", "perl")
	for _, class := range []string{"Cache::Memcached", "Cache::Memcached::Fast"} {
		t.Run(class, func(t *testing.T) {
			if err := exec.Command(perl, "-M"+class, "-e", "1").Run(); err != nil {
				skip(t, "%s is missing (Debian: libcache-memcached-perl, libcache-memcached-fast-perl)", class)
			}
			onEveryServer(t, func(t *testing.T, p *process) {
				host, port := p.hostPort(t)
				runClient(t, p, perl, "testdata/clients/client.pl", host, port, class)
			})
		})
	}
}

func TestClientC(t *testing.T) {
	gcc := need(t, "gcc", "gcc libc6-dev")
	program := filepath.Join(t.TempDir(), "client")
	out, err := exec.Command(gcc, "-Wall", "-o", program, "testdata/clients/client.c", "-lmemcached").CombinedOutput()
	if bytes.Contains(out, []byte("libmemcached/memcached.h: No such file")) {
		skip(t, "libmemcached is missing (Debian: libmemcached-dev)")
	} else if err != nil {
		t.Fatalf("compiling the client: %v\n%s", err, out)
	}
	onEveryServer(t, func(t *testing.T, p *process) {
		host, port := p.hostPort(t)
		runClient(t, p, program, host, port)
	})
}

// memccapable is libmemcached's test of servers.
func TestClientMemccapable(t *testing.T) {
	program := need(t, "memccapable", "libmemcached-tools")
	onEveryServer(t, func(t *testing.T, p *process) {
		host, port := p.hostPort(t)
		out, err := exec.Command(program, "-h", host, "-p", port, "-a", "-t", "30").CombinedOutput()
		if err != nil || !bytes.Contains(out, []byte("All tests passed")) || bytes.Contains(out, []byte("[FAIL]")) {
			t.Errorf("memccapable: %v\n%s", err, out)
		}
	})
}

func TestClientGo(t *testing.T) {
	onEveryServer(t, func(t *testing.T, p *process) {
		c := memcache.New(p.addr)
		c.Timeout = patience
		t.Cleanup(func() {
			if err := c.Close(); err != nil {
				t.Error(err)
			}
		})
		check := func(what string, err, want error) {
			t.Helper()
			if !errors.Is(err, want) {
				t.Errorf("%s: %v, want %v", what, err, want)
			}
		}
		value := func(key string, want []byte, flags uint32) *memcache.Item {
			t.Helper()
			it, err := c.Get(key)
			if err != nil {
				t.Fatalf("get %s: %v", key, err)
			}
			if !bytes.Equal(it.Value, want) || it.Flags != flags {
				t.Errorf("%s is %.50q with flags %d, want %.50q with %d", key, it.Value, it.Flags, want, flags)
			}
			return it
		}
		check("ping", c.Ping(), nil)
		check("flush", c.FlushAll(), nil)
		binary := []byte("\x00\r\nEND\r\n\xff")
		large := bytes.Repeat([]byte("0123456789"), 100_000)
		check("set", c.Set(&memcache.Item{Key: "k", Value: binary, Flags: 1 << 31}), nil)
		value("k", binary, 1<<31)
		check("set large", c.Set(&memcache.Item{Key: "large", Value: large}), nil)
		value("large", large, 0)
		_, err := c.Get("none")
		check("get of nothing", err, memcache.ErrCacheMiss)

		var keys []string
		for i := range 300 {
			key := fmt.Sprintf("many%d", i)
			keys = append(keys, key)
			if i%2 == 0 {
				check("set", c.Set(&memcache.Item{Key: key, Value: []byte(key)}), nil)
			}
		}
		items, err := c.GetMulti(keys)
		check("multi-get", err, nil)
		if len(items) != 150 || string(items["many298"].Value) != "many298" {
			t.Errorf("multi-get found %d items", len(items))
		}

		check("add", c.Add(&memcache.Item{Key: "k", Value: binary}), memcache.ErrNotStored)
		check("add new", c.Add(&memcache.Item{Key: "new", Value: []byte("y")}), nil)
		check("replace", c.Replace(&memcache.Item{Key: "nope"}), memcache.ErrNotStored)
		check("append", c.Append(&memcache.Item{Key: "new", Value: []byte("z")}), nil)
		check("prepend", c.Prepend(&memcache.Item{Key: "new", Value: []byte("x")}), nil)
		first, second := value("new", []byte("xyz"), 0), value("new", []byte("xyz"), 0)
		first.Value, second.Value = []byte("mine"), []byte("late")
		check("cas", c.CompareAndSwap(first), nil)
		check("late cas", c.CompareAndSwap(second), memcache.ErrCASConflict)
		value("new", []byte("mine"), 0)

		check("set", c.Set(&memcache.Item{Key: "n", Value: []byte("10")}), nil)
		if n, err := c.Increment("n", 5); err != nil || n != 15 {
			t.Errorf("increment made %d, %v", n, err)
		}
		if n, err := c.Decrement("n", 20); err != nil || n != 0 {
			t.Errorf("decrement made %d, %v", n, err)
		}
		_, err = c.Increment("none", 1)
		check("increment of nothing", err, memcache.ErrCacheMiss)

		check("touch", c.Touch("k", 1000), nil)
		check("touch of nothing", c.Touch("none", 1000), memcache.ErrCacheMiss)
		it, err := c.GetAndTouch("k", 2000)
		check("get and touch", err, nil)
		if !bytes.Equal(it.Value, binary) {
			t.Errorf("get and touch found %q", it.Value)
		}
		check("delete", c.Delete("k"), nil)
		check("delete again", c.Delete("k"), memcache.ErrCacheMiss)

		check("set", c.Set(&memcache.Item{Key: "short", Value: []byte("x"), Expiration: 1}), nil)
		eventually(t, "a value for one second is gone", func() error {
			if _, err := c.Get("short"); !errors.Is(err, memcache.ErrCacheMiss) {
				return errors.Join(errNotYet, err)
			}
			return nil
		})
	})
}

// Expiry in real time: what was set for two seconds is there after one, gone
// after four, and does not come back.
func TestExpiryPasses(t *testing.T) {
	onEveryServer(t, func(t *testing.T, p *process) {
		w := connect(t, p)
		began := time.Now()
		w.want(t, "set k 0 2 1\r\nx\r\n", "STORED")
		w.want(t, fmt.Sprintf("set date 0 %d 1\r\nx\r\n", time.Now().Unix()+3), "STORED")
		w.want(t, "set touched 0 2 1\r\nx\r\ntouch touched 1000\r\n", "STORED\nTOUCHED")
		w.want(t, "set now 0 1000 1\r\nx\r\ngat 1 now\r\n", "STORED\nVALUE now 0 1\nx\nEND")
		w.want(t, "mg viv N2 v\r\n", "VA 0 W\n")
		w.want(t, "set counter 0 5 1\r\n5\r\nincr counter 1\r\nappend counter 0 0 1\r\n0\r\n", "STORED\n6\nSTORED")
		there := map[string]bool{"k": true, "date": true, "now": true, "viv": true, "counter": true}
		for len(there) > 0 {
			for key := range there {
				found := w.ask(t, "mg "+key+"\r\n") != "EN"
				passed := time.Since(began)
				if !found {
					delete(there, key)
				}
				switch {
				case !found && key != "now" && passed < 900*time.Millisecond:
					t.Fatalf("%s was gone after %v", key, passed)
				case found && passed > patience:
					t.Fatalf("%s is there after %v", key, passed)
				}
			}
		}
		w.want(t, "get k date now viv counter\r\n", "END")
		w.want(t, "get touched\r\n", "VALUE touched 0 1\nx\nEND")
		w.want(t, "add k 0 0 1\r\ny\r\nget k\r\n", "STORED\nVALUE k 0 1\ny\nEND")
	})
}
