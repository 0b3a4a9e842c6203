package peer_test

import (
	"bytes"
	"testing"

	"unkai/internal/peer"
)

func TestASecretKeepsStrangersOut(t *testing.T) {
	with := func(secret string) func(*peer.Config) {
		return func(c *peer.Config) {
			var err error
			if c.TLS, err = peer.Secret([]byte(secret)); err != nil {
				t.Fatal(err)
			}
		}
	}
	a := open(t, 1, 7, with("a secret of the cluster"))
	b := open(t, 2, 7, with("a secret of the cluster\n"))
	other := open(t, 3, 7, with("a secret of others, too"))
	plain := open(t, 4, 7, nil)
	if _, err := b.Introduce(t.Context(), a.addr); err != nil {
		t.Fatal(err)
	}
	if got, err := b.ask(1, peer.Control, "hello"); err != nil || got != "0000000000000002 hello" {
		t.Errorf("%q, %v", got, err)
	}
	for name, stranger := range map[string]*end{"another secret": other, "none": plain} {
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
