package linkwan

import (
	"strings"
	"testing"
	"time"
)

func TestPolicyDecides(t *testing.T) {
	for _, c := range []struct {
		policy   string
		action   string
		resource string
		allowed  bool
	}{
		{`[{"Effect":"Allow","Action":"*","Resource":"*"}]`, "linkwan:GetNode", "acs:linkwan:cn-shanghai:1:node/1", true},
		{`[{"Effect":"Allow","Action":"linkwan:GetNode","Resource":"acs:linkwan:*:*:node/*"}]`, "linkwan:GetNode", "acs:linkwan:cn-shanghai:1:node/1", true},
		{`[{"Effect":"Allow","Action":"linkwan:getnode","Resource":"*"}]`, "linkwan:GetNode", "x", true},
		{`[{"Effect":"Allow","Action":"linkwan:Get*","Resource":"*"}]`, "linkwan:ListNodes", "x", false},
		{`[{"Effect":"Allow","Action":["linkwan:List*","linkwan:Get*"],"Resource":["a","b"]}]`, "linkwan:GetNode", "b", true},
		{`[{"Effect":"Allow","Action":["linkwan:List*","linkwan:Get*"],"Resource":["a","b"]}]`, "linkwan:GetNode", "c", false},
		{`[{"Effect":"Allow","Action":"*","Resource":"acs:linkwan:*:*:node/1"}]`, "linkwan:GetNode", "acs:linkwan:cn-shanghai:1:node/12", false},
		{`[{"Effect":"Allow","Action":"*","Resource":"acs:linkwan:*:2:*"}]`, "linkwan:GetNode", "acs:linkwan:cn-shanghai:1:node/12", false},
		{`[{"Effect":"Allow","Action":"*","Resource":"*"},{"Effect":"Deny","Action":"linkwan:Delete*","Resource":"*"}]`, "linkwan:DeleteGateway", "x", false},
		{`[{"Effect":"Deny","Action":"linkwan:Delete*","Resource":"*"},{"Effect":"Allow","Action":"*","Resource":"*"}]`, "linkwan:DeleteGateway", "x", false},
		{`[{"Effect":"Deny","Action":"*","Resource":"y"},{"Effect":"Allow","Action":"*","Resource":"*"}]`, "linkwan:DeleteGateway", "x", true},
	} {
		policy, err := ParsePolicy(`{"Version":"1","Statement":` + c.policy + `}`)
		if err != nil {
			t.Fatal(err)
		}
		if policy.allows(c.action, c.resource) != c.allowed {
			t.Errorf("%s: %s on %s: want %v", c.policy, c.action, c.resource, c.allowed)
		}
	}
}

func TestReadOnlyPolicy(t *testing.T) {
	policy, err := ParsePolicy(ReadOnlyPolicy)
	if err != nil {
		t.Fatal(err)
	}
	for name, act := range actions() {
		if policy.allows("linkwan:"+name, "any") == act.writes() {
			t.Errorf("%s, which writes: %v", name, act.writes())
		}
	}
}

func TestPoliciesThatCannotBeHeeded(t *testing.T) {
	const good = `{"Effect":"Allow","Action":"*","Resource":"*"}`
	for _, wrong := range []string{
		"", "null", "[]", "AdministratorAccess", `{"Version":"1"}`, `{"Version":"1","Statement":[]}`, `{"Version":"2","Statement":[` + good + `]}`,
		`{"Version":"1","Statement":[{"Effect":"allow","Action":"*","Resource":"*"}]}`,
		`{"Version":"1","Statement":[{"Effect":"Allow","Action":"*"}]}`,
		`{"Version":"1","Statement":[{"Effect":"Allow","Action":"*","Resource":[]}]}`,
		`{"Version":"1","Statement":[{"Effect":"Allow","Action":1,"Resource":"*"}]}`,
		`{"Version":"1","Statement":[{"Effect":"Allow","Action":"*","Resource":"*","Condition":{}}]}`,
		`{"Version":"1","Statement":[{"Effect":"Deny","NotAction":"*","Resource":"*"}]}`,
		`{"Version":"1","Statement":[` + good + `]} {}`,
	} {
		if _, err := ParsePolicy(wrong); err == nil {
			t.Errorf("%s was taken", wrong)
		}
	}
}

