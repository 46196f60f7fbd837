package main

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"joingate/record"
)

// doctor runs joingate doctor and gives what it found, and its exit status.
func (m machine) doctor(args ...string) (findings []finding, status int) {
	m.t.Helper()
	o := m.try(append([]string{"doctor", "--json"}, args...)...)
	if err := json.Unmarshal([]byte(o.stdout), &findings); err != nil {
		m.t.Fatalf("doctor printed no JSON: %v\n%s%s", err, o.stdout, o.stderr)
	}
	return findings, o.status
}

// told gives the first finding of a check with a text in it.
func told(findings []finding, check, text string) (finding, bool) {
	for _, f := range findings {
		if f.Check == check && strings.Contains(f.Text, text) {
			return f, true
		}
	}
	return finding{}, false
}

// tells checks that the doctor says something, with this result, and what to do.
func tells(t *testing.T, findings []finding, check, result, text string) {
	t.Helper()
	f, found := told(findings, check, text)
	if !found || f.Result != result || result == checkedFail && f.Remedy == "" {
		t.Errorf("no %s of %s tells %q with a remedy: %+v", result, check, text, findings)
	}
}

// On a fresh machine nothing is wrong, and nothing is made.
func TestDoctorOnAFreshMachine(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	findings, status := m.doctor()
	for _, f := range findings {
		if f.Result == checkedFail {
			t.Errorf("%+v", f)
		}
	}
	if status != 0 {
		t.Errorf("exit status %d", status)
	}
	if made, err := os.ReadDir(m.dir); err != nil || len(made) != 0 {
		t.Errorf("it made %v (%v)", made, err)
	}
	if text := m.run("doctor"); !strings.HasPrefix(text, "ok    configuration: it loads\n") {
		t.Errorf("it printed\n%s", text)
	}
}

// Beside a server that runs, the ports are ours, and nothing is changed.
func TestDoctorBesideAServer(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m = m.with("JOINGATE_API__LISTEN="+freeAddress(t), "JOINGATE_OPS__LISTEN="+freeAddress(t))
	d := m.serve()
	record, err := os.ReadFile(d.record)
	check(t, err)
	findings, status := m.doctor()
	tells(t, findings, "server", checkedOK, "is ready")
	tells(t, findings, "ports", checkedOK, "a joingate runs here")
	tells(t, findings, "disk", checkedOK, "a sync in")
	tells(t, findings, "key file", checkedOK, "mode 0600")
	tells(t, findings, "record", checkedOK, "is a SQLite database")
	if status != 0 {
		t.Errorf("exit status %d: %+v", status, findings)
	}
	if now, err := os.ReadFile(d.record); err != nil || !bytes.Equal(now, record) {
		t.Error("the record changed")
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(d.record), ".doctor-*")); len(left) != 0 {
		t.Errorf("it left %v", left)
	}
}

// With --record it opens the record as well, and looks through it.
func TestDoctorLooksThroughTheRecord(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.run("account", "create", "acme")
	findings, status := m.doctor("--record")
	tells(t, findings, "record", checkedOK, "its rows agree")
	tells(t, findings, "nonces", checkedOK, "no device has used over 90 %")
	tells(t, findings, "events", checkedOK, "0 join events wait for mqtt")
	if status != 0 {
		t.Errorf("exit status %d: %+v", status, findings)
	}
	m.write("joingate-data/kek", strings.Repeat("0123456789abcdef", 4))
	findings, status = m.doctor("--record")
	tells(t, findings, "record", checkedFail, "key")
	if status != 1 {
		t.Errorf("exit status %d with another key file", status)
	}
}

// What a reset gives back is told from what never comes back.
func TestDoctorOnNonces(t *testing.T) {
	t.Parallel()
	for counter, want := range map[string]string{"DevNonce": "reset-nonces", "RJcount1": "reset-nonces", "JoinNonce": "a new DevEUI"} {
		if got := exhaustionRemedy(record.Exhaustion{Counter: counter}); !strings.Contains(got, want) {
			t.Errorf("%s: %s", counter, got)
		}
	}
}

