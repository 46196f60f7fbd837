package joinserver

import (
	"time"

	"joingate/band"
	"joingate/keyring"

	"github.com/brocaar/lorawan"
)

// claim gathers what the commit makes durable.
func (h *Handler) claim(f finding, plan *band.Group, way reply, copies []Reception) Claim {
	received := firstReceived(copies)
	c := Claim{
		Type:       f.request.kind,
		Request:    f.request.JoinRequest,
		Policy:     f.policy,
		Gateway:    way.via,
		NetID:      h.NetID,
		Received:   received,
		Deadline:   received.Add(way.routes[0].lastWindow() - h.SendLead),
		Session:    f.counts(),
		DLSettings: dlSettings(f.policy, plan),
		RxDelay:    f.policy.Permission.RxDelay,
		CFList:     way.answer.CFList,
		Receptions: copies,
	}
	if f.keepsRadio() {
		c.DLSettings, c.RxDelay = f.session.DLSettings, f.session.RxDelay
	}
	return c
}

// counts is the JoinNonce of the session whose RJcount0 the request counts.
func (f finding) counts() uint32 {
	if f.request.kind.inSession() {
		return f.session.JoinNonce
	}
	return 0
}

// keepsRadio reports whether the new session has the radio parameters of the old
// one: a rejoin-request of type 2 changes keys and DevAddr, and nothing else
// (LoRaWAN 1.1, section 6.2.4). The join-accept repeats them, so that a device that
// does apply them stays where it is.
func (f finding) keepsRadio() bool { return f.request.kind == Rejoin2 }

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
	if c.Type != Joined {
		return c.Policy.Node.Keys.SealRejoinAccept(payload, c.Type.JoinReqType(), ids)
	}
	return c.Policy.Node.Keys.SealJoinAccept(payload, ids)
}

// dlSettings is OptNeg (1.1), RX1DROffset and RX2DataRate in one octet
// (TS001-1.1 section 6.2.3; bit 7 is RFU in 1.0.x).
func dlSettings(p Policy, plan *band.Group) byte {
	b := plan.RX1DROffset()<<4 | byte(p.Permission.rx2DataRate(plan))&0x0f
	if p.Node.MACVersion >= band.MAC1_1 {
		b |= optNeg
	}
	return b
}

// rx2DataRate is the RX2 data rate after the join.
func (p JoinPermission) rx2DataRate(plan *band.Group) band.DataRate {
	if p.DataRate != nil {
		return *p.DataRate
	}
	return plan.RX2DataRate()
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
