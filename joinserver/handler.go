package joinserver

import (
	"context"
	"errors"
	"fmt"
	"time"

	"joingate/band"
)

// Config is what a Handler needs. What stands after Now may be left out.
type Config struct {
	Policies Policies     // asked first; may answer from a cache
	Record   Policies     // the truth: confirms a refusal before it counts
	Joins    Joins        // makes joins durable
	Bands    *band.Groups // the band plan groups in force
	NetID    NetID        // announced in join-accepts, prefix of DevAddrs
	Now      func() time.Time

	// Sessions finds what joins have opened. Nil: rejoin-requests are refused.
	Sessions Sessions
	// Airtime is the ledger in which join-accepts are given their place. Nil: always
	// the best gateway, whatever else it has to send.
	Airtime Airtime
	// Limits hold back those who ask too often. The zero Limits are none.
	Limits Limits

	// SendLead is how long before a window opens the join-accept must leave the
	// server, so that it still reaches the gateway's queue. Default 200 ms; too
	// short, and gateways answer TOO_LATE; too long, and slow copies are refused.
	SendLead time.Duration
	// Observe is told how long each step took; nil: nobody asks.
	Observe func(step Step, took time.Duration)
}

// Step names a step of the join in measurements.
type Step string

// The steps, in their order.
const (
	StepPolicy   Step = "policy"
	StepMIC      Step = "mic"
	StepGateways Step = "gateways"
	StepAirtime  Step = "airtime"
	StepCommit   Step = "commit"
	StepEncode   Step = "encode"
)

// Handler answers join-requests and rejoin-requests. It is safe for concurrent use.
type Handler struct {
	Config
	turns  *turns
	limits *limiter
	demand *demand
}

// NewHandler checks the configuration and makes a Handler of it.
func NewHandler(c Config) (*Handler, error) {
	if c.Policies == nil || c.Record == nil || c.Joins == nil || c.Bands == nil || c.Now == nil {
		return nil, errors.New("join handler needs Policies, Record, Joins, Bands and Now")
	}
	if c.SendLead == 0 {
		c.SendLead = 200 * time.Millisecond
	}
	if c.Observe == nil {
		c.Observe = func(Step, time.Duration) {}
	}
	return &Handler{Config: c, turns: newTurns(euisRemembered), limits: newLimiter(c.Limits), demand: newDemand()}, nil
}

// Attempt is a request that has been looked at as soon as its first copy was
// there: decoded, its policy found, its MIC checked. What that showed counts once
// all copies are in.
type Attempt struct {
	Request JoinRequest
	Type    JoinType
	parsed  request
	home    NetID // of the network that has received it
	phy     []byte
	finding finding
}

// PHYPayload gives the frame that was looked at, not to be changed.
func (a Attempt) PHYPayload() []byte { return a.phy }

// Account is the device's account if the MIC has proved that the device has sent
// the request, else 0: what strangers send in its name is not the account's.
func (a Attempt) Account() AccountID {
	if !a.finding.micOK {
		return 0
	}
	return a.finding.policy.Node.Account
}

// finding is what one source of policies says about a request. A refusal is kept
// as a value: work runs early, the order of the reasons does not.
type finding struct {
	request request // with the JoinEUI of its session
	policy  Policy
	refusal error // of the policy, or for want of a session; nil: the device is admitted
	micOK   bool
	session *Session // of a rejoin-request: the one that signs it, or that the device listens by; nil: none
}

// Join answers one join-request with the join-accept to transmit.
//
// The order of the steps is the safety argument. Nothing is written before the
// MIC has proved that the sender holds the root key, so a stranger cannot burn
// a device's nonces; nothing is returned before the commit is durable, so a
// crash cannot make two sessions share a key; and the commit refuses a policy
// that has moved, so a stale cache cannot decide. Any failure is silence on air.
//
// Rejoin-requests of LoRaWAN 1.1 are answered in the same way.
//
// Errors: a *Rejection for a refusal, ErrLateCopy for a copy of a frame that was
// answered, anything else for a fault.
func (h *Handler) Join(ctx context.Context, up Uplink) (Downlink, error) {
	attempt, err := h.Prepare(ctx, up.PHYPayload)
	if err != nil {
		return Downlink{}, err
	}
	return h.Answer(ctx, attempt, up.Receptions)
}

// Prepare does the part of Join that needs no more than the frame, so that it
// can run while copies are still coming in. It writes nothing. The Attempt keeps
// phyPayload, which must not change until it is answered.
func (h *Handler) Prepare(ctx context.Context, phyPayload []byte) (Attempt, error) {
	return h.prepare(ctx, phyPayload, h.NetID)
}

func (h *Handler) prepare(ctx context.Context, phyPayload []byte, home NetID) (Attempt, error) {
	req, err := parse(phyPayload)
	if err != nil {
		return Attempt{}, err
	}
	a := Attempt{Request: req.JoinRequest, Type: req.kind, parsed: req, home: home, phy: phyPayload}
	if a.finding, err = h.examine(ctx, h.Policies, a); err != nil {
		return Attempt{}, err
	}
	return a, nil
}

// Answer does the rest of Join, with all copies of the frame that will be
// considered. A refusal that rests on the cache is confirmed by the record, and
// a join whose policy moved is decided again: both once more, from the truth.
func (h *Handler) Answer(ctx context.Context, a Attempt, copies []Reception) (Downlink, error) {
	if len(copies) == 0 {
		return Downlink{}, fmt.Errorf("join of %s came without a reception", a.Request.DevEUI)
	}
	return settle(ctx, h, a, func(from Policies, f finding) (Downlink, error) { return h.decide(ctx, from, f, copies) })
}

