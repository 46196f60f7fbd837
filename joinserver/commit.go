package joinserver

import (
	"context"
	"errors"
	"time"

	"joingate/band"
)

// Joins makes joins durable.
type Joins interface {
	// Commit takes the DevNonce, counts the JoinNonce up, allocates a DevAddr
	// and records session and join event, in one transaction that also checks
	// that the versions in the claim's policy and gateway are those on record.
	// It returns after the transaction is on disk.
	//
	// Errors: ErrPolicyMoved; ErrLateCopy; a *Rejection with DevNonceReplayed,
	// JoinNonceExhausted or TooLate. In all these cases, and on any other
	// error, nothing of the claim may be sent.
	Commit(ctx context.Context, c Claim) (Grant, error)
}

var (
	// ErrPolicyMoved says that the record holds another policy than the claim
	// was made from. The join is to be decided again.
	ErrPolicyMoved = errors.New("policy has moved since it was read")
	// ErrLateCopy says that the record holds a join for this very frame (equal
	// MIC) whose RX2 is still to come: a copy, to be swallowed, not a refusal.
	ErrLateCopy = errors.New("late copy of a frame that was answered")
)

// Claim is a join that has passed every check but those of the commit.
type Claim struct {
	Request  JoinRequest
	Policy   Policy
	Gateway  Gateway // the one chosen to send the join-accept
	NetID    NetID
	Received time.Time // when the first copy arrived
	Deadline time.Time // of the last window offered; past it the claim is TooLate, uncommitted

	// What the join-accept will carry and the session is opened with.
	DLSettings byte
	RxDelay    time.Duration
	CFList     []byte // nil or 16 octets
	Receptions []Reception
}

// AnswerUntil is the end of the frame's RX2: until then an equal frame is a
// copy of it.
func (c Claim) AnswerUntil() time.Time { return c.Received.Add(band.JoinAcceptDelay2) }

// Versions are the versions that the commit compares with the record.
func (c Claim) Versions() PolicyVersions {
	return PolicyVersions{c.Policy.Node.Version, c.Policy.Group.Version, c.Policy.Permission.Version, c.Gateway.Version}
}

// Grant is what the commit adds to a claim.
type Grant struct {
	JoinNonce uint32 // 1 to MaxJoinNonce
	DevAddr   DevAddr
}

// Monotonic reports whether devices of this version count DevNonce up, so that
// each must be greater than all before (TS001-1.0.4 section 6.2.5; 1.1 section
// 6.2.5). Older devices draw it at random: none may come twice.
func Monotonic(v MACVersion) bool { return v >= band.MAC1_0_4 }
