package broker_test

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"

	"joingate/mqtt/broker"
	"joingate/tlsfile/testca"
)

const (
	gatewayA = "0016c001f1500a01"
	gatewayB = "0016c001f1500b02"
)

// startWith starts a broker on a free port.
func startWith(t testing.TB, o broker.Options) *broker.Broker {
	t.Helper()
	o.Listen = "127.0.0.1:0"
	b, err := broker.Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return b
}

// usersFile writes a file of users, each with the password "sesame": NAME or
// NAME:RIGHTS.
func usersFile(t testing.TB, users ...string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "users")
	writeUsers(t, name, users...)
	return name
}

func writeUsers(t testing.TB, file string, users ...string) {
	t.Helper()
	hash, err := broker.HashPassword("sesame")
	if err != nil {
		t.Fatal(err)
	}
	text := "# users of the embedded broker\n\n"
	for _, u := range users {
		name, rights, some := strings.Cut(u, ":")
		text += name + ":" + hash
		if some {
			text += ":" + rights
		}
		text += "\n"
	}
	write(t, file, text)
}

func write(t testing.TB, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func as(user, password string) func(*paho.ClientOptions) {
	return func(o *paho.ClientOptions) { o.SetUsername(user).SetPassword(password) }
}

// refuses checks that a client is not let in.
func refuses(t testing.TB, b *broker.Broker, id string, configure ...func(*paho.ClientOptions)) {
	t.Helper()
	options := paho.NewClientOptions().AddBroker("tcp://" + b.Addr().String()).SetClientID(id).
		SetAutoReconnect(false).SetConnectRetry(false).SetConnectTimeout(patience).SetProtocolVersion(4)
	for _, set := range configure {
		set(options)
	}
	client := paho.NewClient(options)
	token := client.Connect()
	if !token.WaitTimeout(patience) {
		t.Fatal("no answer from the broker")
	}
	if token.Error() == nil {
		client.Disconnect(0)
		t.Errorf("%s was let in", id)
	}
}

// observe connects the program itself and subscribes to everything.
func observe(t testing.TB, b *broker.Broker) (paho.Client, <-chan paho.Message) {
	t.Helper()
	client := connect(t, b, "observer", locally(b))
	return client, subscribe(t, client, "#")
}

// locally connects past the door, as the program itself does.
func locally(b *broker.Broker) func(*paho.ClientOptions) {
	return func(o *paho.ClientOptions) {
		o.SetCustomOpenConnectionFn(func(*url.URL, paho.ClientOptions) (net.Conn, error) { return b.Dial() })
	}
}

func TestPasswords(t *testing.T) {
	b := startWith(t, broker.Options{UsersFile: usersFile(t, gatewayA, "bridge:*", "nobody:"+gatewayB)})
	connect(t, b, "a", as(gatewayA, "sesame"))
	connect(t, b, "again", as(gatewayA, "sesame"))
	refuses(t, b, "wrong password", as(gatewayA, "Sesame"))
	refuses(t, b, "no password", as(gatewayA, ""))
	refuses(t, b, "no such user", as(gatewayB, "sesame"))
	refuses(t, b, "nobody")
}

// A client that may not publish is disconnected, or its message is dropped.
func TestGatewayHasItsTopicsOnly(t *testing.T) {
	b := startWith(t, broker.Options{UsersFile: usersFile(t, gatewayA)})
	program, seen := observe(t, b)
	gateway := connect(t, b, "a", as(gatewayA, "sesame"))
	own, other := "gateway/"+gatewayA, "gateway/"+gatewayB
	for _, topic := range []string{other + "/event/up", own + "/command/down", "joingate/1/node/x/event/join", "eu868/" + other + "/event/ack", "a"} {
		gateway.Publish(topic, 0, false, "forged").WaitTimeout(patience)
	}
	for _, topic := range []string{own + "/event/up", own + "/state/conn", "eu868/" + own + "/event/stats", "a/b/" + own + "/event/ack"} {
		await(t, gateway.Publish(topic, 0, false, "true"))
		if m := receive(t, seen); m.Topic() != topic || string(m.Payload()) != "true" {
			t.Errorf("%s %q came, want %s", m.Topic(), m.Payload(), topic)
		}
	}
	got := make(chan paho.Message, 10)
	take := func(_ paho.Client, m paho.Message) { got <- m }
	for filter, granted := range map[string]bool{
		own + "/command/#": true, "eu868/" + own + "/command/down": true, other + "/command/#": false, "#": false, "gateway/+/command/down": false,
		own + "/event/up": false, "joingate/#": false, "$share/x/" + own + "/command/down": false, "$SYS/#": false, "+/+/+/+": false,
	} {
		token := gateway.Subscribe(filter, 1, take)
		if !token.WaitTimeout(patience) {
			t.Fatal("no answer")
		}
		for _, code := range token.(*paho.SubscribeToken).Result() {
			if (code <= 2) != granted {
				t.Errorf("%s: granted %#x, want %t", filter, code, granted)
			}
		}
	}
	await(t, program.Publish(other+"/command/down", 1, false, "not his"))
	await(t, program.Publish(own+"/command/down", 1, false, "his"))
	if m := receive(t, got); string(m.Payload()) != "his" {
		t.Errorf("the gateway got %q", m.Payload())
	}
}

func TestOtherRights(t *testing.T) {
	b := startWith(t, broker.Options{UsersFile: usersFile(t, "bridge:*", "two:"+gatewayA+", "+gatewayB, "server:events", "root:all")})
	_, seen := observe(t, b)
	publish := func(user, topic string, allowed bool) {
		t.Helper()
		client := connect(t, b, "publisher of "+user, as(user, "sesame"))
		client.Publish(topic, 1, false, user)
		if allowed {
			receive(t, seen)
			return
		}
		eventuallyLost(t, client)
	}
	publish("bridge", "gateway/"+gatewayA+"/event/up", true)
	publish("bridge", "gateway/"+gatewayB+"/state/conn", true)
	publish("bridge", "gateway/"+gatewayB+"/command/down", false)
	publish("two", "gateway/"+gatewayB+"/event/up", true)
	publish("two", "gateway/0102030405060708/event/up", false)
	publish("server", "gateway/"+gatewayA+"/event/up", false)
	publish("root", "joingate/1/x", true)
	for user, filter := range map[string]string{"bridge": "gateway/+/command/#", "two": "gateway/" + gatewayB + "/command/down", "server": "joingate/1/#", "root": "$share/g/gateway/+/event/up"} {
		client := connect(t, b, "subscriber of "+user, as(user, "sesame"))
		token := client.Subscribe(filter, 1, nil)
		await(t, token)
		for _, code := range token.(*paho.SubscribeToken).Result() {
			if code > 2 {
				t.Errorf("%s: %s is refused", user, filter)
			}
		}
	}
}

func eventuallyLost(t testing.TB, client paho.Client) {
	t.Helper()
	for limit := time.Now().Add(patience); client.IsConnectionOpen(); time.Sleep(time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatal("the client is still connected")
		}
	}
}

