package backend_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"joingate/backend"
	"joingate/band"
	"joingate/joinserver"
	"joingate/keyring"
)

// The world of these tests: one device of account 7, and one network server that
// serves it.
const (
	account   joinserver.AccountID = 7
	kekHex                         = "000102030405060708090a0b0c0d0e0f"
	asKEKHex                       = "101112131415161718191a1b1c1d1e1f"
	nwkSKey                        = "00112233445566778899aabbccddeeff"
	sNwkHex                        = "5ec4e7c0ffee5ec4e7c0ffee5ec4e7c0"
	encHex                         = "4e77c0deba5e4e77c0deba5e4e77c0de"
	appSKey                        = "0badc0de0badc0de0badc0de0badc0de"
	joinFrame                      = "00040302010403020105040302050403022d106a990e12"
)

var (
	device  = joinserver.EUI64{2, 3, 4, 5, 2, 3, 4, 5}
	joinEUI = joinserver.EUI64{1, 2, 3, 4, 1, 2, 3, 4}
	netID   = joinserver.NetID{0, 0, 0x13}
	home    = joinserver.NetID{0, 0, 0x24}
	start   = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
)

// world is a Server with fakes around it. Fields may be changed until open.
type world struct {
	tb     testing.TB
	config backend.Config
	server *backend.Server
	cert   *x509.Certificate // of the network server

	mu        sync.Mutex
	now       time.Time
	join      func(joinserver.NetworkRequest) (joinserver.NetworkAnswer, error)
	asked     []joinserver.NetworkRequest // of JoinFor
	policies  map[joinserver.EUI64]joinserver.Policy
	sessions  map[joinserver.EUI64][]joinserver.Session
	keks      joinserver.Recipients
	fault     error // of policies, sessions and recipients
	confirmed []uint32
	seen      []backend.Observation
	log       bytes.Buffer
}

func newWorld(tb testing.TB) *world {
	w := &world{tb: tb, now: start, cert: &x509.Certificate{Raw: []byte("certificate of ns"), Subject: pkix.Name{CommonName: "ns.example.org"}}}
	w.join = func(r joinserver.NetworkRequest) (joinserver.NetworkAnswer, error) { return w.granted(r, false), nil }
	w.policies = map[joinserver.EUI64]joinserver.Policy{device: {
		Node:       joinserver.Node{DevEUI: device, Account: account, Enabled: true, MACVersion: band.MAC1_0_3, Keys: keyring.RootKeys{App: key(tb, sNwkHex)}},
		Group:      joinserver.NodeGroup{ID: 3},
		Permission: joinserver.JoinPermission{ID: 4, Enabled: true, JoinEUI: joinEUI},
	}}
	w.sessions = map[joinserver.EUI64][]joinserver.Session{}
	w.config = backend.Config{
		Joins: w, Sessions: w, Policies: w, Recipients: w.recipients, Confirm: w.confirm, NetID: home,
		NetworkServers: []backend.NetworkServer{{
			Name: "ns", NetID: netID, Certificates: []string{"sha256:" + fingerprint(w.cert)},
			ApplicationServers: []string{"as.example.org"},
			KEK:                joinserver.KeyEncryption{Label: "ns-kek", KEK: wrappingKey(tb, kekHex)},
		}},
		Now: w.clock, Log: zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()), w, zap.DebugLevel)),
		Observe: func(o backend.Observation) { w.mu.Lock(); w.seen = append(w.seen, o); w.mu.Unlock() },
	}
	return w
}

func (w *world) open() *world {
	w.tb.Helper()
	server, err := backend.New(w.config)
	if err != nil {
		w.tb.Fatal(err)
	}
	w.server = server
	return w
}

func (w *world) clock() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

func (w *world) pass(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = w.now.Add(d)
}

// Write and Sync take the log.
func (w *world) Write(line []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.log.Write(line)
}

func (w *world) Sync() error { return nil }

func (w *world) logged() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.log.String()
}

func (w *world) JoinFor(_ context.Context, r joinserver.NetworkRequest) (joinserver.NetworkAnswer, error) {
	w.mu.Lock()
	w.asked = append(w.asked, r)
	join := w.join
	w.mu.Unlock()
	return join(r)
}

