package backend_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"joingate/tlsfile"
	"joingate/tlsfile/testca"
)

// doors is a Server behind mutual TLS, as the program has it.
type doors struct {
	*world
	ca    *testca.Authority
	files tlsfile.Files
	http  *httptest.Server
}

func newDoors(t *testing.T) *doors {
	ca := testca.New(t, "authority")
	joingate := ca.Issue("joingate")
	d := &doors{world: newWorld(t).withASKEK(), ca: ca}
	d.files = tlsfile.Files{Cert: joingate.CertFile, Key: joingate.KeyFile, ClientCA: ca.File, CRL: filepath.Join(t.TempDir(), "crl.pem")}
	d.revoke()
	trusted, err := tlsfile.NewServer(d.files, tlsfile.Options{})
	if err != nil {
		t.Fatal(err)
	}
	d.config.CheckPeer = trusted.Check
	d.ns().Certificates = []string{"cn:ns.example.org"}
	d.open()
	d.http = httptest.NewUnstartedServer(d.server)
	d.http.TLS = trusted.Config()
	d.http.StartTLS()
	t.Cleanup(d.http.Close)
	return d
}

func (d *doors) revoke(revoked ...*x509.Certificate) {
	testca.WritePEM(d.tb, d.files.CRL, "X509 CRL", d.ca.Revoke(revoked))
}

// client is a network server's HTTP client. Its connections last.
func (d *doors) client(shows ...tls.Certificate) *http.Client {
	return &http.Client{
		Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: d.ca.Pool(), Certificates: shows}},
		Timeout:   10 * time.Second,
	}
}

// ask posts a message. An error is one of the connection.
func (d *doors) ask(c *http.Client, m msg) (reply, error) {
	d.tb.Helper()
	r, err := http.NewRequestWithContext(context.Background(), http.MethodPost, d.http.URL+"/", bytes.NewReader(mustJSON(d.tb, m)))
	if err != nil {
		d.tb.Fatal(err)
	}
	response, err := c.Do(r)
	if err != nil {
		return reply{}, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		d.tb.Fatal(err)
	}
	return read(d.tb, response.StatusCode, body), nil
}

func TestMutualTLS(t *testing.T) {
	d := newDoors(t)
	good, revoked := d.ca.Issue("ns.example.org"), d.ca.Issue("ns.example.org")
	expired := d.ca.Issue("ns.example.org", func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })
	foreign := testca.New(t, "authority").Issue("ns.example.org")
	stranger := d.ca.Issue("stranger.example.org")
	d.revoke(revoked.Certificate)
	for _, c := range []struct {
		name  string
		shows []tls.Certificate
		want  string // a result code, or what the connection's error has
	}{
		{"good", []tls.Certificate{good.TLS}, "Success"},
		{"stranger", []tls.Certificate{stranger.TLS}, "UnknownSender"},
		{"none", nil, "tls:"},
		{"expired", []tls.Certificate{expired.TLS}, "tls:"},
		{"foreign", []tls.Certificate{foreign.TLS}, "tls:"},
		{"revoked", []tls.Certificate{revoked.TLS}, "tls:"},
	} {
		answer, err := d.ask(d.client(c.shows...), joinReq())
		if err != nil && !strings.Contains(err.Error(), c.want) || err == nil && answer.Result.ResultCode != c.want {
			t.Errorf("%s: %v %s, want %s", c.name, err, answer.body, c.want)
		}
	}
	if len(d.asked) != 1 {
		t.Errorf("JoinFor was asked %d times", len(d.asked))
	}
}

// TestRevokedWhileConnected: a connection that lasts does not outlive its trust.
func TestRevokedWhileConnected(t *testing.T) {
	d := newDoors(t)
	ns := d.ca.Issue("ns.example.org")
	client := d.client(ns.TLS)
	for _, c := range []struct {
		revoked []*x509.Certificate
		want    string
	}{{nil, "Success"}, {[]*x509.Certificate{ns.Certificate}, "UnknownSender"}, {nil, "Success"}} {
		d.revoke(c.revoked...)
		if answer, err := d.ask(client, joinReq()); err != nil || answer.Result.ResultCode != c.want {
			t.Errorf("%v %s, want %s", err, answer.body, c.want)
		}
	}
	if !strings.Contains(d.logged(), "is revoked") {
		t.Errorf("log: %s", d.logged())
	}
}

// TestCertificateIsRenewed without a restart, for those who connect next.
func TestCertificateIsRenewed(t *testing.T) {
	d := newDoors(t)
	ns, renewed := d.ca.Issue("ns.example.org"), d.ca.Issue("joingate")
	client := d.client(ns.TLS)
	serial := func(c *http.Client) string {
		t.Helper()
		response, err := c.Get(d.http.URL)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, response.Body)
		response.Body.Close()
		return response.TLS.PeerCertificates[0].SerialNumber.String()
	}
	before := serial(client)
	for from, to := range map[string]string{renewed.CertFile: d.files.Cert, renewed.KeyFile: d.files.Key} {
		testca.Copy(t, from, to)
	}
	if got := serial(client); got != before {
		t.Error("the connection was cut")
	}
	if got := serial(d.client(ns.TLS)); got != renewed.Certificate.SerialNumber.String() || got == before {
		t.Errorf("serial number %s, before %s, renewed %s", got, before, renewed.Certificate.SerialNumber)
	}
}