// A will is a message too.
func TestWillNeedsRights(t *testing.T) {
	b := startWith(t, broker.Options{UsersFile: usersFile(t, gatewayA)})
	refuses(t, b, "foreign will", as(gatewayA, "sesame"), func(o *paho.ClientOptions) {
		o.SetWill("gateway/"+gatewayB+"/state/conn", "OFFLINE", 1, true)
	})
	connect(t, b, "own will", as(gatewayA, "sesame"), func(o *paho.ClientOptions) {
		o.SetWill("gateway/"+gatewayA+"/state/conn", "OFFLINE", 1, true)
	})
}

// Who takes the client id of a session would get its messages.
func TestSessionsAreNotTakenOver(t *testing.T) {
	b := startWith(t, broker.Options{UsersFile: usersFile(t, gatewayA, gatewayB)})
	victim := connect(t, b, "same id", as(gatewayA, "sesame"))
	refuses(t, b, "same id", as(gatewayB, "sesame"))
	if !victim.IsConnectionOpen() {
		t.Error("the client with the id was cut off")
	}
	connect(t, b, "same id", as(gatewayA, "sesame"))
}

// Who is taken out of the file can do nothing any more; who is put in comes in.
func TestUsersAreReadAgain(t *testing.T) {
	file := usersFile(t, gatewayA)
	b := startWith(t, broker.Options{UsersFile: file})
	_, seen := observe(t, b)
	old := connect(t, b, "old", as(gatewayA, "sesame"))
	await(t, old.Publish("gateway/"+gatewayA+"/event/up", 1, false, "x"))
	receive(t, seen)

	write(t, file, "nonsense")
	writeUsers(t, file, gatewayB)
	broker.LookAgain(b)
	connect(t, b, "new", as(gatewayB, "sesame"))
	refuses(t, b, "gone", as(gatewayA, "sesame"))
	old.Publish("gateway/"+gatewayA+"/event/up", 1, false, "x")
	eventuallyLost(t, old)

	write(t, file, "nonsense")
	broker.LookAgain(b)
	connect(t, b, "still there", as(gatewayB, "sesame"))
}

