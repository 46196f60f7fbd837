package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"joingate/band"
	"joingate/config"
	"joingate/joinserver"
	"joingate/record"
	"joingate/sim"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
)

// One site in each group, with a device of each version, all at one server.
func TestDevicesJoinInEveryBandPlanGroupOverMQTT(t *testing.T) {
	t.Parallel()
	c := config.Default()
	c.DataDir = t.TempDir()
	c.MQTT.EmbeddedListen, c.API.Listen, c.Ops.Listen = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"
	c.Join.CollectWindow, c.Join.Airtime = 10*time.Millisecond, "off" // the devices do not wait for the air
	s, err := startServer(t.Context(), c, zap.NewNop())
	check(t, err)
	t.Cleanup(func() { check(t, s.close()) })

	sites := bandSites()
	registerSites(t, s.record, sites)
	results := make([][]sim.Result, len(sites))
	var running errgroup.Group
	running.SetLimit(4) // a machine that is busy otherwise answers these in time
	for i, site := range sites {
		devices := switchAllOn(t, site.devices)
		running.Go(func() (err error) {
			results[i], err = sim.Simulate(t.Context(), sim.Options{
				Broker: s.brokerURL, QoS: 1, Devices: devices, GatewayEUIs: []sim.EUI{site.gateway}, Timeout: patience,
			})
			return err
		})
	}
	check(t, running.Wait())
	joins := 0
	for i, site := range sites {
		for j, r := range results[i] {
			if !r.Joined || r.RxDelay != 3 || r.DataRate != site.rate || r.CFList != "" && !slices.Equal(r.Channels, site.uplinkChannels(true)) {
				t.Errorf("%s, %s: %+v", site.name, site.devices[j].version, r)
			}
			joins++
		}
	}
	t.Logf("%d joins", joins)
}

// bandSite is one gateway and devices of one band plan group.
type bandSite struct {
	bandCase
	gateway sim.EUI
	devices []device
}

func bandSites() (sites []bandSite) {
	for _, c := range bandCases() {
		site := bandSite{bandCase: c, gateway: sim.EUI(0xb0000 + c.id)}
		for i, version := range bandVersions {
			d := newDevice(int(c.id)*10+i, version)
			d.region = c.region
			site.devices = append(site.devices, d)
		}
		sites = append(sites, site)
	}
	return sites
}

// registerSites writes to the record what the admin API would, which takes only
// five calls a second.
func registerSites(t *testing.T, r *record.Record, sites []bandSite) {
	t.Helper()
	var nodes []record.NewNode
	check(t, r.Update(t.Context(), operator("test"), func(tx *record.Tx) error {
		if _, err := createAccount(tx, "acme", ""); err != nil {
			return err
		}
		account, err := accountNamed(tx, "acme")
		if err != nil {
			return err
		}
		for _, site := range sites {
			permission, err1 := tx.InsertPermission(joinserver.Permission{
				JoinPermission: joinserver.JoinPermission{
					Type: joinserver.Local, Owner: account.ID, Enabled: true, JoinEUI: joinEUIOf(t, site.devices[0]),
					BandPlanGroup: site.id, ClassMode: "A", RxDelay: 3 * time.Second,
				},
				Name: site.name, AuthState: joinserver.Accepted, Renter: account.ID,
			})
			group, err2 := tx.InsertGroup(joinserver.Group{Account: account.ID, Name: site.name, PermissionID: permission})
			gateway, err3 := joinserver.ParseEUI64(site.gateway.String())
			if err := errors.Join(err1, err2, err3, addGateway(tx, gateway, "acme", site.id)); err != nil {
				return err
			}
			for _, d := range site.devices {
				n := nodeOf(t, d)
				n.Account, n.GroupID = account.ID, group
				nodes = append(nodes, n)
			}
		}
		return nil
	}))
	check(t, r.ImportNodes(t.Context(), operator("test"), nodes, func(int) {}))
}

// ownGroup has four narrow channels and the wide one of a US915 sub-band.
const ownGroup = `
[[band_plan_groups]]
id = 10000
name = "half of FSB2"
base = "US915-FSB2"
rx1_dr_offset = 2
channels = [
  { frequency = 903900000 }, { frequency = 904100000 }, { frequency = 904300000, max_data_rate = 2 }, { frequency = 904500000 },
  { frequency = 904600000 },
]
`

