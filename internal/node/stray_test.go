package node_test

import (
	"bytes"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"unkai/internal/admin"
	"unkai/internal/node"
)

// logbook is a log that is read while it is written.
type logbook struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logbook) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *logbook) count(s string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), s)
}

// Who was started without --join once has a cluster of its own, and is told how to join
// another.
func TestWhoIsOfAnotherClusterIsToldWhatToDo(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	stop(t, member(t, node.Memory, dir))
	other := member(t, node.Memory, t.TempDir())
	var log logbook
	n := built(t, func(c *node.Config) {
		c.Data, c.Log = dir, slog.New(slog.NewTextHandler(&log, nil))
	}, other.Peer())
	s, _ := told(t, n, func(s *admin.Status) bool { return s.Problem != "" })
	for _, says := range []string{other.Peer(), dir, "empty it", "--join"} {
		if !strings.Contains(s.Problem, says) {
			t.Errorf("nothing about %s in %q", says, s.Problem)
		}
	}
	if code, text := readiness(t, n); code != http.StatusOK || !strings.Contains(text, s.Problem) {
		t.Errorf("%d %s", code, text)
	}
	if seen := nodes(t, n).Nodes; !slices.ContainsFunc(seen, func(m admin.Node) bool { return m.Problem == s.Problem }) {
		t.Errorf("%+v", seen)
	}
	told(t, n, func(*admin.Status) bool { return log.count("this node does not join") > 0 }) // the log is last
	if lines := log.count("this node does not join"); lines != 1 {
		t.Errorf("the log says so %d times", lines)
	}
	if s, _ := told(t, other, func(s *admin.Status) bool { return s.Ready }); s.Problem != "" {
		t.Errorf("the other has a problem: %s", s.Problem)
	}
}
