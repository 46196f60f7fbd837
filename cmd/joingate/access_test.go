package main

import (
	"encoding/json"
	"strings"
	"testing"

	"joingate/linkwan"
)

// refused makes a call that has to fail with the code.
func (c client) refused(code, action string, params ...string) {
	c.t.Helper()
	o := c.keys().try(append([]string{"call", action}, params...)...)
	var answer struct{ Code string }
	check(c.t, json.Unmarshal([]byte(o.stdout), &answer))
	if o.status != 1 || answer.Code != code {
		c.t.Errorf("%s: exit status %d, code %q, want 1 and %q", action, o.status, answer.Code, code)
	}
}

// as is the client with another AccessKey.
func (c client) as(keyDocument string) client {
	c.t.Helper()
	check(c.t, json.Unmarshal([]byte(keyDocument), &c.credentials))
	return c
}

// What the operator sets is in force for the next call, while the server runs.
func TestAccountSet(t *testing.T) {
	t.Parallel()
	d := newMachine(t).serve()
	c, _ := d.site(gatewayA)
	create := []string{"JoinPermissionName=second", "FreqBandPlanGroupId=101", "ClassMode=A", "UseDefaultJoinEui=true"}
	list := []string{"Offset=0", "Limit=10"}
	for _, x := range []struct {
		flag, undo   string
		code, action string
		params       []string
	}{
		{"--risk-control=true", "--risk-control=false", "ForbiddenByRiskControl", "ListFreqBandPlanGroups", nil},
		{"--product-activated=false", "--product-activated=true", "CloudProductNotActivated", "ListOwnedJoinPermissions", list},
		{"--features=GATEWAY", "--features=" + strings.Join(linkwan.Features(), ","), "FeatureNotActivated", "ListOwnedJoinPermissions", list},
		{"--instance-id=iot-1", "--instance-id=", "MissingParameter", "ListRentedJoinPermissions", list},
		{"--local-join-permission-limit=1", "--local-join-permission-limit=9", "ExceedLocalJoinPermissionLimit", "CreateLocalJoinPermission", create},
	} {
		d.run("account", "set", c.name, x.flag)
		c.refused(x.code, x.action, x.params...)
		d.run("account", "set", c.name, x.undo)
		c.keys().run(append([]string{"call", x.action}, x.params...)...)
	}
	for _, x := range [][]string{{}, {"--features=LASERS"}} {
		if o := d.try(append([]string{"account", "set", c.name}, x...)...); o.status != 1 {
			t.Errorf("account set %q: exit status %d, want 1", x, o.status)
		}
	}
}

// A RAM user may do what its policy allows, with keys that the operator can take
// away; the audit shows every write with its RequestId.
func TestUsersKeysAndAudit(t *testing.T) {
	t.Parallel()
	d := newMachine(t).serve()
	c, permission := d.site(gatewayA)
	policy := d.write("policy.json", `{"Version":"1","Statement":[{"Effect":"Allow","Action":"linkwan:Get*","Resource":"*"}]}`)
	d.run("user", "create", "reader", "--account", c.name, "--policy", policy)
	reader := c.as(d.run("accesskey", "create", "--account", c.name, "--user", "reader", "--json"))
	reader.call("GetOwnedJoinPermission", "JoinPermissionId="+permission)
	reader.refused("ForbiddenByRam", "DeleteLocalJoinPermission", "JoinPermissionId="+permission)

	second := c.as(d.run("accesskey", "create", "--account", c.name, "--json"))
	second.update(permission, "RxDelay=7")
	d.run("accesskey", "disable", second.AccessKeyID)
	second.refused("InvalidAccessKeyId.Inactive", "GetOwnedJoinPermission", "JoinPermissionId="+permission)
	c.call("GetOwnedJoinPermission", "JoinPermissionId="+permission)

	change := d.audited(second, "UpdateOwnedLocalJoinPermission").Changes[0]
	if change.ID != permission || !strings.Contains(string(change.New), "7") || string(change.Old) == string(change.New) {
		t.Errorf("the audit does not say what changed: %s -> %s", change.Old, change.New)
	}
}

// audited gives the line of a client's call of an action, which says who made it,
// from where, and its RequestId.
func (d *daemon) audited(c client, action string) auditRow {
	d.t.Helper()
	var lines []auditRow
	check(d.t, json.Unmarshal([]byte(d.run("audit", "--json")), &lines))
	for _, line := range lines {
		if line.Action != action {
			continue
		}
		if line.AccessKeyID != c.AccessKeyID || line.AccountID != c.AccountID || line.RequestID == "" || line.From != "127.0.0.1" {
			d.t.Errorf("the audit does not say who and from where: %+v", line)
		}
		return line
	}
	d.t.Fatalf("the audit has no line of %s, but %d others", action, len(lines))
	return auditRow{}
}

func TestMistakesWithUsersAndKeys(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.run("account", "create", "acme")
	good := m.write("good.json", `{"Version":"1","Statement":[{"Effect":"Allow","Action":"linkwan:*","Resource":"*"}]}`)
	bad := m.write("bad.json", `{"Version":"1","Statement":[{"Effect":"Perhaps","Action":"linkwan:*","Resource":"*"}]}`)
	m.run("user", "create", "ann", "--account", "acme", "--policy", good)
	checkMistakes(t, []mistake{
		{"policy that cannot be heeded", m, []string{"user", "create", "bob", "--account", "acme", "--policy", bad}, []string{"bad.json"}},
		{"no policy file", m, []string{"user", "create", "bob", "--account", "acme", "--policy", "none.json"}, []string{"none.json"}},
		{"taken user name", m, []string{"user", "create", "ann", "--account", "acme", "--policy", good}, []string{"ann", "another name"}},
		{"key of an unknown user", m, []string{"accesskey", "create", "--account", "acme", "--user", "eve"}, []string{"eve", "user create"}},
		{"unknown key", m, []string{"accesskey", "disable", "LTAINOBODY"}, []string{"LTAINOBODY"}},
		{"reset of what?", m, []string{"node", "reset-nonces"}, []string{"DEVEUI", "--join-permission"}},
		{"reset of an unknown permission", m, []string{"node", "reset-nonces", "--join-permission", "4711"}, []string{"4711", "does not exist"}},
	})
}

// A network operator's remedy for a whole series of devices that forget their
// DevNonces.
func TestResetNoncesOfAPermission(t *testing.T) {
	t.Parallel()
	d := newMachine(t).serve()
	c, permission := d.site(gatewayA)
	devices := []device{newDevice(1, "1.0.4").counting(100), newDevice(2, "1.1").counting(100)}
	c.register("meters", devices...)
	f := d.field(gatewayA)
	for _, dev := range devices {
		if r := f.join(dev.switchOn(t)); !r.Joined {
			t.Fatalf("%s has not joined: %s", r.DevEUI, r.Reason)
		}
	}
	d.run("node", "reset-nonces", "--join-permission", permission)
	for _, dev := range devices { // as if a battery was changed: they count from 5
		if r := f.join(dev.counting(5).switchOn(t)); !r.Joined || r.JoinNonce != 2 {
			t.Errorf("%s after the reset: joined %t, JoinNonce %d, %s", r.DevEUI, r.Joined, r.JoinNonce, r.Reason)
		}
	}
}
