package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"text/tabwriter"
	"time"

	"joingate/band"
	"joingate/config"
	"joingate/joinserver"
	"joingate/keyring"
	"joingate/linkwan"
	"joingate/record"
	"joingate/sim"

	"github.com/spf13/cobra"
	"go.uber.org/zap"
)

func (p *program) demoCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "demo",
		Short: "Show the main job: devices join, the join permission changes, they join again",
		Long: `Show the main job, in one process, in a temporary folder and on free ports: an
administrator sets a join permission through the signed API, simulated devices
join through simulated gateways, the administrator changes RxDelay and DataRate,
and the devices join again. Nothing stays behind. The exit status is 0 only if
every device decrypted the values that were set.`,
		Example: "  joingate demo",
		Args:    cobra.NoArgs,
		RunE:    func(c *cobra.Command, _ []string) error { return p.demo(c.Context()) },
	}
}

// rule is what the demo sets in the join permission.
type rule struct {
	RxDelay  int // seconds
	DataRate int
}

const demoGroup = "101" // Link WAN's CN470, up and down on the same frequency

func (p *program) demo(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "joingate-demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	settings := config.Default()
	settings.Join.Airtime = "off" // the devices do not wait until frames have been on the air
	settings.DataDir = dir
	settings.MQTT.EmbeddedListen, settings.API.Listen, settings.Ops.Listen = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"
	s, err := startServer(ctx, settings, zap.NewNop())
	if err != nil {
		return err
	}
	d := demo{out: p.stdout, server: s}
	if err := d.run(ctx); err != nil {
		return errors.Join(err, s.close())
	}
	return s.close()
}

// demo is one run of it.
type demo struct {
	out          io.Writer
	server       *server
	client       linkwan.Client
	permissionID string
	devices      []*sim.Device
}

func (d *demo) run(ctx context.Context) error {
	before, after := rule{RxDelay: 1, DataRate: 0}, rule{RxDelay: 5, DataRate: 3}
	d.say("A join server for this demo alone runs on %s, with gateways on %s.\n", d.server.apiURL, d.server.brokerURL)
	if err := d.provision(ctx, before); err != nil {
		return err
	}
	first, err := d.join(ctx, before)
	if err != nil {
		return err
	}
	d.say("\nThe administrator changes the rule: UpdateOwnedLocalJoinPermission RxDelay=%d DataRate=%d", after.RxDelay, after.DataRate)
	if _, err := d.call(ctx, "UpdateOwnedLocalJoinPermission", map[string]string{
		"JoinPermissionId": d.permissionID, "RxDelay": strconv.Itoa(after.RxDelay), "DataRate": strconv.Itoa(after.DataRate),
	}); err != nil {
		return err
	}
	second, err := d.join(ctx, after)
	if err != nil {
		return err
	}
	d.say("\nWhat the devices decrypted:")
	d.compare(first, second)
	d.say("\nEvery device saw the new values: RxDelay %d s -> %d s, DataRate %d -> %d.", before.RxDelay, after.RxDelay, before.DataRate, after.DataRate)
	return nil
}

// provision makes all that a join needs.
func (d *demo) provision(ctx context.Context, r rule) error {
	if err := d.makeAccount(ctx); err != nil {
		return err
	}
	var err error
	d.permissionID, err = d.call(ctx, "CreateLocalJoinPermission", map[string]string{
		"JoinPermissionName": "demo_meters", "FreqBandPlanGroupId": demoGroup, "ClassMode": "A", "UseDefaultJoinEui": "true",
		"RxDelay": strconv.Itoa(r.RxDelay), "DataRate": strconv.Itoa(r.DataRate),
	})
	if err != nil {
		return err
	}
	d.say("  join permission %s: band plan group %s, RxDelay %d s, DataRate %d", d.permissionID, demoGroup, r.RxDelay, r.DataRate)
	groupID, err := d.call(ctx, "CreateNodeGroup", map[string]string{"NodeGroupName": "demo_group", "JoinPermissionId": d.permissionID})
	if err != nil {
		return err
	}
	d.say("  node group %s, bound to it", groupID)
	return d.register(ctx, groupID)
}

func (d *demo) makeAccount(ctx context.Context) error {
	var made credentials
	err := d.server.record.Update(ctx, operator("demo"), func(tx *record.Tx) (err error) {
		made, err = createAccount(tx, "demo", "")
		return err
	})
	if err != nil {
		return err
	}
	d.client = linkwan.Client{Endpoint: d.server.apiURL, AccessKeyID: made.AccessKeyID, Secret: keyring.NewSecret(made.AccessKeySecret)}
	d.say("Through the signed admin API an administrator makes")
	d.say("  account %s with AccessKey %s", made.AccountID, made.AccessKeyID)
	return nil
}

// call makes a call and gives its Data as text.
func (d *demo) call(ctx context.Context, action string, params map[string]string) (string, error) {
	answer, err := d.client.Call(ctx, action, params)
	if err != nil {
		return "", err
	}
	var body struct{ Data json.RawMessage }
	if err := json.Unmarshal(answer, &body); err != nil {
		return "", fmt.Errorf("answer of %s: %w", action, err)
	}
	var text string
	if json.Unmarshal(body.Data, &text) != nil {
		text = string(body.Data)
	}
	return text, nil
}

