package mqtt

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/hooks/auth"
	"github.com/mochi-mqtt/server/v2/listeners"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"joingate/mqtt/broker"
)

// clientRun is a client that runs until the test ends.
type clientRun struct {
	*client
	got chan string // topics
	log *observer.ObservedLogs
}

func runClient(t testing.TB, c Config, change ...func(*client)) clientRun {
	t.Helper()
	core, log := observer.New(zap.InfoLevel)
	c.Logger = zap.New(core)
	client, err := newClient(c)
	if err != nil {
		t.Fatal(err)
	}
	for _, set := range change {
		set(client)
	}
	run := clientRun{client, make(chan string, 100), log}
	ctx, cancel := context.WithCancel(t.Context())
	var ended sync.WaitGroup
	ended.Go(func() {
		if err := client.run(ctx, func(topic string, _ []byte, _ bool) { run.got <- topic }); err != nil {
			t.Errorf("run: %v", err)
		}
	})
	t.Cleanup(func() { cancel(); ended.Wait() })
	return run
}

func (r clientRun) awaitUp(t testing.TB) {
	t.Helper()
	eventually(t, "the connection", func() bool { return r.ready() == nil })
}

// awaitDown waits until ready says why there is no connection.
func (r clientRun) awaitDown(t testing.TB, says string) {
	t.Helper()
	eventually(t, "the reason "+says, func() bool {
		err := r.ready()
		return err != nil && strings.Contains(err.Error(), says)
	})
}

// roundTrip publishes an event and waits for it to come back.
func (r clientRun) roundTrip(t testing.TB, topic string) {
	t.Helper()
	if err := wait(r.publish(topic, 1, []byte("x")), 10*time.Second); err != nil {
		t.Fatal(err)
	}
	select {
	case got := <-r.got:
		if got != topic {
			t.Errorf("%s came, not %s", got, topic)
		}
	case <-time.After(10 * time.Second):
		t.Fatalf("%s did not come", topic)
	}
}

const anUplinkTopic = "eu868/gateway/0016c001f1500a01/event/up"

func TestClientSubscribesAgainAfterRestart(t *testing.T) {
	for _, group := range []string{"", "instances"} {
		first, err := broker.Start(broker.Options{Listen: "127.0.0.1:0"})
		if err != nil {
			t.Fatal(err)
		}
		address := first.Addr().String()
		r := runClient(t, Config{Broker: BrokerConfig{URL: "mqtt://" + address}, ShareGroup: group})
		r.awaitUp(t)
		r.roundTrip(t, anUplinkTopic)
		r.roundTrip(t, "gateway/0016c001f1500a01/state/conn")

		_ = first.Close()
		r.awaitDown(t, "mqtt://"+address)
		receipt := r.publish(anUplinkTopic, 0, []byte("lost"))
		if err := wait(receipt, 0); err == nil {
			t.Error("a message without a connection was taken")
		}
		second, err := broker.Start(broker.Options{Listen: address})
		if err != nil {
			t.Fatal(err)
		}
		r.awaitUp(t)
		r.roundTrip(t, anUplinkTopic)
		_ = second.Close()
	}
}

func TestClientWaitsForTheBroker(t *testing.T) {
	address := freeAddress(t)
	r := runClient(t, Config{Broker: BrokerConfig{URL: "tcp://" + address}})
	r.awaitDown(t, "refused")
	b, err := broker.Start(broker.Options{Listen: address})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	r.awaitUp(t)
	r.roundTrip(t, anUplinkTopic)
	if n := r.log.FilterMessageSnippet("no connection").Len(); n != 1 {
		t.Errorf("one reason was logged %d times", n)
	}
}

