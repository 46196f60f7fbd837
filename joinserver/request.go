package joinserver

import (
	"fmt"

	"github.com/brocaar/lorawan"
)

// JoinRequest is a decoded join-request (TS001-1.0.4 section 6.2.5), or what a
// rejoin-request says in its terms: RJcount in place of the DevNonce, and the
// JoinEUI, which types 0 and 2 leave out, of its session.
type JoinRequest struct {
	JoinEUI  EUI64
	DevEUI   EUI64
	DevNonce uint16
	MIC      [4]byte
}

const joinRequestSize = 23

// IsJoinRequest reports whether the frame's MHDR names it a join-request, well
// formed or not. An empty frame has no MHDR; it counts as a mutilated one.
func IsJoinRequest(phyPayload []byte) bool {
	return len(phyPayload) == 0 || lorawan.MType(phyPayload[0]>>5) == lorawan.JoinRequest
}

// IsJoin is IsJoinRequest for rejoin-requests as well: what a Handler decides.
func IsJoin(phyPayload []byte) bool {
	return IsJoinRequest(phyPayload) || lorawan.MType(phyPayload[0]>>5) == lorawan.RejoinRequest
}

// ParseRequest decodes a join- or rejoin-request, or refuses it as Malformed. The
// JoinEUI is zero where the frame has none.
func ParseRequest(phyPayload []byte) (JoinRequest, JoinType, error) {
	r, err := parse(phyPayload)
	return r.JoinRequest, r.kind, err
}

// request is a frame that asks for a session.
type request struct {
	JoinRequest
	kind  JoinType
	netID NetID // in a rejoin-request of type 0 or 2
}

func parse(phyPayload []byte) (request, error) {
	if IsJoinRequest(phyPayload) || !IsJoin(phyPayload) {
		req, err := ParseJoinRequest(phyPayload)
		return request{JoinRequest: req}, err
	}
	r, err := ParseRejoinRequest(phyPayload)
	return request{
		JoinRequest: JoinRequest{JoinEUI: r.JoinEUI, DevEUI: r.DevEUI, DevNonce: r.RJCount, MIC: r.MIC},
		kind:        r.Type, netID: r.NetID,
	}, err
}

// ParseJoinRequest decodes a frame, or refuses it as Malformed.
func ParseJoinRequest(phyPayload []byte) (JoinRequest, error) {
	if len(phyPayload) != joinRequestSize {
		return JoinRequest{}, &Rejection{Reason: Malformed, Detail: fmt.Sprintf("%d octets, not %d", len(phyPayload), joinRequestSize)}
	}
	var mhdr lorawan.MHDR
	if err := mhdr.UnmarshalBinary(phyPayload[:1]); err != nil {
		return JoinRequest{}, &Rejection{Reason: Malformed, Detail: err.Error()}
	}
	if mhdr.MType != lorawan.JoinRequest || mhdr.Major != lorawan.LoRaWANR1 {
		return JoinRequest{}, &Rejection{Reason: Malformed, Detail: fmt.Sprintf("MHDR %02x is no join-request of major version R1", phyPayload[0])}
	}
	var payload lorawan.JoinRequestPayload
	if err := payload.UnmarshalBinary(true, phyPayload[1:joinRequestSize-4]); err != nil {
		return JoinRequest{}, &Rejection{Reason: Malformed, Detail: err.Error()}
	}
	return JoinRequest{
		JoinEUI:  EUI64(payload.JoinEUI),
		DevEUI:   EUI64(payload.DevEUI),
		DevNonce: uint16(payload.DevNonce),
		MIC:      [4]byte(phyPayload[joinRequestSize-4:]),
	}, nil
}

// reject refuses the join of this request.
func (r JoinRequest) reject(reason Reason, account AccountID, detail string) error {
	return &Rejection{Reason: reason, DevEUI: r.DevEUI, JoinEUI: r.JoinEUI, Account: account, Detail: detail}
}