// demoVersions are the LoRaWAN versions of the demo's devices.
var demoVersions = []string{"1.0.2", "1.0.3", "1.0.4", "1.1"}

// register makes gateways and devices.
func (d *demo) register(ctx context.Context, groupID string) error {
	const pin = "314159"
	for i, eui := range sim.GatewayEUIs(0, 3) {
		_, err := d.call(ctx, "CreateGateway", map[string]string{
			"GwEui": eui.String(), "PinCode": pin, "Name": fmt.Sprintf("demo_gateway_%d", i+1), "FreqBandPlanGroupId": demoGroup,
			"CommunicationMode": "HALF_DUPLEX", "City": "Hangzhou", "District": "Xihu", "Address": "roof", "AddressCode": "330106",
			"GisCoordinateSystem": "WGS_84", "Longitude": "120.1", "Latitude": "30.2",
		})
		if err != nil {
			return err
		}
	}
	nodes := make([]record.NewNode, len(demoVersions))
	for i, version := range demoVersions {
		var err error
		if nodes[i], err = d.newDevice(i, version); err != nil {
			return err
		}
		nodes[i].PinCode = pin
	}
	if err := d.server.record.ImportNodes(ctx, operator("demo"), nodes, func(int) {}); err != nil {
		return err
	}
	for _, n := range nodes {
		if _, err := d.call(ctx, "AddNodeToGroup", map[string]string{"DevEui": n.DevEUI.String(), "PinCode": pin, "NodeGroupId": groupID}); err != nil {
			return err
		}
	}
	d.say("  3 gateways and %d devices of LoRaWAN %v\n", len(nodes), demoVersions)
	return nil
}

// newDevice makes a device and the node that stands for it in the record.
func (d *demo) newDevice(i int, version string) (n record.NewNode, err error) {
	appKey, nwkKey := randomHex(keyring.KeySize), ""
	if version == "1.1" {
		nwkKey = randomHex(keyring.KeySize)
	}
	devEUI := fmt.Sprintf("d896e0ffff01%04x", i+1)
	c := sim.DeviceConfig{MACVersion: version, Region: demoGroup}
	var errs [8]error
	c.DevEUI, errs[0] = sim.ParseEUI(devEUI)
	c.JoinEUI, errs[1] = sim.ParseEUI(d.server.config.Network.DefaultJoinEUI)
	c.AppKey, errs[2] = sim.ParseKey(appKey)
	n.DevEUI, errs[3] = joinserver.ParseEUI64(devEUI)
	n.Keys.App, errs[4] = keyring.ParseKey(appKey)
	n.MACVersion, errs[5] = band.ParseMACVersion(version)
	if nwkKey != "" {
		c.NwkKey, errs[6] = sim.ParseKey(nwkKey)
		n.Keys.Nwk, errs[7] = keyring.ParseKey(nwkKey)
	}
	if err := errors.Join(errs[:]...); err != nil {
		return n, err
	}
	device, err := sim.NewDevice(c)
	d.devices = append(d.devices, device)
	return n, err
}

// join lets all devices join and checks what they decrypted.
func (d *demo) join(ctx context.Context, want rule) ([]sim.Result, error) {
	d.say("The devices join, each heard by 3 gateways …")
	results, err := sim.Simulate(ctx, sim.Options{
		Broker: d.server.brokerURL, Devices: d.devices, Gateways: 3, Scatter: sim.Scatter{Copies: 3, SNR: 8, Seed: 1}, Timeout: 7 * time.Second,
	})
	if err != nil {
		return nil, err
	}
	for _, r := range results {
		if !r.Joined {
			return nil, fmt.Errorf("device %s has not joined: %s", r.DevEUI, r.Reason)
		}
		if got := (rule{r.RxDelay, r.DataRate}); got != want {
			return nil, fmt.Errorf("device %s decrypted %+v, the administrator had set %+v", r.DevEUI, got, want)
		}
	}
	return results, nil
}

func (d *demo) compare(first, second []sim.Result) {
	t := tabwriter.NewWriter(d.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "  DEVICE\tLORAWAN\tDEVADDR\tRXDELAY\tDATARATE\tANSWERED BY")
	for i, a := range first {
		b := second[i]
		fmt.Fprintf(t, "  %s\t%s\t%s -> %s\t%d s -> %d s\t%d -> %d\t%s, %s\n",
			a.DevEUI, demoVersions[i], a.DevAddr, b.DevAddr, a.RxDelay, b.RxDelay, a.DataRate, b.DataRate, a.Gateway, b.Gateway)
	}
	_ = t.Flush()
}

func (d *demo) say(format string, args ...any) { fmt.Fprintf(d.out, format+"\n", args...) }

func randomHex(octets int) string {
	b := make([]byte, octets)
	_, _ = rand.Read(b) // never fails
	return hex.EncodeToString(b)
}
