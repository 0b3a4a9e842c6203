package bench

import (
	"context"
	"fmt"
	"net"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// bothDrivers runs a test with epoll, where there is one, and with goroutines.
func bothDrivers(t *testing.T, test func(t *testing.T, l Load)) {
	for name, goroutines := range map[string]bool{"system": false, "goroutines": true} {
		t.Run(name, func(t *testing.T) {
			l := Defaults()
			l.goroutines = goroutines
			l.Connections, l.Workers, l.Keys, l.Timeout = 5, 2, 100, time.Minute
			l.Duration, l.Operations, l.Verify = 0, 2000, true
			test(t, l)
		})
	}
}

func measure(t *testing.T, f *fake, l Load) *Report {
	t.Helper()
	l.Endpoints = []string{f.start(t)}
	r, err := Run(t.Context(), l)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestClosedLoopCountsExactly(t *testing.T) {
	bothDrivers(t, func(t *testing.T, l Load) {
		for _, protocol := range []string{Text, Meta} {
			for _, pipeline := range []int{1, 7} {
				l.Protocol, l.Pipeline, l.MinValue, l.MaxValue = protocol, pipeline, 0, 300
				f := newFake()
				r := measure(t, f, l)
				if r.Failed() || r.Operations != 2000 || r.Gets+r.Sets != 2000 || r.Misses != 0 || r.Loop != "closed" {
					t.Fatalf("%s, %d pipelined: %+v", protocol, pipeline, r)
				}
				if f.requests() != 2100 || r.Sent != 2000 {
					t.Errorf("the server was asked %d times, want 100 + 2000; the report says %d", f.requests(), r.Sent)
				}
				all := r.Latency["all"]
				if all.Count != 2000 || r.Latency["get"].Count != r.Gets || !(0 < all.Min && all.Min <= all.P50 && all.P50 <= all.P99 && all.P99 <= all.Max) {
					t.Errorf("latency: %+v", all)
				}
			}
		}
	})
}

func TestLargeValuesBothWays(t *testing.T) {
	bothDrivers(t, func(t *testing.T, l Load) {
		// More than the buffers of a connection hold, in both directions at once.
		l.MinValue, l.MaxValue, l.Keys, l.Pipeline, l.Reads, l.Operations = 1<<20, 1<<20, 4, 16, 50, 64
		l.Connections = 2
		if r := measure(t, newFake(), l); r.Failed() || r.Operations != 64 {
			t.Fatalf("%+v", r)
		}
	})
}

func TestMissesAreNoErrors(t *testing.T) {
	bothDrivers(t, func(t *testing.T, l Load) {
		l.Preload, l.Reads = false, 100
		if r := measure(t, newFake(), l); r.Failed() || r.Misses != 2000 || r.Operations != 2000 {
			t.Fatalf("%+v", r)
		}
	})
}

func TestWrongValuesAreNoticed(t *testing.T) {
	bothDrivers(t, func(t *testing.T, l Load) {
		f := newFake()
		l.Reads = 100
		f.answer = func(n int, command, key string) string {
			if n%100 != 0 || command != "get" {
				return ""
			}
			other := f.items["key:00"]
			if key == "key:00" {
				other = f.items["key:01"]
			}
			return fmt.Sprintf("VALUE %s 0 %d\r\n%s\r\nEND\r\n", key, len(other), other)
		}
		if r := measure(t, f, l); !r.Failed() || r.Wrong != 20 || r.Operations != 1980 || r.Errors != 0 {
			t.Fatalf("%d wrong of %d: %+v", r.Wrong, r.Operations, r)
		}
	})
}

func TestErrorsAreCountedByText(t *testing.T) {
	bothDrivers(t, func(t *testing.T, l Load) {
		f := newFake()
		f.answer = func(n int, _, _ string) string {
			switch {
			case n > 100 && n%10 == 0:
				return "SERVER_ERROR busy\r\n"
			case n > 100 && n%100 == 1:
				return fmt.Sprintf("SERVER_ERROR number %d\r\n", n)
			}
			return ""
		}
		l.Operations = 20_000
		r := measure(t, f, l)
		if r.ByText["SERVER_ERROR busy"] != 2000 || r.Errors != 2200 || r.Operations != 17_800 || !r.Failed() {
			t.Fatalf("%+v", r)
		}
		if len(r.ByText) > 2*(manyErrors+1) || r.ByText[otherErrors] == 0 {
			t.Errorf("%d texts, %d others", len(r.ByText), r.ByText[otherErrors])
		}
	})
}

func TestALostConnection(t *testing.T) {
	bothDrivers(t, func(t *testing.T, l Load) {
		f := newFake()
		f.answer = func(n int, _, _ string) string {
			if n == 500 {
				return hangUp
			}
			return ""
		}
		r := measure(t, f, l)
		if r.Lost != 1 || r.Errors != 1 || r.Operations == 0 || !strings.Contains(fmt.Sprint(r.ByText), "connection lost: ") {
			t.Fatalf("%+v", r)
		}
	})
}

func TestAServerThatSpeaksSomethingElse(t *testing.T) {
	bothDrivers(t, func(t *testing.T, l Load) {
		f := newFake()
		f.answer = func(n int, _, _ string) string {
			if n > 100 {
				return "HTTP/1.1 400 Bad Request\r\n"
			}
			return ""
		}
		r := measure(t, f, l)
		if r.Lost != 5 || r.Operations != 0 || !r.Failed() {
			t.Fatalf("%+v", r)
		}
	})
}

func TestNoReply(t *testing.T) {
	bothDrivers(t, func(t *testing.T, l Load) {
		f := newFake()
		f.answer = func(n int, command, _ string) string {
			if command == "get" {
				return "VALUE" // and nothing after it
			}
			return ""
		}
		l.Preload, l.Timeout = false, 200*time.Millisecond // what is late loses the connection all the same
		r := measure(t, f, l)
		if r.ByText["connection lost: no reply in time"] != 5 {
			t.Fatalf("%+v", r)
		}
	})
}

func TestNobodyListens(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	load := Defaults()
	load.Endpoints = []string{l.Addr().String()}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Run(t.Context(), load); err == nil || !strings.Contains(err.Error(), "connection 1: ") {
		t.Fatalf("got %v", err)
	}
}

func TestPreloadThatIsRefused(t *testing.T) {
	bothDrivers(t, func(t *testing.T, l Load) {
		f := newFake()
		f.answer = func(n int, _, _ string) string {
			if n > 90 {
				return "SERVER_ERROR out of memory storing object\r\n"
			}
			return ""
		}
		l.Workers, l.Endpoints = 1, []string{f.start(t)}
		_, err := Run(t.Context(), l)
		if err == nil || err.Error() != "preload: 10 of 100 keys: SERVER_ERROR out of memory storing object" {
			t.Fatalf("got %v", err)
		}
	})
}

func TestInterruptionReportsWhatThereIs(t *testing.T) {
	bothDrivers(t, func(t *testing.T, l Load) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		f := newFake()
		f.before = func(n int) {
			if n == 1000 {
				cancel()
			}
		}
		l.Operations, l.Duration, l.Endpoints = 0, time.Hour, []string{f.start(t)}
		r, err := Run(ctx, l)
		if err != nil || !r.Interrupted || r.Operations < 800 || r.Errors != 0 {
			t.Fatalf("%v: %+v", err, r)
		}
	})
}

func TestInterruptionOfAnOpenLoop(t *testing.T) {
	bothDrivers(t, func(t *testing.T, l Load) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		f := newFake()
		f.before = func(n int) {
			if n == 300 {
				cancel()
			}
		}
		l.Rate, l.Operations, l.Duration, l.Endpoints = 2000, 0, time.Hour, []string{f.start(t)}
		r, err := Run(ctx, l)
		if err != nil || !r.Interrupted || r.Operations < 100 {
			t.Fatalf("%v: %+v", err, r)
		}
	})
}

