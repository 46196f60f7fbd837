package joinserver_test

import (
	"context"
	"crypto/aes"
	"errors"
	"sync"
	"testing"
	"time"

	"joingate/band"
	"joingate/joinserver"
	"joingate/keyring"

	"github.com/brocaar/lorawan"
)

// The world of these tests: one device of account 7 in one group, bound to one
// permission of group 101, and the gateways of the permission's owner.
const (
	account   joinserver.AccountID = 7
	owner     joinserver.AccountID = 8
	stranger  joinserver.AccountID = 9
	rootHex                        = "5ec4e7c0ffee5ec4e7c0ffee5ec4e7c0"
	nwkHex                         = "4e77c0deba5e4e77c0deba5e4e77c0de"
	otherHex                       = "0badc0de0badc0de0badc0de0badc0de"
	frequency band.Hz              = 470_300_000
)

var (
	devEUI   = joinserver.EUI64{0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08}
	joinEUI  = joinserver.EUI64{0xd8, 0x96, 0xe0, 0xef, 0xff, 0, 0, 1}
	gatewayA = joinserver.EUI64{0xaa, 7: 0x01}
	gatewayB = joinserver.EUI64{0xaa, 7: 0x02}
	gatewayC = joinserver.EUI64{0xaa, 7: 0x03}
	nobodys  = joinserver.EUI64{0xee, 7: 0xee} // registered by nobody
	netID    = joinserver.NetID{0x00, 0x00, 0x13}
	sf10     = band.Modulation{SpreadingFactor: 10, Bandwidth: 125_000}
	start    = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
)

func key(tb testing.TB, hex string) keyring.Key {
	tb.Helper()
	k, err := keyring.ParseKey(hex)
	if err != nil {
		tb.Fatal(err)
	}
	return k
}

// shelf is an in-memory Policies: the record, or a cache with what it held when
// it was filled.
type shelf struct {
	mu       sync.Mutex
	policies map[joinserver.EUI64]joinserver.Policy
	gateways map[joinserver.EUI64]joinserver.Gateway
	fault    error
	asked    int // how often Policy was
	onPolicy func()
}

func (s *shelf) Policy(_ context.Context, device joinserver.EUI64) (joinserver.Policy, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
	if s.onPolicy != nil {
		defer s.onPolicy()
	}
	if s.fault != nil {
		return joinserver.Policy{}, s.fault
	}
	policy, known := s.policies[device]
	if !known {
		return joinserver.Policy{}, joinserver.ErrUnknownDevice
	}
	return policy, nil
}

func (s *shelf) Gateways(_ context.Context, euis []joinserver.EUI64) ([]joinserver.Gateway, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	found := make([]joinserver.Gateway, 0, len(euis))
	for _, eui := range euis {
		if g, known := s.gateways[eui]; known {
			found = append(found, g)
		}
	}
	return found, s.fault
}

// change edits the device's policy and counts the versions up, as an
// administrator does.
func (s *shelf) change(edit func(*joinserver.Policy)) {
	p := s.policies[devEUI]
	edit(&p)
	p.Node.Version++
	p.Group.Version++
	p.Permission.Version++
	s.policies[devEUI] = p
}

func (s *shelf) changeGateway(eui joinserver.EUI64, edit func(*joinserver.Gateway)) {
	g := s.gateways[eui]
	g.EUI = eui
	edit(&g)
	g.Version++
	s.gateways[eui] = g
}

func (s *shelf) copied() *shelf {
	c := &shelf{policies: map[joinserver.EUI64]joinserver.Policy{}, gateways: map[joinserver.EUI64]joinserver.Gateway{}}
	for eui, p := range s.policies {
		c.policies[eui] = p
	}
	for eui, g := range s.gateways {
		c.gateways[eui] = g
	}
	return c
}

// ledger is an in-memory Joins over a record.
type ledger struct {
	record    *shelf
	now       func() time.Time
	asked     int                // how often Commit was called
	claims    []joinserver.Claim // that were committed
	nonces    map[uint16]joinserver.Claim
	rejoins   map[uint32]uint16 // last RJcount by the session's JoinNonce; 0: RJcount1
	joinNonce uint32
	fault     error
	onCommit  func()
}

