package main

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"joingate/tlsfile/testca"
)

// A broker that knows everybody by certificate, with the rights of deploy/: who
// has them joins, whoever has not is told.
func TestClientCertificatesAtMosquitto(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("mosquitto"); err != nil {
		t.Skip("mosquitto is not installed: apt-get install mosquitto")
	}
	acl, err := filepath.Abs("../../deploy/mosquitto/acl")
	check(t, err)
	ca := testca.New(t, "authority")
	server := ca.Issue("broker")
	m, address := newMachine(t), freeAddress(t)
	m.startMosquittoWith(address, strings.Join([]string{
		"user root", "allow_anonymous false", "require_certificate true", "use_identity_as_username true", "max_queued_messages 100000",
		"cafile " + ca.File, "certfile " + server.CertFile, "keyfile " + server.KeyFile, "acl_file " + acl, "",
	}, "\n"))
	m = m.with("JOINGATE_MQTT__URL=mqtts://"+address, "JOINGATE_MQTT__TLS_CA="+ca.File)
	as := func(i testca.Issued) machine {
		return m.with("JOINGATE_MQTT__TLS_CERT="+i.CertFile, "JOINGATE_MQTT__TLS_KEY="+i.KeyFile)
	}
	for name, c := range map[string]struct {
		machine              machine
		result, text, remedy string
	}{
		"our user":            {as(ca.Issue("joingate")), checkedOK, "it queues 1200 messages", ""},
		"another user":        {as(ca.Issue("stranger")), checkedWarn, "does not come back", "joingate/_/doctor/#"},
		"no certificate":      {m, checkedFail, address, "client certificate"},
		"another authority's": {as(testca.New(t, "other").Issue("joingate")), checkedFail, address, "client certificate"},
		"authority left out":  {m.with("JOINGATE_MQTT__TLS_CA="), checkedFail, "unknown authority", "tls_ca"},
		"TLS left out":        {m.with("JOINGATE_MQTT__URL=mqtt://"+address, "JOINGATE_MQTT__TLS_CA="), checkedFail, address, "mqtts://"},
		"nobody there":        {m.with("JOINGATE_MQTT__URL=mqtts://127.0.0.2:1"), checkedFail, "127.0.0.2:1", "the way to it"},
	} {
		findings, _ := c.machine.doctor()
		tells(t, findings, "broker", c.result, c.text)
		if c.remedy != "" && !mentions(findings, "broker", c.remedy) {
			t.Errorf("%s: nothing of %q in %+v", name, c.remedy, findings)
		}
	}

	d := as(ca.Issue("joingate")).serve()
	c, _ := d.site(gatewayA)
	devices := newDevices(0, 2, "1.0.3")
	c.register("meters", devices...)
	csv := d.write("nodes.csv", nodeFile("", devices...))
	for name, try := range map[string]struct {
		flags   []string
		patient bool
		says    string
	}{
		"a bridge":                    {shown(ca, ca.Issue("bridge")), true, "2 of 2 devices have joined"},
		"the gateway itself":          {shown(ca, ca.Issue(gatewayA.String())), true, "2 of 2 devices have joined"},
		"another gateway":             {shown(ca, ca.Issue(gatewayB.String())), false, "0 of 2 devices have joined"},
		"nobody":                      {[]string{"--tls-ca", ca.File}, false, "--tls-cert"},
		"somebody of another country": {shown(ca, testca.New(t, "other").Issue("bridge")), false, "does not take the certificate"},
		"who trusts others":           {nil, false, "--tls-ca"},
		"half a pair":                 {[]string{"--tls-cert", ca.File}, false, "tls-key"},
	} {
		wait := patience
		if !try.patient {
			wait = time.Second
		}
		args := []string{"simulate", "--broker", "mqtts://" + address, "--devices", csv, "--region", "101", "--rate", "4", "--first-gateway", gatewayA.String(), "--timeout", wait.String()}
		if o := d.try(append(args, try.flags...)...); !strings.Contains(o.stdout+o.stderr, try.says) {
			t.Errorf("%s: %+v", name, o)
		}
	}
}

// shown are the flags with which simulate shows a certificate.
func shown(ca *testca.Authority, i testca.Issued) []string {
	return []string{"--tls-ca", ca.File, "--tls-cert", i.CertFile, "--tls-key", i.KeyFile}
}

func mentions(findings []finding, check, remedy string) bool {
	for _, f := range findings {
		if f.Check == check && strings.Contains(f.Remedy, remedy) {
			return true
		}
	}
	return false
}

