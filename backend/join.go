package backend

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
	"time"

	"joingate/band"
	"joingate/joinserver"
	"joingate/keyring"
)

// handle answers a message of a known sender. A panic becomes a fault like any
// other.
func (s *Server) handle(ctx context.Context, server *NetworkServer, msg message) (out *outcome) {
	defer func() {
		if p := recover(); p != nil {
			out = msg.faulty(server, fmt.Errorf("panic: %v\n%s", p, debug.Stack()))
		}
	}()
	receiver, err := msg.receiverEUI()
	if err != nil {
		return msg.fail(server, MalformedRequest, err.Error())
	}
	switch msg.kind {
	case joinReq, rejoinReq:
		return s.join(ctx, server, msg, receiver)
	case appSKeyReq:
		return s.appSKey(ctx, server, msg, receiver)
	case homeNSReq:
		return s.homeNS(ctx, server, msg, receiver)
	default:
		return msg.fail(server, Other, "this is a join server: it takes JoinReq, RejoinReq, AppSKeyReq and HomeNSReq")
	}
}

// join answers JoinReq and RejoinReq (TS002-1.1.0, section 8 and section 23.2).
func (s *Server) join(ctx context.Context, server *NetworkServer, msg message, receiver joinserver.EUI64) *outcome {
	req, err := msg.networkRequest(server)
	if err != nil {
		return msg.fail(server, MalformedRequest, err.Error())
	}
	req.Received = s.Now()
	if refused := s.checkFrame(ctx, server, msg, req, receiver); refused != nil {
		return refused.of(req.DevEUI)
	}
	if refused := s.checkAccount(ctx, server, msg, req.DevEUI); refused != nil {
		return refused.of(req.DevEUI)
	}
	joined, repeated, err := s.repeats.do(ctx, repeatKey(server, msg, req), func() (joinserver.NetworkAnswer, error) {
		return s.Joins.JoinFor(ctx, req)
	})
	if err != nil {
		return msg.refuse(server, err).of(req.DevEUI)
	}
	out, err := s.joinAnswer(ctx, server, msg, joined)
	if err != nil {
		return msg.faulty(server, err).of(req.DevEUI)
	}
	out.repeated = repeated
	return out.of(req.DevEUI)
}

// maxPHYPayload is the longest frame of LoRaWAN; join- and rejoin-requests are
// shorter.
const maxPHYPayload = 255

// networkRequest reads the fields of JoinReq and RejoinReq, which are the same.
func (m message) networkRequest(server *NetworkServer) (joinserver.NetworkRequest, error) {
	r := &reader{fields: m.fields}
	req := joinserver.NetworkRequest{
		Server:     server.Name,
		NetID:      server.NetID,
		PHYPayload: r.octets("PHYPayload", maxPHYPayload),
		DevEUI:     r.eui("DevEUI"),
		MACVersion: r.macVersion("MACVersion"),
		DevAddr:    joinserver.DevAddr(r.fixed("DevAddr", 4)),
		DLSettings: r.fixed("DLSettings", 1)[0],
		RxDelay:    time.Duration(r.number("RxDelay", 15)) * time.Second,
	}
	// Some senders write an empty CFList for none.
	if r.has("CFList") && string(m.fields["CFList"]) != `""` {
		req.CFList = r.fixed("CFList", 16)
	}
	return req, r.err
}

// macVersion reads "1.0.3" and its like. "1.0" and "1.1.0" are said by some for
// 1.0.0 and 1.1; "1.1.1" changes nothing in a join.
func (r *reader) macVersion(name string) joinserver.MACVersion {
	text := r.text(name, 16)
	if text == "1.0" || strings.HasPrefix(text, "1.1.") {
		text = map[string]string{"1.0": "1.0.0", "1.1.0": "1.1", "1.1.1": "1.1"}[text]
	}
	version, err := band.ParseMACVersion(text)
	if err != nil {
		r.fail("field %s is no version from 1.0 to 1.1.1", name)
	}
	return version
}

// Sizes of the frames in octets, LoRaWAN 1.1, sections 6.2.2 and 6.2.4.
const (
	sizeJoinRequest = 23
	sizeRejoin02    = 19
	sizeRejoin1     = 24
)

// frameSize is the size that the PHYPayload of a message must have.
func frameSize(kind string, phy []byte) int {
	switch {
	case kind == joinReq:
		return sizeJoinRequest
	case len(phy) > 1 && phy[1] == 1:
		return sizeRejoin1
	}
	return sizeRejoin02
}

// checkFrame compares the frame with the message around it.
func (s *Server) checkFrame(ctx context.Context, server *NetworkServer, msg message, req joinserver.NetworkRequest, receiver joinserver.EUI64) *outcome {
	if size := frameSize(msg.kind, req.PHYPayload); len(req.PHYPayload) != size {
		return msg.fail(server, FrameSizeError, fmt.Sprintf("PHYPayload has %d octets, not %d", len(req.PHYPayload), size))
	}
	devEUI, joinEUI, err := frameIDs(msg.kind, req.PHYPayload)
	if err != nil {
		return msg.fail(server, MalformedRequest, fmt.Sprintf("PHYPayload of %s: %s", msg.kind, err))
	}
	if devEUI != req.DevEUI {
		return msg.fail(server, MalformedRequest, "DevEUI is not the one in PHYPayload")
	}
	if joinEUI == nil {
		if joinEUI, err = s.sessionJoinEUI(ctx, devEUI); err != nil {
			return msg.faulty(server, err)
		}
	}
	if joinEUI != nil && *joinEUI != receiver {
		return msg.fail(server, UnknownReceiver, "ReceiverID is not the JoinEUI of the frame")
	}
	return nil
}