func (l *ledger) Commit(ctx context.Context, c joinserver.Claim) (joinserver.Grant, error) {
	l.asked++
	if l.onCommit != nil {
		l.onCommit()
	}
	if l.fault != nil {
		return joinserver.Grant{}, l.fault
	}
	policy, err := l.record.Policy(ctx, c.Request.DevEUI)
	if err != nil {
		return joinserver.Grant{}, joinserver.ErrPolicyMoved
	}
	onRecord := joinserver.Claim{Policy: policy, Gateway: l.record.gateways[c.Gateway.EUI]}
	if onRecord.Versions() != c.Versions() {
		return joinserver.Grant{}, joinserver.ErrPolicyMoved
	}
	if c.Type != joinserver.Joined {
		return l.commitRejoin(c)
	}
	if earlier, used := l.nonces[c.Request.DevNonce]; used {
		if earlier.Request.MIC == c.Request.MIC && l.now().Before(earlier.AnswerUntil()) {
			return joinserver.Grant{}, joinserver.ErrLateCopy
		}
		return joinserver.Grant{}, l.refuse(c, joinserver.DevNonceReplayed)
	}
	if l.joinNonce == joinserver.MaxJoinNonce {
		return joinserver.Grant{}, l.refuse(c, joinserver.JoinNonceExhausted)
	}
	if l.now().After(c.Deadline) {
		return joinserver.Grant{}, l.refuse(c, joinserver.TooLate)
	}
	l.joinNonce++
	l.nonces[c.Request.DevNonce] = c
	l.claims = append(l.claims, c)
	grant := joinserver.Grant{JoinNonce: l.joinNonce, DevAddr: c.NetID.Address(l.joinNonce)}
	if c.DevAddr != nil {
		grant.DevAddr = *c.DevAddr
	}
	return grant, nil
}

// commitRejoin counts RJcount1 for the device and RJcount0 for a session, as the
// claim says.
func (l *ledger) commitRejoin(c joinserver.Claim) (joinserver.Grant, error) {
	if last, used := l.rejoins[c.Session]; used && c.Request.DevNonce <= last {
		return joinserver.Grant{}, l.refuse(c, joinserver.DevNonceReplayed)
	}
	l.joinNonce++
	l.rejoins[c.Session] = c.Request.DevNonce
	l.claims = append(l.claims, c)
	grant := joinserver.Grant{JoinNonce: l.joinNonce, DevAddr: c.NetID.Address(l.joinNonce)}
	if c.DevAddr != nil {
		grant.DevAddr = *c.DevAddr
	}
	return grant, nil
}

func (l *ledger) refuse(c joinserver.Claim, reason joinserver.Reason) error {
	return &joinserver.Rejection{Reason: reason, DevEUI: c.Request.DevEUI, JoinEUI: c.Request.JoinEUI, Account: c.Policy.Node.Account}
}

type world struct {
	tb      testing.TB
	now     time.Time
	record  *shelf
	cache   *shelf // the record itself, until stale makes a copy
	joins   *ledger
	config  joinserver.Config
	handler *joinserver.Handler
	steps   []joinserver.Step
}

func newWorld(tb testing.TB) *world {
	w := &world{tb: tb, now: start}
	w.record = &shelf{
		policies: map[joinserver.EUI64]joinserver.Policy{devEUI: {
			Node: joinserver.Node{
				DevEUI: devEUI, Account: account, Enabled: true, MACVersion: band.MAC1_0_3,
				Keys: keyring.RootKeys{App: key(tb, rootHex)}, Version: 11,
			},
			Group: joinserver.NodeGroup{ID: 3, Version: 12},
			Permission: joinserver.JoinPermission{
				ID: 4, Type: joinserver.Local, Owner: owner, Enabled: true, JoinEUI: joinEUI,
				BandPlanGroup: 101, ClassMode: "A", RxDelay: 3 * time.Second, Version: 13,
			},
		}},
		gateways: map[joinserver.EUI64]joinserver.Gateway{},
	}
	for _, eui := range []joinserver.EUI64{gatewayA, gatewayB, gatewayC} {
		w.record.gateways[eui] = joinserver.Gateway{EUI: eui, Owner: owner, Enabled: true, BandPlanGroup: 101, Version: 14}
	}
	clock := func() time.Time { return w.now }
	w.joins = &ledger{record: w.record, now: clock, nonces: map[uint16]joinserver.Claim{}, rejoins: map[uint32]uint16{}}
	w.config = joinserver.Config{
		Policies: w.record, Record: w.record, Joins: w.joins, Bands: band.Standard(), NetID: netID, Now: clock,
		Observe: func(s joinserver.Step, _ time.Duration) { w.steps = append(w.steps, s) },
	}
	w.cache = w.record
	w.rebuild()
	return w
}

func (w *world) rebuild() {
	w.tb.Helper()
	handler, err := joinserver.NewHandler(w.config)
	if err != nil {
		w.tb.Fatal(err)
	}
	w.handler = handler
}

// stale puts a cache between, filled with what the record holds now.
func (w *world) stale() {
	w.cache = w.record.copied()
	w.config.Policies = w.cache
	w.rebuild()
}

// heardBy is one copy on a join channel of group 101.
func heardBy(gateway joinserver.EUI64, edits ...func(*joinserver.Reception)) joinserver.Reception {
	r := joinserver.Reception{Gateway: gateway, Received: start, Frequency: frequency, Modulation: sf10, RSSI: -90, SNR: 5}
	for _, edit := range edits {
		edit(&r)
	}
	return r
}

