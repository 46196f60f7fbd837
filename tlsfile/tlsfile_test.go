package tlsfile_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"joingate/tlsfile"
	"joingate/tlsfile/testca"
)

// place is one endpoint with its files.
type place struct {
	t        *testing.T
	ca       *testca.Authority
	server   testca.Issued
	files    tlsfile.Files
	now      time.Time
	reported []error
	tls      *tlsfile.Server
	config   *tls.Config // made once, as servers do
}

func newPlace(t *testing.T) *place {
	ca := testca.New(t, "authority")
	p := &place{t: t, ca: ca, server: ca.Issue("server"), now: time.Now()}
	p.files = tlsfile.Files{
		Cert: p.server.CertFile, Key: p.server.KeyFile, ClientCA: ca.File, CRL: filepath.Join(t.TempDir(), "crl.pem"),
	}
	p.revoke()
	return p
}

// revoke writes a list that names the certificates.
func (p *place) revoke(revoked ...*x509.Certificate) {
	testca.WritePEM(p.t, p.files.CRL, "X509 CRL", p.ca.Revoke(revoked))
}

func (p *place) open() error {
	var err error
	p.tls, err = tlsfile.NewServer(p.files, tlsfile.Options{
		Now: func() time.Time { return p.now }, Report: func(err error) { p.reported = append(p.reported, err) },
	})
	if err == nil {
		p.config = p.tls.Config()
	}
	return err
}

func (p *place) mustOpen() {
	p.t.Helper()
	if err := p.open(); err != nil {
		p.t.Fatal(err)
	}
}

// connect shakes hands and gives what the server and the client saw.
func (p *place) connect(client tlsfile.Files, root string, edits ...func(*tls.Config)) (server, seen tls.ConnectionState, err error) {
	p.t.Helper()
	config, err := tlsfile.NewClient(client.Cert, client.Key, root, tlsfile.Options{Now: func() time.Time { return p.now }})
	if err != nil {
		return server, seen, err
	}
	config.ServerName = "localhost"
	for _, edit := range edits {
		edit(config)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	here, there := wire(p.t)
	accepted := tls.Server(there, p.config)
	failed := make(chan error, 1)
	go func() {
		err := accepted.HandshakeContext(ctx)
		if err == nil {
			_, err = accepted.Write([]byte("x"))
		}
		failed <- err
		there.Close()
	}()
	dialled := tls.Client(here, config)
	err = dialled.HandshakeContext(ctx)
	if err == nil {
		_, err = io.ReadFull(dialled, make([]byte, 1)) // TLS 1.3 refuses a client after its handshake
	}
	here.Close()
	err = errors.Join(err, <-failed)
	return accepted.ConnectionState(), dialled.ConnectionState(), err
}

// wire gives both ends of a connection. It has room for an alert that nobody
// reads, which net.Pipe has not.
func wire(t *testing.T) (here, there net.Conn) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	if here, err = net.Dial("tcp", listener.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if there, err = listener.Accept(); err != nil {
		t.Fatal(err)
	}
	return here, there
}

func filesOf(i testca.Issued) tlsfile.Files { return tlsfile.Files{Cert: i.CertFile, Key: i.KeyFile} }

func TestClientCertificates(t *testing.T) {
	p := newPlace(t)
	good, revoked := p.ca.Issue("good"), p.ca.Issue("revoked")
	expired := p.ca.Issue("expired", func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })
	forServers := p.ca.Issue("server only", func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} })
	foreign := testca.New(t, "authority").Issue("good") // another key under the same name
	p.revoke(revoked.Certificate)
	p.mustOpen()
	for _, c := range []struct {
		name   string
		client tlsfile.Files
		want   string // in the error; empty: none
	}{
		{"good", filesOf(good), ""},
		{"none", tlsfile.Files{}, "certificate"},
		{"revoked", filesOf(revoked), "is revoked"},
		{"expired", filesOf(expired), "expired"},
		{"foreign", filesOf(foreign), "unknown"},
		{"wrong usage", filesOf(forServers), "usage"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, _, err := p.connect(c.client, p.ca.File)
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("handshake: %v, want an error with %q", err, c.want)
			}
		})
	}
}

