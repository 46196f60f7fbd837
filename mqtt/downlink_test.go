package mqtt

import (
	"slices"
	"testing"
	"time"

	"joingate/band"
	"joingate/joinserver"
)

func gatewayN(i int) joinserver.EUI64 {
	return []joinserver.EUI64{gatewayA, gatewayB, gatewayC}[i]
}

func requestOf(phyPayload []byte) joinserver.JoinRequest {
	request, err := joinserver.ParseJoinRequest(phyPayload)
	if err != nil {
		panic(err)
	}
	return request
}

func TestWindowsThatCanBeReached(t *testing.T) {
	both := joinserver.Route{RX1: testRX1, RX2: testRX2}
	for _, test := range []struct {
		name    string
		route   joinserver.Route
		arrival time.Duration
		want    []time.Duration // delays of the windows
	}{
		{"both in time", both, 300 * time.Millisecond, []time.Duration{5 * time.Second, 6 * time.Second}},
		{"RX1 just in time", both, 5 * time.Second, []time.Duration{5 * time.Second, 6 * time.Second}},
		{"RX1 missed", both, 5*time.Second + 1, []time.Duration{6 * time.Second}},
		{"RX2 just in time", both, 6 * time.Second, []time.Duration{6 * time.Second}},
		{"both missed", both, 6*time.Second + 1, nil},
		{"no RX1 offered", joinserver.Route{RX2: testRX2}, 0, []time.Duration{6 * time.Second}},
		{"no RX2 offered", joinserver.Route{RX1: testRX1}, 0, []time.Duration{5 * time.Second}},
		{"the only one missed", joinserver.Route{RX1: testRX1}, 5*time.Second + 1, nil},
		{"none offered", joinserver.Route{}, 0, nil},
	} {
		s := sendingTo(start, 1)
		s.downlink.Routes[0] = test.route
		windows := s.windows(0, start.Add(test.arrival))
		var delays []time.Duration
		for _, w := range windows {
			delays = append(delays, w.Delay)
		}
		if !slices.Equal(delays, test.want) {
			t.Errorf("%s: %v; want %v", test.name, delays, test.want)
		}
	}
}

// commandSent decodes a v4 protobuf command. None may come twice or late, as it does
// with QoS 1.
func commandSent(t testing.TB, m published) (c downlinkCommand) {
	t.Helper()
	if m.qos != 0 {
		t.Errorf("command on %s was published with QoS %d", m.topic, m.qos)
	}
	c, err := decodeDownlink(m.payload)
	if err != nil {
		t.Fatalf("command on %s: %v", m.topic, err)
	}
	return c
}

// A gateway is told in the words of its own uplink: prefix, topic, encoding,
// context.
func TestCommandFollowsTheUplinkOfItsGateway(t *testing.T) {
	b := newBench(t)
	s := sendingTo(start, 2)
	s.frame.copies[1].prefix = "eu868"
	s.frame.copies[1].Encoding = v3Protobuf
	slices.Reverse(s.downlink.Routes)
	if err := b.transmitter.send(s); err != nil {
		t.Fatal(err)
	}
	sent := b.broker.messages()
	if len(sent) != 1 || sent[0].topic != "eu868/gateway/"+gatewayB.String()+"/command/down" || sent[0].qos != 0 {
		t.Fatalf("published %+v", sent)
	}
	c := commandSent(t, sent[0])
	if c.Gateway != gatewayB || !slices.Equal(c.Context, s.frame.copies[1].Context) || !slices.Equal(c.PHYPayload, s.downlink.PHYPayload) {
		t.Errorf("command %+v", c)
	}
	if !slices.Equal(c.Windows, []band.Window{withoutRate(testRX1), withoutRate(testRX2)}) {
		t.Errorf("windows %+v", c.Windows)
	}
}