func at(f band.Hz) func(*joinserver.Reception) {
	return func(r *joinserver.Reception) { r.Frequency = f }
}

func level(rssi int32, snr float32) func(*joinserver.Reception) {
	return func(r *joinserver.Reception) { r.RSSI, r.SNR = rssi, snr }
}

// joinRequest makes the frame of the device, signed with the key.
func joinRequest(tb testing.TB, keyHex string, nonce uint16) []byte {
	tb.Helper()
	return frameOf(tb, keyHex, devEUI, joinEUI, nonce)
}

func frameOf(tb testing.TB, keyHex string, dev, join joinserver.EUI64, nonce uint16) []byte {
	tb.Helper()
	phy := lorawan.PHYPayload{
		MHDR: lorawan.MHDR{MType: lorawan.JoinRequest, Major: lorawan.LoRaWANR1},
		MACPayload: &lorawan.JoinRequestPayload{
			JoinEUI: lorawan.EUI64(join), DevEUI: lorawan.EUI64(dev), DevNonce: lorawan.DevNonce(nonce),
		},
	}
	if err := phy.SetUplinkJoinMIC(aesKey(tb, keyHex)); err != nil {
		tb.Fatal(err)
	}
	octets, err := phy.MarshalBinary()
	if err != nil {
		tb.Fatal(err)
	}
	return octets
}

func aesKey(tb testing.TB, hex string) (k lorawan.AES128Key) {
	tb.Helper()
	if err := k.UnmarshalText([]byte(hex)); err != nil {
		tb.Fatal(err)
	}
	return k
}

// join sends a frame with the given DevNonce through the handler.
func (w *world) join(nonce uint16, copies ...joinserver.Reception) (joinserver.Downlink, error) {
	w.tb.Helper()
	return w.send(joinRequest(w.tb, rootHex, nonce), copies...)
}

func (w *world) send(frame []byte, copies ...joinserver.Reception) (joinserver.Downlink, error) {
	w.tb.Helper()
	if copies == nil {
		copies = []joinserver.Reception{heardBy(gatewayA)}
	}
	return w.handler.Join(context.Background(), joinserver.Uplink{PHYPayload: frame, Receptions: copies})
}

func (w *world) mustJoin(nonce uint16, copies ...joinserver.Reception) joinserver.Downlink {
	w.tb.Helper()
	down, err := w.join(nonce, copies...)
	if err != nil {
		w.tb.Fatal(err)
	}
	return down
}

// reasonOf is the reason of a refusal, 0 for anything else.
func reasonOf(err error) joinserver.Reason {
	var r *joinserver.Rejection
	if errors.As(err, &r) {
		return r.Reason
	}
	return 0
}

// decrypt reads a join-accept as the device does, with AES and the MIC check of
// the LoRaWAN library, not with code of the keyring. The key is the AppKey of a
// 1.0.x device or the NwkKey of a 1.1 device.
func decrypt(tb testing.TB, frame []byte, keyHex string, nonce uint16) lorawan.JoinAcceptPayload {
	tb.Helper()
	root := aesKey(tb, keyHex)
	block, err := aes.NewCipher(root[:])
	if err != nil {
		tb.Fatal(err)
	}
	if len(frame) != 17 && len(frame) != 33 {
		tb.Fatalf("join-accept of %d octets", len(frame))
	}
	plain := append([]byte{frame[0]}, make([]byte, len(frame)-1)...)
	for i := 1; i < len(frame); i += aes.BlockSize {
		block.Encrypt(plain[i:], frame[i:])
	}
	var payload lorawan.JoinAcceptPayload
	if err := payload.UnmarshalBinary(false, plain[1:len(plain)-4]); err != nil {
		tb.Fatal(err)
	}
	micKey := root
	if payload.DLSettings.OptNeg {
		// JSIntKey = AES(NwkKey, 06 | DevEUI | pad), TS001-1.1 section 6.1.1.4.
		in := [16]byte{0: 0x06}
		for i, b := range devEUI {
			in[8-i] = b
		}
		block.Encrypt(micKey[:], in[:])
	}
	phy := lorawan.PHYPayload{
		MHDR:       lorawan.MHDR{MType: lorawan.JoinAccept, Major: lorawan.LoRaWANR1},
		MACPayload: &payload, MIC: lorawan.MIC(plain[len(plain)-4:]),
	}
	ok, err := phy.ValidateDownlinkJoinMIC(lorawan.JoinRequestType, lorawan.EUI64(joinEUI), lorawan.DevNonce(nonce), micKey)
	if err != nil || !ok {
		tb.Fatalf("join-accept %x: MIC of the device differs, %v", frame, err)
	}
	return payload
}