func TestVersions(t *testing.T) {
	p := newPlace(t)
	p.mustOpen()
	client := filesOf(p.ca.Issue("client"))
	for version, ok := range map[uint16]bool{tls.VersionTLS11: false, tls.VersionTLS12: true, tls.VersionTLS13: true} {
		state, _, err := p.connect(client, p.ca.File, func(c *tls.Config) { c.MinVersion, c.MaxVersion = version, version })
		if (err == nil) != ok {
			t.Errorf("%s: %v", tls.VersionName(version), err)
		}
		if ok && (state.Version != version || len(state.VerifiedChains) == 0) {
			t.Errorf("%s: server saw %s and %d verified chains", tls.VersionName(version), tls.VersionName(state.Version), len(state.VerifiedChains))
		}
	}
}

// TestConnectionOutlivesTrust asks again about a connection that was good.
func TestConnectionOutlivesTrust(t *testing.T) {
	p := newPlace(t)
	p.mustOpen()
	client := p.ca.Issue("client")
	state, _, err := p.connect(filesOf(client), p.ca.File)
	if err != nil || p.tls.Check(&state) != nil {
		t.Fatal(err, p.tls.Check(&state))
	}
	p.revoke(client.Certificate)
	if err := p.tls.Check(&state); err == nil || !strings.Contains(err.Error(), "revoked") {
		t.Errorf("after revocation: %v", err)
	}
	p.revoke()
	if err := p.tls.Check(&state); err != nil {
		t.Errorf("after the list was corrected: %v", err)
	}
	p.now = client.Certificate.NotAfter.Add(time.Second)
	if err := p.tls.Check(&state); err == nil {
		t.Error("an expired certificate is still trusted")
	}
	if err := p.tls.Check(&tls.ConnectionState{}); err == nil {
		t.Error("a connection without a certificate is trusted")
	}
}

// TestConnectionOutlivesAuthority: an authority that is taken out of its file takes
// its clients with it. Without a revocation list too.
func TestConnectionOutlivesAuthority(t *testing.T) {
	p := newPlace(t)
	p.files.CRL = ""
	next, renewed := testca.New(t, "next authority"), p.ca.Renew()
	p.mustOpen()
	root := rootOf(t, p.ca)
	state, _, err := p.connect(filesOf(p.ca.Issue("client")), root)
	if err != nil {
		t.Fatal(err)
	}
	testca.WritePEM(t, p.files.ClientCA, "CERTIFICATE", next.Certificate.Raw, renewed.Raw)
	if err := p.tls.Check(&state); err != nil {
		t.Errorf("after the authority was renewed: %v", err)
	}
	testca.WritePEM(t, p.files.ClientCA, "CERTIFICATE", next.Certificate.Raw)
	if err := p.tls.Check(&state); err == nil || !strings.Contains(err.Error(), "unknown authority") {
		t.Errorf("after the authority was taken out: %v", err)
	}
}

// TestAuthorityEnds before the certificates that it signed.
func TestAuthorityEnds(t *testing.T) {
	p := newPlace(t)
	client := p.ca.Issue("client", func(c *x509.Certificate) { c.NotAfter = time.Now().Add(24 * time.Hour) })
	p.files.CRL = ""
	p.mustOpen()
	state, _, err := p.connect(filesOf(client), p.ca.File)
	if err != nil {
		t.Fatal(err)
	}
	p.now = p.ca.Certificate.NotAfter.Add(time.Second)
	if err := p.tls.Check(&state); err == nil || !strings.Contains(err.Error(), "certificate of CN=authority ended") {
		t.Errorf("after the authority's end: %v", err)
	}
}

// TestNoSessionIsResumed: what a ticket resumes shows no certificate.
func TestNoSessionIsResumed(t *testing.T) {
	p := newPlace(t)
	p.mustOpen()
	client, tickets := filesOf(p.ca.Issue("client")), tls.NewLRUClientSessionCache(1)
	for range 2 {
		state, _, err := p.connect(client, p.ca.File, func(c *tls.Config) { c.ClientSessionCache = tickets })
		if err != nil || state.DidResume {
			t.Errorf("resumed %t, %v", state.DidResume, err)
		}
	}
}

