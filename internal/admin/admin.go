// Package admin is the side door: health, metrics, status, jobs and profiles
// over HTTP. It gives the counters of the rooms their public names, and passes on
// what an operator wants.
package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Limits of the server. Whoever asks is a person or a monitor, now and then.
const (
	maxConns      = 64
	maxScrapes    = 4 // of the metrics at once
	maxHeader     = 16 << 10
	headerTimeout = 5 * time.Second
	readTimeout   = 10 * time.Second
	idleTimeout   = 30 * time.Second
	pageTimeout   = 10 * time.Second
	changeTimeout = 20 * time.Second
	pprofTimeout  = 5 * time.Minute // profiles take as long as they are asked to
)

// Config is what the server needs.
type Config struct {
	// Snapshot is asked for every page, on any goroutine, from New until
	// Shutdown has returned: also while the node is starting or stopping.
	Snapshot func() Snapshot
	// Cluster is asked likewise.
	Cluster Cluster
	// Operator does what is asked for.
	Operator Operator
	// Listen is the address as it was given, by whose name it may be asked.
	Listen string
	Log    *slog.Logger
}

// Server answers HTTP requests.
type Server struct {
	http http.Server
	cfg  Config
}

// New is a server that does not listen yet.
func New(cfg Config) *Server {
	s := &Server{cfg: cfg}
	s.http = http.Server{
		Handler:           s.expected(s.routes()),
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       readTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(cfg.Log.Handler(), slog.LevelWarn),
	}
	return s
}

// Serve answers on l until Shutdown, and closes it. It returns nil after a
// Shutdown.
func (s *Server) Serve(l net.Listener) error {
	err := s.http.Serve(newBounded(l, maxConns))
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("serve HTTP: %w", err)
}

// Shutdown stops listening and waits for the requests under way until ctx
// ends; then it cuts them off.
func (s *Server) Shutdown(ctx context.Context) error {
	err := s.http.Shutdown(ctx)
	if err == nil {
		return nil
	}
	return fmt.Errorf("stop HTTP: %w", errors.Join(err, s.http.Close()))
}

const index = `unkai

/healthz       200 while the process lives
/readyz        200 while the node serves, else 503 and why
/v1/status     what the node says of itself, JSON
/v1/nodes      what it knows of all nodes, JSON
/v1/locate     which replicas hold ?key=…, JSON
/v1/explain    what each of them holds of ?key=…, JSON
/v1/jobs       the job that runs and the last ones, JSON; POST begins one
/v1/plan       POST: what a job would do, JSON
/v1/job        POST: pause, resume, cancel or throttle the job that runs
/v1/repair     how far the last repair is, or ?id=…, JSON; POST begins one
/metrics       the same in figures, for Prometheus
/debug/pprof/  profiles of the process
`

func (s *Server) routes() http.Handler {
	metrics := promhttp.HandlerFor(newRegistry(s.cfg.Snapshot), promhttp.HandlerOpts{
		MaxRequestsInFlight: maxScrapes,
		ErrorLog:            slog.NewLogLogger(s.cfg.Log.Handler(), slog.LevelWarn),
	})
	mux := http.NewServeMux()
	page := func(pattern string, timeout time.Duration, h http.HandlerFunc) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			// A recorder in a test has no deadline, a connection has.
			err := http.NewResponseController(w).SetWriteDeadline(time.Now().Add(timeout))
			if err != nil && !errors.Is(err, http.ErrNotSupported) {
				s.cfg.Log.Warn("an HTTP answer has no deadline", "err", err)
			}
			w.Header().Set("Cache-Control", "no-store")
			w.Header().Set("X-Content-Type-Options", "nosniff")
			h(w, r)
		})
	}
	page("GET /{$}", pageTimeout, func(w http.ResponseWriter, _ *http.Request) { s.text(w, http.StatusOK, index) })
	page("GET /healthz", pageTimeout, func(w http.ResponseWriter, _ *http.Request) { s.text(w, http.StatusOK, "ok\n") })
	page("GET /readyz", pageTimeout, s.ready)
	page("GET /v1/status", pageTimeout, s.status)
	page("GET /v1/nodes", pageTimeout, s.nodes)
	page("GET /v1/locate", pageTimeout, s.locate)
	page("GET /v1/explain", pageTimeout, s.explain)
	page("GET /v1/jobs", pageTimeout, s.jobs)
	page("POST /v1/jobs", changeTimeout, s.begin)
	page("POST /v1/plan", pageTimeout, s.plan)
	page("POST /v1/job", changeTimeout, s.steer)
	page("GET /v1/repair", pageTimeout, s.repaired)
	page("POST /v1/repair", changeTimeout, s.repair)
	page("GET /metrics", pageTimeout, metrics.ServeHTTP)
	page("GET /debug/pprof/", pprofTimeout, pprof.Index)
	page("GET /debug/pprof/cmdline", pprofTimeout, pprof.Cmdline)
	page("GET /debug/pprof/profile", pprofTimeout, pprof.Profile)
	page("GET /debug/pprof/symbol", pprofTimeout, pprof.Symbol)
	page("GET /debug/pprof/trace", pprofTimeout, pprof.Trace)
	return mux
}

// ready says whether clients should be sent here. A full store still reads and
// deletes, so it is ready, and says so.
func (s *Server) ready(w http.ResponseWriter, _ *http.Request) {
	now := s.cfg.Snapshot()
	switch {
	case now.State != "":
		s.text(w, http.StatusServiceUnavailable, "not ready: "+now.State+"\n")
	case now.Store.Full:
		s.text(w, http.StatusOK, "ready; the store is full: reads and deletes work, growth is refused\n")
	case now.Problem != "":
		s.text(w, http.StatusOK, "ready; "+now.Problem+"\n")
	default:
		s.text(w, http.StatusOK, "ready\n")
	}
}

func (s *Server) status(w http.ResponseWriter, _ *http.Request) {
	now := s.cfg.Snapshot()
	b, err := json.MarshalIndent(now.status(), "", "  ")
	if err != nil {
		s.cfg.Log.Error("the status cannot be written as JSON", "err", err)
		s.text(w, http.StatusInternalServerError, "the status cannot be written as JSON\n")
		return
	}
	w.Header().Set("Content-Type", "application/json")
	s.write(w, append(b, '\n'))
}

func (s *Server) text(w http.ResponseWriter, code int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(code)
	s.write(w, []byte(text))
}

func (s *Server) write(w http.ResponseWriter, b []byte) {
	if _, err := w.Write(b); err != nil {
		s.cfg.Log.Debug("an HTTP client went away", "err", err)
	}
}
