package linkwan

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"joingate/band"
	"joingate/joinserver"
	"joingate/keyring"
)

// clock is a time that stands still until it is moved.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) move(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// world is an API over a fake record with some accounts: 1 (alice), 2 (bob), and
// 3 (corp), which has an instance.
type world struct {
	t      *testing.T
	record *fakeRecord
	clock  *clock
	server *Server
	http   *httptest.Server
	logs   *observer.ObservedLogs
	forgot [][]joinserver.Change

	sessions *fakeSessions
}

const (
	alice = joinserver.AccountID(1)
	bob   = joinserver.AccountID(2)
	corp  = joinserver.AccountID(3)

	corpInstance = "iot-cn-corp"
)

var defaultJoinEUI = joinserver.EUI64{0xd8, 0x96, 0xe0, 0xef, 0xff}

// testBands are the groups of Link WAN, and one that lacks data rate 5.
func testBands() []BandPlan {
	zeroToFive := []band.DataRate{0, 1, 2, 3, 4, 5}
	return []BandPlan{
		{ID: 201, RegionID: "CN", SameFrequency: true, BeginMHz: 923, EndMHz: 925, DataRates: zeroToFive, DefaultRX2Rate: 2},
		{ID: 101, RegionID: "CN", SameFrequency: true, BeginMHz: 470, EndMHz: 510, DataRates: zeroToFive},
		{ID: 102, RegionID: "CN", BeginMHz: 470, EndMHz: 510, DataRates: zeroToFive},
		{ID: 1001, RegionID: "US", BeginMHz: 902, EndMHz: 928, DataRates: []band.DataRate{8, 9, 10, 11, 12, 13}, DefaultRX2Rate: 8},
	}
}

func newWorld(t *testing.T) *world {
	w := &world{t: t, record: newFakeRecord(), sessions: &fakeSessions{}, clock: &clock{at: time.Date(2026, 11, 21, 18, 3, 30, 0, time.UTC)}}
	for id, name := range map[joinserver.AccountID]string{alice: "alice", bob: "bob", corp: "corp"} {
		account := NewAccount(name, "", w.clock.now())
		account.ID = id
		w.record.state.accounts[id] = account
		w.key(name, id, "")
	}
	w.account(corp, func(a *joinserver.Account) { a.InstanceID = corpInstance })
	core, logs := observer.New(zapcore.DebugLevel)
	w.logs = logs
	w.server = New(Config{
		Record: w.record, Bands: testBands(), Memory: NewLocalMemory(w.clock.now), DefaultJoinEUI: defaultJoinEUI,
		Forget:         func(_ context.Context, changed []joinserver.Change) { w.forgot = append(w.forgot, changed) },
		ConfirmSession: w.sessions.confirm, Sessions: w.sessions,
		Now: w.clock.now, Log: zap.New(core),
	})
	w.http = httptest.NewServer(w.server)
	t.Cleanup(w.http.Close)
	return w
}

// account changes an account as an operator would.
func (w *world) account(id joinserver.AccountID, change func(*joinserver.Account)) {
	a := w.record.state.accounts[id]
	change(&a)
	w.record.state.accounts[id] = a
}

// key makes an AccessKey whose id is the name and whose secret is testsecret.
func (w *world) key(name string, account joinserver.AccountID, user string) {
	w.record.state.keys[name] = joinserver.AccessKey{
		ID: name, Account: account, User: user, Secret: keyring.NewSecret("testsecret"), Enabled: true,
	}
}

// user makes a RAM user of alice with a key of the same name.
func (w *world) user(name, policy string) {
	w.record.state.users["1/"+name] = joinserver.User{Account: alice, Name: name, Policy: policy}
	w.key(name, alice, name)
}

func (w *world) client(key string) Client {
	return Client{Endpoint: w.http.URL, AccessKeyID: key, Secret: keyring.NewSecret("testsecret"), Now: w.clock.now}
}

// args are parameters, as "Name=value".
func args(pairs ...string) map[string]string {
	params := map[string]string{}
	for _, pair := range pairs {
		name, value, _ := strings.Cut(pair, "=")
		params[name] = value
	}
	return params
}

// call makes a call with the clock moved, so that the QPS limit does not bite,
// and holds a good answer against the contract.
func (w *world) call(key, action string, params map[string]string) (json.RawMessage, error) {
	w.t.Helper()
	w.clock.move(time.Second)
	answer, err := w.client(key).Call(context.Background(), action, params)
	if err == nil {
		checkShape(w.t, action, answer)
	}
	return answer, err
}

// must makes a call that has to succeed and returns its Data.
func (w *world) must(key, action string, pairs ...string) json.RawMessage {
	w.t.Helper()
	answer, err := w.call(key, action, args(pairs...))
	if err != nil {
		w.t.Fatalf("%s: %v", action, err)
	}
	var body struct{ Data json.RawMessage }
	decodeInto(w.t, answer, &body)
	return body.Data
}

// fails makes a call that has to be refused with the code, and checks that it
// changed nothing.
func (w *world) fails(code, key, action string, pairs ...string) *APIError {
	w.t.Helper()
	before := w.record.state.revision
	_, err := w.call(key, action, args(pairs...))
	var refusal *APIError
	if !errors.As(err, &refusal) || refusal.Code != code {
		w.t.Fatalf("%s %v: got %v, want code %s", action, pairs, err, code)
	}
	if w.record.state.revision != before {
		w.t.Errorf("%s %v was refused with %s, but changed the record", action, pairs, code)
	}
	return refusal
}

