package backend

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"

	"joingate/joinserver"
)

// appSKey answers AppSKeyReq (TS002-1.1.0, section 8): the key follows once more
// from the root key and the session on record.
func (s *Server) appSKey(ctx context.Context, server *NetworkServer, msg message, receiver joinserver.EUI64) *outcome {
	r := &reader{fields: msg.fields}
	device, id := r.eui("DevEUI"), r.octets("SessionKeyID", 64)
	policy, sessions, refused := s.find(ctx, server, msg, r, device)
	if refused != nil {
		return refused
	}
	session, newest, found := sessionOf(sessions, id)
	if !found {
		return msg.fail(server, Other, "the device has no live session with this SessionKeyID").of(device)
	}
	if session.JoinEUI != receiver {
		return msg.fail(server, UnknownReceiver, "ReceiverID is not the JoinEUI of the session").of(device)
	}
	out := s.appSKeyAnswer(ctx, server, msg, policy, session)
	if out.result == Success && newest && !session.Confirmed {
		// Who asks for the key has an uplink of the session in hand. The answer does
		// not depend on whether that could be written down.
		out.err = s.Confirm(ctx, device, session.JoinNonce)
	}
	return out.of(device)
}

// find gives what the record has of the device that a message names, once its
// fields are read. The outcome is nil if there is something.
func (s *Server) find(ctx context.Context, server *NetworkServer, msg message, r *reader, device joinserver.EUI64) (joinserver.Policy, []joinserver.Session, *outcome) {
	if r.err != nil {
		return joinserver.Policy{}, nil, msg.fail(server, MalformedRequest, r.err.Error())
	}
	policy, err := s.Policies.Policy(ctx, device)
	switch {
	case errors.Is(err, joinserver.ErrUnknownDevice):
		return policy, nil, msg.fail(server, UnknownDevEUI, "nobody registered the DevEUI").of(device)
	case err != nil:
		return policy, nil, msg.faulty(server, fmt.Errorf("find policy of %s: %w", device, err)).of(device)
	}
	sessions, err := s.Sessions.Sessions(ctx, device)
	if err != nil {
		return policy, nil, msg.faulty(server, fmt.Errorf("find sessions of %s: %w", device, err)).of(device)
	}
	return policy, sessions, nil
}

// sessionOf finds a live session by its SessionKeyID, and tells whether it is the
// device's newest.
func sessionOf(sessions []joinserver.Session, id []byte) (session joinserver.Session, newest, found bool) {
	for i, session := range sessions {
		if session.Live && string(joinserver.SessionKeyID(session.DevEUI, session.JoinNonce)) == string(id) {
			return session, i == 0, true
		}
	}
	return joinserver.Session{}, false, false
}

func (s *Server) appSKeyAnswer(ctx context.Context, server *NetworkServer, msg message, policy joinserver.Policy, session joinserver.Session) *outcome {
	if !server.serves(session.Account) {
		return msg.fail(server, NoRoamingAgreement, "the device is of an account that this network server does not serve")
	}
	recipients, err := s.Recipients(ctx, session.Account)
	if err != nil {
		return msg.faulty(server, fmt.Errorf("find the key encryption keys of account %s: %w", session.Account, err))
	}
	wrapped := !recipients.Application.KEK.IsZero()
	if !wrapped && !server.KeysInClear {
		return msg.fail(server, Other, "the device's account has registered no key encryption key for its application server")
	}
	// What is wrapped can be opened by the application server alone. In the clear, a
	// key is only for who serves the session.
	if !wrapped && session.NetID != server.NetID {
		return msg.fail(server, NoRoamingAgreement, "the session is another network's, and its key would go in the clear")
	}
	keys, err := session.Keys(policy.Node.Keys)
	if err != nil {
		return msg.faulty(server, fmt.Errorf("derive keys of %s: %w", session.DevEUI, err))
	}
	out := msg.succeed(server)
	out.answer.DevEUI = session.DevEUI.String()
	out.answer.SessionKeyID = hex.EncodeToString(joinserver.SessionKeyID(session.DevEUI, session.JoinNonce))
	if err := server.seal(&out.answer.AppSKey, keys.AppSKey, recipients.Application); err != nil {
		return msg.faulty(server, err)
	}
	return out
}

// homeNS answers HomeNSReq (TS002-1.1.0, section 11): the network that served the
// device last, else our own.
func (s *Server) homeNS(ctx context.Context, server *NetworkServer, msg message, receiver joinserver.EUI64) *outcome {
	r := &reader{fields: msg.fields}
	device := r.eui("DevEUI")
	policy, sessions, refused := s.find(ctx, server, msg, r, device)
	switch {
	case refused != nil:
		return refused
	case policy.Permission.ID == 0:
		return msg.fail(server, ActivationDisallowed, "no join permission is bound to the device").of(device)
	case policy.Permission.JoinEUI != receiver:
		return msg.fail(server, UnknownReceiver, "ReceiverID is not the JoinEUI of the device").of(device)
	}
	home := s.NetID
	if len(sessions) > 0 {
		home = sessions[0].NetID
	}
	out := msg.succeed(server)
	out.answer.HNetID = home.String()
	return out.of(device)
}