// frameIDs gives DevEUI and JoinEUI of a frame. A rejoin-request of type 0 or 2
// names no JoinEUI: nil.
func frameIDs(kind string, phy []byte) (devEUI joinserver.EUI64, joinEUI *joinserver.EUI64, err error) {
	if kind == joinReq {
		req, err := joinserver.ParseJoinRequest(phy)
		return req.DevEUI, &req.JoinEUI, why(err)
	}
	req, err := joinserver.ParseRejoinRequest(phy)
	if req.Type == joinserver.Rejoin1 {
		joinEUI = &req.JoinEUI
	}
	return req.DevEUI, joinEUI, why(err)
}

// why is the detail of a refusal.
func why(err error) error {
	var rejection *joinserver.Rejection
	if errors.As(err, &rejection) {
		return errors.New(rejection.Detail)
	}
	return err
}

// sessionJoinEUI is the JoinEUI that the device has joined with, nil for none.
func (s *Server) sessionJoinEUI(ctx context.Context, device joinserver.EUI64) (*joinserver.EUI64, error) {
	sessions, err := s.Sessions.Sessions(ctx, device)
	if err != nil {
		return nil, fmt.Errorf("find sessions of %s: %w", device, err)
	}
	if len(sessions) == 0 {
		return nil, nil // the rejoin is refused for it
	}
	return &sessions[0].JoinEUI, nil
}

// checkAccount keeps a network server to the accounts it serves.
func (s *Server) checkAccount(ctx context.Context, server *NetworkServer, msg message, device joinserver.EUI64) *outcome {
	if len(server.Accounts) == 0 {
		return nil
	}
	policy, err := s.Policies.Policy(ctx, device)
	switch {
	case errors.Is(err, joinserver.ErrUnknownDevice):
		return nil // the join is refused for it
	case err != nil:
		return msg.faulty(server, fmt.Errorf("find policy of %s: %w", device, err))
	case !server.serves(policy.Node.Account):
		return msg.fail(server, NoRoamingAgreement, "the device is of an account that this network server does not serve")
	}
	return nil
}

// refuse answers for a join that was not granted.
func (m message) refuse(server *NetworkServer, err error) *outcome {
	var rejection *joinserver.Rejection
	switch {
	case errors.As(err, &rejection):
		out := m.fail(server, resultOf(rejection.Reason), describe(rejection))
		out.rejection = rejection
		return out
	case errors.Is(err, joinserver.ErrLateCopy):
		return m.fail(server, FrameReplayed, "this very frame was answered before: to another server, another instance or another message")
	default:
		return m.faulty(server, err)
	}
}

// describe tells the operator of the network server what to do.
func describe(r *joinserver.Rejection) string {
	text := r.Reason.String()
	if r.Detail != "" {
		text += " (" + r.Detail + ")"
	}
	return text + ": " + r.Reason.Remedy()
}

// joinAnswer fills in the join-accept and the keys (TS002-1.1.0, section 23.2).
func (s *Server) joinAnswer(ctx context.Context, server *NetworkServer, msg message, joined joinserver.NetworkAnswer) (*outcome, error) {
	recipients, err := s.Recipients(ctx, joined.Claim.Policy.Node.Account)
	if err != nil {
		return nil, fmt.Errorf("find the key encryption keys of account %s: %w", joined.Claim.Policy.Node.Account, err)
	}
	out := msg.succeed(server)
	a := &out.answer
	a.PHYPayload = hex.EncodeToString(joined.PHYPayload)
	lifetime := int64(s.Lifetime / time.Second)
	a.Lifetime = &lifetime
	a.SessionKeyID = hex.EncodeToString(joinserver.SessionKeyID(joined.Claim.Request.DevEUI, joined.Grant.JoinNonce))
	if joined.OptNeg {
		err = errors.Join(
			server.seal(&a.FNwkSIntKey, joined.Keys.FNwkSIntKey, server.KEK),
			server.seal(&a.SNwkSIntKey, joined.Keys.SNwkSIntKey, server.KEK),
			server.seal(&a.NwkSEncKey, joined.Keys.NwkSEncKey, server.KEK),
		)
	} else {
		err = server.seal(&a.NwkSKey, joined.Keys.FNwkSIntKey, server.KEK)
	}
	err = errors.Join(err, server.seal(&a.AppSKey, joined.Keys.AppSKey, recipients.Application))
	if a.AppSKey != nil && a.AppSKey.KEKLabel == "" {
		// ChirpStack takes a SessionKeyID for the sign that the AppSKey is not meant for
		// it, and would leave payloads encrypted although it has the key. TS002 asks for
		// one of the two only.
		a.SessionKeyID = ""
	}
	return out, err
}

// seal puts a key into an envelope, and leaves the envelope out when there is
// nothing to wrap under and keys may not be sent in the clear.
func (n *NetworkServer) seal(to **envelope, key keyring.Key, under joinserver.KeyEncryption) error {
	switch {
	case !under.KEK.IsZero():
		wrapped, err := key.WrapUnder(under.KEK)
		if err != nil {
			return fmt.Errorf("wrap under key encryption key %q: %w", under.Label, err)
		}
		*to = &envelope{under.Label, hex.EncodeToString(wrapped)}
	case n.KeysInClear:
		*to = &envelope{AESKey: key.RevealHex()}
	}
	return nil
}

// repeatKey is the same for requests that differ in nothing that their answer
// depends on.
func repeatKey(server *NetworkServer, msg message, req joinserver.NetworkRequest) string {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%q %s %s %d %s %s %x %d %x %x", server.Name, msg.kind, msg.version, msg.transaction,
		req.DevEUI, req.DevAddr, req.DLSettings, req.RxDelay, req.CFList, req.PHYPayload)
	fmt.Fprintf(&b, " %d", req.MACVersion)
	return b.String()
}
