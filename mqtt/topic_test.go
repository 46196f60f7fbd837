package mqtt

import (
	"slices"
	"strings"
	"testing"

	"joingate/joinserver"
)

var longestPrefix = strings.Repeat("x", maxPrefix)

func TestParseTopic(t *testing.T) {
	gateway := joinserver.EUI64{0x00, 0x16, 0xc0, 0x01, 0xf1, 0x50, 0x0a, 0x01}
	tests := []struct {
		topic  string
		prefix string
		kind   eventKind // 0: none of ours
	}{
		{"gateway/0016c001f1500a01/event/up", "", eventUp},
		{"gateway/0016c001f1500a01/event/ack", "", eventAck},
		{"gateway/0016c001f1500a01/event/stats", "", eventStats},
		{"gateway/0016c001f1500a01/state/conn", "", stateConn},
		{"eu868/gateway/0016c001f1500a01/event/up", "eu868", eventUp},
		{"a/b/gateway/0016c001f1500a01/state/conn", "a/b", stateConn},
		{"gateway/gateway/0016c001f1500a01/event/up", "gateway", eventUp},
		{longestPrefix + "/gateway/0016c001f1500a01/event/up", longestPrefix, eventUp},

		{"", "", 0},
		{"up", "", 0},
		{"event/up", "", 0},
		{"0016c001f1500a01/event/up", "", 0},
		{"gateway/0016C001F1500A01/event/up", "", 0},
		{"gateway/0016c001f1500a0/event/up", "", 0},
		{"gateway/0016c001f1500a0x/event/up", "", 0},
		{"gateway/0016c001f1500a01/event/exec", "", 0},
		{"gateway/0016c001f1500a01/state/up", "", 0},
		{"gateway/0016c001f1500a01/command/down", "", 0},
		{"gateway/0016c001f1500a01/event/up/x", "", 0},
		{"/gateway/0016c001f1500a01/event/up", "", 0},
		{"xgateway/0016c001f1500a01/event/up", "", 0},
		{longestPrefix + "x/gateway/0016c001f1500a01/event/up", "", 0},
	}
	for _, test := range tests {
		prefix, got, kind, ok := parseTopic(test.topic)
		if ok != (test.kind != 0) || kind != test.kind || prefix != test.prefix {
			t.Errorf("%q: prefix %q, kind %v, ok %v", test.topic, prefix, kind, ok)
		}
		if ok && got != gateway {
			t.Errorf("%q: gateway %v", test.topic, got)
		}
	}
}

func TestSubscriptions(t *testing.T) {
	plain := []string{
		"gateway/+/event/up", "gateway/+/event/ack", "gateway/+/event/stats", "gateway/+/state/conn",
		"+/gateway/+/event/up", "+/gateway/+/event/ack", "+/gateway/+/event/stats", "+/gateway/+/state/conn",
	}
	deep := []string{"a/b/gateway/+/event/up", "a/b/gateway/+/event/ack", "a/b/gateway/+/event/stats", "a/b/gateway/+/state/conn"}
	tests := []struct {
		name     string
		prefixes []string
		group    string
		want     []string
	}{
		{"none", nil, "", plain},
		{"one level needs no filter of its own", []string{"eu868"}, "", plain},
		{"deeper", []string{"a/b"}, "", slices.Concat(plain, deep)},
		{"only uplinks are shared", []string{"a/b"}, "g", shareUplinks(slices.Concat(plain, deep), "$share/g/")},
	}
	for _, test := range tests {
		got, err := subscriptions(test.prefixes, test.group)
		if err != nil || !slices.Equal(got, test.want) {
			t.Errorf("%s: %v %q", test.name, err, got)
		}
	}
}

func shareUplinks(filters []string, share string) []string {
	for i, filter := range filters {
		if strings.HasSuffix(filter, "/up") {
			filters[i] = share + filter
		}
	}
	return filters
}

func TestSubscriptionsRefuse(t *testing.T) {
	for _, prefix := range []string{"", "/", "a/", "/a", "a//b", "a/+", "#", "$SYS/a", longestPrefix + "x"} {
		if _, err := subscriptions([]string{prefix}, ""); err == nil || !strings.Contains(err.Error(), "prefixes") {
			t.Errorf("prefix %q: %v", prefix, err)
		}
	}
	for _, group := range []string{"a/b", "+", "#"} {
		if _, err := subscriptions(nil, group); err == nil || !strings.Contains(err.Error(), "share_group") {
			t.Errorf("group %q: %v", group, err)
		}
	}
}

// The answer to each captured event goes to the topic on which the bridge was
// seen to listen.
func TestCommandTopicOfCaptures(t *testing.T) {
	for _, run := range loadCaptures(t).Runs {
		listens := strings.Replace(run.Topics["command"], "/command/#", "/command/down", 1)
		for _, r := range run.Records {
			if r.Direction != "from_bridge" || r.Topic == "" {
				continue
			}
			prefix, gateway, kind, ok := parseTopic(r.Topic)
			if !ok || !strings.HasSuffix(r.Topic, kind.String()) {
				t.Fatalf("%s: topic %s not understood", r.ID, r.Topic)
			}
			want := strings.Replace(listens, "{{ .GatewayID }}", gateway.String(), 1)
			if got := commandTopic(prefix, gateway); got != want {
				t.Errorf("%s: command topic %s, the bridge listens on %s", r.ID, got, want)
			}
		}
	}
}

func FuzzParseTopic(f *testing.F) {
	f.Add("gateway/0016c001f1500a01/event/up")
	f.Add("eu868/gateway/0016c001f1500a01/state/conn")
	f.Add("a/b//gateway/0016c001f1500a01/event/ack")
	f.Fuzz(func(t *testing.T, topic string) {
		prefix, gateway, kind, ok := parseTopic(topic)
		if !ok {
			return
		}
		command := commandTopic(prefix, gateway)
		if got := strings.TrimSuffix(command, "command/down") + kind.String(); got != topic {
			t.Errorf("%q was read as %q", topic, got)
		}
	})
}
