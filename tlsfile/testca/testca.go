// Package testca makes certificate authorities, certificates and revocation lists
// for the tests of those who use TLS.
package testca

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"
)

// Authority signs certificates and revocation lists.
type Authority struct {
	Certificate *x509.Certificate
	File        string // its certificate in PEM

	tb     testing.TB
	key    *ecdsa.PrivateKey
	serial atomic.Int64
}

// Issued is a certificate with its key, also as files in PEM.
type Issued struct {
	Certificate *x509.Certificate
	TLS         tls.Certificate
	CertFile    string
	KeyFile     string
}

// New makes an authority that signs itself.
func New(tb testing.TB, name string) *Authority {
	tb.Helper()
	key := newKey(tb)
	template := template(name, 1)
	template.IsCA, template.BasicConstraintsValid = true, true
	template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	a := &Authority{tb: tb, key: key, File: filepath.Join(tb.TempDir(), "ca.pem")}
	a.Certificate = parse(tb, create(tb, template, template, &key.PublicKey, key))
	a.serial.Store(1)
	WritePEM(tb, a.File, "CERTIFICATE", a.Certificate.Raw)
	return a
}

// Issue signs a certificate for servers and clients on this machine. Edits change
// it before it is signed.
func (a *Authority) Issue(name string, edits ...func(*x509.Certificate)) Issued {
	a.tb.Helper()
	key := newKey(a.tb)
	template := template(name, a.serial.Add(1))
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	template.IPAddresses, template.DNSNames = []net.IP{net.IPv4(127, 0, 0, 1)}, []string{"localhost"}
	for _, edit := range edits {
		edit(template)
	}
	return issued(a.tb, parse(a.tb, create(a.tb, template, a.Certificate, &key.PublicKey, a.key)), key)
}

// Self gives the authority's own certificate to those who show it as theirs.
func (a *Authority) Self() Issued { return issued(a.tb, a.Certificate, a.key) }

// Renew gives another certificate of the authority, with the same name and key.
func (a *Authority) Renew() *x509.Certificate {
	a.tb.Helper()
	template := *a.Certificate
	template.SerialNumber = big.NewInt(a.serial.Add(1))
	return parse(a.tb, create(a.tb, &template, &template, &a.key.PublicKey, a.key))
}

func issued(tb testing.TB, certificate *x509.Certificate, key *ecdsa.PrivateKey) Issued {
	tb.Helper()
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		tb.Fatal(err)
	}
	dir := tb.TempDir()
	i := Issued{Certificate: certificate, CertFile: filepath.Join(dir, "cert.pem"), KeyFile: filepath.Join(dir, "key.pem")}
	i.TLS = tls.Certificate{Certificate: [][]byte{certificate.Raw}, PrivateKey: key, Leaf: certificate}
	WritePEM(tb, i.CertFile, "CERTIFICATE", certificate.Raw)
	WritePEM(tb, i.KeyFile, "PRIVATE KEY", keyDER)
	return i
}

// Revoke gives a revocation list in DER that is valid for an hour and names the
// certificates. Edits change it before it is signed.
func (a *Authority) Revoke(revoked []*x509.Certificate, edits ...func(*x509.RevocationList)) []byte {
	a.tb.Helper()
	template := &x509.RevocationList{
		Number: big.NewInt(a.serial.Add(1)), ThisUpdate: time.Now().Add(-time.Minute), NextUpdate: time.Now().Add(time.Hour),
	}
	for _, c := range revoked {
		template.RevokedCertificateEntries = append(template.RevokedCertificateEntries,
			x509.RevocationListEntry{SerialNumber: c.SerialNumber, RevocationTime: time.Now().Add(-time.Minute)})
	}
	for _, edit := range edits {
		edit(template)
	}
	der, err := x509.CreateRevocationList(rand.Reader, template, a.Certificate, a.key)
	if err != nil {
		a.tb.Fatal(err)
	}
	return der
}

// Pool holds the authority alone.
func (a *Authority) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.Certificate)
	return pool
}

// WritePEM replaces a file at once, as tools that renew certificates do.
func WritePEM(tb testing.TB, file, kind string, ders ...[]byte) {
	tb.Helper()
	var text []byte
	for _, der := range ders {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})...)
	}
	Write(tb, file, text)
}

// Write replaces a file at once.
func Write(tb testing.TB, file string, content []byte) {
	tb.Helper()
	if err := os.WriteFile(file+".new", content, 0o600); err != nil {
		tb.Fatal(err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		tb.Fatal(err)
	}
}

// Copy replaces a file at once by what another one holds.
func Copy(tb testing.TB, from, to string) {
	tb.Helper()
	content, err := os.ReadFile(from)
	if err != nil {
		tb.Fatal(err)
	}
	Write(tb, to, content)
}

func template(name string, serial int64) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
}

func newKey(tb testing.TB) *ecdsa.PrivateKey {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	return key
}

func create(tb testing.TB, template, parent *x509.Certificate, key *ecdsa.PublicKey, signer *ecdsa.PrivateKey) []byte {
	tb.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key, signer)
	if err != nil {
		tb.Fatal(err)
	}
	return der
}

func parse(tb testing.TB, der []byte) *x509.Certificate {
	tb.Helper()
	c, err := x509.ParseCertificate(der)
	if err != nil {
		tb.Fatal(err)
	}
	return c
}