// secured connects with TLS.
func secured(b *broker.Broker, config *tls.Config) func(*paho.ClientOptions) {
	return func(o *paho.ClientOptions) {
		o.Servers = nil
		o.AddBroker("ssl://" + b.Addr().String()).SetTLSConfig(config)
	}
}

func TestClientCertificates(t *testing.T) {
	ca, foreign := testca.New(t, "authority"), testca.New(t, "authority")
	server := ca.Issue("broker")
	b := startWith(t, broker.Options{TLSCert: server.CertFile, TLSKey: server.KeyFile, TLSClientCA: ca.File})
	_, seen := observe(t, b)
	certified := func(i *testca.Issued) func(*paho.ClientOptions) {
		config := &tls.Config{RootCAs: ca.Pool()}
		if i != nil {
			config.Certificates = []tls.Certificate{i.TLS}
		}
		return secured(b, config)
	}
	good := ca.Issue(gatewayA)
	gateway := connect(t, b, "gateway", certified(&good))
	await(t, gateway.Publish("gateway/"+gatewayA+"/event/up", 1, false, "x"))
	receive(t, seen)
	gateway.Publish("gateway/"+gatewayB+"/event/up", 1, false, "x")
	eventuallyLost(t, gateway)
	refuses(t, b, "as another", certified(&good), as(gatewayB, ""))

	expired := ca.Issue(gatewayA, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })
	stranger := foreign.Issue(gatewayA)
	refuses(t, b, "expired", certified(&expired))
	refuses(t, b, "foreign", certified(&stranger))
	refuses(t, b, "without", certified(nil))
	refuses(t, b, "without TLS")
}

// A connection may outlive what let it in.
func TestCertificateThatIsNotTrustedAnyMore(t *testing.T) {
	ca, next := testca.New(t, "authority"), testca.New(t, "authority")
	server := ca.Issue("broker")
	authorities := filepath.Join(t.TempDir(), "authorities.pem")
	testca.WritePEM(t, authorities, "CERTIFICATE", ca.Certificate.Raw, next.Certificate.Raw)
	b := startWith(t, broker.Options{TLSCert: server.CertFile, TLSKey: server.KeyFile, TLSClientCA: authorities})
	_, seen := observe(t, b)
	gateway := func(by *testca.Authority, name string) paho.Client {
		t.Helper()
		return connect(t, b, name, secured(b, &tls.Config{RootCAs: ca.Pool(), Certificates: []tls.Certificate{by.Issue(name).TLS}}))
	}
	publish := func(client paho.Client, name string) {
		client.Publish("gateway/"+name+"/event/up", 1, false, name)
	}
	old, fresh := gateway(ca, gatewayA), gateway(next, gatewayB)
	publish(old, gatewayA)
	receive(t, seen)

	testca.WritePEM(t, authorities, "CERTIFICATE", next.Certificate.Raw)
	broker.LookAgain(b)
	publish(old, gatewayA)
	eventuallyLost(t, old)
	publish(fresh, gatewayB)
	if m := receive(t, seen); string(m.Payload()) != gatewayB {
		t.Errorf("%q came", m.Payload())
	}

	broker.SetNow(b, func() time.Time { return time.Now().Add(2 * time.Hour) })
	publish(fresh, gatewayB)
	eventuallyLost(t, fresh)
}

// What a ticket resumes shows no certificate to be held against the files.
func TestNoSessionIsResumed(t *testing.T) {
	ca := testca.New(t, "authority")
	server := ca.Issue("broker")
	b := startWith(t, broker.Options{TLSCert: server.CertFile, TLSKey: server.KeyFile, TLSClientCA: ca.File})
	config := &tls.Config{
		RootCAs: ca.Pool(), Certificates: []tls.Certificate{ca.Issue(gatewayA).TLS}, ClientSessionCache: tls.NewLRUClientSessionCache(1),
	}
	for range 2 {
		c, err := tls.Dial("tcp", b.Addr().String(), config)
		if err != nil {
			t.Fatal(err)
		}
		if c.ConnectionState().DidResume {
			t.Error("a session was resumed")
		}
		if _, err := c.Write([]byte("\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01a")); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, make([]byte, 4)); err != nil {
			t.Fatal(err)
		}
		_ = c.Close()
	}
}