func TestWildcards(t *testing.T) {
	for _, c := range []struct {
		pattern, text string
		match         bool
	}{
		{"", "", true},
		{"", "a", false},
		{"*", "", true},
		{"*", "abc", true},
		{"a*", "a", true},
		{"a*a", "a", false},
		{"a*a", "aa", true},
		{"*b*", "abc", true},
		{"a*b*c", "axxbyyc", true},
		{"a*b*c", "acb", false},
		{"**", "x", true},
		{"a**c", "abc", true},
		{"*ab", "aab", true},
		{"a*bc*bc", "abc", false},
	} {
		if wildcardMatch(c.pattern, c.text) != c.match {
			t.Errorf("%q on %q: want %v", c.pattern, c.text, c.match)
		}
	}
}

// A RAM user needs each of an action's resources, and its account's other limits
// hold too.
func TestRAMUser(t *testing.T) {
	w := newWorld(t)
	id := w.permission("alice", "meters")
	allow := func(resources ...string) string {
		return `{"Version":"1","Statement":[{"Effect":"Allow","Action":"linkwan:Submit*","Resource":["` + strings.Join(resources, `","`) + `"]}]}`
	}
	submit := []string{"JoinPermissionId=" + id, "RenterAliyunId=1"}
	const orders = "acs:linkwan:*:*:join-permission-auth-order/*"
	w.user("orders_only", allow(orders))
	w.fails("ForbiddenByRam", "orders_only", "SubmitJoinPermissionAuthOrder", submit...)
	w.user("other_one", allow(orders, "acs:linkwan:*:*:owned-join-permission/"+id+"0"))
	w.fails("ForbiddenByRam", "other_one", "SubmitJoinPermissionAuthOrder", submit...)
	w.user("both", allow(orders, "acs:linkwan:*:*:owned-join-permission/"+id))
	w.must("both", "SubmitJoinPermissionAuthOrder", submit...)

	w.user("broken", "{")
	w.fails("ForbiddenByRam", "broken", "ListFreqBandPlanGroups")
	w.key("orphan", alice, "gone")
	w.fails("ForbiddenByRam", "orphan", "ListFreqBandPlanGroups")
}

func TestLocalMemoryIsBounded(t *testing.T) {
	clock := &clock{at: time.Unix(0, 0)}
	m := NewLocalMemory(clock.now)
	for i := range 5 * memoryKeys {
		if fresh, _ := m.Once(t.Context(), idText(int64(i)), memoryLife); !fresh {
			t.Fatal(i)
		}
	}
	if n := len(m.seen.young) + len(m.seen.old); n > 2*memoryKeys {
		t.Errorf("%d keys", n)
	}
	if fresh, _ := m.Once(t.Context(), idText(5*memoryKeys-1), memoryLife); fresh {
		t.Error("the newest was forgotten")
	}
	clock.move(2 * memoryLife)
	_, _ = m.Once(t.Context(), "a", memoryLife)
	clock.move(memoryLife)
	_, _ = m.Once(t.Context(), "b", memoryLife)
	if n := len(m.seen.young) + len(m.seen.old); n != 2 {
		t.Errorf("%d keys are left after their life", n)
	}
}

func FuzzParsePolicy(f *testing.F) {
	f.Add(`{"Version":"1","Statement":[{"Effect":"Allow","Action":"linkwan:Get*","Resource":"*"}]}`)
	f.Add(`{"Version":"1","Statement":[{"Effect":"Deny","Action":["linkwan:*"],"Resource":["acs:linkwan:*:*:gateway/*"]}]}`)
	f.Add(`{"Version":"1","Statement":[{"Effect":"Perhaps","Action":"*","Resource":"*"}]}`)
	f.Add(ReadOnlyPolicy)
	f.Fuzz(func(t *testing.T, text string) {
		policy, err := ParsePolicy(text)
		if err != nil && policy.allows("linkwan:GetNode", "acs:linkwan:cn-shanghai:1:node/0000000000000001") {
			t.Errorf("a policy that is refused allows something: %q", text)
		}
	})
}
