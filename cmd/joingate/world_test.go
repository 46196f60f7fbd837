package main

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"joingate/sim"

	paho "github.com/eclipse/paho.mqtt.golang"
)

// client is an account, as the operator hands it out.
type client struct {
	*daemon
	name string
	credentials
}

// account makes an account by the command.
func (d *daemon) account(name string) client {
	d.t.Helper()
	c := client{daemon: d, name: name}
	check(d.t, json.Unmarshal([]byte(d.run("account", "create", name, "--json")), &c.credentials))
	return c
}

// keys is the machine with the client's AccessKey in the environment.
func (c client) keys() machine {
	return c.with("JOINGATE_ENDPOINT="+c.api, "JOINGATE_ACCESS_KEY_ID="+c.AccessKeyID, "JOINGATE_ACCESS_KEY_SECRET="+c.AccessKeySecret)
}

// call makes a call that has to succeed and gives its Data, if that is a text.
func (c client) call(action string, params ...string) string {
	c.t.Helper()
	var answer struct {
		Success bool
		Data    any
	}
	check(c.t, json.Unmarshal([]byte(c.keys().run(append([]string{"call", action}, params...)...)), &answer))
	if !answer.Success {
		c.t.Fatalf("%s: answer without success", action)
	}
	text, _ := answer.Data.(string)
	return text
}

// defaultJoinEUI is the one of the default configuration.
const defaultJoinEUI sim.EUI = 0xd896e0efff000000

// permission makes a join permission with the default JoinEUI.
func (c client) permission(name, plan string, params ...string) (id string) {
	c.t.Helper()
	return c.call("CreateLocalJoinPermission", append([]string{
		"JoinPermissionName=" + name, "FreqBandPlanGroupId=" + plan, "ClassMode=A", "UseDefaultJoinEui=true",
	}, params...)...)
}

// update changes a join permission.
func (c client) update(id string, params ...string) {
	c.t.Helper()
	c.call("UpdateOwnedLocalJoinPermission", append([]string{"JoinPermissionId=" + id}, params...)...)
}

func (c client) enablePermission(id string, enabled bool) {
	c.t.Helper()
	c.call("UpdateOwnedLocalJoinPermissionEnablingState", "JoinPermissionId="+id, fmt.Sprintf("Enabled=%t", enabled))
}

// group makes a node group that is bound to the permission.
func (c client) group(name, permission string) {
	c.t.Helper()
	c.call("CreateNodeGroup", "NodeGroupName="+name, "JoinPermissionId="+permission)
}

// gateways registers gateways.
func (c client) gateways(plan string, euis ...sim.EUI) {
	c.t.Helper()
	for _, eui := range euis {
		c.run("gateway", "add", eui.String(), "--account", c.name, "--band-plan-group", plan)
	}
}

// register imports the devices into a group; "" for none.
func (c client) register(group string, devices ...device) {
	c.t.Helper()
	path := c.write(fmt.Sprintf("nodes-%s.csv", devices[0].eui), nodeFile(group, devices...))
	c.run("node", "import", path, "--account", c.name)
}

// site is what most tests need: a client with a permission for band plan group
// 101, a group "meters" bound to it, and gateways.
func (d *daemon) site(gateways ...sim.EUI) (c client, permission string) {
	d.t.Helper()
	c = d.account("acme")
	permission = c.permission("meters_101", "101")
	c.group("meters", permission)
	c.gateways("101", gateways...)
	return c, permission
}

// Gateways of the tests.
const (
	gatewayA sim.EUI = 0x0016c001f150000a
	gatewayB sim.EUI = 0x0016c001f150000b
	gatewayC sim.EUI = 0x0016c001f150000c
	gatewayD sim.EUI = 0x0016c001f150000d
)

// device is what a maker writes into a device and on its papers.
type device struct {
	eui             sim.EUI
	version, region string
	joinEUI         sim.EUI
	appKey, nwkKey  string // hex digits
	nonces          sim.Nonces
	firstDevNonce   uint16
}

// newDevice gives a device of its own to each number: for band plan group 101,
// with the default JoinEUI.
func newDevice(number int, version string) device {
	d := device{
		eui: sim.EUI(0xd896e0ffff000000 + uint64(number)), version: version, region: "101", joinEUI: defaultJoinEUI,
		appKey: keyOf("AppKey", number),
	}
	if version == "1.1" {
		d.nwkKey = keyOf("NwkKey", number)
	}
	return d
}

