package memcache

import (
	"log/slog"
	"sync/atomic"
	"testing"

	"unkai"
)

// What goes wrong in reading a request or in writing a reply is over with its
// connection.
func TestAPanicClosesOneConnection(t *testing.T) {
	var broken atomic.Bool
	h := open(t, func(c *Config) {
		c.Now = func() int64 {
			if broken.Load() {
				panic("there is no time")
			}
			return testNow
		}
	})
	other := h.dial(t)
	for i, request := range []string{"touch k 1\r\n", "set k 0 1 1\r\nx\r\n", "mg k t\r\n"} {
		broken.Store(true)
		c := h.dial(t)
		c.send(request)
		c.wantEnd("")
		broken.Store(false)
		other.send("get k\r\n")
		other.want("END\r\n")
		if n := h.Stats().Panics; n != int64(i+1) {
			t.Errorf("%d panics", n)
		}
	}
}

// A room that panics leaves something unfinished behind: the process must end.
func TestAPanicBelowTheDoorIsNotSwallowed(t *testing.T) {
	for _, request := range []string{"get k\r\n", "flush_all\r\n", "stats\r\n"} {
		s := New(Config{
			Handler: &shelf{panic: true}, Now: func() int64 { return testNow }, Log: slog.New(slog.DiscardHandler), MaxConns: 1,
			FlushAll: func(int64) error { panic("no flush") },
			Stats:    func(string) ([]Stat, bool) { panic("no stats") },
		})
		c := newConn(s, &pieces{in: [][]byte{[]byte(request)}})
		s.served.Add(1)
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%q: the panic is gone", request)
				}
			}()
			c.serve()
		}()
	}
}

// A panic after an answer is again the connection's own.
func TestAPanicBehindAnAnswer(t *testing.T) {
	s := New(Config{Handler: answerless{}, Now: func() int64 { return testNow }, Log: slog.New(slog.DiscardHandler)})
	c := newConn(s, &pieces{in: [][]byte{[]byte("get k\r\n")}})
	s.served.Add(1)
	c.serve()
	if n := s.Stats().Panics; n != 1 {
		t.Errorf("%d panics", n)
	}
}

// answerless gives an error that cannot be told.
type answerless struct{}

func (answerless) Do(b *unkai.Batch) {
	b.Results = append(b.Results, unkai.Result{Status: unkai.Failed, Err: (*untold)(nil)})
}

type untold struct{ text string }

func (u *untold) Error() string { return u.text }
