package linkwan

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"joingate/joinserver"
)

// model says what the permissions, orders and groups of alice (1) and bob (2)
// must be: the state machine of doc/api.md, with nothing else in it.
type model struct {
	permissions map[string]*modelPermission
	orders      map[string]*modelOrder
	groups      map[string]*modelGroup
}

type modelPermission struct {
	owner, renter string // "" for nobody
	state         joinserver.AuthState
}

type modelOrder struct {
	permission, owner, renter string
	open                      bool
}

type modelGroup struct{ account, permission string }

func (m *model) groupOf(permission string) string {
	for id, g := range m.groups {
		if g.permission == permission {
			return id
		}
	}
	return ""
}

func (p *modelPermission) promised() bool {
	return p.state != joinserver.New && p.renter != p.owner
}

// may gives the code that a call has to fail with, or "", and what it does then.
type may struct {
	code string
	do   func(data string)
}

func (m *model) submit(caller, permission, renter string) may {
	p := m.permissions[permission]
	switch {
	case p.owner != caller:
		return may{code: "NotResourceOwner"}
	case p.promised(), m.groupOf(permission) != "" && renter != p.owner:
		return may{code: "JoinPermissionAlreadyAuthorized"}
	}
	return may{do: func(order string) {
		p.renter, p.state = renter, joinserver.Applying
		if renter == p.owner {
			p.state = joinserver.Accepted
		}
		m.orders[order] = &modelOrder{permission, p.owner, renter, renter != p.owner}
	}}
}

func (m *model) settle(caller, order, action string) may {
	o := m.orders[order]
	role := o.renter
	if action == "CancelJoinPermissionAuthOrder" {
		role = o.owner
	}
	switch {
	case caller != role:
		return may{code: "NotResourceOwner"}
	case !o.open:
		return may{code: "IllegalOrderStateTransition"}
	}
	return may{do: func(string) {
		o.open = false
		p := m.permissions[o.permission]
		if p.state = joinserver.Accepted; action != "AcceptJoinPermissionAuthOrder" {
			p.state, p.renter = joinserver.New, ""
		}
	}}
}

func (m *model) bind(caller, group, permission string) may {
	g, p := m.groups[group], m.permissions[permission]
	held := p.state == joinserver.Accepted && p.renter == caller
	own := p.state == joinserver.New && p.owner == caller
	switch {
	case g.account != caller:
		return may{code: "NotResourceOwner"}
	case g.permission != "":
		return may{code: "NodeGroupAlreadyBoundJoinPermission"}
	case !held && !own:
		return may{code: "NotResourceOwner"}
	case m.groupOf(permission) != "":
		return may{code: "JoinPermissionAlreadyBoundNodeGroup"}
	}
	return may{do: func(string) { g.permission, p.state, p.renter = permission, joinserver.Accepted, caller }}
}

func (m *model) unbind(caller, group, permission string) may {
	g, p := m.groups[group], m.permissions[permission]
	switch {
	case g.account != caller, p.state != joinserver.Accepted || p.renter != caller:
		return may{code: "NotResourceOwner"}
	case g.permission != permission:
		return may{code: "NonExistent"}
	}
	return may{do: func(string) { g.permission = "" }}
}

func (m *model) giveBack(caller, permission string) may {
	p := m.permissions[permission]
	switch {
	case p.state != joinserver.Accepted || p.renter != caller:
		return may{code: "NotResourceOwner"}
	case m.groupOf(permission) != "":
		return may{code: "JoinPermissionAlreadyBoundNodeGroup"}
	}
	return may{do: func(string) { p.state, p.renter = joinserver.New, "" }}
}

func (m *model) change(caller, permission string, deleting bool) may {
	p := m.permissions[permission]
	switch {
	case p.owner != caller:
		return may{code: "NotResourceOwner"}
	case p.promised(), deleting && m.groupOf(permission) != "":
		return may{code: "JoinPermissionAlreadyAuthorized"}
	}
	return may{do: func(string) {
		if deleting {
			delete(m.permissions, permission)
		}
	}}
}

func TestPermissionsOrdersAndBindingsFollowTheModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(t)
		m := &model{map[string]*modelPermission{}, map[string]*modelOrder{}, map[string]*modelGroup{}}
		accounts := map[string]string{"alice": "1", "bob": "2"}
		for key, account := range accounts {
			for _, name := range []string{"first", "second"} {
				m.permissions[w.permission(key, name)] = &modelPermission{owner: account, state: joinserver.New}
				m.groups[w.group(key, name)] = &modelGroup{account: account}
			}
		}
		drive(rt, w, m, accounts)
	})
}

