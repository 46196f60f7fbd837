package joinserver

import (
	"context"
	"time"

	"joingate/band"
	"joingate/keyring"

	"github.com/brocaar/lorawan"
)

// JoinType tells what a session was asked for by.
type JoinType byte

// The requests that open a session. Rejoin-requests are LoRaWAN 1.1, section
// 6.2.4.
const (
	Joined  JoinType = iota // join-request
	Rejoin0                 // resets the session, radio parameters included; MIC under SNwkSIntKey
	Rejoin1                 // a lost device finds its network; MIC under JSIntKey
	Rejoin2                 // rekeys, or changes the DevAddr; MIC under SNwkSIntKey
)

// JoinReqType is the octet that stands for the type in a join-accept's MIC
// (LoRaWAN 1.1, section 6.2.3).
func (t JoinType) JoinReqType() byte { return byte(t) - 1 }

// inSession reports whether the request belongs to a session, which signs it.
func (t JoinType) inSession() bool { return t == Rejoin0 || t == Rejoin2 }

// Sessions reads what joins have opened.
type Sessions interface {
	// Sessions returns the sessions of a device that are live, the newest first: at
	// most that one and the one before it, until the newest is confirmed. None: an
	// empty list and no error.
	Sessions(ctx context.Context, device EUI64) ([]Session, error)
}

// Session is what a join opened. It holds no keys: they follow from the root keys
// and what is here.
type Session struct {
	DevEUI        EUI64
	JoinEUI       EUI64
	JoinNonce     uint32
	DevNonce      uint16 // of a rejoin: its RJcount
	NetID         NetID
	DevAddr       DevAddr
	MACVersion    MACVersion
	Account       AccountID
	GroupID       int64
	PermissionID  int64
	Gateway       EUI64 // zero: a network server sent the join-accept
	ClassMode     string
	BandPlanGroup band.GroupID
	RxDelay       time.Duration
	DLSettings    byte
	CFList        []byte // nil or 16 octets
	Joined        time.Time
	Live          bool // false: revoked, replaced by a confirmed one, or its node was removed
	Confirmed     bool // the network server has said that the device uses it
}

// OptNeg reports whether both sides went by LoRaWAN 1.1 (1.1 section 6.2.3).
func (s Session) OptNeg() bool { return s.DLSettings&optNeg != 0 }

// Keys derives the session's keys from the device's root keys.
func (s Session) Keys(root keyring.RootKeys) (keyring.SessionKeys, error) {
	return sessionKeys(root, s.OptNeg(), s.JoinNonce, s.NetID, keyring.JoinIDs{JoinEUI: s.JoinEUI, DevEUI: s.DevEUI, DevNonce: s.DevNonce})
}

// Opened is the session that the claim opens once granted: live, and not confirmed.
func (c Claim) Opened(g Grant, at time.Time) Session {
	return Session{
		DevEUI:        c.Request.DevEUI,
		JoinEUI:       c.Request.JoinEUI,
		JoinNonce:     g.JoinNonce,
		DevNonce:      c.Request.DevNonce,
		NetID:         c.NetID,
		DevAddr:       g.DevAddr,
		MACVersion:    c.Policy.Node.MACVersion,
		Account:       c.Policy.Node.Account,
		GroupID:       c.Policy.Group.ID,
		PermissionID:  c.Policy.Permission.ID,
		Gateway:       c.Gateway.EUI,
		ClassMode:     c.Policy.Permission.ClassMode,
		BandPlanGroup: c.Policy.Permission.BandPlanGroup,
		RxDelay:       c.RxDelay,
		DLSettings:    c.DLSettings,
		CFList:        c.CFList,
		Joined:        at,
		Live:          true,
	}
}

// SessionKeys derives the keys of the session that the claim opens once granted.
func (c Claim) SessionKeys(g Grant) (keyring.SessionKeys, error) {
	ids := keyring.JoinIDs{JoinEUI: c.Request.JoinEUI, DevEUI: c.Request.DevEUI, DevNonce: c.Request.DevNonce}
	return sessionKeys(c.Policy.Node.Keys, c.OptNeg(), g.JoinNonce, c.NetID, ids)
}

// OptNeg reports whether the session is one of LoRaWAN 1.1 (1.1 section 6.2.3).
func (c Claim) OptNeg() bool { return c.DLSettings&optNeg != 0 }

// optNeg is the bit of DLSettings (LoRaWAN 1.1, section 6.2.3; RFU in 1.0.x).
const optNeg byte = 0x80

func sessionKeys(root keyring.RootKeys, is11 bool, joinNonce uint32, netID NetID, ids keyring.JoinIDs) (keyring.SessionKeys, error) {
	if is11 {
		return root.SessionKeys11(joinNonce, ids)
	}
	return root.SessionKeys10(joinNonce, lorawan.NetID(netID), ids.DevNonce)
}
