package linkwan

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap"

	"joingate/joinserver"
)

// Limits of the service.
const (
	callsPerSecond = 5 // per account and action, RAM users included; Alibaba's figure
	callTimeout    = 10 * time.Second

	// A network server confirms each session that it sees used: after a storm of
	// joins, that of every device.
	confirmationsPerSecond = 1000
)

// Config is all that a Server needs.
type Config struct {
	Record Record
	Bands  []BandPlan // of ListFreqBandPlanGroups; a permission can be made for these only
	Memory Memory
	// DefaultJoinEUI is what UseDefaultJoinEui and ROAMING permissions take.
	DefaultJoinEUI joinserver.EUI64
	// GatewaysFromStockOnly refuses a gateway that the operator has not imported.
	GatewaysFromStockOnly bool
	// GatewayCounts gives how many frames of a gateway were seen and how many it
	// was told to send, since the start. Nil: both are shown as 0.
	GatewayCounts func(eui joinserver.EUI64) (received, sent int64)
	// Forget is told what a write has changed, before its answer leaves, so that
	// policy caches drop what they hold. Joins are right without it: the commit
	// compares versions.
	Forget func(ctx context.Context, changed []joinserver.Change)
	// ConfirmSession notes that the device uses the session. ErrNotFound: it is not
	// live. ErrNonceUsed. Nil, or no Sessions: there is no action ConfirmNodeSession.
	ConfirmSession func(ctx context.Context, w joinserver.Write, device joinserver.EUI64, joinNonce uint32) error
	Sessions       joinserver.Sessions
	Now            func() time.Time
	Log            *zap.Logger // gets one line per call
}

// Server answers the calls of the admin API. Mount it at "/".
type Server struct {
	Config
	bands bandPlans
}

// New makes a Server. Record, Bands, Memory, Now and Log must be set.
func New(c Config) *Server {
	if c.Forget == nil {
		c.Forget = func(context.Context, []joinserver.Change) {}
	}
	if c.GatewayCounts == nil {
		c.GatewayCounts = func(joinserver.EUI64) (int64, int64) { return 0, 0 }
	}
	return &Server{Config: c, bands: newBandPlans(c.Bands)}
}

// outcome is what became of one call.
type outcome struct {
	request request
	caller  caller
	action  actionContract
	data    any
	err     error
}

// ServeHTTP answers one call. Whatever goes wrong, the answer has the asked
// format, a RequestId and no more about the inside than its code.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	id, started := strings.ToUpper(uuid.NewString()), s.Now()
	ctx, cancel := context.WithTimeout(r.Context(), callTimeout)
	defer cancel()
	out := s.serve(ctx, r, id)
	if out.err == nil {
		write(w, http.StatusOK, out.request.format, out.request.action+"Response", out.action.XMLListItems, answer{id, true, out.data})
	} else {
		refusal := asAPIError(out.err)
		write(w, refusal.HTTPStatus, out.request.format, "Error", nil,
			errorAnswer{id, out.request.host, refusal.Code, refusal.Message, refusal.Recommend})
	}
	s.log(out, id, s.Now().Sub(started))
}

