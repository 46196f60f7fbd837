package joinserver_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"joingate/band"
	"joingate/joinserver"
	"joingate/keyring"
)

// cause provokes one reason. The frame is the good one unless frame makes
// another.
type cause struct {
	reason    joinserver.Reason
	set       func(*world)
	frame     func(testing.TB) []byte
	copies    []joinserver.Reception
	committed bool // the reason is found in the commit
	account   joinserver.AccountID
	detail    string // part of what a person is told
}

func edit(change func(*joinserver.Policy)) func(*world) {
	return func(w *world) { w.record.change(change) }
}

func causes() map[string]cause {
	good := func(tb testing.TB) []byte { return joinRequest(tb, rootHex, 1) }
	return map[string]cause{
		"cut short":           {reason: joinserver.Malformed, frame: func(tb testing.TB) []byte { return good(tb)[:22] }, detail: "22 octets"},
		"too long":            {reason: joinserver.Malformed, frame: func(tb testing.TB) []byte { return append(good(tb), 0) }, detail: "24 octets"},
		"empty":               {reason: joinserver.Malformed, frame: func(testing.TB) []byte { return nil }, detail: "0 octets"},
		"not a join-request":  {reason: joinserver.Malformed, frame: func(tb testing.TB) []byte { f := good(tb); f[0] = 0x40; return f }, detail: "MHDR 40"},
		"other major version": {reason: joinserver.Malformed, frame: func(tb testing.TB) []byte { f := good(tb); f[0] = 0x01; return f }, detail: "MHDR 01"},
		"unknown":             {reason: joinserver.UnknownDevice, set: func(w *world) { delete(w.record.policies, devEUI) }},
		"device disabled":     {reason: joinserver.DeviceDisabled, account: account, set: edit(func(p *joinserver.Policy) { p.Node.Enabled = false })},
		"in no group": {reason: joinserver.NoPermission, account: account, detail: "in no group", set: edit(func(p *joinserver.Policy) {
			p.Group, p.Permission = joinserver.NodeGroup{}, joinserver.JoinPermission{}
		})},
		"group not bound":        {reason: joinserver.NoPermission, account: account, detail: "node group 3", set: edit(func(p *joinserver.Policy) { p.Permission = joinserver.JoinPermission{} })},
		"permission disabled":    {reason: joinserver.PermissionDisabled, account: account, detail: "join permission 4", set: edit(func(p *joinserver.Policy) { p.Permission.Enabled = false })},
		"other JoinEUI":          {reason: joinserver.WrongJoinEUI, account: account, detail: "d896e0efff000002", set: edit(func(p *joinserver.Policy) { p.Permission.JoinEUI[7]++ })},
		"no channel at all":      {reason: joinserver.WrongBandPlan, account: account, detail: "nor of any other group", copies: []joinserver.Reception{heardBy(gatewayA, at(1_000_000))}},
		"channel of another":     {reason: joinserver.WrongBandPlan, account: account, detail: "868.1 MHz is a join channel of 1000 EU868", copies: []joinserver.Reception{heardBy(gatewayA, at(868_100_000))}},
		"data rate of no join":   {reason: joinserver.WrongBandPlan, account: account, copies: []joinserver.Reception{heardBy(gatewayA, func(r *joinserver.Reception) { r.Modulation = band.Modulation{} })}},
		"group not configured":   {reason: joinserver.WrongBandPlan, account: account, detail: "4711", set: edit(func(p *joinserver.Policy) { p.Permission.BandPlanGroup = 4711 })},
		"gateway not registered": {reason: joinserver.GatewayNotAllowed, account: account, detail: "not registered", copies: []joinserver.Reception{heardBy(nobodys)}},
		"gateway disabled":       {reason: joinserver.GatewayNotAllowed, account: account, detail: "is disabled", set: func(w *world) { w.record.changeGateway(gatewayA, func(g *joinserver.Gateway) { g.Enabled = false }) }},
		"gateway of other band": {reason: joinserver.GatewayNotAllowed, account: account, detail: "group 102", set: func(w *world) {
			w.record.changeGateway(gatewayA, func(g *joinserver.Gateway) { g.BandPlanGroup = 102 })
		}},
		"gateway of a stranger": {reason: joinserver.GatewayNotAllowed, account: account, detail: "another account", set: func(w *world) { w.record.changeGateway(gatewayA, func(g *joinserver.Gateway) { g.Owner = stranger }) }},
		"local, open to roaming": {reason: joinserver.GatewayNotAllowed, account: account, set: func(w *world) {
			w.record.changeGateway(gatewayA, func(g *joinserver.Gateway) { g.Owner, g.OpenToRoaming = stranger, true })
		}},
		"roaming, not open": {reason: joinserver.GatewayNotAllowed, account: account, detail: "roaming", set: edit(func(p *joinserver.Policy) { p.Permission.Type, p.Permission.Owner = joinserver.Roaming, 0 })},
		"other key":         {reason: joinserver.BadMIC, account: account, frame: func(tb testing.TB) []byte { return joinRequest(tb, otherHex, 1) }},
		"AppKey of a 1.1 device": {reason: joinserver.BadMIC, account: account, set: func(w *world) {
			nwk := key(w.tb, nwkHex)
			w.record.change(func(p *joinserver.Policy) { p.Node.MACVersion, p.Node.Keys.Nwk = band.MAC1_1, nwk })
		}},
		"DevNonce again": {reason: joinserver.DevNonceReplayed, account: account, committed: true, set: func(w *world) {
			w.joins.nonces[1] = joinserver.Claim{Received: start.Add(-time.Hour)}
		}},
		"JoinNonces used up": {reason: joinserver.JoinNonceExhausted, account: account, committed: true, set: func(w *world) { w.joins.joinNonce = joinserver.MaxJoinNonce }},
		"late":               {reason: joinserver.TooLate, account: account, detail: "5.9s after", set: func(w *world) { w.now = start.Add(5900 * time.Millisecond) }},
		"late in the commit": {reason: joinserver.TooLate, account: account, committed: true, set: func(w *world) {
			w.joins.onCommit = func() { w.now = start.Add(5801 * time.Millisecond) }
		}},
	}
}