// granted is the answer to a join of the device: its keys are the constants above.
func (w *world) granted(r joinserver.NetworkRequest, optNeg bool) joinserver.NetworkAnswer {
	keys := keyring.SessionKeys{AppSKey: key(w.tb, appSKey), FNwkSIntKey: key(w.tb, nwkSKey), SNwkSIntKey: key(w.tb, nwkSKey), NwkSEncKey: key(w.tb, nwkSKey)}
	if optNeg {
		keys.SNwkSIntKey, keys.NwkSEncKey = key(w.tb, sNwkHex), key(w.tb, encHex)
	}
	return joinserver.NetworkAnswer{
		PHYPayload: []byte{0x20, 1, 2, 3}, Keys: keys, OptNeg: optNeg,
		Claim: joinserver.Claim{Request: joinserver.JoinRequest{DevEUI: r.DevEUI}, Policy: joinserver.Policy{Node: joinserver.Node{Account: account}}},
		Grant: joinserver.Grant{JoinNonce: 0x010203, DevAddr: r.DevAddr},
	}
}

func (w *world) Policy(_ context.Context, device joinserver.EUI64) (joinserver.Policy, error) {
	policy, known := w.policies[device]
	if !known {
		return policy, joinserver.ErrUnknownDevice
	}
	return policy, w.fault
}

func (w *world) Sessions(_ context.Context, device joinserver.EUI64) ([]joinserver.Session, error) {
	return w.sessions[device], w.fault
}

func (w *world) recipients(_ context.Context, of joinserver.AccountID) (joinserver.Recipients, error) {
	if of != account {
		return joinserver.Recipients{}, errors.New("recipients of another account were asked for")
	}
	return w.keks, w.fault
}

func (w *world) confirm(_ context.Context, of joinserver.EUI64, joinNonce uint32) error {
	if of != device {
		return errors.New("another device was confirmed")
	}
	w.confirmed = append(w.confirmed, joinNonce)
	return nil
}

func (w *world) withASKEK() *world {
	w.keks.Application = joinserver.KeyEncryption{Label: "as-kek", KEK: wrappingKey(w.tb, asKEKHex)}
	return w
}

// ns is the network server's configuration.
func (w *world) ns() *backend.NetworkServer { return &w.config.NetworkServers[0] }

// msg is a message as a TS002 client writes it.
type msg map[string]any

// request has the common fields of TS002-1.1.0, section 23.1.
func request(kind string, edits ...func(msg)) msg {
	m := msg{
		"ProtocolVersion": "1.1", "SenderID": "000013", "ReceiverID": joinEUI.String(), "TransactionID": 4294967295, "MessageType": kind,
	}
	for _, edit := range edits {
		edit(m)
	}
	return m
}

func joinReq(edits ...func(msg)) msg {
	return request("JoinReq", append([]func(msg){func(m msg) {
		m["MACVersion"], m["PHYPayload"], m["DevEUI"], m["DevAddr"] = "1.0.3", joinFrame, device.String(), "26000001"
		m["DLSettings"], m["RxDelay"] = "03", 1
	}}, edits...)...)
}

func appSKeyReq(id []byte, edits ...func(msg)) msg {
	return request("AppSKeyReq", append([]func(msg){set("DevEUI", device.String()), set("SessionKeyID", hex.EncodeToString(id))}, edits...)...)
}

func homeNSReq(edits ...func(msg)) msg {
	return request("HomeNSReq", append([]func(msg){set("DevEUI", device.String())}, edits...)...)
}

func set(name string, value any) func(msg) { return func(m msg) { m[name] = value } }

func without(name string) func(msg) { return func(m msg) { delete(m, name) } }

// reply is an answer as a TS002 client reads it.
type reply struct {
	status int
	body   string

	ProtocolVersion, SenderID, ReceiverID, ReceiverNSID, MessageType, ReceiverToken string

	TransactionID uint32
	Result        struct{ ResultCode, Description string }

	PHYPayload                                             string
	Lifetime                                               *int
	SNwkSIntKey, FNwkSIntKey, NwkSEncKey, NwkSKey, AppSKey *keyEnvelope
	SessionKeyID, DevEUI, HNetID                           string
}

type keyEnvelope struct{ KEKLabel, AESKey string }

// send posts a message over a connection that shows the network server's
// certificate.
func (w *world) send(m msg) reply {
	w.tb.Helper()
	body, err := json.Marshal(m)
	if err != nil {
		w.tb.Fatal(err)
	}
	return w.post(body)
}

func (w *world) post(body []byte, edits ...func(*http.Request)) reply {
	w.tb.Helper()
	r := httptest.NewRequest(http.MethodPost, "/", bytes.NewReader(body))
	r.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{w.cert}, VerifiedChains: [][]*x509.Certificate{{w.cert}}}
	for _, edit := range edits {
		edit(r)
	}
	recorder := httptest.NewRecorder()
	w.server.ServeHTTP(recorder, r)
	return read(w.tb, recorder.Code, recorder.Body.Bytes())
}