// settle decides by the cache first and, where that must not have the last word, by
// the record. What fails counts towards the device's limit; beyond it a failure is
// not even worth asking the record.
func settle[T any](ctx context.Context, h *Handler, a Attempt, decide func(Policies, finding) (T, error)) (T, error) {
	out, err := decide(h.Policies, a.finding)
	if err == nil {
		return out, nil
	}
	if mustAskRecord(err) && h.limits.mayConfirm(a.Request.DevEUI, err, h.Now()) {
		cached := a.finding.policy
		for range freshTries {
			if a.finding, err = h.examine(ctx, h.Record, a); err != nil {
				return out, err
			}
			if out, err = decide(h.Record, a.finding); !errors.Is(err, ErrPolicyMoved) {
				break
			}
		}
		if cached.differs(a.finding.policy) {
			h.limits.distrust(a.Request.DevEUI)
		}
	}
	return out, h.limits.failed(err, h.Now())
}

// freshTries bounds how often one join chases a policy that administrators
// change in the same milliseconds.
const freshTries = 5

// mustAskRecord reports whether a decision that rests on the cache has to be
// taken again from the record. An unknown device may be remembered as such; what
// the commit, the ledger or the clock refused does not rest on the cache.
func mustAskRecord(err error) bool {
	if errors.Is(err, ErrPolicyMoved) {
		return true
	}
	var refused *Rejection
	if !errors.As(err, &refused) {
		return false
	}
	r := refused.Reason
	return r > UnknownDevice && r <= BadMIC || r == NoSession || r == WrongParameters
}

// examine finds the policy and checks the MIC.
func (h *Handler) examine(ctx context.Context, from Policies, a Attempt) (finding, error) {
	req := a.parsed
	start := h.Now()
	policy, err := from.Policy(ctx, req.DevEUI)
	h.Observe(StepPolicy, h.Now().Sub(start))
	if errors.Is(err, ErrUnknownDevice) {
		return finding{request: req, refusal: req.reject(UnknownDevice, 0, "")}, nil
	}
	if err != nil {
		return finding{}, fmt.Errorf("find policy of %s: %w", req.DevEUI, err)
	}
	start = h.Now()
	defer func() { h.Observe(StepMIC, h.Now().Sub(start)) }()
	if req.kind != Joined {
		return h.examineRejoin(ctx, req, a.home, a.phy, policy)
	}
	micOK, err := policy.Node.Keys.VerifyJoinRequest(a.phy)
	if err != nil {
		return finding{}, fmt.Errorf("check MIC of %s: %w", req.DevEUI, err)
	}
	return finding{request: req, policy: policy, refusal: policy.admits(req.JoinRequest), micOK: micOK}, nil
}

// decide goes through the steps in the order of their reasons.
func (h *Handler) decide(ctx context.Context, from Policies, f finding, copies []Reception) (Downlink, error) {
	if f.refusal != nil {
		return Downlink{}, f.refusal
	}
	plan, heard, err := h.onChannel(f, copies)
	if err != nil {
		return Downlink{}, err
	}
	eligible, err := h.eligible(ctx, from, f, heard)
	if err != nil {
		return Downlink{}, err
	}
	if !f.micOK {
		return Downlink{}, f.reject(BadMIC, "")
	}
	if err := f.policy.Permission.encodable(); err != nil {
		return Downlink{}, err
	}
	spare, err := h.limits.reserve(f, h.Now())
	if err != nil {
		return Downlink{}, err
	}
	ranked := h.turns.apply(f.request.DevEUI, rank(eligible))
	way, err := h.reply(ctx, f, plan, ranked, copies)
	if err != nil {
		spare()
		return Downlink{}, err
	}
	down, err := h.grant(ctx, h.claim(f, plan, way, copies))
	if err != nil {
		spare()
		h.release(ctx, way)
		return Downlink{}, err
	}
	h.turns.took(f.request.DevEUI, way.via.EUI)
	if h.Airtime != nil {
		h.demand.answered(f.request.DevEUI)
	}
	down.Routes = way.routes
	return down, nil
}

// grant commits a claim and encodes the join-accept.
func (h *Handler) grant(ctx context.Context, c Claim) (Downlink, error) {
	grant, err := h.commit(ctx, c)
	if err != nil {
		return Downlink{}, err
	}
	h.limits.granted(c, h.Now())
	phy, err := h.accept(c, grant)
	if err != nil {
		return Downlink{}, fmt.Errorf("encode join-accept for %s: %w", c.Request.DevEUI, err)
	}
	return Downlink{PHYPayload: phy, Claim: c, Grant: grant}, nil
}

func (h *Handler) commit(ctx context.Context, c Claim) (Grant, error) {
	start := h.Now()
	grant, err := h.Joins.Commit(ctx, c)
	h.Observe(StepCommit, h.Now().Sub(start))
	if err != nil {
		return Grant{}, fmt.Errorf("commit join of %s: %w", c.Request.DevEUI, c.explained(err))
	}
	return grant, nil
}

// explained says which counter a rejoin-request has repeated: its reason names the
// DevNonce, as there is one reason for all three.
func (c Claim) explained(err error) error {
	var refused *Rejection
	if c.Type == Joined || !errors.As(err, &refused) || refused.Reason != DevNonceReplayed || refused.Detail != "" {
		return err
	}
	counter := "RJcount0"
	if c.Type == Rejoin1 {
		counter = "RJcount1"
	}
	return c.Request.reject(DevNonceReplayed, refused.Account, fmt.Sprintf("%s %d is not above the last", counter, c.Request.DevNonce))
}
