package record_test

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"strings"
	"testing"

	"joingate/record"
	"joingate/tlsfile/testca"
)

// A certificate that is not trusted, and a URL that cannot be read, are told apart
// from a PostgreSQL that is away.
func TestPostgresTLSExplained(t *testing.T) {
	t.Parallel()
	ca, other := testca.New(t, "authority"), testca.New(t, "other")
	address := protectedByTLS(t, ca.Issue("db").TLS)
	for name, c := range map[string]struct{ query, want string }{
		"another authority": {"?sslmode=verify-full&sslrootcert=" + other.File, "the certificate of PostgreSQL is not trusted"},
		"no authority":      {"?sslmode=verify-full", "the certificate of PostgreSQL is not trusted"},
		"no such file":      {"?sslmode=verify-full&sslrootcert=nowhere.pem", "cannot be read: look at [record] url"},
		"nobody there":      {"", "PostgreSQL cannot be reached"},
	} {
		o := record.Options{PostgresURL: "postgres://u@" + address + "/d" + c.query, KEK: kekOf("test")}
		if c.query == "" {
			o.PostgresURL = "postgres://u@127.0.0.1:1/d"
		}
		r, err := record.Open(context.Background(), o)
		if err == nil {
			check(t, r.Close())
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
		if c.query != "" && err != nil && strings.Contains(err.Error(), "go on by themselves") {
			t.Errorf("%s: nothing goes on by itself: %v", name, err)
		}
	}
}

// protectedByTLS is as much of a PostgreSQL as has a certificate.
func protectedByTLS(t testing.TB, certificate tls.Certificate) (address string) {
	t.Helper()
	listener := must[net.Listener](t)(net.Listen("tcp", "127.0.0.1:0"))
	t.Cleanup(func() { check(t, listener.Close()) })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				if _, err := io.ReadFull(conn, make([]byte, 8)); err != nil {
					return
				}
				_, _ = conn.Write([]byte("S"))
				_ = tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12}).Handshake()
			}()
		}
	}()
	return listener.Addr().String()
}