// The server stalls once for 300 of 1000 ms. Who measures from sending sees one
// slow request for each connection; all who had to wait must be seen.
func TestOpenLoopCountsWaiting(t *testing.T) {
	const stall, rate = 300 * time.Millisecond, 1000
	bothDrivers(t, func(t *testing.T, l Load) {
		f := newFake()
		f.before = func(n int) {
			if n == 200 {
				time.Sleep(stall)
			}
		}
		l.Rate, l.Operations, l.Duration, l.Connections, l.Workers = rate, 0, time.Second, 2, 1
		r := measure(t, f, l)
		all := r.Latency["all"]
		if r.Failed() || r.Operations != rate || r.Loop != "open" {
			t.Fatalf("%+v", r)
		}
		// 30 % were due during the stall and waited from 300 to 0 ms.
		if quarter := micros(int64(stall)) / 4; all.P90 < quarter*2 || all.P99 < quarter*3 || all.Max < quarter*4 {
			t.Errorf("the stall does not show: %+v", all)
		}
	})
}

func TestOpenLoopSendsWhatItCanAndSaysWhatNot(t *testing.T) {
	bothDrivers(t, func(t *testing.T, l Load) {
		f := newFake()
		f.before = func(n int) {
			if n > 100 {
				time.Sleep(time.Millisecond) // at most 1000 requests in a second
			}
		}
		l.Rate, l.Operations, l.Duration, l.Timeout = 20_000, 0, 300*time.Millisecond, 2*time.Second // 2300 of 6000 at most
		l.Connections = 2
		r := measure(t, f, l)
		if r.Unsent == 0 || r.Operations+r.Unsent != 6000 || !r.Failed() {
			t.Fatalf("%d done, %d unsent, want 6000 together: %+v", r.Operations, r.Unsent, r)
		}
	})
}