// TestClientThatIsItsOwnAuthority needs a revocation list like any other.
func TestClientThatIsItsOwnAuthority(t *testing.T) {
	p := newPlace(t)
	self := testca.New(t, "itself")
	root := rootOf(t, p.ca)
	testca.WritePEM(t, p.files.ClientCA, "CERTIFICATE", p.ca.Certificate.Raw, self.Certificate.Raw)
	p.mustOpen()
	if _, _, err := p.connect(filesOf(self.Self()), root); err == nil || !strings.Contains(err.Error(), "no revocation list of") {
		t.Errorf("client without a list: %v", err)
	}
}

// TestStaleListRefusesAll: who cannot know what is revoked trusts nobody.
func TestStaleListRefusesAll(t *testing.T) {
	p := newPlace(t)
	testca.Write(t, p.files.CRL, p.ca.Revoke(nil, func(l *x509.RevocationList) { l.NextUpdate = time.Now().Add(10 * time.Minute) })) // DER
	p.mustOpen()
	client := filesOf(p.ca.Issue("client"))
	if _, _, err := p.connect(client, p.ca.File); err != nil {
		t.Fatal(err)
	}
	p.now = p.now.Add(11 * time.Minute)
	if _, _, err := p.connect(client, p.ca.File); err == nil || !strings.Contains(err.Error(), "fetch the new one") {
		t.Errorf("stale list: %v", err)
	}
	p.revoke()
	if _, _, err := p.connect(client, p.ca.File); err != nil {
		t.Errorf("new list: %v", err)
	}
}

func TestReload(t *testing.T) {
	p := newPlace(t)
	p.mustOpen()
	client := p.ca.Issue("client")
	serial := func(root string) string {
		t.Helper()
		_, seen, err := p.connect(filesOf(client), root)
		if err != nil {
			t.Fatal(err)
		}
		return seen.PeerCertificates[0].SerialNumber.String()
	}
	if got := serial(p.ca.File); got != p.server.Certificate.SerialNumber.String() {
		t.Fatalf("first certificate has serial number %s", got)
	}

	// Half of a renewal: the certificate is there, its key is not.
	renewed := p.ca.Issue("server")
	testca.Copy(t, renewed.CertFile, p.files.Cert)
	if got := serial(p.ca.File); got != p.server.Certificate.SerialNumber.String() || len(p.reported) != 1 {
		t.Errorf("half renewed: serial number %s, reported %v", got, p.reported)
	}
	serial(p.ca.File)
	if len(p.reported) != 1 {
		t.Errorf("the same fault was reported %d times", len(p.reported))
	}
	testca.Copy(t, renewed.KeyFile, p.files.Key)
	if got := serial(p.ca.File); got != renewed.Certificate.SerialNumber.String() {
		t.Errorf("renewed: serial number %s", got)
	}

	// A list that is broken leaves the one before in force.
	p.revoke(client.Certificate)
	if _, _, err := p.connect(filesOf(client), p.ca.File); err == nil {
		t.Error("revoked client was let in")
	}
	testca.Write(t, p.files.CRL, []byte("broken"))
	if _, _, err := p.connect(filesOf(client), p.ca.File); err == nil || len(p.reported) != 2 {
		t.Errorf("with a broken list: %v, reported %v", err, p.reported)
	}

	// Another authority for clients.
	other := testca.New(t, "other authority")
	p.files.CRL = replaceCRL(t, p.files.CRL, other, p.ca)
	testca.WritePEM(t, p.files.ClientCA, "CERTIFICATE", other.Certificate.Raw, p.ca.Certificate.Raw)
	if _, _, err := p.connect(filesOf(other.Issue("new client")), rootOf(t, p.ca)); err != nil {
		t.Errorf("client of the added authority: %v, reported %v", err, p.reported)
	}
}

func replaceCRL(t *testing.T, file string, by ...*testca.Authority) string {
	var lists [][]byte
	for _, a := range by {
		lists = append(lists, a.Revoke(nil))
	}
	testca.WritePEM(t, file, "X509 CRL", lists...)
	return file
}

func rootOf(t *testing.T, a *testca.Authority) string {
	file := filepath.Join(t.TempDir(), "root.pem")
	testca.WritePEM(t, file, "CERTIFICATE", a.Certificate.Raw)
	return file
}

