package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"joingate/config"
)

func TestKeyCommand(t *testing.T) {
	one, two := strings.Repeat("11", 32), strings.Repeat("22", 32)
	for name, c := range map[string]struct {
		command []string
		fault   string
	}{
		"two keys":  {[]string{"printf", one + "\n" + two + "\n"}, ""},
		"fails":     {[]string{"sh", "-c", "echo token has expired >&2; exit 3"}, "token has expired"},
		"no key":    {[]string{"true"}, "0 keys"},
		"bad key":   {[]string{"printf", one[2:]}, "64 hex digits"},
		"not there": {[]string{"/nonexistent/vault"}, "/nonexistent/vault"},
	} {
		source, err := kekSource(config.Config{Keys: config.Keys{KEKCommand: c.command}}, false)
		check(t, err)
		keks, err := source()
		if c.fault == "" {
			if err != nil || len(keks) != 2 || keks[1][0] != 0x22 {
				t.Errorf("%s: %d keys, %v", name, len(keks), err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), c.fault) || strings.Contains(err.Error(), one[2:]) {
			t.Errorf("%s: error %v must name %q, and no key", name, err, c.fault)
		}
	}
}

// The key is replaced under a server that runs: devices go on joining, and the old
// key opens nothing any more.
func TestKeyIsReplacedWhileServing(t *testing.T) {
	t.Parallel()
	d := newMachine(t).serve()
	c, _ := d.site(gatewayA)
	devices := newDevices(0, 2, "1.0.4")
	c.register("meters", devices...)
	f := d.field(gatewayA)
	nodes := switchAllOn(t, devices)
	f.join(nodes[0])
	file := filepath.Join(d.dir, "joingate-data", "kek")
	old, err := os.ReadFile(file)
	check(t, err)
	if out := d.run("keys", "rotate"); !strings.Contains(out, "has a new key") || !strings.Contains(out, "1 older keys are taken out") {
		t.Errorf("rotate said %s", out)
	}
	now, err := os.ReadFile(file)
	check(t, err)
	if strings.Contains(string(now), strings.TrimSpace(string(old))) {
		t.Error("the old key is in the key file still")
	}
	for _, node := range nodes { // the first is in the policy cache, the second is not
		f.join(node)
	}
	check(t, os.WriteFile(file, old, 0o600))
	if o := d.try("account", "list"); o.status != 1 || !strings.Contains(o.stderr, "key file") {
		t.Errorf("with the old key: %+v", o)
	}
}

// A session is listed, confirmed and revoked; no listing shows a key.
func TestSessions(t *testing.T) {
	t.Parallel()
	d := newMachine(t).serve()
	c, _ := d.site(gatewayA)
	devices := newDevices(0, 1, "1.0.4")
	c.register("meters", devices...)
	f := d.field(gatewayA)
	node := switchAllOn(t, devices)[0]
	f.join(node)
	f.join(node)
	eui := devices[0].eui.String()
	list := func() (rows []sessionRow) {
		check(t, json.Unmarshal([]byte(d.run("session", "list", "--dev-eui", eui, "--json")), &rows))
		return rows
	}
	rows := list()
	if len(rows) != 2 || rows[0].JoinNonce != 2 || rows[0].Confirmed {
		t.Fatalf("after two joins: %+v", rows)
	}
	c.call("ConfirmNodeSession", "DevEui="+eui, "JoinNonce=1") // the device has not heard the second join-accept
	if rows = list(); len(rows) != 2 {
		t.Errorf("after an uplink in the session before the newest: %+v", rows)
	}
	c.call("ConfirmNodeSession", "DevEui="+eui, "JoinNonce=2")
	if rows = list(); len(rows) != 1 || !rows[0].Confirmed {
		t.Errorf("after the confirmation: %+v", rows)
	}
	if change := d.audited(c, "ConfirmNodeSession").Changes[0]; change.ID != eui+"-2" {
		t.Errorf("the audit says that %s was confirmed", change.ID)
	}
	if out := d.run("session", "list", "--dev-addr", rows[0].DevAddr.String()); !strings.Contains(out, eui) {
		t.Errorf("by DevAddr: %s", out)
	}
	if o := d.try("session", "confirm", eui, "1"); o.status != 1 || !strings.Contains(o.stderr, "no such live session") {
		t.Errorf("confirming what has ended: %+v", o)
	}
	d.run("session", "revoke", eui)
	if rows = list(); len(rows) != 0 {
		t.Errorf("after it was revoked: %+v", rows)
	}
	f.join(node)
	if rows = list(); len(rows) != 1 || rows[0].JoinNonce != 3 {
		t.Errorf("after it has joined again: %+v", rows)
	}
}
