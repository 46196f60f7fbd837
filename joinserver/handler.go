// Package joinserver is the domain of a LoRaWAN join server: the policy that
// decides a join, the reasons for refusing one, and the handler that answers
// join-requests with join-accepts.
//
// The package knows no broker, no database and no HTTP: a network server can
// embed it by giving a Handler what finds policies and what commits joins.
//
// Units. Frequency: Hz. Delay: time.Duration from the end of the uplink. SNR and
// margin: dB. RSSI and power: dBm.
//
// Sources: TS001-1.0.4 and LoRaWAN 1.1 for frames and nonces, RP002-1.0.4 for
// windows (package band), TS002-1.1.0 for NetIDs.
//
// Known to be missing: rejoin-requests, and the planning of gateways' airtime.
package joinserver

import (
	"context"
	"errors"
	"fmt"
	"time"

	"joingate/band"
	"joingate/keyring"

	"github.com/brocaar/lorawan"
)

// Config is what a Handler needs. Only SendLead and Observe may be left out.
type Config struct {
	Policies Policies     // asked first; may answer from a cache
	Record   Policies     // the truth: confirms a refusal before it counts
	Joins    Joins        // makes joins durable
	Bands    *band.Groups // the band plan groups in force
	NetID    NetID        // announced in join-accepts, prefix of DevAddrs
	Now      func() time.Time

	// SendLead is how long before a window opens the join-accept must leave the
	// server, so that it still reaches the gateway's queue. Default 200 ms; too
	// short, and gateways answer TOO_LATE; too long, and slow copies are refused.
	SendLead time.Duration
	// Observe is told how long each step took; nil: nobody asks.
	Observe func(step Step, took time.Duration)
}

// Step names a step of the join in measurements.
type Step string

// The steps, in their order.
const (
	StepPolicy   Step = "policy"
	StepMIC      Step = "mic"
	StepGateways Step = "gateways"
	StepCommit   Step = "commit"
	StepEncode   Step = "encode"
)

// Handler answers join-requests. It is safe for concurrent use.
type Handler struct {
	Config
	turns *turns
}

// NewHandler checks the configuration and makes a Handler of it.
func NewHandler(c Config) (*Handler, error) {
	if c.Policies == nil || c.Record == nil || c.Joins == nil || c.Bands == nil || c.Now == nil {
		return nil, errors.New("join handler needs Policies, Record, Joins, Bands and Now")
	}
	if c.SendLead == 0 {
		c.SendLead = 200 * time.Millisecond
	}
	if c.Observe == nil {
		c.Observe = func(Step, time.Duration) {}
	}
	return &Handler{Config: c, turns: newTurns(turnsRemembered)}, nil
}

// Attempt is a join-request that has been looked at as soon as its first copy
// was there: decoded, its policy found, its MIC checked. What that showed counts
// once all copies are in.
type Attempt struct {
	Request JoinRequest
	phy     []byte
	finding finding
}

// finding is what one source of policies says about a request. A refusal is kept
// as a value: work runs early, the order of the reasons does not.
type finding struct {
	policy  Policy
	refusal error // of the policy alone; nil: it admits the device
	micOK   bool
}

// Join answers one join-request with the join-accept to transmit.
//
// The order of the steps is the safety argument. Nothing is written before the
// MIC has proved that the sender holds the root key, so a stranger cannot burn
// a device's nonces; nothing is returned before the commit is durable, so a
// crash cannot make two sessions share a key; and the commit refuses a policy
// that has moved, so a stale cache cannot decide. Any failure is silence on air.
//
// Errors: a *Rejection for a refusal, ErrLateCopy for a copy of a frame that was
// answered, anything else for a fault.
func (h *Handler) Join(ctx context.Context, up Uplink) (Downlink, error) {
	attempt, err := h.Prepare(ctx, up.PHYPayload)
	if err != nil {
		return Downlink{}, err
	}
	return h.Answer(ctx, attempt, up.Receptions)
}

