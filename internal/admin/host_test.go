package admin

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
)

// A page whose name has been made to point to this machine is told nothing; whoever asks by
// an address, or by a name that is known to lead here, is.
func TestNamesThatLeadHere(t *testing.T) {
	machine, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	s := New(Config{Snapshot: always(serving()), Cluster: lonely{}, Operator: lonely{}, Listen: "Node1.Example:11080", Log: slog.New(slog.DiscardHandler)})
	at := func(ip string) net.Addr { return &net.TCPAddr{IP: net.ParseIP(ip), Port: 11080} }
	for _, test := range []struct {
		host string
		at   net.Addr
		code int
	}{
		{"pages.example:11080", at("127.0.0.1"), 421},
		{"pages.example", at("127.0.0.1"), 421},
		{"pages.example:11080", at("::1"), 421},
		{"pages.example:11080", at("::ffff:127.0.0.1"), 421},
		{"127.0.0.1.pages.example:11080", at("127.0.0.1"), 421},
		{"localhost.pages.example:11080", at("127.0.0.1"), 421},
		{"127.0.0.1:11080", at("127.0.0.1"), 200},
		{"[::1]:11080", at("::1"), 200},
		{"[::1]", at("::1"), 200},
		{"192.0.2.7", at("127.0.0.1"), 200},
		{"localhost:4000", at("127.0.0.1"), 200}, // by a tunnel
		{"LOCALHOST.", at("127.0.0.1"), 200},
		{"node1.example:11080", at("127.0.1.1"), 200},
		{machine + ":11080", at("127.0.1.1"), 200},
		{"", at("127.0.0.1"), 200}, // HTTP/1.0
		{"node7.example:11080", at("192.0.2.7"), 200},
	} {
		for _, path := range []string{"/metrics", "/v1/status", "/healthz"} {
			r := httptest.NewRequestWithContext(context.WithValue(t.Context(), http.LocalAddrContextKey, test.at), "GET", path, nil)
			r.Host = test.host
			w := httptest.NewRecorder()
			s.http.Handler.ServeHTTP(w, r)
			if w.Code != test.code || test.code == 421 && !strings.Contains(w.Body.String(), "no name of this node") {
				t.Errorf("%s of %q at %v: %d %.80s", path, test.host, test.at, w.Code, w.Body)
			}
		}
	}
}

// The address at which a connection has arrived is the one that counts.
func TestNamesOverConnections(t *testing.T) {
	s := newServer(always(serving()))
	addr, served := listen(t, s)
	for host, code := range map[string]int{"": 200, "pages.example": 421} {
		r, err := http.NewRequestWithContext(t.Context(), "GET", "http://"+addr+"/metrics", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Host = host // "": the address
		answer, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = answer.Body.Close()
		if answer.StatusCode != code {
			t.Errorf("%q: %s", host, answer.Status)
		}
	}
	if err := s.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
}
