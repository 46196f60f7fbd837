package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"joingate/sim"
)

// line is the way of one band plan group: what the client sets, and how the
// gateway bridge there speaks.
type line struct {
	plan, region string // name of the band plan group; region of the simulator
	gateway      sim.EUI
	rxDelay      int
	dataRate     int // -1: left out
	forms        [2]form
}

// form is how a gateway bridge speaks.
type form struct {
	encoding sim.Encoding
	prefix   string
}

// Each band plan group is used through two forms, each form at least once.
var (
	acmeLines = []line{
		{"101", "101", 0xa1, 3, 2, [2]form{{sim.V4Protobuf, ""}, {sim.V3JSON, "cn470"}}},
		{"102", "102", 0xa2, 1, 0, [2]form{{sim.V4JSON, "cn470"}, {sim.V3Protobuf, ""}}},
		{"201", "201", 0xa3, 15, 3, [2]form{{sim.V3Protobuf, "as923"}, {sim.V4Protobuf, "as923"}}},
	}
	globexLines = []line{
		{"EU868", "EU868", 0xb1, 7, 5, [2]form{{sim.V3JSON, ""}, {sim.V4JSON, ""}}},
		{"US915-FSB2", "US915-FSB2", 0xb2, 2, -1, [2]form{{sim.V4Protobuf, "us915"}, {sim.V3JSON, "us915"}}},
	}
)

// Two clients come to a fresh machine without a file of ours and do everything
// by the commands while the server runs.
func TestTwoClientsOnAFreshMachine(t *testing.T) {
	t.Parallel()
	d := newMachine(t).serve()
	if want := filepath.Join(d.dir, "joingate-data"); filepath.Dir(d.record) != want || filepath.Dir(d.keyFile) != want {
		t.Errorf("record %s and key file %s are not in %s", d.record, d.keyFile, want)
	}
	info, err := os.Stat(d.keyFile)
	check(t, err)
	if info.Mode().Perm() != 0o600 {
		t.Errorf("key file has mode %o", info.Mode())
	}
	t.Run("clients", func(t *testing.T) {
		for name, lines := range map[string][]line{"acme": acmeLines, "globex": globexLines} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				m := *d
				m.t = t
				c := m.account(name)
				for i, l := range lines {
					c.travel(l, i)
				}
			})
		}
	})
	if accepted, want := d.joins("accepted"), float64(5*2*len(demoVersions)); accepted != want {
		t.Errorf("%v joins were accepted, want %v", accepted, want)
	}
}

// travel goes all the way of one band plan group, from the permission to the
// join-accept that the devices decrypt.
func (c client) travel(l line, number int) {
	c.t.Helper()
	plan := c.bandPlan(l.plan)
	group := fmt.Sprintf("group_%d", number)
	c.group(group, c.permission(fmt.Sprintf("permission_%d", number), strconv.FormatInt(plan.Group, 10), l.params()...))
	var devices []device
	for i, version := range demoVersions {
		devices = append(devices, newDevice(int(l.gateway)<<8+i, version))
	}
	c.register(group, devices...)
	c.gateways(l.plan, l.gateway)
	file := c.write(fmt.Sprintf("devices-%s.csv", l.plan), nodeFile(group, devices...))
	for i, f := range l.forms {
		results := c.simulate(file, l, f, i)
		for j, r := range results {
			c.checkResult(l, f, plan, devices[j], r)
		}
	}
}

func (l line) params() []string {
	params := []string{fmt.Sprintf("RxDelay=%d", l.rxDelay)}
	if l.dataRate >= 0 {
		params = append(params, fmt.Sprintf("DataRate=%d", l.dataRate))
	}
	return params
}

// simulate runs joingate simulate. DevNonces go on from run to run.
func (c client) simulate(file string, l line, f form, run int) (results []sim.Result) {
	c.t.Helper()
	out := c.run("simulate", "--json", "--broker", c.broker, "--devices", file, "--region", l.region,
		"--first-gateway", l.gateway.String(), "--encoding", f.encoding.String(), "--prefix", f.prefix,
		"--first-dev-nonce", strconv.Itoa(run), "--timeout", patience.String())
	check(c.t, json.Unmarshal([]byte(out), &results))
	if len(results) != len(demoVersions) {
		c.t.Fatalf("%d results for %d devices", len(results), len(demoVersions))
	}
	return results
}

// decrypted is what a device read, as far as it was set.
type decrypted struct {
	joined            bool
	rxDelay, dataRate int
	netID, cfList     string
	optNeg            bool
	gateway           string
}

// checkResult compares what a device decrypted with what was set.
func (c client) checkResult(l line, f form, plan shownPlan, d device, r sim.Result) {
	c.t.Helper()
	want := decrypted{true, l.rxDelay, l.dataRate, "000000", plan.CFList[d.version], d.version == "1.1", l.gateway.String()}
	if l.dataRate < 0 {
		want.dataRate = plan.JoinChannels[0].RX2.DataRate
	}
	if l.plan == "201" && r.CFList == "" {
		want.cfList = "" // with it the join-accept would last longer than 400 ms at the slower data rates
	}
	got := decrypted{r.Joined, r.RxDelay, r.DataRate, r.NetID, r.CFList, r.OptNeg, r.Gateway}
	if got != want || r.DevEUI != d.eui {
		c.t.Errorf("%s device of %s through %s %q: %+v, want %+v %s", d.version, l.plan, f.encoding, f.prefix, got, want, r.Reason)
	}
}

// shownPlan is what the tests read of band show.
type shownPlan struct {
	Group        int64
	JoinChannels []struct {
		RX2 struct {
			DataRate int `json:"data_rate"`
		}
	} `json:"join_channels"`
	CFList map[string]string `json:"cf_list"`
}

func (m machine) bandPlan(name string) (plan shownPlan) {
	m.t.Helper()
	check(m.t, json.Unmarshal([]byte(m.run("band", "show", name, "--json")), &plan))
	return plan
}
