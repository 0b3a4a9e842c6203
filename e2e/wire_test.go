package e2e

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"
)

// wire is one raw connection: what is sent is sent as it stands.
type wire struct {
	net.Conn
	r     *bufio.Reader
	marks int // how many were sent
	seen  int // the last one that was answered
}

// connect opens a connection that lasts until the end of the test.
func connect(t testing.TB, p *process) *wire {
	t.Helper()
	w, err := dial(p)
	if err != nil {
		t.Fatalf("connecting to %s: %v", p.name, err)
	}
	t.Cleanup(func() { w.Close() })
	return w
}

func dial(p *process) (*wire, error) {
	c, err := net.DialTimeout("tcp", p.addr, patience)
	if err != nil {
		return nil, err
	}
	return &wire{Conn: c, r: bufio.NewReaderSize(c, 64<<10)}, nil
}

// unit is one line of an answer with the value that it announces.
type unit struct {
	line  string
	value []byte // with its end of line; nil where the line announces none
}

func (u unit) String() string {
	if u.value == nil {
		return u.line
	}
	return u.line + "\n" + strings.TrimSuffix(string(u.value), "\r\n")
}

// read returns the next unit. A line that ends in anything but CR LF keeps what
// it ends in, so that it differs from one that is right.
func (w *wire) read() (unit, error) {
	line, err := w.r.ReadString('\n')
	if err != nil {
		return unit{line: line}, err
	}
	u := unit{line: strings.TrimSuffix(line, "\r\n")}
	if n, ok := announced(u.line); ok {
		u.value = make([]byte, n+2)
		if _, err := io.ReadFull(w.r, u.value); err != nil {
			return u, fmt.Errorf("in the value of %q: %w", u.line, err)
		}
	}
	return u, nil
}

// announced is the length of the value that follows a line, if one does.
func announced(line string) (int, bool) {
	f := strings.Fields(line)
	at := 0
	switch {
	case len(f) >= 4 && f[0] == "VALUE":
		at = 3
	case len(f) >= 2 && f[0] == "VA":
		at = 1
	default:
		return 0, false
	}
	n, err := strconv.Atoi(f[at])
	return n, err == nil && n >= 0 && n <= 64<<20
}

// A mark is a request whose answer cannot be mistaken for another: it shows
// where the answers to what was sent before it end.
const markKey = "~mark"

func (w *wire) appendMark(b []byte) []byte {
	w.marks++
	b = append(b, "mg "+markKey+" Omark"...)
	b = strconv.AppendInt(b, int64(w.marks), 10)
	return append(b, '\r', '\n')
}

// markOf is the number of the mark that u answers, 0 if it answers none.
func markOf(u unit) int {
	rest, ok := strings.CutPrefix(u.line, "EN Omark")
	if !ok {
		return 0
	}
	n, err := strconv.Atoi(rest)
	if err != nil {
		return 0
	}
	return n
}

// readToMark returns the units before the answer to mark n or a later one.
func (w *wire) readToMark(n int) ([]unit, error) {
	var units []unit
	for w.seen < n {
		u, err := w.read()
		if err != nil {
			if u.line != "" {
				units = append(units, u)
			}
			return units, err
		}
		if m := markOf(u); m != 0 {
			w.seen = m
		} else {
			units = append(units, u)
		}
	}
	return units, nil
}

// exchange sends a request and returns everything that is answered to it. The
// mark is sent twice: a request that is cut short eats the first.
func (w *wire) exchange(request []byte) ([]unit, error) {
	if err := w.SetDeadline(time.Now().Add(patience)); err != nil {
		return nil, err
	}
	b := w.appendMark(bytes.Clone(request))
	b = w.appendMark(b)
	// The server may close before it has read all; its answer still counts.
	_, writeErr := w.Write(b)
	units, err := w.readToMark(w.marks)
	if err == nil {
		err = writeErr
	}
	return units, err
}

// ask sends a request and returns its answers, one a line, without the ends of
// lines; it must not be answered by closing the connection.
func (w *wire) ask(t testing.TB, request string) string {
	t.Helper()
	units, err := w.exchange([]byte(request))
	if err != nil {
		t.Fatalf("%.80q was answered with %v and then %v", request, units, err)
	}
	var lines []string
	for _, u := range units {
		lines = append(lines, u.String())
	}
	return strings.Join(lines, "\n")
}

// want asks and compares.
func (w *wire) want(t testing.TB, request, answer string) {
	t.Helper()
	if got := w.ask(t, request); got != answer {
		t.Fatalf("%.80q was answered with %.200q, want %.200q", request, got, answer)
	}
}

// served is want of a cluster, for what may be asked twice, but not often.
func (w *wire) served(t testing.TB, request, answer string) {
	t.Helper()
	soon(t, fmt.Sprintf("%.80q is served", request), func() error {
		got := w.ask(t, request)
		if strings.HasPrefix(got, "SERVER_ERROR ") {
			return errors.New(got)
		}
		if got != answer {
			t.Fatalf("%.80q was answered with %.200q, want %.200q", request, got, answer)
		}
		return nil
	})
}

// stat is one figure of the stats command.
func (w *wire) stat(t testing.TB, name string) string {
	t.Helper()
	for line := range strings.Lines(w.ask(t, "stats\r\n")) {
		if rest, ok := strings.CutPrefix(line, "STAT "+name+" "); ok {
			return strings.TrimSpace(rest)
		}
	}
	t.Fatalf("stats has no %s", name)
	return ""
}