// Each line is a mistake that an operator makes, and what the doctor says of it.
func TestDoctorFindsMistakes(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	t.Cleanup(func() { _ = taken.Close() })
	kek := strings.Repeat("0123456789abcdef", 4)
	for name, c := range map[string]struct {
		files    map[string]string
		mode     os.FileMode
		environ  []string
		check    string
		result   string
		text     string
		harmless bool // exit status 0
	}{
		"configuration that does not load": {environ: []string{"JOINGATE_LOG__LEVEL=loud"}, check: "configuration", result: checkedFail, text: "log.level"},
		"public address without TLS": {
			environ: []string{"JOINGATE_API__LISTEN=:0"}, check: "doors", result: checkedFail, text: "api.listen",
		},
		"operations for everybody": {
			environ: []string{"JOINGATE_OPS__LISTEN=0.0.0.0:0", "JOINGATE_OPS__INSECURE=true"}, check: "doors", result: checkedWarn, text: "no password", harmless: true,
		},
		"port of another program": {
			environ: []string{"JOINGATE_API__LISTEN=" + taken.Addr().String()}, check: "ports", result: checkedFail, text: "is in use, and not by a joingate",
		},
		"key file for everybody": {
			files: map[string]string{"joingate-data/kek": kek}, mode: 0o644, check: "key file", result: checkedFail, text: "everybody on this machine",
		},
		"key file for a group": {
			files: map[string]string{"joingate-data/kek": kek}, mode: 0o640, check: "key file", result: checkedWarn, text: "a group", harmless: true,
		},
		"key file that holds no key": {
			files: map[string]string{"joingate-data/kek": "hello"}, check: "key file", result: checkedFail, text: "64 hex digits",
		},
		"key file that is gone": {
			files: map[string]string{"joingate-data/joingate.db": sqliteHeading}, check: "key file", result: checkedFail, text: "is missing",
		},
		"record that is none": {
			files: map[string]string{"joingate-data/joingate.db": "this is no database", "joingate-data/kek": kek}, check: "record", result: checkedFail, text: "no SQLite database",
		},
		"password file that is not there": {
			environ: []string{"JOINGATE_MQTT__PASSWORD_FILE=nowhere"}, check: "secrets", result: checkedFail, text: "mqtt.password_file",
		},
		"password file for everybody": {
			files: map[string]string{"secret": "x"}, mode: 0o644, environ: []string{"JOINGATE_MQTT__PASSWORD_FILE=secret"},
			check: "secrets", result: checkedWarn, text: "everybody", harmless: true,
		},
		"certificate that is none": {
			files: map[string]string{"cert.pem": "x", "key.pem": "x"}, environ: []string{"JOINGATE_API__TLS_CERT=cert.pem", "JOINGATE_API__TLS_KEY=key.pem"},
			check: "certificates", result: checkedFail, text: "api.tls_cert",
		},
		"Redis that is away":  {environ: []string{"JOINGATE_CACHE__URL=redis://127.0.0.1:1"}, check: "redis", result: checkedFail, text: "127.0.0.1:1"},
		"broker that is away": {environ: []string{"JOINGATE_MQTT__URL=mqtt://127.0.0.1:1"}, check: "broker", result: checkedFail, text: "127.0.0.1:1"},
		"PostgreSQL that is away": {
			files: map[string]string{"joingate-data/kek": kek}, environ: []string{"JOINGATE_RECORD__URL=postgres://u@127.0.0.1:1/d"},
			check: "record", result: checkedFail, text: "127.0.0.1:1",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMachine(t, c.environ...)
			check(t, os.Mkdir(filepath.Join(m.dir, "joingate-data"), 0o700))
			for file, text := range c.files {
				path := m.write(file, text)
				if c.mode != 0 {
					check(t, os.Chmod(path, c.mode))
				}
			}
			findings, status := m.doctor()
			tells(t, findings, c.check, c.result, c.text)
			if (status == 0) != c.harmless {
				t.Errorf("exit status %d: %+v", status, findings)
			}
		})
	}
}

// certificate writes a certificate that is valid until then, and its key.
func (m machine) certificate(name string, until time.Time) (certFile, keyFile string) {
	m.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(m.t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: until.AddDate(-1, 0, 0), NotAfter: until,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	check(m.t, err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	check(m.t, err)
	return m.write(name+".pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))),
		m.write(name+".key", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})))
}

