package broker

import (
	"net"
	"testing"
	"time"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
	"go.uber.org/zap"
)

// A session that expires takes its subscriptions along.
func TestExpiredSessionLeavesNothing(t *testing.T) {
	b, err := Start(Options{Listen: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	hook := &bounds{server: b.server, log: zap.NewNop()}
	if !hook.Provides(mochi.OnClientExpired) {
		t.Error("nobody is told of sessions that expire")
	}
	cl := b.server.NewClient(nil, "tcp", "away", false)
	filter := packets.Subscription{Filter: "gateway/+/event/up", Qos: 1}
	cl.State.Subscriptions.Add(filter.Filter, filter)
	b.server.Topics.Subscribe(cl.ID, filter)
	hook.OnClientExpired(cl)
	if left := b.server.Topics.Subscribers("gateway/x/event/up").Subscriptions; len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

// A will that waits would be kept for as long as a gateway says.
func TestWillsOfGatewaysDoNotWait(t *testing.T) {
	gateways := &door{users: &kept[*userTable]{now: time.Now, looked: time.Now().Add(time.Hour), value: &userTable{}}}
	for name, c := range map[string]struct {
		door *door
		want uint32
	}{"gateway": {gateways, 0}, "everything": {&door{everybody: true}, 60}} {
		near, far := net.Pipe()
		defer far.Close()
		client := newConn(near, false, zap.NewNop())
		defer client.Close()
		cl := &mochi.Client{Net: mochi.ClientConnection{Conn: client}}
		cl.Properties.Will.WillDelayInterval = 60
		hook := &bounds{door: c.door, log: zap.NewNop()}
		if _, err := hook.OnWill(cl, cl.Properties.Will); err != nil || !hook.Provides(mochi.OnWill) {
			t.Error(err)
		}
		if got := cl.Properties.Will.WillDelayInterval; got != c.want {
			t.Errorf("%s: the will waits for %d s, want %d", name, got, c.want)
		}
	}
}
