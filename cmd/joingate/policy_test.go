package main

import (
	"testing"
)

// What an administrator or operator sets is what the next join meets, also where
// the server has the old policy in its cache.

func TestPolicyUpdateBetweenTwoJoins(t *testing.T) {
	t.Parallel()
	d := newMachine(t).serve()
	c, permission := d.site(gatewayA)
	var devices []device
	for i, version := range demoVersions {
		devices = append(devices, newDevice(i, version))
	}
	c.register("meters", devices...)
	f := d.field(gatewayA)
	nodes := switchAllOn(t, devices)
	for _, set := range []struct {
		params            []string
		rxDelay, dataRate int
	}{
		{[]string{"RxDelay=2", "DataRate=1"}, 2, 1},
		{[]string{"RxDelay=15", "DataRate=5"}, 15, 5},
		{[]string{"RxDelay=1"}, 1, 5}, // one left out stays
		{[]string{"DataRate=0"}, 1, 0},
	} {
		c.update(permission, set.params...)
		for _, node := range nodes {
			if r := f.join(node); r.RxDelay != set.rxDelay || r.DataRate != set.dataRate {
				t.Errorf("%s after %v: RxDelay %d, DataRate %d", node, set.params, r.RxDelay, r.DataRate)
			}
		}
	}
}

func TestSwitchedOffAtOnce(t *testing.T) {
	t.Parallel()
	d := newMachine(t).serve()
	c, permission := d.site(gatewayA)
	meter := newDevice(1, "1.0.4")
	c.register("meters", meter)
	f := d.field(gatewayA)
	node := meter.switchOn(t)
	f.join(node)

	for _, s := range []struct {
		reason  string
		off, on func()
	}{
		{
			"permission_disabled",
			func() { c.enablePermission(permission, false) },
			func() { c.enablePermission(permission, true) },
		},
		{
			"device_disabled",
			func() { d.run("node", "set", meter.eui.String(), "--enabled=false") },
			func() { d.run("node", "set", meter.eui.String(), "--enabled=true") },
		},
		{
			"gateway_not_allowed",
			func() { d.run("gateway", "remove", gatewayA.String()) },
			func() { c.gateways("101", gatewayA) },
		},
		{
			"unknown_device",
			func() { d.run("node", "remove", meter.eui.String()) },
			func() { c.register("meters", meter) },
		},
	} {
		s.off()
		f.ask(gatewayA, node)
		eventually(t, "the join is refused as "+s.reason, func() bool { return d.joins(s.reason) == 1 })
		s.on()
		f.join(node)
	}
}

// A removed device goes on where it was: with its DevNonces, so that no old
// join-request lives again, and with its JoinNonce, so that no session key does.
func TestRemovedDeviceKeepsItsNonces(t *testing.T) {
	t.Parallel()
	d := newMachine(t).serve()
	c, _ := d.site(gatewayA)
	f := d.field(gatewayA)
	const devNonce = 1000
	// A frame is a copy for as long as its join-accept may be on its way; another
	// key makes another frame with the same DevNonce.
	owners := newDevices(1, 3, "1.0.3")
	for i := range owners {
		owners[i].eui = owners[0].eui
	}
	again := func(i int) {
		d.run("node", "remove", owners[0].eui.String())
		c.register("meters", owners[i])
	}

	c.register("meters", owners[0])
	if r := f.join(owners[0].counting(devNonce).switchOn(t)); r.JoinNonce != 1 {
		t.Errorf("first JoinNonce is %d", r.JoinNonce)
	}
	again(1)
	f.ask(gatewayA, owners[1].counting(devNonce).switchOn(t))
	eventually(t, "the DevNonce is refused", func() bool { return d.joins("dev_nonce_replayed") == 1 })
	if r := f.join(owners[1].counting(devNonce + 1).switchOn(t)); r.JoinNonce != 2 {
		t.Errorf("JoinNonce after the node was imported again is %d, want 2", r.JoinNonce)
	}
	again(2)
	d.run("node", "reset-nonces", owners[0].eui.String())
	if r := f.join(owners[2].counting(devNonce).switchOn(t)); r.JoinNonce != 3 {
		t.Errorf("JoinNonce after reset-nonces is %d, want 3", r.JoinNonce)
	}
}

// A device that counts may begin anew after reset-nonces.
func TestResetNoncesOfACountingDevice(t *testing.T) {
	t.Parallel()
	d := newMachine(t).serve()
	c, _ := d.site(gatewayA)
	f := d.field(gatewayA)
	meter := newDevice(1, "1.0.4")
	c.register("meters", meter)
	f.join(meter.counting(5).switchOn(t))
	f.ask(gatewayA, meter.counting(4).switchOn(t))
	eventually(t, "the lower DevNonce is refused", func() bool { return d.joins("dev_nonce_replayed") == 1 })
	d.run("node", "reset-nonces", meter.eui.String())
	if r := f.join(meter.counting(3).switchOn(t)); r.JoinNonce != 2 {
		t.Errorf("JoinNonce is %d, want 2", r.JoinNonce)
	}
}