// Prepare does the part of Join that needs no more than the frame, so that it
// can run while copies are still coming in. It writes nothing. The Attempt keeps
// phyPayload, which must not change until it is answered.
func (h *Handler) Prepare(ctx context.Context, phyPayload []byte) (Attempt, error) {
	req, err := ParseJoinRequest(phyPayload)
	if err != nil {
		return Attempt{}, err
	}
	found, err := h.examine(ctx, h.Policies, req, phyPayload)
	if err != nil {
		return Attempt{}, err
	}
	return Attempt{Request: req, phy: phyPayload, finding: found}, nil
}

// Answer does the rest of Join, with all copies of the frame that will be
// considered. A refusal that rests on the cache is confirmed by the record, and
// a join whose policy moved is decided again: both once more, from the truth.
func (h *Handler) Answer(ctx context.Context, a Attempt, copies []Reception) (Downlink, error) {
	if len(copies) == 0 {
		return Downlink{}, fmt.Errorf("join of %s came without a reception", a.Request.DevEUI)
	}
	down, err := h.decide(ctx, h.Policies, a, copies)
	if !mustAskRecord(err) {
		return down, err
	}
	for range freshTries {
		if a.finding, err = h.examine(ctx, h.Record, a.Request, a.phy); err != nil {
			return Downlink{}, err
		}
		if down, err = h.decide(ctx, h.Record, a, copies); !errors.Is(err, ErrPolicyMoved) {
			break
		}
	}
	return down, err
}

// freshTries bounds how often one join chases a policy that administrators
// change in the same milliseconds.
const freshTries = 5

// mustAskRecord reports whether a decision that rests on the cache has to be
// taken again from the record. An unknown device may be remembered as such; what
// the commit or the clock refused does not rest on the cache.
func mustAskRecord(err error) bool {
	if errors.Is(err, ErrPolicyMoved) {
		return true
	}
	var refused *Rejection
	return errors.As(err, &refused) && refused.Reason > UnknownDevice && refused.Reason <= BadMIC
}

// examine finds the policy and checks the MIC.
func (h *Handler) examine(ctx context.Context, from Policies, req JoinRequest, phy []byte) (finding, error) {
	start := h.Now()
	policy, err := from.Policy(ctx, req.DevEUI)
	h.Observe(StepPolicy, h.Now().Sub(start))
	if errors.Is(err, ErrUnknownDevice) {
		return finding{refusal: req.reject(UnknownDevice, 0, "")}, nil
	}
	if err != nil {
		return finding{}, fmt.Errorf("find policy of %s: %w", req.DevEUI, err)
	}
	start = h.Now()
	micOK, err := policy.Node.Keys.VerifyJoinRequest(phy)
	h.Observe(StepMIC, h.Now().Sub(start))
	if err != nil {
		return finding{}, fmt.Errorf("check MIC of %s: %w", req.DevEUI, err)
	}
	return finding{policy: policy, refusal: policy.admits(req), micOK: micOK}, nil
}

// decide goes through the steps in the order of their reasons.
func (h *Handler) decide(ctx context.Context, from Policies, a Attempt, copies []Reception) (Downlink, error) {
	req, policy := a.Request, a.finding.policy
	if a.finding.refusal != nil {
		return Downlink{}, a.finding.refusal
	}
	plan, heard, err := h.onJoinChannel(req, policy, copies)
	if err != nil {
		return Downlink{}, err
	}
	eligible, err := h.eligible(ctx, from, req, policy, heard)
	if err != nil {
		return Downlink{}, err
	}
	if !a.finding.micOK {
		return Downlink{}, req.reject(BadMIC, policy.Node.Account, "")
	}
	ranked := h.turns.apply(req.DevEUI, rank(eligible))
	routes, answer, err := h.routes(req, policy, plan, ranked, copies)
	if err != nil {
		return Downlink{}, err
	}
	if err := policy.Permission.encodable(); err != nil {
		return Downlink{}, err
	}
	claim := h.claim(req, policy, plan, ranked[0].gateway, answer, copies)
	grant, err := h.commit(ctx, claim)
	if err != nil {
		return Downlink{}, err
	}
	h.turns.took(req.DevEUI, claim.Gateway.EUI)
	phy, err := h.accept(claim, grant)
	if err != nil {
		return Downlink{}, fmt.Errorf("encode join-accept for %s: %w", req.DevEUI, err)
	}
	return Downlink{PHYPayload: phy, Routes: routes, Claim: claim, Grant: grant}, nil
}

