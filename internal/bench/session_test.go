package bench

import (
	"bytes"
	"testing"
)

// exchange is a session with the replies to whatever it asks.
type exchange struct {
	session *session
	reply   []byte
	now     int64
}

func newExchange(l *Load) *exchange {
	w := &worker{tally: newTally(), quota: 1 << 62}
	w.schedule = newSchedule(l, 0)
	s := newSession(l, 0, newRequests(l), newZipf(l.Keys), w)
	s.begin()
	return &exchange{session: s}
}

// turn sends a batch and receives its replies.
func (e *exchange) turn(t testing.TB) {
	s := e.session
	e.now += 1000
	if !s.compose(e.now) {
		t.Fatal("nothing to send")
	}
	e.reply = e.reply[:0]
	for _, q := range s.batch {
		if q.kind == set {
			e.reply = append(e.reply, "STORED\r\n"...)
			continue
		}
		e.reply = append(e.reply, "VALUE key:00000 0 100\r\n"...)
		putDigits(e.reply[len(e.reply)-13:][:5], q.id)
		e.reply = s.values.append(e.reply, q.id, 100)
		e.reply = append(e.reply, "\r\nEND\r\n"...)
	}
	if err := s.receive(e.reply, e.now+500); err != nil || !s.idle() {
		t.Fatal(err, s.idle())
	}
}

func TestNothingIsAllocatedInTheLoop(t *testing.T) {
	l := Defaults()
	l.Pipeline, l.Verify, l.Distribution, l.Duration, l.Operations = 16, true, Zipf, 0, 1<<62
	e := newExchange(&l)
	for range 1000 {
		e.turn(t)
	}
	if n := testing.AllocsPerRun(1000, func() { e.turn(t) }); n != 0 {
		t.Errorf("%v allocations for a batch", n)
	}
	if tally := e.session.worker.tally; tally.wrong+tally.failed+tally.misses != 0 {
		t.Errorf("%+v", tally)
	}
}

func TestAnEarlyReplyIsNoReply(t *testing.T) {
	l := Defaults()
	e := newExchange(&l)
	e.turn(t)
	if err := e.session.receive([]byte("STORED\r\n"), 0); err == nil {
		t.Error("a reply that nobody asked for was taken")
	}
}

// What a request costs the client besides the system's calls, replies included.
func BenchmarkSession(b *testing.B) {
	for _, distribution := range []string{Uniform, Zipf} {
		b.Run(distribution, func(b *testing.B) {
			l := Defaults()
			l.Pipeline, l.Distribution, l.Duration, l.Operations = 16, distribution, 0, 1<<62
			e := newExchange(&l)
			if distribution == Uniform {
				e.session.picker.zipf = nil
			}
			for b.Loop() {
				for range 16 {
					e.turn(b)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/256, "ns/request")
		})
	}
}

// What a request costs this process, the system's calls included. The server is
// memcached if it is installed.
func BenchmarkClient(b *testing.B) {
	contestant, err := FindMemcached()
	if err != nil {
		contestant = fakeContestant("fake")
	}
	srv, err := startServer(b.Context(), contestant, b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	defer func() {
		if err := srv.stop(); err != nil {
			b.Error(err)
		}
	}()
	for _, c := range []struct {
		name                   string
		goroutines             bool
		workers, conns, inEach int
	}{
		{"system-1", false, 1, 64, 1},
		{"system-2", false, 2, 64, 1},
		{"goroutines", true, 2, 64, 1},
		{"system-1/pipelined", false, 1, 64, 16},
		{"system-2/pipelined", false, 2, 64, 16},
		{"goroutines/pipelined", true, 2, 64, 16},
	} {
		b.Run(c.name, func(b *testing.B) {
			l := Defaults()
			l.goroutines, l.Workers, l.Connections, l.Pipeline = c.goroutines, c.workers, c.conns, c.inEach
			l.Operations, l.Duration, l.Endpoints = int64(b.N), 0, []string{srv.Listen}
			l.Preload = b.N == 1
			r, err := Run(b.Context(), l)
			if err != nil || r.Failed() {
				b.Fatal(err, r)
			}
			b.ReportMetric(r.ClientUS, "cpu-us/op")
			b.ReportMetric(r.Throughput, "op/s")
		})
	}
}

func TestTailKeepsTheEnd(t *testing.T) {
	var kept tail
	for range 100 {
		if n, err := kept.Write(bytes.Repeat([]byte("x"), 100)); n != 100 || err != nil {
			t.Fatal(n, err)
		}
	}
	if _, err := kept.Write([]byte("the end")); err != nil {
		t.Fatal(err)
	}
	if s := kept.String(); len(s) != lastWords || s[len(s)-7:] != "the end" {
		t.Errorf("%d bytes, ending in %q", len(s), s[len(s)-7:])
	}
}
