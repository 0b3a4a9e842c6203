package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A transcript is a conversation that was had with a real memcached:
//
//	# why this is asked
//	> set k 0 0 5
//	| hello
//	< STORED
//
// A line with > begins a request, lines with | go on with it, and each is sent
// with CR LF unless it ends in a lone backslash. Lines with < are all that is
// answered. {closed} means that the server closes the connection; the next
// request goes over a new one. See encode for the other marks.
//
// Two folders are written by hand, for unkai only: testdata/newer holds what
// later versions of memcached do and the one we compare with does not know;
// testdata/differs is where unkai differs on purpose, with the reason.

const closed = "{closed}"

// step is one request of a transcript and its answer.
type step struct {
	before []string // comments and empty lines, as they stand
	line   int      // where it begins in the file
	sent   []string
	want   []string
}

func readTranscript(t testing.TB, path string) (steps []step, end []string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var before []string
	for i, line := range strings.Split(strings.TrimSuffix(string(b), "\n"), "\n") {
		switch {
		case line == "" || line[0] == '#':
			before = append(before, line)
		case line[0] == '>':
			steps = append(steps, step{before: before, line: i + 1, sent: []string{strings.TrimPrefix(line[1:], " ")}})
			before = nil
		case line[0] == '|' && len(steps) > 0 && len(before) == 0:
			s := &steps[len(steps)-1]
			s.sent = append(s.sent, strings.TrimPrefix(line[1:], " "))
		case line[0] == '<' && len(steps) > 0 && len(before) == 0:
			s := &steps[len(steps)-1]
			s.want = append(s.want, strings.TrimPrefix(line[1:], " "))
		default:
			t.Fatalf("%s:%d: cannot read %q", path, i+1, line)
		}
	}
	return steps, before
}

func writeTranscript(t testing.TB, path string, steps []step, end []string) {
	t.Helper()
	var b bytes.Buffer
	put := func(mark string, lines []string) {
		for _, line := range lines {
			if mark != "" && line != "" {
				line = " " + line
			}
			b.WriteString(mark + line + "\n")
		}
	}
	for _, s := range steps {
		put("", s.before)
		put(">", s.sent[:1])
		put("|", s.sent[1:])
		put("<", s.want)
	}
	put("", end)
	if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}

// play sends every step and passes what is answered to hear.
func play(t testing.TB, p *process, steps []step, hear func(s *step, got []string)) {
	t.Helper()
	w := connect(t, p)
	w.want(t, "flush_all\r\n", "OK")
	n := newNames()
	for i := range steps {
		s := &steps[i]
		var request strings.Builder
		for _, line := range s.sent {
			cut, whole := strings.CutSuffix(line, `\`)
			if whole && !strings.HasSuffix(cut, `\`) {
				request.WriteString(n.decode(t, cut))
			} else {
				request.WriteString(n.decode(t, line) + "\r\n")
			}
		}
		units, err := w.exchange([]byte(request.String()))
		var got []string
		for _, u := range units {
			got = append(got, n.canonical(keyOf(request.String()), u)...)
		}
		switch {
		case err == nil:
		case errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
			got = append(got, closed)
			w = connect(t, p)
		default:
			got = append(got, fmt.Sprintf("{%v}", err))
			w = connect(t, p)
		}
		hear(s, got)
	}
}

// keyOf is the key that a request is about: the second word.
func keyOf(request string) string {
	line, _, _ := strings.Cut(request, "\r\n")
	if f := strings.Fields(line); len(f) > 1 {
		return f[1]
	}
	return ""
}

func transcripts(t testing.TB, pattern string) []string {
	t.Helper()
	paths, err := filepath.Glob(pattern)
	if err != nil || len(paths) == 0 {
		t.Fatalf("no transcripts %s: %v", pattern, err)
	}
	return paths
}

// compare plays transcripts and reports where an answer is not the written one.
func compare(t *testing.T, p *process, pattern string) {
	for _, path := range transcripts(t, pattern) {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txt"), func(t *testing.T) {
			steps, _ := readTranscript(t, path)
			began := time.Now()
			play(t, p, steps, func(s *step, got []string) {
				if !agree(s.sent[0], s.want, got, time.Since(began)) {
					t.Errorf("%s:%d: > %s\nwant < %s\n got < %s", path, s.line, strings.Join(s.sent, "\n     | "),
						strings.Join(s.want, "\n     < "), strings.Join(got, "\n     < "))
				}
			})
		})
	}
}

// The transcripts are memcached's word: with -update it writes them.
func TestTranscriptsAreMemcached(t *testing.T) {
	p := startMemcached(t)
	if *update {
		for _, path := range transcripts(t, "testdata/*.txt") {
			steps, end := readTranscript(t, path)
			play(t, p, steps, func(s *step, got []string) { s.want = got })
			writeTranscript(t, path, steps, end)
		}
	}
	compare(t, p, "testdata/*.txt")
}

func TestTranscripts(t *testing.T) {
	onEveryStore(t, func(t *testing.T, store string) {
		p := newServe(t, store).start(t)
		compare(t, p, "testdata/*.txt")
		compare(t, p, "testdata/newer/*.txt")
		compare(t, p, "testdata/differs/*.txt")
	})
}