func TestWarmUpIsNotMeasured(t *testing.T) {
	bothDrivers(t, func(t *testing.T, l Load) {
		f := newFake()
		l.WarmUp, l.Operations = 500*time.Millisecond, 500
		r := measure(t, f, l)
		if r.Operations != 500 || f.requests() <= 600 || r.Sent != int64(f.requests()-100) {
			t.Fatalf("%d operations, %d asked, %d sent", r.Operations, f.requests(), r.Sent)
		}
	})
}

func TestSeveralEndpoints(t *testing.T) {
	f, g := newFake(), newFake()
	l := Defaults()
	l.Endpoints = []string{f.start(t), g.start(t)}
	l.Connections, l.Preload, l.Operations, l.Duration = 4, false, 1000, 0
	if _, err := Run(t.Context(), l); err != nil || f.requests() == 0 || g.requests() == 0 || f.requests()+g.requests() != 1000 {
		t.Fatalf("asked %d and %d times: %v", f.requests(), g.requests(), err)
	}
}

func TestProgress(t *testing.T) {
	f := newFake()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	l := Defaults()
	l.Endpoints, l.Connections, l.Keys, l.Duration = []string{f.start(t)}, 2, 10, time.Hour
	var seen []Progress
	l.Progress = func(p Progress) {
		if p.Operations == 0 || len(seen) > 0 && p.Operations == seen[len(seen)-1].Operations {
			return // the machine stood still
		}
		if seen = append(seen, p); len(seen) == 2 {
			cancel()
		}
	}
	r, err := Run(ctx, l)
	if err != nil || len(seen) != 2 || seen[0].Rate <= 0 || seen[0].Mean <= 0 ||
		seen[1].Operations <= seen[0].Operations || r.Operations < seen[1].Operations {
		t.Fatalf("%v: %+v, report %+v", err, seen, r)
	}
}

func TestMemcached(t *testing.T) {
	path, err := exec.LookPath("memcached")
	if err != nil {
		t.Skip("memcached is not installed")
	}
	srv, err := startServer(t.Context(), Memcached("memcached", path), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := srv.stop(); err != nil {
			t.Error(err)
		}
	}()
	bothDrivers(t, func(t *testing.T, l Load) {
		for _, protocol := range []string{Text, Meta} {
			l.Protocol, l.Pipeline, l.MaxValue, l.Distribution = protocol, 16, 5000, Zipf
			l.Endpoints = []string{srv.Listen}
			r, err := Run(t.Context(), l)
			if err != nil || r.Failed() || r.Misses > 0 || r.Operations != 2000 {
				t.Fatalf("%v: %+v", err, r)
			}
		}
	})
}