// With users besides, a certificate is one way in and a password another.
func TestCertificateOrPassword(t *testing.T) {
	ca := testca.New(t, "authority")
	server := ca.Issue("broker")
	file := usersFile(t, gatewayA)
	text, _ := os.ReadFile(file)
	write(t, file, string(text)+"bridge 7:-:*\n")
	b := startWith(t, broker.Options{TLSCert: server.CertFile, TLSKey: server.KeyFile, TLSClientCA: ca.File, UsersFile: file})
	_, seen := observe(t, b)
	with := func(config *tls.Config) func(*paho.ClientOptions) {
		config.RootCAs = ca.Pool()
		return secured(b, config)
	}
	bridge := ca.Issue("bridge 7")
	byCertificate := connect(t, b, "certified", with(&tls.Config{Certificates: []tls.Certificate{bridge.TLS}}))
	await(t, byCertificate.Publish("gateway/"+gatewayB+"/event/up", 1, false, "x"))
	receive(t, seen)
	connect(t, b, "with password", with(&tls.Config{}), as(gatewayA, "sesame"))
	refuses(t, b, "with nothing", with(&tls.Config{}))
	refuses(t, b, "a line without password", with(&tls.Config{}), as("bridge 7", "-"))
}

// A renewed certificate is used without a restart, and broken files are not.
func TestCertificateIsReadAgain(t *testing.T) {
	ca := testca.New(t, "authority")
	first := ca.Issue("first")
	second := ca.Issue("second")
	b := startWith(t, broker.Options{TLSCert: first.CertFile, TLSKey: first.KeyFile})
	shown := func() string {
		t.Helper()
		c, err := tls.Dial("tcp", b.Addr().String(), &tls.Config{RootCAs: ca.Pool()})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		return c.ConnectionState().PeerCertificates[0].Subject.CommonName
	}
	if got := shown(); got != "first" {
		t.Fatalf("certificate of %s", got)
	}
	write(t, first.CertFile, "half a file")
	broker.LookAgain(b)
	if got := shown(); got != "first" {
		t.Fatalf("certificate of %s while the file is broken", got)
	}
	for from, to := range map[string]string{second.CertFile: first.CertFile, second.KeyFile: first.KeyFile} {
		text, _ := os.ReadFile(from)
		write(t, to, string(text))
	}
	broker.LookAgain(b)
	if got := shown(); got != "second" {
		t.Errorf("certificate of %s", got)
	}
}

func TestDoorsThatAreNotOpened(t *testing.T) {
	ca := testca.New(t, "authority")
	server := ca.Issue("broker")
	users, missing := usersFile(t, gatewayA), filepath.Join(t.TempDir(), "missing")
	broken := filepath.Join(t.TempDir(), "broken")
	write(t, broken, "a:sesame-open-yourself")
	for _, test := range []struct {
		name    string
		options broker.Options
		says    string
	}{
		{"public, with users, without TLS", broker.Options{Listen: "0.0.0.0:0", UsersFile: users}, "embedded_insecure"},
		{"public, with TLS, without users", broker.Options{Listen: "0.0.0.0:0", TLSCert: server.CertFile, TLSKey: server.KeyFile}, "without a password"},
		{"public, insecure, without users", broker.Options{Listen: "0.0.0.0:0", Insecure: true}, "without a password"},
		{"client certificates without TLS", broker.Options{Listen: "127.0.0.1:0", TLSClientCA: ca.File}, "need TLS"},
		{"no file of users", broker.Options{Listen: "127.0.0.1:0", UsersFile: missing}, "embedded_users_file"},
		{"a password that is not hashed", broker.Options{Listen: "127.0.0.1:0", UsersFile: broken}, "line 1: the password must be hashed"},
		{"no key", broker.Options{Listen: "127.0.0.1:0", TLSCert: server.CertFile}, "embedded_tls_key"},
		{"no authority", broker.Options{Listen: "127.0.0.1:0", TLSCert: server.CertFile, TLSKey: server.KeyFile, TLSClientCA: broken}, "no PEM certificate"},
	} {
		b, err := broker.Start(test.options)
		if err == nil {
			_ = b.Close()
		}
		if err == nil || !strings.Contains(err.Error(), test.says) || strings.Contains(err.Error(), "sesame") {
			t.Errorf("%s: %v", test.name, err)
		}
	}
	for _, allowed := range []broker.Options{
		{Listen: "0.0.0.0:0", UsersFile: users, Insecure: true},
		{Listen: "0.0.0.0:0", UsersFile: users, TLSCert: server.CertFile, TLSKey: server.KeyFile},
		{Listen: "0.0.0.0:0", TLSClientCA: ca.File, TLSCert: server.CertFile, TLSKey: server.KeyFile},
	} {
		b, err := broker.Start(allowed)
		if err != nil {
			t.Errorf("%+v: %v", allowed, err)
			continue
		}
		_ = b.Close()
	}
}