// TestFilesThatAreRefused: a server that starts has every file it was given in
// force.
func TestFilesThatAreRefused(t *testing.T) {
	critical := func(id asn1.ObjectIdentifier) func(*x509.RevocationList) {
		return func(l *x509.RevocationList) {
			l.ExtraExtensions = []pkix.Extension{{Id: id, Critical: true, Value: []byte{asn1.TagInteger, 1, 1}}}
		}
	}
	for _, c := range []struct {
		name string
		make func(p *place)
		want string
	}{
		{"no certificate", func(p *place) { p.files.Cert = filepath.Join(p.t.TempDir(), "none.pem") }, "none.pem"},
		{"key of another", func(p *place) { p.files.Key = p.ca.Issue("other").KeyFile }, "private key"},
		{"no authority", func(p *place) { testca.Write(p.t, p.files.ClientCA, nil) }, "no certificate in PEM"},
		{"broken authority", func(p *place) { testca.WritePEM(p.t, p.files.ClientCA, "CERTIFICATE", []byte("x")) }, "malformed"},
		{"list without authority", func(p *place) { p.files.ClientCA = "" }, "needs the authorities"},
		{"no list", func(p *place) { p.files.CRL += ".none" }, "no such file"},
		{"empty list file", func(p *place) { testca.Write(p.t, p.files.CRL, nil) }, "no revocation list"},
		{"broken list", func(p *place) { testca.Write(p.t, p.files.CRL, []byte("x")) }, "revocation list"},
		{"list of a stranger", func(p *place) {
			testca.Write(p.t, p.files.CRL, testca.New(p.t, "stranger").Revoke(nil))
		}, "not among the authorities"},
		{"forged list", func(p *place) {
			testca.Write(p.t, p.files.CRL, testca.New(p.t, "authority").Revoke(nil))
		}, "verification"},
		{"list whose time is over", func(p *place) {
			testca.Write(p.t, p.files.CRL, p.ca.Revoke(nil, func(l *x509.RevocationList) {
				l.ThisUpdate, l.NextUpdate = time.Now().Add(-time.Hour), time.Now().Add(-time.Minute)
			}))
		}, "fetch the new one"},
		{"delta list", func(p *place) {
			testca.Write(p.t, p.files.CRL, p.ca.Revoke(nil, critical(asn1.ObjectIdentifier{2, 5, 29, 27})))
		}, "2.5.29.27"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPlace(t)
			c.make(p)
			if err := p.open(); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
		})
	}
}

// TestNewerOfTwoLists: the older one of the same authority does not count.
func TestNewerOfTwoLists(t *testing.T) {
	p := newPlace(t)
	client := p.ca.Issue("client")
	older := p.ca.Revoke([]*x509.Certificate{client.Certificate}, func(l *x509.RevocationList) { l.ThisUpdate = time.Now().Add(-time.Hour) })
	for _, lists := range [][][]byte{{older, p.ca.Revoke(nil)}, {p.ca.Revoke(nil), older}} {
		testca.WritePEM(t, p.files.CRL, "X509 CRL", lists...)
		p.mustOpen()
		if _, _, err := p.connect(filesOf(client), p.ca.File); err != nil {
			t.Error(err)
		}
	}
}

// TestAuthorityWithoutList: a client whose authority has published nothing is not
// let in.
func TestAuthorityWithoutList(t *testing.T) {
	p := newPlace(t)
	other := testca.New(t, "other authority")
	root := rootOf(t, p.ca)
	testca.WritePEM(t, p.files.ClientCA, "CERTIFICATE", p.ca.Certificate.Raw, other.Certificate.Raw)
	p.mustOpen()
	if _, _, err := p.connect(filesOf(other.Issue("client")), root); err == nil || !strings.Contains(err.Error(), "no revocation list of") {
		t.Errorf("client of an authority without a list: %v", err)
	}
}

// TestWithoutClientCertificates is the admin API's case.
func TestWithoutClientCertificates(t *testing.T) {
	p := newPlace(t)
	p.files.ClientCA, p.files.CRL = "", ""
	p.mustOpen()
	state, _, err := p.connect(tlsfile.Files{}, p.ca.File)
	if err != nil || p.tls.Check(&state) != nil {
		t.Error(err, p.tls.Check(&state))
	}
	if _, _, err := p.connect(tlsfile.Files{}, testca.New(t, "other").File); err == nil {
		t.Error("the client trusts an authority that it was not given")
	}
	if _, err := tlsfile.NewClient("", "", filepath.Join(t.TempDir(), "none"), tlsfile.Options{}); err == nil {
		t.Error("a root file that is not there is no error")
	}
}