// An operator's own group: the commands show it, a permission can be of it, and
// devices join in it, on its channels and no others.
func TestOperatorsOwnBandPlanGroup(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m = m.with("JOINGATE_CONFIG=" + m.write("joingate.toml", ownGroup))
	m.run("config", "check")
	if out := m.run("band", "list"); !strings.Contains(out, "10000  half of FSB2  US915\n") {
		t.Errorf("band list:\n%s", out)
	}
	var shown band.Description
	check(t, json.Unmarshal([]byte(m.run("band", "show", "10000", "--json")), &shown))
	mask := "000f0000000000000200000000000001" // channels 8 to 11 and 65
	if len(shown.JoinChannels) != 5 || shown.CFList["1.0.4"] != mask || shown.CFList["1.0.2"] != "" {
		t.Errorf("band show: %d join channels, CFLists %v", len(shown.JoinChannels), shown.CFList)
	}

	d := m.serve()
	c := d.account("acme")
	if out := c.keys().run("call", "ListFreqBandPlanGroups"); !strings.Contains(out, "10000") {
		t.Errorf("ListFreqBandPlanGroups lacks the group: %s", out)
	}
	c.group("meters", c.permission("own_group", "10000", "RxDelay=4"))
	c.gateways("half of FSB2", gatewayA)
	meter := newDevice(1, "1.0.4")
	meter.region = "US915-FSB2"
	c.register("meters", meter)
	listening := newEar(t, d.broker)
	field, switchedOn := d.field(gatewayA), meter.switchOn(t)
	for _, channel := range []sim.Channel{{Frequency: 904_300_000, DataRate: 2}, {Frequency: 904_600_000, DataRate: 4}} {
		r, err := field.air.JoinOn(t.Context(), switchedOn, channel)
		check(t, err)
		if !r.Joined || r.RxDelay != 4 || r.DataRate != 8 || r.RX1DROffset != 2 || r.CFList != mask ||
			!slices.Equal(r.Channels, mhz(903.9, 904.1, 904.3, 904.5, 904.6)) {
			t.Errorf("%v: %+v", channel, r)
		}
	}

	refused := map[sim.Channel]string{
		{Frequency: 905_300_000, DataRate: 0}: "905.3 MHz SF10BW125 is no join channel of 10000 half of FSB2; 905.3 MHz is a join channel of 1100 US915, 1102 US915-FSB2",
		{Frequency: 904_300_000, DataRate: 3}: "904.3 MHz SF7BW125 is no join channel of 10000 half of FSB2; 904.3 MHz is a join channel of 1100 US915, 1102 US915-FSB2",
	}
	for channel, detail := range refused {
		up, err := switchedOn.JoinRequestOn(channel)
		check(t, err)
		field.hears(gatewayA, up)
		eventually(t, "event and log say "+detail, func() bool {
			told := slices.ContainsFunc(listening.heard("/event/reject"), func(m message) bool {
				var event struct{ Reason, Detail string }
				return json.Unmarshal(m.payload, &event) == nil && event.Reason == "wrong_band_plan" && event.Detail == detail
			})
			return told && slices.ContainsFunc(d.logged("join refused"), func(l logLine) bool {
				return l.Reason == "wrong_band_plan" && l.Detail == detail
			})
		})
	}
}

// A mistake in a group of one's own is named with its field.
func TestConfigCheckNamesTheFieldOfABandPlanGroup(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	for i, c := range []struct{ old, new, says string }{
		{"id = 10000", "id = 5000", "band plan group 5000: id: "},
		{`"half of FSB2"`, `"EU868"`, `band plan group 10000: name: "EU868" is the name of group 1000`},
		{`"US915-FSB2"`, `"US915-FSB9"`, `band plan group 10000: base: "US915-FSB9" is no group`},
		{"rx1_dr_offset = 2", "rx1_dr_offset = 4", "band plan group 10000: rx1_dr_offset: is 4; US915 has 0 to 3"},
		{"rx1_dr_offset = 2", "power_dbm = 40", "band plan group 10000: power_dbm: "},
		{"rx1_dr_offset = 2", "rx2 = { data_rate = 0 }", "band plan group 10000: rx2.data_rate: "},
		{"rx1_dr_offset = 2", "cf_list = { channels = [72] }", "band plan group 10000: cf_list.channels[0]: "},
		{"904100000", "868100000", "band plan group 10000: channels[1].frequency: 868.1 MHz is outside of the 902 to 928 MHz of US915"},
		{"max_data_rate = 2", "max_data_rate = 9", "band plan group 10000: channels[2].max_data_rate: "},
		{"rx1_dr_offset = 2", "rx1_offset = 2", "rx1_offset"},
		{"id = 10000", `id = "ten thousand"`, "id"},
	} {
		text := strings.Replace(ownGroup, c.old, c.new, 1)
		path := m.write(fmt.Sprintf("%d.toml", i), text)
		var stdout, stderr bytes.Buffer
		status := run(t.Context(), []string{"config", "check", "--config", path}, m.environ, &stdout, &stderr)
		if status != 1 || stdout.Len() > 0 || !strings.Contains(stderr.String(), c.says) {
			t.Errorf("%s: exit status %d, %q, %q; want %q", c.new, status, stdout.String(), stderr.String(), c.says)
		}
	}
}