// read decodes an answer. One that is no JSON object keeps its text only.
func read(tb testing.TB, status int, body []byte) reply {
	tb.Helper()
	answer := reply{status: status, body: string(body)}
	if bytes.HasPrefix(body, []byte("{")) {
		decoder := json.NewDecoder(bytes.NewReader(body))
		decoder.DisallowUnknownFields()
		if err := decoder.Decode(&answer); err != nil {
			tb.Fatalf("answer %s: %v", body, err)
		}
	}
	return answer
}

func (w *world) mustSucceed(m msg) reply {
	w.tb.Helper()
	answer := w.send(m)
	if answer.status != http.StatusOK || answer.Result.ResultCode != "Success" {
		w.tb.Fatalf("%s: status %d, %s", m["MessageType"], answer.status, answer.body)
	}
	return answer
}

// wantResult asserts a result other than Success: nothing of a session may be in
// the answer.
func (w *world) wantResult(answer reply, code, description string) {
	w.tb.Helper()
	if answer.status != http.StatusOK || answer.Result.ResultCode != code || !strings.Contains(answer.Result.Description, description) {
		w.tb.Errorf("status %d, %s: want %s with %q", answer.status, answer.body, code, description)
	}
	if answer.PHYPayload != "" || answer.NwkSKey != nil || answer.FNwkSIntKey != nil || answer.AppSKey != nil || answer.SessionKeyID != "" {
		w.tb.Errorf("answer without success tells of a session: %s", answer.body)
	}
}

func key(tb testing.TB, hex string) keyring.Key {
	tb.Helper()
	k, err := keyring.ParseKey(hex)
	if err != nil {
		tb.Fatal(err)
	}
	return k
}

func wrappingKey(tb testing.TB, hex string) keyring.WrappingKey {
	tb.Helper()
	k, err := keyring.ParseWrappingKey(hex)
	if err != nil {
		tb.Fatal(err)
	}
	return k
}

// open is what the receiver of an envelope does.
func (e *keyEnvelope) open(tb testing.TB, label, kekHex string) string {
	tb.Helper()
	if e == nil {
		tb.Fatal("the envelope is missing")
		return ""
	}
	kek, err1 := hex.DecodeString(kekHex)
	wrapped, err2 := hex.DecodeString(e.AESKey)
	k, err3 := keyring.UnwrapKey(kek, wrapped)
	if err := errors.Join(err1, err2, err3); err != nil || e.KEKLabel != label {
		tb.Fatalf("envelope with label %q: %v", e.KEKLabel, err)
	}
	return k.RevealHex()
}

func fingerprint(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	return hex.EncodeToString(sum[:])
}

// vectors are the shared test vectors.
type vectors struct {
	Keys []struct {
		ID        string
		MAC       string  `json:"mac_version"`
		NetID     *string `json:"net_id"`
		DevEUI    *string `json:"dev_eui"`
		JoinEUI   *string `json:"join_eui"`
		JoinNonce *string `json:"join_nonce"`
		DevNonce  *string `json:"dev_nonce"`
		Root      struct {
			App *string `json:"app_key"`
			Nwk *string `json:"nwk_key"`
		} `json:"root_keys"`
		Expected struct {
			AppSKey string `json:"app_s_key"`
			NwkSKey string `json:"nwk_s_key"`
		}
	}
	KeyWrap []struct {
		ID, KEK, Plaintext, Ciphertext string
		OK                             bool `json:"unwrap_ok"`
	} `json:"key_wrap"`
	Rejoin []struct {
		ID      string
		Type    int
		DevEUI  string  `json:"dev_eui"`
		JoinEUI *string `json:"join_eui"`
		PHY     string
	} `json:"rejoin_request"`
}

func readVectors(tb testing.TB) vectors {
	tb.Helper()
	text, err := os.ReadFile("../keyring/testdata/vectors.json")
	if err != nil {
		tb.Fatal(err)
	}
	var v vectors
	if err := json.Unmarshal(text, &v); err != nil {
		tb.Fatal(err)
	}
	if len(v.Keys) == 0 || len(v.KeyWrap) == 0 || len(v.Rejoin) == 0 {
		tb.Fatal("vectors.json has no keys, key_wrap or rejoin_request")
	}
	return v
}

func confirmFails(context.Context, joinserver.EUI64, uint32) error {
	return errors.New("the record is busy")
}

func mustJSON(tb testing.TB, m msg) []byte {
	tb.Helper()
	body, err := json.Marshal(m)
	if err != nil {
		tb.Fatal(err)
	}
	return body
}