// drive makes random calls and holds each answer, and then the record, against
// the model.
func drive(rt *rapid.T, w *world, m *model, accounts map[string]string) {
	for range 40 {
		key := rapid.SampledFrom([]string{"alice", "bob"}).Draw(rt, "caller")
		action := rapid.SampledFrom([]string{
			"SubmitJoinPermissionAuthOrder", "AcceptJoinPermissionAuthOrder", "RejectJoinPermissionAuthOrder", "CancelJoinPermissionAuthOrder",
			"BindJoinPermissionToNodeGroup", "UnbindJoinPermissionFromNodeGroup", "ReturnJoinPermission", "DeleteLocalJoinPermission",
			"UpdateOwnedLocalJoinPermission",
		}).Draw(rt, "action")
		if len(m.permissions) == 0 || strings.HasSuffix(action, "AuthOrder") && !strings.HasPrefix(action, "Submit") && len(m.orders) == 0 {
			continue
		}
		expected, pairs := m.draw(rt, accounts[key], action)
		data, code := w.try(key, action, pairs)
		if code != expected.code {
			rt.Fatalf("%s by %s %v: got code %q, want %q", action, key, pairs, code, expected.code)
		}
		if code == "" {
			expected.do(data)
		}
		m.compare(rt, w)
	}
}

// draw picks the things that the action names.
func (m *model) draw(rt *rapid.T, caller, action string) (may, []string) {
	permission := rapid.SampledFrom(sortedKeys(m.permissions)).Draw(rt, "permission")
	group := rapid.SampledFrom(sortedKeys(m.groups)).Draw(rt, "group")
	id := "JoinPermissionId=" + permission
	switch action {
	case "SubmitJoinPermissionAuthOrder":
		renter := rapid.SampledFrom([]string{"1", "2"}).Draw(rt, "renter")
		return m.submit(caller, permission, renter), []string{id, "RenterAliyunId=" + renter}
	case "BindJoinPermissionToNodeGroup":
		return m.bind(caller, group, permission), []string{id, "NodeGroupId=" + group}
	case "UnbindJoinPermissionFromNodeGroup":
		return m.unbind(caller, group, permission), []string{id, "NodeGroupId=" + group}
	case "ReturnJoinPermission":
		return m.giveBack(caller, permission), []string{id, "JoinPermissionType=LOCAL"}
	case "DeleteLocalJoinPermission":
		return m.change(caller, permission, true), []string{id}
	case "UpdateOwnedLocalJoinPermission":
		return m.change(caller, permission, false), []string{id, "RxDelay=2"}
	}
	order := rapid.SampledFrom(sortedKeys(m.orders)).Draw(rt, "order")
	return m.settle(caller, order, action), []string{"OrderId=" + order}
}

// try calls the action without HTTP and gives its Data as text, or its code.
func (w *world) try(key, name string, pairs []string) (data, code string) {
	w.clock.move(time.Second)
	act := actions()[name]
	given, err := act.check(args(pairs...))
	if err != nil {
		return "", err.Error()
	}
	c := call{Server: w.server, params: given, account: w.record.state.accounts[w.record.state.keys[key].Account], now: w.clock.now()}
	answer, err := w.server.update(context.Background(), c, act)
	var refusal *APIError
	if errors.As(err, &refusal) {
		return "", refusal.Code
	}
	if err != nil {
		return "", err.Error()
	}
	text, _ := json.Marshal(answer)
	return string(text), ""
}

func (m *model) compare(rt *rapid.T, w *world) {
	if len(w.record.state.permissions) != len(m.permissions) {
		rt.Fatalf("%d permissions, want %d", len(w.record.state.permissions), len(m.permissions))
	}
	for id, want := range m.permissions {
		n, _ := parseID(id)
		got := w.record.state.permissions[n]
		if got.AuthState != want.state || accountText(got.Renter) != want.renter {
			rt.Fatalf("permission %s is %s for %s, want %s for %s", id, got.AuthState, got.Renter, want.state, want.renter)
		}
	}
	for id, want := range m.groups {
		n, _ := parseID(id)
		if got := optionalID(w.record.state.groups[n].PermissionID); got != want.permission {
			rt.Fatalf("group %s is bound to %q, want %q", id, got, want.permission)
		}
	}
	for id, want := range m.orders {
		n, _ := parseID(id)
		if open := w.record.state.orders[n].State == joinserver.OrderApplying; open != want.open {
			rt.Fatalf("order %s is open: %v, want %v", id, open, want.open)
		}
	}
}