// serve runs the steps of a call. A panic becomes a fault like any other.
func (s *Server) serve(ctx context.Context, r *http.Request, id string) (out outcome) {
	defer func() {
		if p := recover(); p != nil {
			out.err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	if out.request, out.err = decode(r); out.err != nil {
		return out
	}
	var act action
	if act, out.err = findAction(out.request); out.err != nil {
		return out
	}
	out.action = act.actionContract
	if out.caller, out.err = s.authenticate(ctx, out.request); out.err != nil {
		return out
	}
	out.data, out.err = s.call(ctx, out.request, out.caller, act, id)
	return out
}

// findAction looks the action up before anything is asked of the record.
func findAction(req request) (action, error) {
	act, found := actions()[req.action]
	if !found {
		return action{}, fail("InvalidAction.NotFound")
	}
	if req.version != Version {
		return action{}, fail("InvalidVersion")
	}
	return act, nil
}

// call does what a caller asks, who is known now.
func (s *Server) call(ctx context.Context, req request, who caller, act action, id string) (any, error) {
	if free, err := s.Memory.Take(ctx, fmt.Sprintf("calls|%d|%s", who.account.ID, req.action), act.quota(), time.Second); err == nil && !free {
		return nil, fail("Throttling.User")
	}
	given, err := act.check(req.params)
	if err != nil {
		return nil, err
	}
	if err := act.admit(who, req.action, given); err != nil {
		return nil, err
	}
	now := s.Now()
	c := call{Server: s, account: who.account, params: given, now: now, write: joinserver.Write{
		Account: who.account.ID, User: who.key.User, AccessKeyID: who.key.ID, From: req.from,
		Action: req.action, RequestID: id, Nonce: req.credential.nonce, At: now,
	}}
	return s.guarded(ctx, act, c, req.from, func() (any, error) {
		switch {
		case act.direct != nil:
			return act.direct(ctx, c)
		case act.writes():
			return s.update(ctx, c, act)
		}
		return s.view(ctx, c, act)
	})
}

// admit decides whether the caller may call the action at all, by what the
// action's error table lists.
func (a action) admit(who caller, name string, given params) error {
	for _, resource := range a.resources {
		for _, one := range given.expand(resource) {
			full := fmt.Sprintf("acs:linkwan:%s:%s:%s", regionID, who.account.ID, one)
			if !who.policy.allows("linkwan:"+name, full) {
				return fail("ForbiddenByRam")
			}
		}
	}
	if who.account.RiskControl {
		return fail("ForbiddenByRiskControl")
	}
	if !who.account.ProductActivated && a.mayFail("CloudProductNotActivated") {
		return fail("CloudProductNotActivated")
	}
	if !hasFeature(who.account, a.feature) && a.mayFail("FeatureNotActivated") {
		return fail("FeatureNotActivated")
	}
	return a.checkInstance(who.account, given)
}

// checkInstance holds the IotInstanceId against the account's.
func (a action) checkInstance(account joinserver.Account, given params) error {
	const name = "IotInstanceId"
	_, takes := a.Params[name]
	switch {
	case takes && account.InstanceID != "" && !given.has(name):
		return missing(name)
	case given.has(name) && given.text(name) != account.InstanceID:
		return invalid(name)
	}
	return nil
}

func (s *Server) view(ctx context.Context, c call, act action) (data any, err error) {
	err = s.Record.View(ctx, func(tx Tx) error {
		data, err = act.runSafely(c, tx)
		return err
	})
	return data, err
}

func (s *Server) update(ctx context.Context, c call, act action) (data any, err error) {
	var changed []joinserver.Change
	err = s.Record.Update(ctx, c.write, func(tx Tx) error {
		audited := &auditedTx{Tx: tx}
		data, err = act.runSafely(c, audited)
		changed = audited.changed
		return err
	})
	if err != nil {
		return nil, asFailure(err, joinserver.ErrNonceUsed, "SignatureNonceUsed")
	}
	if len(changed) > 0 {
		s.Forget(ctx, changed)
	}
	return data, nil
}

// runSafely turns a panic into an error inside the transaction, so that the
// record rolls back as after any other fault.
func (a action) runSafely(c call, tx Tx) (data any, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	return a.run(c, tx)
}

// asAPIError gives a fault the code that tells a client nothing about it.
func asAPIError(err error) *APIError {
	var refusal *APIError
	if errors.As(err, &refusal) {
		return refusal
	}
	return fail("InternalError")
}

func (s *Server) log(out outcome, id string, took time.Duration) {
	fields := []zap.Field{
		zap.String("request_id", id), zap.String("action", out.request.action), zap.String("from", out.request.from),
		zap.Stringer("account", out.caller.account.ID), zap.String("access_key_id", out.caller.key.ID), zap.Duration("took", took),
	}
	var refusal *APIError
	switch {
	case out.err == nil:
		s.Log.Info("call answered", fields...)
	case errors.As(out.err, &refusal):
		s.Log.Info("call refused", append(fields, zap.String("code", refusal.Code))...)
	default:
		s.Log.Error("call failed", append(fields, zap.Error(out.err))...)
	}
}