// admits refuses a request that the policy, without regard to radio and keys,
// does not let in.
func (p Policy) admits(req JoinRequest) error {
	account := p.Node.Account
	switch {
	case !p.Node.Enabled:
		return req.reject(DeviceDisabled, account, "")
	case p.Group.ID == 0:
		return req.reject(NoPermission, account, "the node is in no group")
	case p.Permission.ID == 0:
		return req.reject(NoPermission, account, fmt.Sprintf("node group %d is bound to no join permission", p.Group.ID))
	case !p.Permission.Enabled:
		return req.reject(PermissionDisabled, account, fmt.Sprintf("join permission %d", p.Permission.ID))
	case p.Permission.JoinEUI != req.JoinEUI:
		return req.reject(WrongJoinEUI, account, fmt.Sprintf("join permission %d has %s", p.Permission.ID, p.Permission.JoinEUI))
	}
	return nil
}

// claim gathers what the commit makes durable.
func (h *Handler) claim(req JoinRequest, p Policy, plan *band.Group, via Gateway, answer band.Answer, copies []Reception) Claim {
	received := firstReceived(copies)
	return Claim{
		Request:    req,
		Policy:     p,
		Gateway:    via,
		NetID:      h.NetID,
		Received:   received,
		Deadline:   received.Add(lastWindow(answer) - h.SendLead),
		DLSettings: dlSettings(p, plan),
		RxDelay:    p.Permission.RxDelay,
		CFList:     answer.CFList,
		Receptions: copies,
	}
}

// lastWindow is the delay of the last window that the answer offers.
func lastWindow(a band.Answer) time.Duration { return max(a.RX1.Delay, a.RX2.Delay) }

func (h *Handler) commit(ctx context.Context, c Claim) (Grant, error) {
	start := h.Now()
	grant, err := h.Joins.Commit(ctx, c)
	h.Observe(StepCommit, h.Now().Sub(start))
	if err != nil {
		return Grant{}, fmt.Errorf("commit join of %s: %w", c.Request.DevEUI, err)
	}
	return grant, nil
}

// accept encodes, signs and encrypts the join-accept.
func (h *Handler) accept(c Claim, g Grant) ([]byte, error) {
	start := h.Now()
	defer func() { h.Observe(StepEncode, h.Now().Sub(start)) }()
	payload := lorawan.JoinAcceptPayload{
		JoinNonce: lorawan.JoinNonce(g.JoinNonce),
		HomeNetID: lorawan.NetID(c.NetID),
		DevAddr:   lorawan.DevAddr(g.DevAddr),
		RXDelay:   uint8(c.RxDelay / time.Second),
	}
	if err := payload.DLSettings.UnmarshalBinary([]byte{c.DLSettings}); err != nil {
		return nil, err
	}
	if c.CFList != nil {
		last := len(c.CFList) - 1
		payload.CFList = &lorawan.CFList{
			Payload:    &lorawan.DataPayload{Bytes: c.CFList[:last]},
			CFListType: lorawan.CFListType(c.CFList[last]),
		}
	}
	ids := keyring.JoinIDs{JoinEUI: c.Request.JoinEUI, DevEUI: c.Request.DevEUI, DevNonce: c.Request.DevNonce}
	return c.Policy.Node.Keys.SealJoinAccept(payload, ids)
}

// dlSettings is OptNeg (1.1), RX1DROffset and RX2DataRate in one octet
// (TS001-1.1 section 6.2.3; bit 7 is RFU in 1.0.x).
func dlSettings(p Policy, plan *band.Group) byte {
	rx2 := plan.RX2DataRate()
	if p.Permission.DataRate != nil {
		rx2 = *p.Permission.DataRate
	}
	b := plan.RX1DROffset()<<4 | byte(rx2)&0x0f
	if p.Node.MACVersion >= band.MAC1_1 {
		b |= 0x80
	}
	return b
}

func firstReceived(copies []Reception) time.Time {
	first := copies[0].Received
	for _, c := range copies[1:] {
		if c.Received.Before(first) {
			first = c.Received
		}
	}
	return first
}
