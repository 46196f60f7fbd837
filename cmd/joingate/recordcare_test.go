package main

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
)

// A record is backed up while the server runs, and restored on a machine that has
// nothing but the key file: the device joins there, beyond every JoinNonce it had.
func TestBackupAndRestore(t *testing.T) {
	t.Parallel()
	d := newMachine(t).serve()
	c, _ := d.site(gatewayA)
	devices := newDevices(0, 1, "1.0.4")
	c.register("meters", devices...)
	node := switchAllOn(t, devices)[0]
	d.field(gatewayA).join(node)
	backup := filepath.Join(t.TempDir(), "backup.db")
	d.run("record", "backup", backup)
	if o := d.try("record", "backup", backup); o.status != 1 {
		t.Errorf("a backup was overwritten: %+v", o)
	}

	m := newMachine(t, "JOINGATE_KEYS__KEK_FILE="+d.keyFile)
	if o := m.try("record", "restore", backup, "--jump", "0"); o.status != 1 || !strings.Contains(o.stderr, "--jump") {
		t.Errorf("JoinNonces stay as they are: %+v", o)
	}
	m.run("record", "restore", backup)
	if o := m.try("record", "restore", backup); o.status != 1 {
		t.Errorf("a record was overwritten: %+v", o)
	}
	if out := m.run("record", "check"); !strings.Contains(out, "nothing is wrong") {
		t.Errorf("check of the restored record: %s", out)
	}
	restored := m.serve()
	restored.field(gatewayA).join(node)
	var rows []sessionRow
	check(t, json.Unmarshal([]byte(restored.run("session", "list", "--json")), &rows))
	if len(rows) == 0 || rows[0].JoinNonce <= 65536 {
		t.Errorf("sessions after the restoration: %+v", rows)
	}
}

func TestRequireOwn(t *testing.T) {
	t.Parallel()
	d := newMachine(t).serve()
	_, permission := d.site(gatewayA)
	d.run("permission", "set", permission, "--require-own=true")
	var set bool
	record := openDatabase(t, d.record)
	check(t, record.conn.QueryRowContext(t.Context(), `SELECT require_own FROM join_permissions WHERE id = ?`, permission).Scan(&set))
	if !set {
		t.Error("it is not set")
	}
	if o := d.try("permission", "set", "42", "--require-own=true"); o.status != 1 || !strings.Contains(o.stderr, "not registered") {
		t.Errorf("of a permission that is not there: %+v", o)
	}
}

// The lines that broker user prints let gateways in, each under its own id.
func TestBrokerUsers(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	password := m.write("gw.txt", "a long and random one\n")
	users := m.write("users", m.run("broker", "user", "bridge", "--rights", "*", "--password-file", password))
	d := m.with("JOINGATE_MQTT__EMBEDDED_USERS_FILE=" + users).serve()
	csv := m.write("nodes.csv", nodeFile("", newDevices(0, 1, "1.0.3")...))
	if o := d.try("simulate", "--broker", d.broker, "--devices", csv, "--region", "101", "--timeout", "1s"); o.status != 1 {
		t.Errorf("somebody without a password came in: %+v", o)
	}
	if o := d.try("simulate", "--broker", d.broker, "--devices", csv, "--region", "101", "--timeout", "1s", "--username", "bridge", "--password-file", password); strings.Contains(o.stderr, "not authorized") || strings.Contains(o.stderr, "refused") {
		t.Errorf("the bridge did not come in: %+v", o)
	}
}
