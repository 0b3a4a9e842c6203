package bench

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// fakeCommand as the first argument makes the test binary a server at the
// address in the second one.
const fakeCommand = "serve-as-a-fake-memcached"

func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == fakeCommand {
		l, err := net.Listen("tcp", os.Args[2])
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		time.AfterFunc(10*time.Minute, func() { os.Exit(2) }) // should nobody kill it
		newFake().serve(l)
		return
	}
	goleak.VerifyTestMain(m)
}

// fake is a small memcached in this process.
type fake struct {
	mu     sync.Mutex
	items  map[string]string
	asked  int
	before func(n int) // called before request n is answered, with the lock held
	// answer, if it returns something, is the whole reply to a request.
	answer func(n int, command, key string) string
	conns  map[net.Conn]bool
}

func newFake() *fake { return &fake{items: map[string]string{}, conns: map[net.Conn]bool{}} }

// start serves until the test ends, and returns the address.
func (f *fake) start(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		f.serve(l)
	}()
	t.Cleanup(func() {
		_ = l.Close()
		f.mu.Lock()
		for c := range f.conns {
			_ = c.Close()
		}
		f.mu.Unlock()
		<-done
	})
	return l.Addr().String()
}

// requests is how many there were.
func (f *fake) requests() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.asked
}

func (f *fake) serve(l net.Listener) {
	var all sync.WaitGroup
	defer all.Wait()
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		f.mu.Lock()
		f.conns[c] = true
		f.mu.Unlock()
		all.Go(func() {
			defer func() {
				_ = c.Close()
				f.mu.Lock()
				delete(f.conns, c)
				f.mu.Unlock()
			}()
			f.converse(c)
		})
	}
}

func (f *fake) converse(c net.Conn) {
	in, out := bufio.NewReader(c), bufio.NewWriter(c)
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		words := strings.Fields(line)
		var value []byte
		if words[0] == "set" || words[0] == "ms" {
			size, err := strconv.Atoi(words[len(words)-1])
			if err != nil {
				return
			}
			value = make([]byte, size+2)
			if _, err := io.ReadFull(in, value); err != nil || !bytes.HasSuffix(value, []byte("\r\n")) {
				return
			}
			value = value[:size]
		}
		reply, err := f.reply(words, value)
		if err != nil {
			return
		}
		if _, err := out.WriteString(reply); err != nil {
			return
		}
		if in.Buffered() == 0 {
			if err := out.Flush(); err != nil {
				return
			}
		}
	}
}

var errHangUp = errors.New("hang up")

// hangUp as an answer closes the connection.
const hangUp = "hang up"

func (f *fake) reply(words []string, value []byte) (string, error) {
	if words[0] == "version" {
		return "VERSION fake\r\n", nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	key := words[1]
	f.asked++
	if f.before != nil {
		f.before(f.asked)
	}
	if f.answer != nil {
		if s := f.answer(f.asked, words[0], key); s == hangUp {
			return "", errHangUp
		} else if s != "" {
			return s, nil
		}
	}
	old, found := f.items[key]
	switch {
	case words[0] == "set":
		f.items[key] = string(value)
		return "STORED\r\n", nil
	case words[0] == "ms":
		f.items[key] = string(value)
		return "HD\r\n", nil
	case words[0] == "get" && found:
		return fmt.Sprintf("VALUE %s 0 %d\r\n%s\r\nEND\r\n", key, len(old), old), nil
	case words[0] == "get":
		return "END\r\n", nil
	case words[0] == "mg" && found:
		return fmt.Sprintf("VA %d\r\n%s\r\n", len(old), old), nil
	case words[0] == "mg":
		return "EN\r\n", nil
	}
	return "ERROR\r\n", nil
}
