package admin

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
)

// expected lets a request through, unless it has come over this machine's own loopback and
// by a name that is not known to lead there. Then it may be a page in somebody's browser
// here, whose name was made to point to this machine so that it may read what a node tells;
// what changes something is not taken from browsers at all (told). Over another address a
// node may have any name.
func (s *Server) expected(next http.Handler) http.Handler {
	own, _, err := net.SplitHostPort(s.cfg.Listen)
	if err != nil {
		own = ""
	}
	machine, err := os.Hostname()
	if err != nil {
		machine = "" // it is reached by address
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		at, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
		if ok && loopback(at) && !known(r.Host, "localhost", own, machine) {
			s.text(w, http.StatusMisdirectedRequest, fmt.Sprintf("%q is no name of this node: ask by its address, or by localhost\n", r.Host))
			return
		}
		next.ServeHTTP(w, r)
	})
}

func loopback(a net.Addr) bool {
	at, err := netip.ParseAddrPort(a.String())
	return err == nil && at.Addr().Unmap().IsLoopback()
}

// known reports whether a Host header has one of these names, an address, or nothing.
func known(header string, names ...string) bool {
	host := header
	if h, _, err := net.SplitHostPort(header); err == nil {
		host = h
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	if _, err := netip.ParseAddr(host); err == nil || host == "" {
		return true
	}
	host = strings.TrimSuffix(host, ".")
	for _, name := range names {
		if name != "" && strings.EqualFold(host, name) {
			return true
		}
	}
	return false
}
