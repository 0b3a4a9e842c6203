package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"
)

// bystander is a well-behaved client that goes on while others misbehave.
type bystander struct {
	stop chan struct{}
	done chan error
}

// standBy starts one; its requests are answered, and rightly, all the time.
func standBy(t *testing.T, p *process) *bystander {
	t.Helper()
	b := &bystander{make(chan struct{}), make(chan error, 1)}
	w := connect(t, p)
	go func() {
		for i := 0; ; i++ {
			select {
			case <-b.stop:
				b.done <- nil
				return
			default:
			}
			r, err := w.reply("set bystander 0 0 8\r\n%08d\r\n", i)
			if err == nil && r != "STORED" {
				err = unexpected(r)
			}
			if err == nil {
				if r, err = w.reply("mg bystander v\r\n"); err == nil && r != fmt.Sprintf("VA 8\n%08d", i) {
					err = unexpected(r)
				}
			}
			if err != nil {
				b.done <- fmt.Errorf("a client that did nothing wrong: %w", err)
				return
			}
		}
	}()
	return b
}

// leave ends it and says whether it was ever disturbed.
func (b *bystander) leave(t *testing.T) {
	t.Helper()
	close(b.stop)
	if err := <-b.done; err != nil {
		t.Error(err)
	}
}

// generousMemory is more than a server with little data and hostile clients
// may ever take; the race detector takes its share.
func generousMemory() int64 {
	if os.Getenv("UNKAI_E2E_RACE") == "1" {
		return 4 << 30
	}
	return 1 << 30
}

// unmoved checks that the server is well after it was attacked.
func unmoved(t *testing.T, p *process) {
	t.Helper()
	if p.gone() {
		t.Fatalf("the server is gone: %v", p.command.ProcessState)
	}
	connect(t, p).want(t, "set fine 0 0 1\r\nx\r\nget fine\r\n", "STORED\nVALUE fine 0 1\nx\nEND")
	if rss := p.residentBytes(t); rss > generousMemory() {
		t.Errorf("%d MB resident", rss>>20)
	}
}

// Requests that end in the middle, wherever that is.
func TestHalfRequests(t *testing.T) {
	onEveryStore(t, func(t *testing.T, store string) {
		p := newServe(t, store).start(t)
		b := standBy(t, p)
		whole := "set half 0 0 10\r\n0123456789\r\nget half other\r\nms half 3 c\r\nabc\r\nmg half v k\r\nincr half 1\r\n"
		for n := range len(whole) {
			w, err := dial(p)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := w.Write([]byte(whole[:n])); err != nil {
				t.Fatal(err)
			}
			w.Close()
		}
		b.leave(t)
		unmoved(t, p)
	})
}

// Bytes that mean nothing, and bytes that nearly mean something.
func TestGarbage(t *testing.T) {
	onEveryStore(t, func(t *testing.T, store string) {
		p := newServe(t, store).start(t)
		b := standBy(t, p)
		r := random(seed(t), 0)
		words := []string{"get", "set", "ms", "mg", "ma", "md", "k", "0", "1", "-1", "99999999999999999999", "noreply", "\r\n", "\n", "\x00", "\x80\x05\x00", strings.Repeat("x", 300), "T", "Oa", "b", "stats", "cas", "gat"}
		for range 200 {
			var junk bytes.Buffer
			for junk.Len() < 4000 {
				if r.IntN(3) == 0 {
					for range r.IntN(50) {
						junk.WriteByte(byte(r.IntN(256)))
					}
				} else {
					junk.WriteString(words[r.IntN(len(words))])
					junk.WriteByte(" \r\n "[r.IntN(4)])
				}
			}
			w, err := dial(p)
			if err != nil {
				t.Fatal(err)
			}
			// The server may hang up on this: then the write fails.
			_, _ = w.Write(junk.Bytes())
			w.Close()
		}
		b.leave(t)
		unmoved(t, p)
	})
}

// A length is only a claim: memory is for bytes that have come.
func TestClaimedLengths(t *testing.T) {
	onEveryStore(t, func(t *testing.T, store string) {
		p := newServe(t, store).start(t)
		b := standBy(t, p)
		before := p.residentBytes(t)
		const claims = 300
		for i := range claims {
			w := connect(t, p)
			length := []int{1 << 20, 2147483647, 64 << 20, 1_000_000_000}[i%4]
			if _, err := fmt.Fprintf(w, "set claim%d 0 0 %d\r\nabc", i, length); err != nil {
				t.Fatal(err)
			}
		}
		unmoved(t, p)
		if grown := p.residentBytes(t) - before; grown > claims<<20 {
			t.Errorf("%d claims took %d MB", claims, grown>>20)
		}
		b.leave(t)
	})
}