func TestDoctorReadsDates(t *testing.T) {
	t.Parallel()
	now := time.Now()
	for name, c := range map[string]struct {
		until        time.Time
		result, text string
	}{
		"gone":      {now.AddDate(0, 0, -1), checkedFail, "has expired"},
		"soon":      {now.AddDate(0, 0, 10), checkedWarn, "expires on"},
		"good":      {now.AddDate(0, 6, 0), checkedOK, "is valid until"},
		"notbefore": {now.AddDate(2, 0, 0), checkedFail, "is valid from"},
	} {
		m := newMachine(t)
		cert, key := m.certificate(name, c.until)
		findings, _ := m.with("JOINGATE_API__TLS_CERT="+cert, "JOINGATE_API__TLS_KEY="+key).doctor()
		tells(t, findings, "certificates", c.result, c.text)
		_, other := m.certificate("other", now)
		findings, status := m.with("JOINGATE_API__TLS_CERT="+cert, "JOINGATE_API__TLS_KEY="+other).doctor()
		tells(t, findings, "certificates", checkedFail, "private key does not match")
		if status != 1 {
			t.Errorf("exit status %d", status)
		}
	}
}

// mosquitto with its defaults loses messages of clients that are away; with
// the limits of deploy/ it does not.
func TestDoctorAtMosquitto(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("mosquitto"); err != nil {
		t.Skip("mosquitto is not installed: apt-get install mosquitto")
	}
	acl, err := filepath.Abs("../../deploy/mosquitto/acl")
	check(t, err)
	for name, c := range map[string]struct{ config, result, text string }{
		"defaults":           {"allow_anonymous true\n", checkedWarn, "it kept 1000"},
		"limits":             {"allow_anonymous true\nmax_queued_messages 100000\n", checkedOK, "it queues 1200 messages"},
		"rights":             {"allow_anonymous true\nmax_queued_messages 100000\nacl_file " + acl + "\n", checkedOK, "it queues 1200 messages"},
		"no rights":          {"allow_anonymous true\nacl_file /dev/null\n", checkedWarn, "does not come back"},
		"strangers stay out": {"allow_anonymous false\n", checkedFail, "the user may not connect"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMachine(t)
			address := freeAddress(t)
			m.startMosquittoWith(address, c.config)
			findings, _ := m.with("JOINGATE_MQTT__URL=mqtt://"+address, "JOINGATE_MQTT__SHARE_GROUP=joingate", "JOINGATE_MQTT__USERNAME=joingate").doctor()
			tells(t, findings, "broker", c.result, c.text)
			if name != "defaults" && name != "limits" {
				return
			}
			tells(t, findings, "broker", checkedOK, "it keeps retained messages")
			p, err := dialMQTT(t.Context(), mqttBroker{address: address}, "looker", true)
			check(t, err)
			defer p.close()
			_, err = p.subscribe("joingate/#")
			check(t, err)
			check(t, p.settle())
			if len(p.arrived) != 0 {
				t.Errorf("it left %+v at the broker", p.arrived)
			}
		})
	}
}

// startMosquittoWith starts a broker with further lines of configuration.
func (m machine) startMosquittoWith(address, lines string) {
	m.t.Helper()
	_, port, err := net.SplitHostPort(address)
	check(m.t, err)
	config := m.write("mosquitto.conf", "listener "+port+" 127.0.0.1\npersistence false\nsys_interval 1\n"+lines)
	c := exec.Command("mosquitto", "-c", config)
	check(m.t, c.Start())
	m.t.Cleanup(func() { _ = c.Process.Kill(); _ = c.Wait() })
	eventually(m.t, "mosquitto listens", func() bool {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	})
}

