package record

import (
	"time"

	"joingate/joinserver"
)

// onRecord is what the record holds that decides a claim.
type onRecord struct {
	versions joinserver.PolicyVersions // 0 where a row is gone, or not linked any more
	sessions [2]sessionOnRecord        // by slot
	sent     countOnRecord             // what the device has sent before
	keks     bool                      // accounts have registered keys
}

// sessionOnRecord is a slot for a session; its zero value is an empty one.
type sessionOnRecord struct {
	joinNonce uint32
	devAddr   int64 // noAddress: none was given
	live      bool
	confirmed bool
	joined    int64 // milliseconds
}

// countOnRecord is what the record holds of the counter that a claim brings: the
// DevNonces with its JoinEUI, its RJcount1 with its JoinEUI, or its RJcount0 in its
// session.
type countOnRecord struct {
	seen    bool  // the very value was used
	mic     int64 // of the frame that used it
	until   int64 // RX2 of that frame
	highest int64 // -1: none, or it does not count
}

// newest is the slot that tells how far JoinNonce has come.
func (has onRecord) newest() int {
	if has.sessions[1].joinNonce > has.sessions[0].joinNonce {
		return 1
	}
	return 0
}

func (has onRecord) joinNonce() uint32 { return has.sessions[has.newest()].joinNonce }

// slotFor is the slot that the claim's session gets; the session in it ends. A
// session that is not live goes first. Of two live ones the newest stays; but the
// one in which a rejoin-request was sent stays in its place, and on a
// rejoin-request of type 1, which belongs to none, the one that was confirmed: the
// device goes on in it if the join-accept does not reach it.
func (has onRecord) slotFor(c joinserver.Claim) int {
	newest := has.newest()
	a, b := has.sessions[0], has.sessions[1]
	switch {
	case !a.live && !b.live:
		return int((has.joinNonce() + 1) % 2)
	case !a.live:
		return 0
	case !b.live:
		return 1
	case countsInSession(c.Type) && has.sessions[1-newest].joinNonce == c.Session,
		c.Type == joinserver.Rejoin1 && has.sessions[1-newest].confirmed:
		return newest
	}
	return 1 - newest
}

// isLive reports whether the session with the JoinNonce is live.
func (has onRecord) isLive(joinNonce uint32) bool {
	for _, s := range has.sessions {
		if s.live && s.joinNonce == joinNonce {
			return true
		}
	}
	return false
}

// countsInSession reports whether the request brings RJcount0, which counts within
// a session (LoRaWAN 1.1, section 6.2.4.1).
func countsInSession(t joinserver.JoinType) bool {
	return t == joinserver.Rejoin0 || t == joinserver.Rejoin2
}

// verdict is the decision of the commit: pure, so that it is the same on every
// engine. Nil grants the claim.
func verdict(c joinserver.Claim, has onRecord, now time.Time) error {
	req := c.Request
	if has.sent.seen && has.sent.mic == micNumber(req.MIC) && now.UnixMilli() <= has.sent.until {
		return joinserver.ErrLateCopy
	}
	if now.After(c.Deadline) {
		return refuse(c, joinserver.TooLate)
	}
	if c.Gateway == (joinserver.Gateway{}) { // a network server sends
		has.versions.Gateway = 0
	}
	if has.versions != c.Versions() {
		return joinserver.ErrPolicyMoved
	}
	if countsInSession(c.Type) && !has.isLive(c.Session) {
		return refuse(c, joinserver.NoSession)
	}
	if has.sent.seen || countsUp(c) && int64(req.DevNonce) <= has.sent.highest {
		return refuse(c, joinserver.DevNonceReplayed)
	}
	if has.joinNonce() >= joinserver.MaxJoinNonce {
		return refuse(c, joinserver.JoinNonceExhausted)
	}
	return nil
}

// countsUp reports whether each value that the device sends must be greater than
// all before it.
func countsUp(c joinserver.Claim) bool {
	return c.Type != joinserver.Joined || joinserver.Monotonic(c.Policy.Node.MACVersion)
}

func refuse(c joinserver.Claim, reason joinserver.Reason) error {
	return &joinserver.Rejection{Reason: reason, DevEUI: c.Request.DevEUI, JoinEUI: c.Request.JoinEUI, Account: c.Policy.Node.Account}
}

func micNumber(mic [4]byte) int64 {
	return int64(mic[0])<<24 | int64(mic[1])<<16 | int64(mic[2])<<8 | int64(mic[3])
}
