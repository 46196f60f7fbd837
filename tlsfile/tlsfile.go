// Package tlsfile makes TLS configurations from files that may change while the
// program runs: a renewed certificate, another authority or a new revocation list
// counts from the next handshake on, without a restart.
//
// It stands apart because every door of the program needs it, and the packages
// behind the doors do not know each other.
//
// Files are looked at when they are needed, not watched: a handshake costs a few
// calls of stat, and there is no goroutine to stop. A file that cannot be read
// when it has changed leaves what was read before in force and is reported once.
//
// What is promised: TLS 1.2 or 1.3; no session tickets, so that every connection
// shows its certificate; a revocation list is believed only when its issuer
// signed it and its time is not over, and a client certificate that no such list
// covers is refused.
//
// Known to be missing: OCSP; delta and indirect revocation lists, which are
// refused by name.
package tlsfile

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"time"
)

// Files are the files of one endpoint that others connect to, all in PEM but for
// CRL, which may be DER.
type Files struct {
	Cert     string // certificate, then those between it and the authority
	Key      string
	ClientCA string // authorities that sign client certificates; empty: clients need none
	CRL      string // revocation lists of those authorities; empty: nothing is revoked
}

// Options are what every endpoint can do without.
type Options struct {
	Now    func() time.Time // nil: time.Now
	Report func(error)      // told of files that changed and cannot be read; nil: nobody
}

func (o Options) filled() Options {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Report == nil {
		o.Report = func(error) {}
	}
	return o
}

// Server is the TLS side of an endpoint that others connect to. It is safe for
// concurrent use.
type Server struct {
	options Options
	pair    *watched[*tls.Certificate]
	trust   *watched[trust] // nil: clients need no certificate
}

// NewServer reads the files. An error names the file and what is wrong with it.
func NewServer(f Files, o Options) (*Server, error) {
	o = o.filled()
	pair, err := watchPair(f.Cert, f.Key, o)
	if err != nil {
		return nil, err
	}
	s := &Server{options: o, pair: pair}
	switch {
	case f.ClientCA != "":
		if s.trust, err = watchTrust(f.ClientCA, f.CRL, o); err != nil {
			return nil, err
		}
	case f.CRL != "":
		return nil, errors.New("a revocation list needs the authorities of the client certificates beside it")
	}
	return s, nil
}

// Config is for http.Server.TLSConfig and its like.
func (s *Server) Config() *tls.Config {
	c := &tls.Config{
		MinVersion:             tls.VersionTLS12,
		NextProtos:             []string{"h2", "http/1.1"},
		GetCertificate:         func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return s.pair.get(), nil },
		SessionTicketsDisabled: true,
		Time:                   s.options.Now,
	}
	if s.trust == nil {
		return c
	}
	c.ClientAuth = tls.RequireAndVerifyClientCert
	c.ClientCAs = s.trust.get().pool
	c.VerifyConnection = func(state tls.ConnectionState) error { return s.Check(&state) }
	base := c.Clone()
	c.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		one := base.Clone()
		one.ClientCAs = s.trust.get().pool
		return one, nil
	}
	return c
}

// Check reports why the client of a connection is not trusted any more: a
// connection may outlive its certificate, its revocation, or the authority that
// signed it. Ask it for every request. Without ClientCA there is nothing to check.
func (s *Server) Check(state *tls.ConnectionState) error {
	if s.trust == nil {
		return nil
	}
	if len(state.VerifiedChains) == 0 {
		return errors.New("the client showed no certificate")
	}
	trust, now := s.trust.get(), s.options.Now()
	chains, err := trust.chains(state, now)
	for _, chain := range chains {
		if err = trust.check(chain, now); err == nil {
			return nil
		}
	}
	return err
}

// NewClient makes the configuration to connect to others with. The certificate
// may be left out, then none is shown; it is read again when it changes. Without
// rootCA the system's authorities are trusted; rootCA is read once.
func NewClient(cert, key, rootCA string, o Options) (*tls.Config, error) {
	o = o.filled()
	c := &tls.Config{MinVersion: tls.VersionTLS12, Time: o.Now}
	if rootCA != "" {
		authorities, err := readCertificates(rootCA)
		if err != nil {
			return nil, err
		}
		c.RootCAs = poolOf(authorities)
	}
	if cert+key == "" {
		return c, nil
	}
	pair, err := watchPair(cert, key, o)
	if err != nil {
		return nil, err
	}
	c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return pair.get(), nil }
	return c, nil
}

func watchPair(cert, key string, o Options) (*watched[*tls.Certificate], error) {
	return watch(o.Report, func() (*tls.Certificate, error) {
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			return nil, fmt.Errorf("certificate %s with key %s: %w", cert, key, err)
		}
		return &pair, nil
	}, cert, key)
}

func poolOf(certificates []*x509.Certificate) *x509.CertPool {
	pool := x509.NewCertPool()
	for _, c := range certificates {
		pool.AddCert(c)
	}
	return pool
}

// readCertificates reads all certificates of a PEM file: at least one.
func readCertificates(file string) ([]*x509.Certificate, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var all []*x509.Certificate
	for _, der := range blocks(text, "CERTIFICATE") {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		all = append(all, c)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%s holds no certificate in PEM", file)
	}
	return all, nil
}