// TestReasons provokes every reason up to TooLate, but for RateLimited, which is
// not the handler's to find. A refusal writes nothing and sends nothing.
func TestReasons(t *testing.T) {
	provoked := map[joinserver.Reason]bool{joinserver.RateLimited: true}
	for name, c := range causes() {
		provoked[c.reason] = true
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			if c.set != nil {
				c.set(w)
			}
			frame := joinRequest(t, rootHex, 1)
			if c.frame != nil {
				frame = c.frame(t)
			}
			down, err := w.send(frame, c.copies...)
			expectRefusal(t, w, down, err, c)
		})
	}
	for _, reason := range joinserver.Reasons() {
		if reason <= joinserver.TooLate && !provoked[reason] {
			t.Errorf("nothing provokes %s", reason)
		}
	}
}

func expectRefusal(t *testing.T, w *world, down joinserver.Downlink, err error, c cause) {
	t.Helper()
	var got *joinserver.Rejection
	if !errors.As(err, &got) || got.Reason != c.reason {
		t.Fatalf("got %v, want %s", err, c.reason)
	}
	if got.Account != c.account {
		t.Errorf("the refusal names account %s, want %s", got.Account, c.account)
	}
	if known := c.reason != joinserver.Malformed; known && (got.DevEUI != devEUI || got.JoinEUI != joinEUI) {
		t.Errorf("the refusal names device %s and JoinEUI %s", got.DevEUI, got.JoinEUI)
	}
	if !strings.Contains(got.Detail, c.detail) || !strings.Contains(got.Error(), got.Detail) {
		t.Errorf("%q does not tell %q", got.Error(), c.detail)
	}
	if (w.joins.asked > 0) != c.committed || len(w.joins.claims) > 0 {
		t.Errorf("commit was asked %d times and wrote %d joins", w.joins.asked, len(w.joins.claims))
	}
	if down.PHYPayload != nil || down.Routes != nil {
		t.Errorf("a refused join is answered with %x", down.PHYPayload)
	}
}

// TestPrecedenceOfReasons gives a request two causes to be refused at once, for
// all pairs that do not undo each other.
func TestPrecedenceOfReasons(t *testing.T) {
	order := []string{
		"cut short", "unknown", "device disabled", "group not bound", "permission disabled", "other JoinEUI",
		"channel of another", "gateway disabled", "other key", "late",
	}
	all := causes()
	for i, first := range order {
		for _, second := range order[i+1:] {
			a, b := all[first], all[second]
			w := newWorld(t)
			frame, copies := joinRequest(t, rootHex, 1), []joinserver.Reception{heardBy(gatewayA)}
			for _, c := range []cause{b, a} { // the stronger one has the last word on what it sets
				if c.set != nil && (c.reason != joinserver.UnknownDevice || a.reason == c.reason) {
					c.set(w)
				}
				if c.frame != nil {
					frame = c.frame(t)
				}
				if c.copies != nil {
					copies = c.copies
				}
			}
			if _, err := w.send(frame, copies...); reasonOf(err) != a.reason {
				t.Errorf("%s and %s: refused as %v, want %s", first, second, err, a.reason)
			}
		}
	}
}

