package memcache

import (
	"fmt"
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// stats answers the command of that name, by section.
func (c *conn) stats(section string) {
	section = strings.Trim(section, " ")
	name, _, _ := strings.Cut(section, " ")
	switch name {
	case "reset":
		c.publish()
		c.s.ResetStats()
		c.line("RESET")
		return
	case "detail":
		c.line("CLIENT_ERROR usage: stats detail on|off|dump")
		return
	case "cachedump":
		c.line("CLIENT_ERROR stats cachedump not allowed")
		return
	case "":
		c.publish()
		for _, st := range c.s.general() {
			c.stat(st)
		}
	case "sizes", "conns", "extstore":
		c.line("END")
		return
	}
	stats, ok := c.s.cfg.Stats(name)
	if !ok && name != "" {
		c.line("ERROR")
		return
	}
	for _, st := range stats {
		c.stat(st)
	}
	c.line("END")
}

func (c *conn) stat(st Stat) { c.line("STAT " + st.Name + " " + st.Value) }

// general is what the front door knows of the process.
func (s *Server) general() []Stat {
	var out []Stat
	add := func(name string, value any) { out = append(out, Stat{name, fmt.Sprint(value)}) }
	now := s.cfg.Now()
	add("pid", os.Getpid())
	add("uptime", max((now-s.started)/1000, 0))
	add("time", now/1000)
	add("version", s.cfg.Version)
	add("pointer_size", 32<<(^uint(0)>>63))
	var ru unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &ru) == nil {
		add("rusage_user", fmt.Sprintf("%d.%06d", ru.Utime.Sec, ru.Utime.Usec))
		add("rusage_system", fmt.Sprintf("%d.%06d", ru.Stime.Sec, ru.Stime.Usec))
	}
	st := s.Stats()
	add("max_connections", s.cfg.MaxConns)
	add("curr_connections", st.Connections)
	add("total_connections", st.Opened)
	add("rejected_connections", st.Rejected)
	add("idle_kicks", st.IdleKicks)
	for _, name := range countNames {
		add(name, st.Commands[name])
	}
	add("threads", runtime.GOMAXPROCS(0))
	add("accepting_conns", 1)
	add("unkai_failures", st.Failures)
	add("unkai_in_doubt", st.Doubts)
	add("unkai_no_memory", st.NoMemory)
	return out
}

// Connections is how many are open.
func (s *Server) Connections() int64 { return s.open.Load() }
