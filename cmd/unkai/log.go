package main

import (
	"io"
	"log/slog"
	"net"
	"os"

	"golang.org/x/term"

	"unkai"
)

// logging is how a command writes its log.
type logging struct{ level, format string }

var defaultLogging = logging{level: "info", format: "auto"}

func isTerminal(f *os.File) bool { return term.IsTerminal(int(f.Fd())) }

// forPeople reports whether the log is text rather than JSON.
func (l logging) forPeople(terminal bool) bool {
	return l.format == "text" || l.format == "auto" && terminal
}

// open begins the log on w.
func (l logging) open(w io.Writer, terminal bool) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(l.level)); err != nil {
		return nil, err
	}
	o := &slog.HandlerOptions{Level: level, ReplaceAttr: spell}
	if l.forPeople(terminal) {
		return slog.New(slog.NewTextHandler(w, o)), nil
	}
	return slog.New(slog.NewJSONHandler(w, o)), nil
}

// spell writes 1.5s in JSON too, which would be 1500000000, and ids and addresses as
// they are written everywhere else.
func spell(_ []string, a slog.Attr) slog.Attr {
	switch a.Value.Kind() {
	case slog.KindDuration:
		return slog.String(a.Key, a.Value.Duration().String())
	case slog.KindAny:
		switch v := a.Value.Any().(type) {
		case unkai.NodeID:
			return slog.String(a.Key, v.String())
		case net.Addr:
			return slog.String(a.Key, v.String())
		}
	}
	return a
}
