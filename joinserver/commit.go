package joinserver

import (
	"context"
	"errors"
	"time"

	"joingate/band"
	"joingate/keyring"
)

// Joins makes joins durable.
type Joins interface {
	// Commit takes the DevNonce, counts the JoinNonce up, allocates a DevAddr
	// and records session and join event, in one transaction that also checks
	// that the versions in the claim's policy and gateway are those on record.
	// It returns after the transaction is on disk.
	//
	// A rejoin-request's RJcount is checked in place of the DevNonce: RJcount1
	// (type 1) must be greater than all before it with this JoinEUI, RJcount0
	// (types 0 and 2) than all before it in the session that the claim names.
	//
	// Errors: ErrPolicyMoved; ErrLateCopy; a *Rejection with DevNonceReplayed,
	// JoinNonceExhausted, NoSession (the session is not live any more) or TooLate.
	// In all these cases, and on any other error, nothing of the claim may be sent.
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
	Type     JoinType    // Joined, or the type of a rejoin-request
	Request  JoinRequest // of a rejoin-request: RJcount in place of the DevNonce
	Policy   Policy
	Gateway  Gateway // the one chosen to send the join-accept; zero: a network server sends it
	NetID    NetID
	Received time.Time // when the first copy arrived
	Deadline time.Time // of the last window offered; past it the claim is TooLate, uncommitted

	// Session is the JoinNonce of the session whose RJcount0 a rejoin-request of
	// type 0 or 2 counts.
	Session uint32
	// Server is the network server that asks and sends; empty: our own gateways do.
	Server string
	// DevAddr is given by that network server; nil: the commit allocates one.
	DevAddr *DevAddr

	// What the join-accept will carry and the session is opened with.
	DLSettings byte
	RxDelay    time.Duration
	CFList     []byte // nil or 16 octets
	Receptions []Reception
}

// AnswerUntil is the end of the frame's RX2: until then an equal frame is a
// copy of it.
func (c Claim) AnswerUntil() time.Time { return c.Received.Add(band.JoinAcceptDelay2) }

// KeyEncryption is a key encryption key that an account has registered for one of
// its servers, to wrap session keys with (RFC 3394).
type KeyEncryption struct {
	Label string // names the key to the server; empty: none is registered
	KEK   keyring.WrappingKey
}

// Recipients are the servers that an account's session keys are wrapped for, each
// under its own key.
type Recipients struct {
	Network     KeyEncryption // gets the network session keys
	Application KeyEncryption // gets the AppSKey
}

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
// each must be greater than all before (TS001-1.0.4 section 6.2.5; LoRaWAN 1.1,
// section 6.2.2). Older devices draw it at random: none may come twice.
func Monotonic(v MACVersion) bool { return v >= band.MAC1_0_4 }
