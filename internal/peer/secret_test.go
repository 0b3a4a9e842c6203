package peer_test

import (
	"bytes"
	"net"
	"testing"
	"time"

	"unkai"
	"unkai/internal/peer"
)

// keyedPort is a port on loopback with a secret.
type keyedPort struct {
	*peer.Port
	addr string
}

func keyed(t *testing.T, id unkai.NodeID, secret string) *keyedPort {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	cfg := peer.Config{Listener: l, Self: id, Cluster: func() uint64 { return 7 }}
	if secret != "" {
		if cfg.TLS, err = peer.Secret([]byte(secret)); err != nil {
			t.Fatal(err)
		}
	}
	p, err := peer.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	p.Handle(peer.Control, answers{})
	p.Start()
	t.Cleanup(func() { _ = p.Close() })
	return &keyedPort{p, l.Addr().String()}
}

type answers struct{}

func (answers) Serve(q *peer.Request) { q.Answer(q.Body) }

func TestASecretKeepsStrangersOut(t *testing.T) {
	a, b := keyed(t, 1, "a secret of the cluster"), keyed(t, 2, "a secret of the cluster\n")
	other, plain := keyed(t, 3, "a secret of others, too"), keyed(t, 4, "")
	until(t, "an introduction", func() bool { // which may take a busy machine more than one attempt
		_, err := b.Introduce(t.Context(), a.addr)
		return err == nil
	})
	if got, err := ask(b, 1, peer.Control, "hello", time.Minute); err != nil || got != "hello" {
		t.Errorf("%q, %v", got, err)
	}
	for name, stranger := range map[string]*keyedPort{"another secret": other, "none": plain} {
		if _, err := stranger.Introduce(t.Context(), a.addr); err == nil {
			t.Errorf("%s: let in", name)
		}
		if _, err := a.Introduce(t.Context(), stranger.addr); err == nil {
			t.Errorf("%s: talked to", name)
		}
	}
	if _, err := peer.Secret(bytes.Repeat([]byte(" "), 100)); err == nil {
		t.Error("a key of blanks was taken")
	}
}