// TestPrecedenceInTheCommit: what the commit finds comes after all the rest.
func TestPrecedenceInTheCommit(t *testing.T) {
	all := causes()
	for name, c := range all {
		if c.committed || c.frame != nil && c.reason == joinserver.Malformed {
			continue
		}
		w := newWorld(t)
		all["DevNonce again"].set(w)
		all["JoinNonces used up"].set(w)
		if c.set != nil {
			c.set(w)
		}
		frame := joinRequest(t, rootHex, 1)
		if c.frame != nil {
			frame = c.frame(t)
		}
		if _, err := w.send(frame, c.copies...); reasonOf(err) != c.reason {
			t.Errorf("%s and a replayed DevNonce: %v, want %s", name, err, c.reason)
		}
	}
}

func TestReasonTexts(t *testing.T) {
	want := "malformed unknown_device device_disabled no_permission permission_disabled wrong_join_eui wrong_band_plan " +
		"gateway_not_allowed bad_mic dev_nonce_replayed join_nonce_exhausted rate_limited too_late no_airtime overloaded " +
		"no_session wrong_net_id wrong_parameters"
	var texts []string
	for _, r := range joinserver.Reasons() {
		texts = append(texts, r.String())
		if r.Remedy() == "" {
			t.Errorf("%s has no remedy", r)
		}
	}
	if got := strings.Join(texts, " "); got != want {
		t.Errorf("reasons are\n%s, want\n%s", got, want)
	}
	for _, beyond := range []joinserver.Reason{0, joinserver.WrongParameters + 1, 255} {
		if !strings.HasPrefix(beyond.String(), "Reason(") || beyond.Remedy() != "" {
			t.Errorf("%d is %q, %q", uint8(beyond), beyond, beyond.Remedy())
		}
	}
}

// TestFaultsAreNotRefusals: a fault of ours has no Reason, writes nothing and
// sends nothing.
func TestFaultsAreNotRefusals(t *testing.T) {
	fault := errors.New("disk is full")
	tooFast := band.DataRate(16)
	for name, c := range map[string]struct {
		set     func(*world)
		is      error
		commits bool
	}{
		"policies":        {set: func(w *world) { w.record.fault = fault }, is: fault},
		"commit":          {set: func(w *world) { w.joins.fault = fault }, is: fault, commits: true},
		"no key":          {set: edit(func(p *joinserver.Policy) { p.Node.Keys = keyring.RootKeys{} })},
		"RxDelay of 16 s": {set: edit(func(p *joinserver.Policy) { p.Permission.RxDelay = 16 * time.Second })},
		"RxDelay of 1.5 s": {set: edit(func(p *joinserver.Policy) {
			p.Permission.RxDelay = 1500 * time.Millisecond
		})},
		"RxDelay before 0": {set: edit(func(p *joinserver.Policy) { p.Permission.RxDelay = -time.Second })},
		"DataRate 16":      {set: edit(func(p *joinserver.Policy) { p.Permission.DataRate = &tooFast })},
	} {
		w := newWorld(t)
		c.set(w)
		down, err := w.join(1)
		if err == nil || reasonOf(err) != 0 || c.is != nil && !errors.Is(err, c.is) {
			t.Errorf("%s: %v", name, err)
		}
		if down.PHYPayload != nil || len(w.joins.claims) != 0 || !c.commits && w.joins.asked != 0 {
			t.Errorf("%s: something was written or sent", name)
		}
	}
}

func TestJoinWithoutReceptions(t *testing.T) {
	w := newWorld(t)
	_, err := w.handler.Join(context.Background(), joinserver.Uplink{PHYPayload: joinRequest(t, rootHex, 1)})
	if err == nil || reasonOf(err) != 0 || w.joins.asked != 0 {
		t.Errorf("a join that no gateway heard: %v", err)
	}
}

func TestNewHandlerNamesWhatIsMissing(t *testing.T) {
	whole := newWorld(t).config
	for name, take := range map[string]func(*joinserver.Config){
		"Policies": func(c *joinserver.Config) { c.Policies = nil },
		"Record":   func(c *joinserver.Config) { c.Record = nil },
		"Joins":    func(c *joinserver.Config) { c.Joins = nil },
		"Bands":    func(c *joinserver.Config) { c.Bands = nil },
		"Now":      func(c *joinserver.Config) { c.Now = nil },
	} {
		config := whole
		take(&config)
		if _, err := joinserver.NewHandler(config); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("without %s: %v", name, err)
		}
	}
}