func decodeInto(t *testing.T, text []byte, into any) {
	t.Helper()
	if err := json.Unmarshal(text, into); err != nil {
		t.Fatalf("decode %s: %v", text, err)
	}
}

// text decodes Data that is a string.
func text(t *testing.T, data json.RawMessage) string {
	t.Helper()
	var s string
	decodeInto(t, data, &s)
	return s
}

// permission creates a LOCAL permission and returns its id.
func (w *world) permission(key, name string, more ...string) string {
	w.t.Helper()
	pairs := append([]string{"JoinPermissionName=" + name, "FreqBandPlanGroupId=101", "ClassMode=A", "UseDefaultJoinEui=true"}, more...)
	return text(w.t, w.must(key, "CreateLocalJoinPermission", pairs...))
}

// group creates a node group and returns its id.
func (w *world) group(key, name string, more ...string) string {
	w.t.Helper()
	return text(w.t, w.must(key, "CreateNodeGroup", append([]string{"NodeGroupName=" + name}, more...)...))
}

// do sends a raw request.
func (w *world) do(r *http.Request) *httptest.ResponseRecorder {
	recorder := httptest.NewRecorder()
	w.server.ServeHTTP(recorder, r)
	return recorder
}

const (
	devEUI = "d896e0ffff010001"
	gwEUI  = "0102030405060708"
	pin    = "123456"
)

func mustEUI(s string) joinserver.EUI64 {
	eui, err := joinserver.ParseEUI64(s)
	if err != nil {
		panic(err)
	}
	return eui
}

// stockNode puts a node into stock, as an import does.
func (w *world) stockNode(eui string) string {
	w.record.state.devices[mustEUI(eui)] = joinserver.Device{DevEUI: mustEUI(eui), Enabled: true, MACVersion: band.MAC1_0_3, PinCode: pin}
	return eui
}

// stockGateway puts a gateway into stock, as an import does.
func (w *world) stockGateway(eui string) string {
	g := joinserver.GatewayInfo{PinCode: pin}
	g.EUI = mustEUI(eui)
	w.record.state.gateways[g.EUI] = g
	return eui
}

// node claims a node from stock for a group, and returns its DevEUI.
func (w *world) node(key, eui, group string) string {
	w.t.Helper()
	w.must(key, "AddNodeToGroup", "DevEui="+w.stockNode(eui), "PinCode="+pin, "NodeGroupId="+group)
	return eui
}

// gatewayArgs are the parameters of CreateGateway.
func gatewayArgs(more ...string) []string {
	return with([]string{
		"GwEui=" + gwEUI, "PinCode=" + pin, "Name=roof", "FreqBandPlanGroupId=101", "CommunicationMode=HALF_DUPLEX", "City=杭州", "District=滨江区",
		"Address=1 Main St", "GisCoordinateSystem=WGS_84", "Longitude=120.125", "Latitude=30.25", "AddressCode=330108",
	}, more...)
}

func (w *world) gateway(key string, more ...string) string {
	w.t.Helper()
	w.must(key, "CreateGateway", gatewayArgs(more...)...)
	return args(gatewayArgs(more...)...)["GwEui"]
}

// goes tells the server that a gateway came online or went offline.
func (w *world) goes(eui string, isOnline bool) {
	w.t.Helper()
	state := joinserver.GatewayState{EUI: mustEUI(eui), Online: isOnline, ChangedMillis: w.clock.now().UnixMilli()}
	if err := w.server.GatewayChanged(context.Background(), state); err != nil {
		w.t.Fatal(err)
	}
}

// offer makes an order of alice for bob and returns the permission and the order.
func (w *world) offer() (permission, order string) {
	w.t.Helper()
	permission = w.permission("alice", "shared")
	return permission, string(w.must("alice", "SubmitJoinPermissionAuthOrder", "JoinPermissionId="+permission, "RenterAliyunId=2"))
}

// lent grants a permission of bob to alice and returns it.
func (w *world) lent() string {
	w.t.Helper()
	permission := w.permission("bob", "lent")
	order := string(w.must("bob", "SubmitJoinPermissionAuthOrder", "JoinPermissionId="+permission, "RenterAliyunId=1"))
	w.must("alice", "AcceptJoinPermissionAuthOrder", "OrderId="+order)
	return permission
}

// offered gives the parameters of an order of bob for alice.
func offered(w *world) []string {
	permission := w.permission("bob", "offered")
	return []string{"OrderId=" + string(w.must("bob", "SubmitJoinPermissionAuthOrder", "JoinPermissionId="+permission, "RenterAliyunId=1"))}
}

// roam gives alice a ROAMING permission.
func roam(w *world) []string {
	return []string{"JoinPermissionId=" + text(w.t, w.must("alice", "ApplyRoamingJoinPermission", "JoinPermissionName=roaming", "FreqBandPlanGroupId=101", "ClassMode=A"))}
}

// notices are the ids of an account's notifications, oldest first.
func (w *world) notices(key string) []string {
	w.t.Helper()
	var ids []string
	for _, row := range w.page(key, "ListNotifications").List {
		ids = append(ids, row["NotificationId"].(string))
	}
	return ids
}