// A private authority is named where a command has no flag for it.
func TestCommandsTellHowToTrust(t *testing.T) {
	t.Parallel()
	ca := testca.New(t, "authority")
	api, ops := ca.Issue("api"), ca.Issue("ops")
	m := newMachine(t, "JOINGATE_API__TLS_CERT="+api.CertFile, "JOINGATE_API__TLS_KEY="+api.KeyFile, "JOINGATE_OPS__TLS_CERT="+ops.CertFile, "JOINGATE_OPS__TLS_KEY="+ops.KeyFile)
	d := m.launch()
	other := newMachine(t, "JOINGATE_ACCESS_KEY_ID=x", "JOINGATE_ACCESS_KEY_SECRET=y")
	for _, args := range [][]string{
		{"call", "ListFreqBandPlanGroups", "--endpoint", d.api},
		{"rejects", "--endpoint", d.operations},
	} {
		if o := other.try(args...); !strings.Contains(o.stderr, "SSL_CERT_FILE") {
			t.Errorf("%v: %+v", args, o)
		}
		if o := other.with("SSL_CERT_FILE=" + ca.File).try(args...); strings.Contains(o.stderr, "certificate") {
			t.Errorf("%v: %+v", args, o)
		}
	}
}

// The doctor and serve say what is wrong with a Redis that wants a certificate.
func TestRedisWantsACertificate(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("redis-server"); err != nil {
		t.Skip("redis-server is not installed: apt-get install redis-server")
	}
	ca := testca.New(t, "authority")
	server, address := ca.Issue("redis"), freeAddress(t)
	m := newMachine(t)
	_, port, _ := strings.Cut(address, ":")
	c := exec.Command("redis-server", "--port", "0", "--tls-port", port, "--bind", "127.0.0.1", "--save", "", "--dir", m.dir,
		"--tls-cert-file", server.CertFile, "--tls-key-file", server.KeyFile, "--tls-ca-cert-file", ca.File, "--requirepass", "sesame")
	check(t, c.Start())
	t.Cleanup(func() { _ = c.Process.Kill(); _ = c.Wait() })
	m = m.with("JOINGATE_CACHE__URL=rediss://"+address, "JOINGATE_CACHE__TLS_CA="+ca.File, "JOINGATE_CACHE__PASSWORD_FILE="+m.write("password", "sesame"))
	own := m.with("JOINGATE_CACHE__TLS_CERT="+server.CertFile, "JOINGATE_CACHE__TLS_KEY="+server.KeyFile)
	eventually(t, "Redis answers", func() bool { findings, _ := own.doctor(); return findingOf(findings, "redis").Result == checkedOK })
	findings, _ := m.doctor()
	tells(t, findings, "redis", checkedFail, "set [cache] tls_cert and tls_key")
	findings, _ = m.with("JOINGATE_CACHE__URL=redis://"+address, "JOINGATE_CACHE__TLS_CA=").doctor()
	tells(t, findings, "redis", checkedFail, "write rediss://")
	d := m.serve()
	eventually(t, "serve tells it", func() bool {
		return len(d.logged("Redis does not answer as it should; joins go on without it, slower: joingate doctor looks at it")) > 0
	})
}

func findingOf(findings []finding, check string) finding {
	for _, f := range findings {
		if f.Check == check {
			return f
		}
	}
	return finding{}
}

// serve starts with a certificate that has expired, and says so.
func TestServeWarnsOfCertificates(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	cert, key := m.certificate("gone", time.Now().AddDate(0, 0, -1))
	d := m.with("JOINGATE_API__TLS_CERT="+cert, "JOINGATE_API__TLS_KEY="+key).launch()
	eventually(t, "serve tells it", func() bool { return strings.Contains(d.log.String(), "has expired") })
}

func TestDoctorAtWebhook(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m = m.with("JOINGATE_EVENTS__WEBHOOK_SECRET_FILE=" + m.write("secret", "s"))
	ca := testca.New(t, "authority")
	api := ca.Issue("api")
	d := newMachine(t, "JOINGATE_API__TLS_CERT="+api.CertFile, "JOINGATE_API__TLS_KEY="+api.KeyFile).launch()
	there := m.with("JOINGATE_EVENTS__WEBHOOK_URL=" + d.api + "/joins")
	for _, c := range []struct {
		machine      machine
		result, text string
	}{
		{there.with("JOINGATE_EVENTS__WEBHOOK_CA=" + ca.File), checkedOK, "nothing was posted"},
		{there, checkedFail, "unknown authority"},
		{m.with("JOINGATE_EVENTS__WEBHOOK_URL=http://127.0.0.1:1"), checkedFail, "refused"},
	} {
		findings, _ := c.machine.doctor()
		tells(t, findings, "webhook", c.result, c.text)
	}
}