func TestDoctorAtRedis(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("redis-server"); err != nil {
		t.Skip("redis-server is not installed: apt-get install redis-server")
	}
	m := newMachine(t)
	address := freeAddress(t)
	m.startRedis(address)
	m = m.with("JOINGATE_CACHE__URL=redis://" + address)
	say := func(words ...string) {
		t.Helper()
		conn, err := net.Dial("tcp", address)
		check(t, err)
		defer conn.Close()
		_, err = redisProbe{conn, bufio.NewReader(conn)}.ask(words...)
		check(t, err)
	}
	findings, _ := m.doctor()
	tells(t, findings, "redis", checkedWarn, "its memory has no limit")
	tells(t, findings, "redis", checkedOK, "persistence is as it should be")
	tells(t, findings, "clock", checkedOK, "Redis at "+address)

	say("CONFIG", "SET", "maxmemory", "100mb")
	findings, _ = m.doctor()
	tells(t, findings, "redis", checkedWarn, "noeviction")
	say("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
	say("CONFIG", "SET", "save", "60 1")
	findings, status := m.doctor()
	tells(t, findings, "redis", checkedWarn, "it writes to disk what can be rebuilt")
	if status != 0 {
		t.Errorf("exit status %d: %+v", status, findings)
	}
	findings, status = m.with("JOINGATE_EVENTS__REDIS_STREAM=joins").doctor()
	tells(t, findings, "redis", checkedFail, "throws join events")
	tells(t, findings, "redis", checkedWarn, "is lost when Redis restarts")
	if status != 1 {
		t.Errorf("exit status %d", status)
	}
	say("CONFIG", "SET", "requirepass", "sesame")
	findings, _ = m.doctor()
	tells(t, findings, "redis", checkedFail, "NOAUTH")
	findings, _ = m.with("JOINGATE_CACHE__PASSWORD_FILE=" + m.write("password", "wrong")).doctor()
	tells(t, findings, "redis", checkedFail, "are refused")
	findings, _ = m.with("JOINGATE_CACHE__PASSWORD_FILE=" + m.write("password", "sesame")).doctor()
	tells(t, findings, "redis", checkedOK, "answers in")
}

func TestParseServerURL(t *testing.T) {
	for text, want := range map[string]string{
		"redis://h":                               "redis||h:6379||",
		"redis://h:1/2":                           "redis||h:1|2|",
		"rediss://u@h":                            "rediss|u|h:6379||",
		"redis-sentinel://a:1,b/master?tls=true":  "redis-sentinel||a:1,b:6379|master|tls=true",
		"postgres://u%40x:p@a,b:2/d?sslmode=none": "postgres|u@x|a:6379,b:2|d|sslmode=none",
		"redis://[::1]":                           "redis||[::1]:6379||",
	} {
		u := parseServerURL(text, "6379")
		if got := strings.Join([]string{u.scheme, u.user, strings.Join(u.hosts, ","), u.path, u.query.Encode()}, "|"); got != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
}

// Whatever answers in the place of Redis, reading ends, and holds little.
func FuzzReadReply(f *testing.F) {
	for _, seed := range []string{"+OK\r\n", "-ERR no\r\n", "$5\r\nhello\r\n", "$-1\r\n", "*2\r\n$1\r\na\r\n:5\r\n", "*1023\r\n*1023\r\n", "$1048575\r\n", "HTTP/1.1 400 Bad Request\r\n\r\n", "*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, reply []byte) {
		texts, err := readReply(bufio.NewReader(bytes.NewReader(reply)), 0)
		size := 0
		for _, text := range texts {
			size += len(text)
		}
		if err == nil && size > len(reply) {
			t.Errorf("%d octets of %d", size, len(reply))
		}
	})
}

// onePacket is a connection on which something has come, and to which anything
// may be written.
type onePacket struct {
	net.Conn
}

func (onePacket) Write(p []byte) (int, error) { return len(p), nil }

// Whatever answers in the place of a broker, reading ends, and holds little.
func FuzzMQTTPackets(f *testing.F) {
	for _, seed := range [][]byte{
		{0x20, 2, 0, 0},
		{0x90, 3, 0, 1, 1},
		{0x30, 5, 0, 1, 'a', 'b', 'c'},
		{0x32, 6, 0, 1, 'a', 0, 1, 'x'},
		{0x32, 3, 0, 1, 'a'},
		{0x30, 1, 0},
		{0x30, 2, 0xff, 0xff},
		{0x20, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
		[]byte("HTTP/1.1 400\r\n"),
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, stream []byte) {
		p := &mqttProbe{conn: onePacket{}, in: bufio.NewReader(io.MultiReader(bytes.NewReader(stream)))}
		for range len(stream) + 1 {
			if _, err := p.await(packetSubAck); err != nil {
				break
			}
		}
		size := 0
		for _, m := range p.arrived {
			size += len(m.topic) + len(m.payload)
		}
		if size > len(stream) {
			t.Errorf("%d octets of %d", size, len(stream))
		}
	})
}
