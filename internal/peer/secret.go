package peer

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"time"
)

// leastSecret is how short a secret may be, in bytes.
const leastSecret = 16

// errStranger: the other side does not have the cluster's key.
var errStranger = errors.New("it does not have the key of this cluster")

// Secret is TLS between nodes that share a secret, and with nobody else: all have
// the same key pair, made of the secret, and each proves to the other that it has
// it. TLS 1.3 encrypts, and a recorded conversation stays closed when the secret
// gets out later.
func Secret(secret []byte) (*tls.Config, error) {
	secret = bytes.TrimSpace(secret)
	if len(secret) < leastSecret {
		return nil, fmt.Errorf("a key of %d bytes is too short: take %d or more, random ones", len(secret), leastSecret)
	}
	seed := sha256.Sum256(append([]byte("unkai: key pair between nodes\n"), secret...))
	private := ed25519.NewKeyFromSeed(seed[:])
	public := private.Public().(ed25519.PublicKey)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "unkai"},
		NotBefore: time.Unix(0, 0), NotAfter: time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC),
	}
	der, err := x509.CreateCertificate(nil, template, template, public, private)
	if err != nil {
		return nil, fmt.Errorf("make a certificate for the port between nodes: %w", err)
	}
	return &tls.Config{
		MinVersion:   tls.VersionTLS13,
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: private}},
		ClientAuth:   tls.RequireAnyClientCert,
		// Names and issuers say nothing here: what counts is the key, which the
		// handshake has proven to be the other side's.
		InsecureSkipVerify: true, //nolint:gosec // VerifyConnection does it
		VerifyConnection: func(s tls.ConnectionState) error {
			if len(s.PeerCertificates) != 1 {
				return errStranger
			}
			theirs, ok := s.PeerCertificates[0].PublicKey.(ed25519.PublicKey)
			if !ok || !theirs.Equal(public) {
				return errStranger
			}
			return nil
		},
	}, nil
}
