package backend

import (
	"crypto/tls"
	"errors"
	"math"
	"slices"
	"strings"

	"joingate/joinserver"
)

// Specification constants: the requests of TS002-1.1.0, section 23.2. The answer
// to one has Ans in place of Req.
const (
	joinReq    = "JoinReq"
	rejoinReq  = "RejoinReq"
	appSKeyReq = "AppSKeyReq"
	homeNSReq  = "HomeNSReq"
)

// otherRequests are between other servers, and no business of a join server.
var otherRequests = []string{"PRStartReq", "PRStopReq", "HRStartReq", "HRStopReq", "ProfileReq", "XmitDataReq", "XmitLocReq"}

// Limits of ours on texts that answers repeat.
const (
	maxID    = 128 // characters of a SenderID or ReceiverID
	maxToken = 256 // octets of a SenderToken
)

// message is a request whose common fields were read. Its other fields are still
// to be believed.
type message struct {
	fields      fields
	kind        string // MessageType
	version     string // ProtocolVersion
	transaction uint32
	sender      string // SenderID
	receiver    string // ReceiverID
	senderNSID  string // of TS002-1.1.0; empty: none
	token       string // SenderToken; empty: none

	fault error // what is wrong with the common fields but for kind
}

// parseMessage reads the common fields. An error means that no answer has a name:
// the body is no JSON object, or its MessageType is no request. With an error the
// message is as far as it could be read.
func parseMessage(body []byte) (message, error) {
	found, err := parseObject(body)
	if err != nil {
		return message{}, err
	}
	r := &reader{fields: found}
	msg := message{
		fields:      found,
		transaction: uint32(r.number("TransactionID", math.MaxUint32)),
		sender:      r.text("SenderID", maxID),
		receiver:    r.text("ReceiverID", maxID),
		version:     r.text("ProtocolVersion", maxID),
	}
	if r.has("SenderNSID") {
		msg.senderNSID = r.text("SenderNSID", maxID)
	}
	if r.has("SenderToken") {
		r.octets("SenderToken", maxToken)
		msg.token = (&reader{fields: found}).text("SenderToken", 2*maxToken+2)
	}
	msg.fault = r.err
	kind := &reader{fields: found}
	msg.kind = kind.text("MessageType", maxID)
	if kind.err != nil {
		return msg, kind.err
	}
	if !isRequest(msg.kind) {
		return msg, errors.New("MessageType " + shown(msg.kind) + " is no request of the LoRaWAN Backend Interfaces")
	}
	return msg, nil
}

func isRequest(kind string) bool {
	switch kind {
	case joinReq, rejoinReq, appSKeyReq, homeNSReq:
		return true
	}
	return slices.Contains(otherRequests, kind)
}

// identify finds out who sends, and that it may. The outcome is nil if so.
func (s *Server) identify(state *tls.ConnectionState, msg message) (*NetworkServer, *outcome) {
	if msg.fault != nil {
		return nil, msg.fail(nil, MalformedRequest, msg.fault.Error())
	}
	if msg.version != version10 && msg.version != version11 {
		return nil, msg.fail(nil, InvalidProtocolVersion, "ProtocolVersion is 1.0 or 1.1")
	}
	// A certificate that nobody verified could bear any name.
	if state == nil || len(state.VerifiedChains) == 0 {
		return nil, msg.fail(nil, UnknownSender, "no client certificate was shown")
	}
	if err := s.CheckPeer(state); err != nil {
		return nil, msg.fail(nil, UnknownSender, "the client certificate is not trusted any more").because(err)
	}
	server := s.peers.of(state.PeerCertificates[0])
	if server == nil {
		return nil, msg.fail(nil, UnknownSender, "the client certificate belongs to no network server that is registered here")
	}
	if !server.mayBe(msg.sender, msg.kind) {
		return nil, msg.fail(server, UnknownSender, "SenderID is not the one that is registered for the client certificate")
	}
	return server, nil
}

// receiverEUI is the JoinEUI that the message is for.
func (m message) receiverEUI() (joinserver.EUI64, error) {
	octets, err := parseHex(m.receiver)
	if err != nil || len(octets) != 8 {
		return joinserver.EUI64{}, errors.New("ReceiverID is no JoinEUI of 16 hex digits")
	}
	return joinserver.EUI64(octets), nil
}

// answerKind is the MessageType of the answer.
func answerKind(request string) string { return strings.TrimSuffix(request, "Req") + "Ans" }
