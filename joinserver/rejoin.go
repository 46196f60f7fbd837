package joinserver

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"

	"joingate/band"

	"github.com/brocaar/lorawan"
)

// RejoinRequest is a decoded rejoin-request (LoRaWAN 1.1, sections 6.2.4.1 and
// 6.2.4.2).
type RejoinRequest struct {
	Type    JoinType // Rejoin0, Rejoin1 or Rejoin2
	NetID   NetID    // types 0 and 2
	JoinEUI EUI64    // type 1
	DevEUI  EUI64
	RJCount uint16 // RJcount1 of type 1, RJcount0 of the others
	MIC     [4]byte
}

// Octets of a rejoin-request: MHDR, type, NetID or JoinEUI, DevEUI, RJcount, MIC.
const (
	rejoinRequest02Size = 1 + 1 + 3 + 8 + 2 + 4
	rejoinRequest1Size  = 1 + 1 + 8 + 8 + 2 + 4
)

// ParseRejoinRequest decodes a frame, or refuses it as Malformed.
func ParseRejoinRequest(phyPayload []byte) (RejoinRequest, error) {
	malformed := func(format string, args ...any) (RejoinRequest, error) {
		return RejoinRequest{}, &Rejection{Reason: Malformed, Detail: fmt.Sprintf(format, args...)}
	}
	if len(phyPayload) < 2 {
		return malformed("%d octets are no rejoin-request", len(phyPayload))
	}
	if mhdr := phyPayload[0]; lorawan.MType(mhdr>>5) != lorawan.RejoinRequest || lorawan.Major(mhdr&0x03) != lorawan.LoRaWANR1 {
		return malformed("MHDR %02x is no rejoin-request of major version R1", mhdr)
	}
	r, size := RejoinRequest{}, rejoinRequest02Size
	switch kind := phyPayload[1]; kind {
	case 0:
		r.Type = Rejoin0
	case 1:
		r.Type, size = Rejoin1, rejoinRequest1Size
	case 2:
		r.Type = Rejoin2
	default:
		return malformed("rejoin-request of type %d", kind)
	}
	if len(phyPayload) != size {
		return malformed("%d octets, not the %d of a rejoin-request of type %d", len(phyPayload), size, phyPayload[1])
	}
	rest := phyPayload[2:]
	if r.Type == Rejoin1 {
		rest = takeReversed(r.JoinEUI[:], rest)
	} else {
		rest = takeReversed(r.NetID[:], rest)
	}
	rest = takeReversed(r.DevEUI[:], rest)
	r.RJCount, r.MIC = binary.LittleEndian.Uint16(rest), [4]byte(rest[2:])
	return r, nil
}

// takeReversed reads an identifier, which travels with its last octet first.
func takeReversed(to, from []byte) (rest []byte) {
	copy(to, from)
	slices.Reverse(to)
	return from[len(to):]
}

// examineRejoin is examine for rejoin-requests, whose policy was found. Types 0 and
// 2 belong to a session, which names their JoinEUI and whose SNwkSIntKey signs them;
// type 1 is a join-request that JSIntKey signs, and the newest session only tells
// how the device listens. home is the network that the request has come to.
func (h *Handler) examineRejoin(ctx context.Context, req request, home NetID, phy []byte, p Policy) (finding, error) {
	if req.kind.inSession() {
		req.JoinEUI = p.Permission.JoinEUI // until the session is found
	}
	found := finding{request: req, policy: p}
	if found.refusal = p.admits(req.JoinRequest); found.refusal != nil {
		return found, nil
	}
	if found.refusal = h.knowsRejoins(req, p.Node); found.refusal != nil {
		return found, nil
	}
	if req.kind == Rejoin1 {
		return h.examineRejoin1(ctx, found, phy)
	}
	live, err := h.liveSessions(ctx, req.DevEUI)
	if err != nil {
		return finding{}, err
	}
	return found.inSession(live, home, phy)
}

// knowsRejoins refuses the rejoin-requests of devices that cannot mean them.
func (h *Handler) knowsRejoins(req request, n Node) error {
	switch {
	case h.Sessions == nil:
		return req.reject(NoSession, n.Account, "rejoin-requests are not answered here")
	case n.MACVersion < band.MAC1_1:
		return req.reject(NoSession, n.Account, fmt.Sprintf("LoRaWAN %s has no rejoin-requests", n.MACVersion))
	}
	return nil
}

// examineRejoin1 asks for sessions only once the MIC is proved.
func (h *Handler) examineRejoin1(ctx context.Context, found finding, phy []byte) (_ finding, err error) {
	device := found.request.DevEUI
	if found.micOK, err = found.policy.Node.Keys.VerifyRejoinRequest1(phy, device); err != nil || !found.micOK {
		return found, err
	}
	live, err := h.liveSessions(ctx, device)
	if len(live) > 0 {
		found.session = &live[0]
	}
	return found, err
}

// liveSessions are those that rejoin-requests may belong to, the newest first.
func (h *Handler) liveSessions(ctx context.Context, device EUI64) ([]Session, error) {
	all, err := h.Sessions.Sessions(ctx, device)
	if err != nil {
		return nil, fmt.Errorf("find sessions of %s: %w", device, err)
	}
	return slices.DeleteFunc(slices.Clone(all), func(s Session) bool { return !s.Live || !s.OptNeg() }), nil
}

// inSession looks for the session that has signed the rejoin-request, the newest
// first: until the device has understood a join-accept it uses the one before.
func (f finding) inSession(live []Session, home NetID, phy []byte) (finding, error) {
	req, account := f.request, f.policy.Node.Account
	if len(live) == 0 {
		f.refusal = req.reject(NoSession, account, "")
		return f, nil
	}
	ours := func(s Session) bool { return s.NetID == req.netID && s.Gateway != (EUI64{}) } // from before our NetID changed
	if req.netID != home && !slices.ContainsFunc(live, ours) {
		f.refusal = req.reject(WrongNetID, account, fmt.Sprintf("NetID %s, here is %s", req.netID, home))
		return f, nil
	}
	for _, s := range live {
		keys, err := s.Keys(f.policy.Node.Keys)
		if err != nil {
			return finding{}, fmt.Errorf("session keys of %s: %w", req.DevEUI, err)
		}
		if f.micOK, err = keys.SNwkSIntKey.VerifyMIC(phy); err != nil {
			return finding{}, err
		}
		if !f.micOK {
			continue
		}
		f.session, f.request.JoinEUI = &s, s.JoinEUI
		if s.JoinEUI != f.policy.Permission.JoinEUI {
			f.refusal = f.policy.admits(f.request.JoinRequest)
		}
		break
	}
	return f, nil
}
