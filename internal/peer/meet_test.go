package peer_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"io"
	"log/slog"
	"math/big"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"unkai/internal/peer"
)

// book makes a Port write its log into l.
func book(l *logbook) func(*peer.Config, *peer.Port) {
	return func(cfg *peer.Config, _ *peer.Port) { cfg.Log = slog.New(slog.NewTextHandler(l, nil)) }
}

// patience is how long a test waits for what must happen: long, because the machines of CI
// are slow, and it is reached in failures only.
const patience = 2 * time.Minute

// until waits for something that is about to become true.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for late := time.After(patience); !ok(); {
		select {
		case <-late:
			t.Fatalf("in vain: %s", what)
		case <-time.After(time.Millisecond):
		}
	}
}

func TestOnlyTheRightNodesMeet(t *testing.T) {
	var here, there logbook
	a, addrA := open(t, 1, book(&here))
	_, addr := open(t, 2, func(cfg *peer.Config, p *peer.Port) {
		book(&there)(cfg, p)
		cfg.Cluster = cluster(8)
	})
	if _, err := a.Introduce(context.Background(), addr); err == nil ||
		!strings.Contains(err.Error(), "another cluster: this node belongs to 0000000000000007, the other to 0000000000000008") {
		t.Errorf("introduced to another cluster: %v", err)
	}
	until(t, "a complaint on the other side", func() bool { return there.has("this node belongs to 0000000000000008") })
	a.Know(2, addr)
	if _, err := ask(a, 2, peer.Replica, "x", time.Minute); peer.Sent(err) || a.Alive(2) {
		t.Errorf("a call to another cluster ended as %v", err)
	}
	until(t, "a complaint here", func() bool { return here.has("another cluster") })

	// Who is in no cluster yet may ask, and be asked.
	c, addrC := open(t, 3, func(cfg *peer.Config, _ *peer.Port) { cfg.Cluster = cluster(0) })
	if id, err := c.Introduce(context.Background(), addrA); id != 1 || err != nil {
		t.Errorf("a new node: %v, %v", id, err)
	}
	if got, err := ask(c, 1, peer.Replica, "x", time.Minute); got != "x" || err != nil {
		t.Error(err)
	}

	// The id counts, not the address.
	a.Know(5, addrC)
	if _, err := ask(a, 5, peer.Replica, "x", time.Minute); peer.Sent(err) || a.Alive(5) {
		t.Errorf("a call to the wrong node ended as %v", err)
	}
	until(t, "a complaint about the wrong node", func() bool { return here.has("another node than expected") })

	// Itself, and another with its id.
	if id, err := a.Introduce(context.Background(), addrA); id != 1 || err != nil {
		t.Errorf("introduced to itself: %v, %v", id, err)
	}
	_, double := open(t, 1, nil)
	if _, err := a.Introduce(context.Background(), double); err == nil || !strings.Contains(err.Error(), "the same id") {
		t.Errorf("introduced to its double: %v", err)
	}
}

// Two processes with one id cannot both be connected to a third node.
func TestTheSecondOfOneIDIsRefused(t *testing.T) {
	var there logbook
	b, addr := open(t, 2, book(&there))
	first, _ := open(t, 1, nil)
	second, _ := open(t, 1, nil)
	first.Know(2, addr)
	if _, err := ask(first, 2, peer.Replica, "x", time.Minute); err != nil {
		t.Fatal(err)
	}
	second.Know(2, addr)
	if _, err := ask(second, 2, peer.Replica, "x", time.Minute); peer.Sent(err) {
		t.Errorf("the second was let in: %v", err)
	}
	until(t, "a complaint", func() bool { return there.has("the same id") })
	// When the first is gone the second may, as after a restart.
	if err := first.Close(); err != nil {
		t.Error(err)
	}
	until(t, "the second to come in", func() bool { return second.Alive(2) && b.Stats().Incoming == 1 })
}

// A connection that was made before either side had a cluster is made again.
func TestBecomingAMember(t *testing.T) {
	var mine, theirs atomic.Uint64
	a, _ := open(t, 1, func(cfg *peer.Config, _ *peer.Port) { cfg.Cluster = mine.Load })
	_, addr := open(t, 2, func(cfg *peer.Config, _ *peer.Port) { cfg.Cluster = theirs.Load })
	a.Know(2, addr)
	if _, err := ask(a, 2, peer.Replica, "x", time.Minute); err != nil {
		t.Fatal(err)
	}
	mine.Store(7)
	until(t, "a connection as a member", func() bool { return a.Alive(2) && a.Stats().Connects == 2 })
	theirs.Store(7) // what the other has said is true of both now
	if _, err := ask(a, 2, peer.Replica, "x", time.Minute); err != nil {
		t.Fatal(err)
	}
	theirs.Store(8)
	until(t, "the end of it", func() bool { return !a.Alive(2) })
}