// A line without an end is given up at some length.
func TestEndlessLines(t *testing.T) {
	onEveryStore(t, func(t *testing.T, store string) {
		p := newServe(t, store).start(t)
		b := standBy(t, p)
		for _, begin := range []string{"", "get ", "get k ", "mg k ", "set k 0 0 ", "stats "} {
			t.Run(begin, func(t *testing.T) {
				w := connect(t, p)
				if err := w.SetDeadline(time.Now().Add(patience)); err != nil {
					t.Fatal(err)
				}
				if _, err := w.Write([]byte(begin)); err != nil {
					t.Fatal(err)
				}
				chunk := bytes.Repeat([]byte("x"), 64<<10)
				for sent := 0; sent < 64<<20; sent += len(chunk) {
					if _, err := w.Write(chunk); err != nil {
						if !hungUp(err) {
							t.Fatal(err)
						}
						return
					}
				}
				t.Error("64 MB of one line were read, and more")
			})
		}
		b.leave(t)
		unmoved(t, p)
	})
}

// Clients that ask for much and read nothing hold up nobody else, and what
// waits for them is bounded.
func TestSlowReaders(t *testing.T) {
	onEveryStore(t, func(t *testing.T, store string) {
		p := newServe(t, store).start(t)
		w := connect(t, p)
		value := strings.Repeat("v", 1_000_000)
		var keys strings.Builder
		for i := range 20 {
			w.want(t, fmt.Sprintf("set big%d 0 0 %d\r\n%s\r\n", i, len(value), value), "STORED")
			fmt.Fprintf(&keys, " big%d", i)
		}
		for range 50 {
			slow := connect(t, p)
			if err := slow.SetWriteDeadline(time.Now().Add(patience)); err != nil {
				t.Fatal(err)
			}
			if _, err := fmt.Fprintf(slow, "get%s\r\nget%s\r\n", keys.String(), keys.String()); err != nil {
				t.Fatal(err)
			}
		}
		// 2 GB were asked for. Everybody else is served at once.
		b := standBy(t, p)
		for i := range 500 {
			w.want(t, fmt.Sprintf("set small%d 0 0 1\r\nx\r\nget small%d\r\n", i, i), fmt.Sprintf("STORED\nVALUE small%d 0 1\nx\nEND", i))
		}
		b.leave(t)
		unmoved(t, p)
		// And a reader that only was slow gets all of it in the end.
		patient := connect(t, p)
		if _, err := fmt.Fprintf(patient, "get%s\r\n", keys.String()); err != nil {
			t.Fatal(err)
		}
		for i := range 21 {
			u, err := patient.read()
			if err != nil || i < 20 && len(u.value) != len(value)+2 || i == 20 && u.line != "END" {
				t.Fatalf("value %d: %.40q %d, %v", i, u.line, len(u.value), err)
			}
		}
	})
}

// Connections beyond the limit are turned away, and there is room again when
// others leave.
func TestTooManyConnections(t *testing.T) {
	onEveryStore(t, func(t *testing.T, store string) {
		const limit = 50
		p := newServe(t, store, "--max-connections", fmt.Sprint(limit)).start(t)
		var inside []*wire
		turned := 0
		for i := range 3 * limit {
			w, err := dial(p)
			if err != nil {
				turned++
				continue
			}
			defer w.Close()
			if err := w.SetDeadline(time.Now().Add(patience)); err != nil {
				t.Fatal(err)
			}
			if _, err := w.Write([]byte("mn\r\n")); err == nil {
				if u, err := w.read(); err == nil && u.line == "MN" {
					inside = append(inside, w)
					continue
				} else if err == nil && !strings.HasPrefix(u.line, "ERROR") && !strings.HasPrefix(u.line, "SERVER_ERROR") {
					t.Errorf("connection %d was turned away with %q", i, u.line)
				}
			}
			if turned++; turned > 5 {
				break
			}
		}
		if len(inside) > limit || len(inside) < limit-5 {
			t.Errorf("%d connections with a limit of %d", len(inside), limit)
		}
		for _, w := range inside {
			w.Close()
		}
		eventually(t, "there is room again", p.answers)
	})
}

// Many come and go at once, without a word or with one.
func TestConnectionChurn(t *testing.T) {
	p := newServe(t, "memory").start(t)
	b := standBy(t, p)
	errs := make(chan error, 16)
	for i := range cap(errs) {
		go func() {
			for j := range 100 {
				w, err := dial(p)
				if err != nil {
					errs <- err
					return
				}
				if (i+j)%2 == 0 {
					// Whether it is answered is not waited for.
					_, _ = w.Write([]byte("get x\r\n"))
				}
				w.Close()
			}
			errs <- nil
		}()
	}
	var err error
	for range cap(errs) {
		err = errors.Join(err, <-errs)
	}
	if err != nil {
		t.Error(err)
	}
	b.leave(t)
	unmoved(t, p)
	w := connect(t, p)
	eventually(t, "the connections are gone", func() error {
		if n := w.stat(t, "curr_connections"); n != "1" && n != "2" && n != "3" && n != "4" {
			return fmt.Errorf("curr_connections is %s", n)
		}
		return nil
	})
}

// quit closes after everything before it was answered.
func TestQuitAnswersFirst(t *testing.T) {
	onEveryStore(t, func(t *testing.T, store string) {
		p := newServe(t, store).start(t)
		w := connect(t, p)
		if _, err := w.Write([]byte("set k 0 0 1\r\nx\r\nget k\r\nquit\r\nget k\r\n")); err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(w)
		if want := "STORED\r\nVALUE k 0 1\r\nx\r\nEND\r\n"; string(got) != want {
			t.Errorf("got %q, %v, want %q", got, err, want)
		}
	})
}