// newDevices gives devices of one version, numbered from first on.
func newDevices(first, n int, version string) []device {
	all := make([]device, n)
	for i := range all {
		all[i] = newDevice(first+i, version)
	}
	return all
}

// keyOf gives a key that no other device has.
func keyOf(name string, number int) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %d", name, number))
	return fmt.Sprintf("%x", sum[:16])
}

// counting gives the device with its DevNonces counted from the first one.
func (d device) counting(first uint16) device {
	d.nonces, d.firstDevNonce = sim.NoncesCounted, first
	return d
}

// switchOn makes the device begin, with no memory of an earlier life.
func (d device) switchOn(t testing.TB) *sim.Device {
	t.Helper()
	c := sim.DeviceConfig{
		DevEUI: d.eui, JoinEUI: d.joinEUI, MACVersion: d.version, Region: d.region, Nonces: d.nonces, FirstDevNonce: d.firstDevNonce,
	}
	var err1, err2 error
	c.AppKey, err1 = sim.ParseKey(d.appKey)
	if d.nwkKey != "" {
		c.NwkKey, err2 = sim.ParseKey(d.nwkKey)
	}
	made, err3 := sim.NewDevice(c)
	check(t, errors.Join(err1, err2, err3))
	return made
}

func switchAllOn(t testing.TB, devices []device) []*sim.Device {
	t.Helper()
	all := make([]*sim.Device, len(devices))
	for i, d := range devices {
		all[i] = d.switchOn(t)
	}
	return all
}

// nodeFile is the file of node import.
func nodeFile(group string, devices ...device) string {
	var s strings.Builder
	s.WriteString("dev_eui,app_key,nwk_key,mac_version,group\n")
	for _, d := range devices {
		fmt.Fprintf(&s, "%s,%s,%s,%s,%s\n", d.eui, d.appKey, d.nwkKey, d.version, group)
	}
	return s.String()
}

// field is gateways behind one bridge, and the air between them and devices.
type field struct {
	t        testing.TB
	bridge   *sim.Bridge
	gateways map[sim.EUI]*sim.Gateway
	air      *sim.Air
}