// A broker that hangs keeps the connection open and says nothing.
func TestClientLeavesABrokerThatHangs(t *testing.T) {
	b, err := broker.Start(broker.Options{Listen: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	way := newRelay(t, b.Addr().String())
	r := runClient(t, Config{Broker: BrokerConfig{URL: "mqtt://" + way.address}}, func(c *client) {
		c.probeEvery, c.answerTimeout = 10*time.Millisecond, 500*time.Millisecond
	})
	r.awaitUp(t)
	way.block(true)
	r.awaitDown(t, "did not answer within")
	way.block(false)
	r.awaitUp(t)
	r.roundTrip(t, anUplinkTopic)
}

// relay carries octets to a broker, or holds them back.
type relay struct {
	address string
	open    sync.RWMutex // locked: blocked
	socket  net.Listener
}

func newRelay(t testing.TB, to string) *relay {
	t.Helper()
	socket, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{address: socket.Addr().String(), socket: socket}
	t.Cleanup(func() { _ = socket.Close() })
	go func() {
		for {
			near, err := socket.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", to)
			if err != nil {
				_ = near.Close()
				continue
			}
			go r.carry(near, far)
			go r.carry(far, near)
		}
	}()
	return r
}

func (r *relay) carry(to, from net.Conn) {
	defer to.Close()
	defer from.Close()
	buffer := make([]byte, 4096)
	for {
		n, err := from.Read(buffer)
		if err != nil {
			return
		}
		r.open.RLock()
		_, err = to.Write(buffer[:n])
		r.open.RUnlock()
		if err != nil {
			return
		}
	}
}

func (r *relay) block(yes bool) {
	if yes {
		r.open.Lock()
	} else {
		r.open.Unlock()
	}
}

func TestClientConnectsByAllSchemes(t *testing.T) {
	ca := newAuthority(t)
	server := ca.issue(t, "broker", x509.ExtKeyUsageServerAuth)
	mine := ca.issue(t, "joingate", x509.ExtKeyUsageClientAuth)
	serverTLS := &tls.Config{
		Certificates: []tls.Certificate{server.load(t)},
		ClientCAs:    ca.pool(),
		ClientAuth:   tls.RequireAndVerifyClientCert,
	}
	certified := BrokerConfig{CAFile: ca.file, CertFile: mine.certFile, KeyFile: mine.keyFile}
	tests := []struct {
		scheme string
		tls    *tls.Config
		config BrokerConfig
	}{
		{"tcp", nil, BrokerConfig{}},
		{"mqtt", nil, BrokerConfig{}},
		{"mqtts", serverTLS, certified},
		{"ws", nil, BrokerConfig{}},
		{"wss", serverTLS, certified},
	}
	for _, test := range tests {
		t.Run(test.scheme, func(t *testing.T) {
			address := startMochi(t, test.scheme, test.tls, nil)
			test.config.URL = test.scheme + "://" + address + "/mqtt"
			r := runClient(t, Config{Broker: test.config})
			r.awaitUp(t)
			r.roundTrip(t, anUplinkTopic)
		})
	}
}

func TestClientTrustsOnlyItsAuthority(t *testing.T) {
	server := newAuthority(t).issue(t, "broker", x509.ExtKeyUsageServerAuth)
	address := startMochi(t, "mqtts", &tls.Config{Certificates: []tls.Certificate{server.load(t)}}, nil)
	r := runClient(t, Config{Broker: BrokerConfig{URL: "mqtts://" + address, CAFile: newAuthority(t).file}})
	r.awaitDown(t, "certificate")
}

// A certificate, its key and the authority may be replaced while the program runs.
func TestClientRenewsItsCertificate(t *testing.T) {
	ca, other := newAuthority(t), newAuthority(t)
	serverTLS := &tls.Config{
		Certificates: []tls.Certificate{ca.issue(t, "broker", x509.ExtKeyUsageServerAuth).load(t)},
		ClientCAs:    ca.pool(),
		ClientAuth:   tls.RequireAndVerifyClientCert,
	}
	good, dir := ca.issue(t, "joingate", x509.ExtKeyUsageClientAuth), t.TempDir()
	files := BrokerConfig{CAFile: filepath.Join(dir, "ca"), CertFile: filepath.Join(dir, "cert"), KeyFile: filepath.Join(dir, "key")}
	put := func(file, from string) {
		t.Helper()
		text, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		writeFile(t, file, string(text))
	}
	for _, scheme := range []string{"mqtts", "wss"} {
		old := other.issue(t, "joingate", x509.ExtKeyUsageClientAuth)
		put(files.CAFile, other.file)
		put(files.CertFile, old.certFile)
		put(files.KeyFile, old.keyFile)
		files.URL = scheme + "://" + startMochi(t, scheme, serverTLS, nil) + "/mqtt"
		r := runClient(t, Config{Broker: files})
		r.awaitDown(t, "certificate")
		put(files.CAFile, ca.file)
		put(files.CertFile, good.certFile) // and the key does not match yet
		put(files.KeyFile, good.keyFile)
		r.awaitUp(t)
		r.roundTrip(t, anUplinkTopic)
	}
}

func TestClientPassword(t *testing.T) {
	address := startMochi(t, "mqtt", nil, &auth.Ledger{Users: auth.Users{
		"joingate": {Password: "sesame"},
		"blind":    {Password: "sesame", ACL: auth.Filters{"#": auth.Deny}},
	}})
	passwordFile := filepath.Join(t.TempDir(), "password")
	writeFile(t, passwordFile, "wrong-secret\n")

	r := runClient(t, Config{Broker: BrokerConfig{URL: "mqtt://" + address, Username: "joingate", PasswordFile: passwordFile}})
	r.awaitDown(t, "username and password_file")
	writeFile(t, passwordFile, "sesame\n")
	r.awaitUp(t)
	if logged := fmt.Sprint(r.log.All()); strings.Contains(logged, "secret") || strings.Contains(logged, "sesame") {
		t.Errorf("the log shows a password: %s", logged)
	}

	r = runClient(t, Config{Broker: BrokerConfig{URL: "mqtt://joingate:sesame@" + address}})
	r.awaitUp(t)
	if logged := fmt.Sprint(r.log.All()); strings.Contains(logged, "sesame") {
		t.Errorf("the log shows a password: %s", logged)
	}

	r = runClient(t, Config{Broker: BrokerConfig{URL: "mqtt://blind:sesame@" + address}})
	r.awaitDown(t, "refuses the subscription")
	if err := r.ready(); strings.Contains(err.Error(), "sesame") {
		t.Errorf("the reason shows a password: %v", err)
	}
}

// A broker may have changed its mind about what is shared.
func TestComingBackMayBeRefused(t *testing.T) {
	address := startMochi(t, "mqtt", nil, &auth.Ledger{
		Auth: auth.AuthRules{{Allow: true}}, ACL: auth.ACLRules{{Filters: auth.Filters{"$share/#": auth.Deny}}},
	})
	r := runClient(t, Config{Broker: BrokerConfig{URL: "mqtt://" + address}})
	r.awaitUp(t)
	if !r.comeBack(t.Context()) {
		t.Error("did not come back with nothing to share")
	}
	r.filters = map[string]byte{"$share/joingate/gateway/+/event/up": subscriptionQoS}
	if r.comeBack(t.Context()) {
		t.Error("came back although the broker refuses the subscription")
	}
}

func TestNewClientRefuses(t *testing.T) {
	dir := t.TempDir()
	noPEM := filepath.Join(dir, "empty.pem")
	writeFile(t, noPEM, "nothing")
	missing := filepath.Join(dir, "missing")
	tests := []struct {
		name   string
		config Config
		says   string
	}{
		{"no url", Config{}, "mqtt://broker.example:1883"},
		{"no host", Config{Broker: BrokerConfig{URL: "mqtt://:1883"}}, "mqtt://broker.example:1883"},
		{"not a url", Config{Broker: BrokerConfig{URL: "mqtt://a:sesame@%zz"}}, "is no URL"},
		{"other scheme", Config{Broker: BrokerConfig{URL: "http://a:sesame@b"}}, `"http://a:xxxxx@b"`},
		{"password file", Config{Broker: BrokerConfig{URL: "mqtt://b", PasswordFile: missing}}, "password_file"},
		{"authority without TLS", Config{Broker: BrokerConfig{URL: "mqtt://b", CAFile: noPEM}}, "mqtts://"},
		{"no authority file", Config{Broker: BrokerConfig{URL: "mqtts://b", CAFile: missing}}, "tls_ca"},
		{"no authority in it", Config{Broker: BrokerConfig{URL: "mqtts://b", CAFile: noPEM}}, "no PEM certificate"},
		{"certificate without key", Config{Broker: BrokerConfig{URL: "wss://b", CertFile: noPEM}}, "tls_cert and tls_key"},
		{"prefix", Config{Broker: BrokerConfig{URL: "mqtt://b"}, Prefixes: []string{"a/#"}}, "prefixes"},
		{"group", Config{Broker: BrokerConfig{URL: "mqtt://b"}, ShareGroup: "a/b"}, "share_group"},
	}
	for _, test := range tests {
		_, err := newClient(test.config)
		if err == nil || !strings.Contains(err.Error(), test.says) || strings.Contains(err.Error(), "sesame") {
			t.Errorf("%s: %v", test.name, err)
		}
	}
}

// startMochi runs a broker that knows more than the embedded one. A nil ledger
// lets everybody in.
func startMochi(t *testing.T, scheme string, tlsConfig *tls.Config, ledger *auth.Ledger) (address string) {
	t.Helper()
	server := mochi.New(&mochi.Options{Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	hook, config := mochi.Hook(new(auth.AllowHook)), any(nil)
	if ledger != nil {
		hook, config = new(auth.Hook), &auth.Options{Ledger: ledger}
	}
	if err := server.AddHook(hook, config); err != nil {
		t.Fatal(err)
	}
	address = freeAddress(t)
	setting := listeners.Config{ID: scheme, Address: address, TLSConfig: tlsConfig}
	listener := listeners.Listener(listeners.NewTCP(setting))
	if strings.HasPrefix(scheme, "ws") {
		listener = listeners.NewWebsocket(setting)
	}
	if err := server.AddListener(listener); err != nil {
		t.Fatal(err)
	}
	if err := server.Serve(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	return address
}

// authority signs certificates for tests.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	file        string
}

type issued struct{ certFile, keyFile string }

func newAuthority(t testing.TB) authority {
	t.Helper()
	template := certificateFor("authority")
	template.IsCA, template.BasicConstraintsValid, template.KeyUsage = true, true, x509.KeyUsageCertSign
	key := newKey(t)
	der := sign(t, template, template, key, key)
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	a := authority{certificate, key, filepath.Join(t.TempDir(), "ca.pem")}
	writeFile(t, a.file, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	return a
}

func (a authority) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.certificate)
	return pool
}

func (a authority) issue(t testing.TB, name string, usage x509.ExtKeyUsage) issued {
	t.Helper()
	template := certificateFor(name)
	template.ExtKeyUsage = []x509.ExtKeyUsage{usage}
	template.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)}
	key := newKey(t)
	der := sign(t, template, a.certificate, key, a.key)
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	i := issued{filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")}
	writeFile(t, i.certFile, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	writeFile(t, i.keyFile, string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER})))
	return i
}

func (i issued) load(t testing.TB) tls.Certificate {
	t.Helper()
	certificate, err := tls.LoadX509KeyPair(i.certFile, i.keyFile)
	if err != nil {
		t.Fatal(err)
	}
	return certificate
}

func certificateFor(name string) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(time.Hour),
	}
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func sign(t testing.TB, template, parent *x509.Certificate, key, signer *ecdsa.PrivateKey) []byte {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func writeFile(t testing.TB, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