// What is not ours ends with a log line, and nobody else notices.
func TestStrangers(t *testing.T) {
	var log logbook
	b, addr := open(t, 2, func(cfg *peer.Config, p *peer.Port) {
		book(&log)(cfg, p)
		cfg.MaxIncoming = 5
	})
	a, _ := open(t, 1, nil)
	a.Know(2, addr)
	if _, err := ask(a, 2, peer.Replica, "x", time.Minute); err != nil {
		t.Fatal(err)
	}
	dial := func(say string) net.Conn {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(c, say); err != nil {
			t.Fatal(err)
		}
		return c
	}
	var good []byte // the hello of a node 9
	good = append(good, 0xea, 'u', 'n', 'k', 36, 0, 2, 2, 0, 0)
	good = binary.LittleEndian.AppendUint64(good, 7)
	good = binary.LittleEndian.AppendUint64(good, 9)
	good = append(good, make([]byte, 16)...)
	future := append([]byte(nil), good...)
	future[6], future[7] = 200, 201
	for say, why := range map[string]string{
		"GET / HTTP/1.1\r\n\r\n":                            "does not speak our protocol",
		"\xeaxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx": "does not speak our protocol",
		"\xeaunk\xff\xff":                                   "does not speak our protocol",
		string(future):                                      "no common version of the protocol: this node speaks 2 to 2, the other 200 to 201",
		string(good) + "\xff\xff\xff\x7f":                   "frame of impossible length",
		string(good) + "\x0a\x00\x00\x00xxxxxxxxxxxxxxxx":   "wrong checksum",
	} {
		c := dial(say)
		if _, err := io.Copy(io.Discard, c); err != nil && !strings.Contains(err.Error(), "reset") {
			t.Error(err)
		}
		until(t, why, func() bool { return log.has(why) })
		_ = c.Close()
	}
	// Those who say nothing are cut off, and are not so many.
	var slow []net.Conn
	until(t, "a refusal of too many", func() bool {
		slow = append(slow, dial("\xeau"))
		return log.has("too many connections")
	})
	for _, c := range slow {
		if _, err := io.Copy(io.Discard, c); err != nil && !strings.Contains(err.Error(), "reset") {
			t.Error(err)
		}
		_ = c.Close()
	}
	until(t, "the end of the silent", func() bool { return log.has("deadline exceeded") })
	if got, err := ask(a, 2, peer.Replica, "x", time.Minute); got != "x" || err != nil || a.Stats().Connects != 1 {
		t.Errorf("the others noticed: %v, %+v", err, a.Stats())
	}
	if s := b.Stats(); s.Refused < 7 {
		t.Errorf("counted %+v", s)
	}
}

func TestAnotherProtocolOnTheSamePort(t *testing.T) {
	got := make(chan string, 1)
	_, addr := open(t, 2, func(cfg *peer.Config, _ *peer.Port) {
		cfg.Other = func(first byte, c net.Conn) {
			b, err := io.ReadAll(c)
			if err != nil || b[0] != first {
				t.Errorf("%q, %v", b, err)
			}
			_ = c.Close()
			got <- string(b)
		}
	})
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(c, "gossip"); err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
	if s := <-got; s != "gossip" {
		t.Errorf("handed over %q", s)
	}
}

// authority signs certificates for this machine.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	a := &authority{t: t}
	a.cert, a.key = a.sign(&x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign})
	return a
}

func (a *authority) sign(c *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	c.SerialNumber, c.NotAfter = big.NewInt(1), time.Now().Add(time.Hour)
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, signer)
	if err != nil {
		a.t.Fatal(err)
	}
	out, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return out, key
}

// config is of a node that trusts a, with a certificate of by.
func (a *authority) config(by *authority) func(*peer.Config, *peer.Port) {
	cert, key := by.sign(&x509.Certificate{
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	})
	roots := x509.NewCertPool()
	roots.AddCert(a.cert)
	return func(cfg *peer.Config, _ *peer.Port) {
		cfg.Log = nil
		cfg.TLS = &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{{Certificate: [][]byte{cert.Raw}, PrivateKey: key}}}
	}
}

func TestTLS(t *testing.T) {
	ours, others := newAuthority(t), newAuthority(t)
	a, _ := open(t, 1, ours.config(ours))
	_, addr := open(t, 2, ours.config(ours))
	a.Know(2, addr)
	until(t, "a connection", func() bool { return a.Alive(2) }) // which may take a busy machine more than one attempt
	big := strings.Repeat("x", peer.LargeBody+1)
	for _, body := range []string{"x", big} {
		if got, err := ask(a, 2, peer.Replica, body, time.Minute); got != body || err != nil {
			t.Errorf("%d bytes: %v", len(body), err)
		}
	}
	plain, plainAddr := open(t, 3, nil)
	foreign, foreignAddr := open(t, 4, ours.config(others))
	for what, try := range map[string]struct {
		from *peer.Port
		addr string
	}{
		"plaintext to TLS":              {plain, addr},
		"TLS to plaintext":              {a, plainAddr},
		"a foreign certificate to ours": {foreign, addr},
		"ours to a foreign certificate": {a, foreignAddr},
	} {
		if id, err := try.from.Introduce(context.Background(), try.addr); err == nil {
			t.Errorf("%s: met %v", what, id)
		}
	}
}

// Who comes again and again for the same reason fills no log.
func TestTurnedAwayIsSaidOnce(t *testing.T) {
	var log logbook
	b, addr := open(t, 2, book(&log))
	for i := range int64(20) {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(c, "GET / HTTP/1.1\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		until(t, "a refusal", func() bool { return b.Stats().Refused > i })
		_ = c.Close()
	}
	if n := log.lines(); n != 1 {
		t.Errorf("the log has %d lines", n)
	}
}