// newField brings gateways up at a broker. The first one hears every frame.
func newField(t testing.TB, broker string, gateways ...sim.GatewayConfig) *field {
	t.Helper()
	f := &field{t: t, bridge: sim.NewBridge(sim.BridgeConfig{Broker: broker, QoS: 1}), gateways: make(map[sim.EUI]*sim.Gateway)}
	all := make([]*sim.Gateway, len(gateways))
	for i, c := range gateways {
		g, err := f.bridge.AddGateway(c)
		check(t, err)
		all[i], f.gateways[c.EUI] = g, g
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	check(t, f.bridge.Connect(ctx))
	t.Cleanup(f.bridge.Kill)
	f.air = f.airOf(sim.Scatter{SNR: 8}.Over(all[:1]), all...)
	return f
}

// airOf makes the air between devices and gateways another one.
func (f *field) airOf(p sim.Propagation, gateways ...*sim.Gateway) *sim.Air {
	return sim.NewAir(sim.AirConfig{Propagation: p, Timeout: patience}, gateways...)
}

// field brings gateways up at the daemon's broker.
func (d *daemon) field(euis ...sim.EUI) *field {
	d.t.Helper()
	configs := make([]sim.GatewayConfig, len(euis))
	for i, eui := range euis {
		configs[i].EUI = eui
	}
	return newField(d.t, d.broker, configs...)
}

// join lets a device join, which it has to.
func (f *field) join(d *sim.Device) sim.Result {
	f.t.Helper()
	result, err := f.air.Join(f.t.Context(), d)
	check(f.t, err)
	if !result.Joined {
		f.t.Fatalf("%s has not joined: %s", d, result.Reason)
	}
	return result
}

// hears lets a gateway hear a frame, and nobody wait for the answer.
func (f *field) hears(gateway sim.EUI, up sim.Uplink) {
	f.t.Helper()
	check(f.t, f.gateways[gateway].Send(sim.Reception{Uplink: up, RSSI: -80, SNR: 7}))
}

// ask lets a gateway hear a join-request of the device.
func (f *field) ask(gateway sim.EUI, d *sim.Device) {
	f.t.Helper()
	up, err := d.JoinRequest()
	check(f.t, err)
	f.hears(gateway, up)
}

// ear listens to what is said over MQTT, by the server and by gateways.
type ear struct {
	t      testing.TB
	client paho.Client

	mu       sync.Mutex
	messages []message // in the order in which they came
}

type message struct {
	topic   string
	payload []byte
}

// newEar listens at a broker from now on.
func newEar(t testing.TB, broker string) *ear {
	t.Helper()
	e := &ear{t: t, client: connect(t, broker)}
	token := e.client.SubscribeMultiple(map[string]byte{"joingate/#": 1, "gateway/#": 1, "+/gateway/#": 1},
		func(_ paho.Client, m paho.Message) {
			e.mu.Lock()
			defer e.mu.Unlock()
			e.messages = append(e.messages, message{m.Topic(), m.Payload()})
		})
	await(t, "subscribe", token)
	return e
}

// connect makes a connection to a broker.
func connect(t testing.TB, broker string) paho.Client {
	t.Helper()
	c := paho.NewClient(paho.NewClientOptions().AddBroker(broker).SetAutoReconnect(false))
	await(t, "connect to "+broker, c.Connect())
	t.Cleanup(func() { c.Disconnect(0) })
	return c
}

func await(t testing.TB, what string, token paho.Token) {
	t.Helper()
	if !token.WaitTimeout(patience) {
		t.Fatalf("%s: no answer within %s", what, patience)
	}
	if err := token.Error(); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

// heard gives the messages so far whose topic has this end.
func (e *ear) heard(end string) (found []message) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, m := range e.messages {
		if strings.HasSuffix(m.topic, end) {
			found = append(found, m)
		}
	}
	return found
}

// joinEvent is what a join event must tell.
type joinEvent struct {
	DevEUI, JoinEUI, DevAddr string
	DevNonce                 uint16
	JoinNonce                uint32
	RxDelay, DataRate        int
	Gateway                  string
}

// joinEvents gives the join events so far.
func (e *ear) joinEvents() []joinEvent {
	e.t.Helper()
	var events []joinEvent
	for _, m := range e.heard("/event/join") {
		var event joinEvent
		if err := json.Unmarshal(m.payload, &event); err != nil {
			e.t.Fatalf("join event %s: %v", m.payload, err)
		}
		events = append(events, event)
	}
	return events
}

// database is the record's file, looked at from beside.
type database struct {
	t    testing.TB
	conn *sql.Conn
}

// openDatabase looks into a SQLite file, through one connection.
func openDatabase(t testing.TB, path string) database {
	t.Helper()
	pool, err := sql.Open("sqlite", "file:"+path+"?_pragma=busy_timeout(60000)")
	check(t, err)
	conn, err := pool.Conn(t.Context())
	check(t, err)
	t.Cleanup(func() { _, _ = conn.Close(), pool.Close() })
	return database{t, conn}
}

// do runs a statement and gives how many rows it changed.
func (db database) do(statement string, args ...any) int64 {
	db.t.Helper()
	result, err := db.conn.ExecContext(context.Background(), statement, args...)
	if err != nil {
		db.t.Fatalf("%s: %v", statement, err)
	}
	n, err := result.RowsAffected()
	check(db.t, err)
	return n
}

// number reads one number.
func (db database) number(query string, args ...any) (n int64) {
	db.t.Helper()
	if err := db.conn.QueryRowContext(context.Background(), query, args...).Scan(&n); err != nil {
		db.t.Fatalf("%s: %v", query, err)
	}
	return n
}

// rows hands each row to read.
func (db database) rows(query string, read func(scan func(...any) error) error) {
	db.t.Helper()
	rows, err := db.conn.QueryContext(context.Background(), query)
	check(db.t, err)
	defer rows.Close()
	for rows.Next() {
		check(db.t, read(rows.Scan))
	}
	check(db.t, rows.Err())
}

// rowCounts counts the rows of every table. Below "" is SQLite's own number that
// moves with every commit of another connection, also one that changes no count.
func (db database) rowCounts() map[string]int64 {
	db.t.Helper()
	var tables []string
	db.rows(`SELECT name FROM sqlite_master WHERE type = 'table'`, func(scan func(...any) error) error {
		var name string
		err := scan(&name)
		tables = append(tables, name)
		return err
	})
	counts := map[string]int64{"": db.number(`PRAGMA data_version`)}
	for _, name := range tables {
		counts[name] = db.number(`SELECT COUNT(*) FROM ` + name)
	}
	return counts
}

// awaitDelivery waits until the outbox is empty.
func (db database) awaitDelivery() {
	db.t.Helper()
	eventually(db.t, "the outbox is empty", func() bool { return db.number(`SELECT COUNT(*) FROM outbox`) == 0 })
}
