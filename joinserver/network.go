package joinserver

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"joingate/band"
	"joingate/keyring"
)

// NetworkRequest is a join- or rejoin-request that a network server has received
// and asks to be decided: JoinReq and RejoinReq of TS002-1.1.0, section 8.
type NetworkRequest struct {
	Server     string // who asks, as events name it; not empty
	NetID      NetID  // of the network server
	PHYPayload []byte
	DevEUI     EUI64      // must be the PHYPayload's
	MACVersion MACVersion // that the network server goes by; 0: the device's
	DevAddr    DevAddr    // given by the network server
	DLSettings byte
	RxDelay    time.Duration // whole seconds, 0 to 15
	CFList     []byte        // nil or 16 octets
	Received   time.Time
}

// NetworkAnswer is what the network server needs to go on.
type NetworkAnswer struct {
	PHYPayload []byte // the join-accept
	Keys       keyring.SessionKeys
	OptNeg     bool // the keys are those of 1.1
	Claim      Claim
	Grant      Grant
}

// SessionKeyID names the session's keys to an application server (TS002-1.1.0,
// section 8): it is different for each join and tells nothing of the keys.
func SessionKeyID(device EUI64, joinNonce uint32) []byte {
	return append(device[:], byte(joinNonce>>16), byte(joinNonce>>8), byte(joinNonce))
}

// JoinFor decides a request that a network server forwards. The policy decides as
// for our own gateways, but for what concerns radio: band plan and gateways are
// the network server's, and so are DevAddr, DLSettings, RxDelay and CFList. OptNeg
// is set if both the device and the network server are of LoRaWAN 1.1, whatever the
// DLSettings say. Where the permission requires its own RxDelay and RX2 data rate, a
// request that has others is refused as WrongParameters.
//
// Errors are those of Join; a request that is out of the ranges above is a fault.
func (h *Handler) JoinFor(ctx context.Context, r NetworkRequest) (NetworkAnswer, error) {
	if err := r.check(); err != nil {
		return NetworkAnswer{}, fmt.Errorf("request of network server %s for %s: %w", r.Server, r.DevEUI, err)
	}
	attempt, err := h.prepare(ctx, r.PHYPayload, r.NetID)
	if err != nil {
		return NetworkAnswer{}, err
	}
	if attempt.Request.DevEUI != r.DevEUI {
		return NetworkAnswer{}, &Rejection{
			Reason: Malformed, DevEUI: r.DevEUI, JoinEUI: attempt.Request.JoinEUI,
			Detail: fmt.Sprintf("the PHYPayload is of device %s", attempt.Request.DevEUI),
		}
	}
	return settle(ctx, h, attempt, func(_ Policies, f finding) (NetworkAnswer, error) { return h.decideFor(ctx, r, f) })
}

// check reports what no join-accept can carry.
func (r NetworkRequest) check() error {
	switch {
	case r.Server == "":
		return errors.New("the server has no name")
	case r.Received.IsZero():
		return errors.New("the time of reception is missing")
	case r.RxDelay < 0 || r.RxDelay > 15*time.Second || r.RxDelay%time.Second != 0:
		return fmt.Errorf("RxDelay %s is not 0 to 15 whole seconds", r.RxDelay)
	case r.CFList != nil && len(r.CFList) != 16:
		return fmt.Errorf("CFList has %d octets, not 16", len(r.CFList))
	}
	return nil
}

// decideFor goes through the steps of decide that a network server leaves to us.
func (h *Handler) decideFor(ctx context.Context, r NetworkRequest, f finding) (NetworkAnswer, error) {
	if f.refusal != nil {
		return NetworkAnswer{}, f.refusal
	}
	if f.request.kind.inSession() && f.request.netID != r.NetID {
		return NetworkAnswer{}, f.reject(WrongNetID, fmt.Sprintf("NetID %s, the network server has %s", f.request.netID, r.NetID))
	}
	if !f.micOK {
		return NetworkAnswer{}, f.reject(BadMIC, "")
	}
	if err := h.requiresOwn(r, f); err != nil {
		return NetworkAnswer{}, err
	}
	spare, err := h.limits.reserve(f, h.Now())
	if err != nil {
		return NetworkAnswer{}, err
	}
	down, err := h.grant(ctx, r.claim(f))
	if err != nil {
		spare()
		return NetworkAnswer{}, err
	}
	keys, err := down.Claim.SessionKeys(down.Grant)
	if err != nil {
		return NetworkAnswer{}, fmt.Errorf("session keys of %s: %w", r.DevEUI, err)
	}
	return NetworkAnswer{PHYPayload: down.PHYPayload, Keys: keys, OptNeg: down.Claim.OptNeg(), Claim: down.Claim, Grant: down.Grant}, nil
}

// requiresOwn holds the request against a permission that requires its own values.
func (h *Handler) requiresOwn(r NetworkRequest, f finding) error {
	p := f.policy.Permission
	if !p.RequireOwn {
		return nil
	}
	plan, ok := h.Bands.Find(p.BandPlanGroup)
	if !ok {
		return f.reject(WrongBandPlan, fmt.Sprintf("band plan group %d of join permission %d is not configured", p.BandPlanGroup, p.ID))
	}
	wantDelay, wantRate := effective(p.RxDelay), p.rx2DataRate(plan)
	delay, rate := effective(r.RxDelay), band.DataRate(r.DLSettings&0x0f)
	if delay == wantDelay && rate == wantRate {
		return nil
	}
	return f.reject(WrongParameters, fmt.Sprintf("join permission %d requires RxDelay %s and RX2 data rate %d, the network server asks for %s and %d",
		p.ID, wantDelay, wantRate, delay, rate))
}

// effective is what a device makes of an RxDelay: 0 means 1 s (TS001-1.0.4 section
// 5.7).
func effective(rxDelay time.Duration) time.Duration { return max(rxDelay, time.Second) }

// claim gathers what the commit makes durable. The answer is of use until RX2.
func (r NetworkRequest) claim(f finding) Claim {
	dl := r.DLSettings &^ optNeg
	if f.policy.Node.MACVersion >= band.MAC1_1 && (r.MACVersion == 0 || r.MACVersion >= band.MAC1_1 || f.request.kind != Joined) {
		dl |= optNeg
	}
	addr := r.DevAddr
	return Claim{
		Type:       f.request.kind,
		Request:    f.request.JoinRequest,
		Policy:     f.policy,
		NetID:      r.NetID,
		Received:   r.Received,
		Deadline:   r.Received.Add(band.JoinAcceptDelay2),
		Session:    f.counts(),
		Server:     r.Server,
		DevAddr:    &addr,
		DLSettings: dl,
		RxDelay:    r.RxDelay,
		CFList:     slices.Clone(r.CFList),
	}
}
