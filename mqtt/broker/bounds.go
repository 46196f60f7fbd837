package broker

import (
	"strings"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
	"go.uber.org/zap"
)

// Limits on what clients can leave behind. Who may do everything is not held to
// those of retained messages and subscriptions.
const (
	// maxSessions bounds the sessions of all clients, those that are away included:
	// beyond, the one that has been away for longest ends early. Each takes the
	// places of maxQueue.
	maxSessions = 2 * maxClients
	// maxSubscriptions is of one client. A bridge has one for each of its gateways.
	maxSubscriptions = 8192
	// maxRetained and maxRetainedSize bound the retained messages: a bridge has one
	// of some octets for each of its gateways. What is more is delivered, and not kept.
	maxRetained     = 16 << 10
	maxRetainedSize = 1 << 10
	// maxTopic is the longest topic and filter.
	maxTopic = 256
)

// bounds keeps small what clients leave behind in the broker's memory.
type bounds struct {
	mochi.HookBase
	door   *door
	server *mochi.Server
	log    *zap.Logger
}

// ID names the hook.
func (b *bounds) ID() string { return "bounds" }

// Provides names what the hook has a say in.
func (b *bounds) Provides(event byte) bool {
	return strings.IndexByte(string([]byte{mochi.OnPublish, mochi.OnWill, mochi.OnSubscribe, mochi.OnDisconnect, mochi.OnClientExpired}), event) >= 0
}

// OnPublish delivers what may not be retained as any other message.
func (b *bounds) OnPublish(cl *mochi.Client, pk packets.Packet) (packets.Packet, error) {
	pk.FixedHeader.Retain = pk.FixedHeader.Retain && b.mayRetain(cl, pk.TopicName, pk.Payload)
	return pk, nil
}

// OnWill does the same with a will. One that is to wait would be kept for as long as
// its client says, so it does not wait.
func (b *bounds) OnWill(cl *mochi.Client, will mochi.Will) (mochi.Will, error) {
	will.Retain = will.Retain && b.mayRetain(cl, will.TopicName, will.Payload)
	if !b.unbounded(cl) {
		cl.Properties.Will.WillDelayInterval = 0
	}
	return will, nil
}

func (b *bounds) unbounded(cl *mochi.Client) bool {
	c, ours := cl.Net.Conn.(*conn)
	return ours && b.door.rightsOf(c).all
}

// mayRetain reports whether there is room for a retained message: of gateways,
// there is for their states. A state that replaces another takes no room, nor does
// an empty one, which takes the other away.
func (b *bounds) mayRetain(cl *mochi.Client, topic string, payload []byte) bool {
	if b.unbounded(cl) {
		return true
	}
	_, branch, _ := gatewayTopic(topic)
	if branch != "state" || len(payload) > maxRetainedSize {
		return false
	}
	if _, replaces := b.server.Topics.Retained.Get(topic); replaces || len(payload) == 0 {
		return true
	}
	if b.server.Topics.Retained.Len() < maxRetained {
		return true
	}
	b.log.Warn("embedded broker has no room for another retained message", zap.String("topic", topic), zap.Int("most", maxRetained))
	return false
}

// OnSubscribe makes the filters that are too many invalid, so that they are refused.
func (b *bounds) OnSubscribe(cl *mochi.Client, pk packets.Packet) packets.Packet {
	room := maxSubscriptions - cl.State.Subscriptions.Len()
	if room >= len(pk.Filters) || b.unbounded(cl) {
		return pk
	}
	for i, sub := range pk.Filters {
		if _, known := cl.State.Subscriptions.Get(sub.Filter); known {
			continue
		}
		if room--; room < 0 {
			pk.Filters[i].Filter = ""
		}
	}
	return pk
}

// OnDisconnect makes room when a session that outlives its connection is one too many.
func (b *bounds) OnDisconnect(_ *mochi.Client, _ error, ended bool) {
	for !ended && b.server.Clients.Len() > maxSessions {
		longest := longestAway(b.server.Clients.GetAll())
		if longest == nil {
			return
		}
		b.server.UnsubscribeClient(longest)
		longest.ClearInflights()
		b.server.Clients.Delete(longest.ID)
	}
}

// longestAway is nil when nobody is away.
func longestAway(sessions map[string]*mochi.Client) (longest *mochi.Client) {
	for _, cl := range sessions {
		if cl.StopTime() != 0 && (longest == nil || cl.StopTime() < longest.StopTime()) {
			longest = cl
		}
	}
	return longest
}

// OnClientExpired takes the subscriptions of a session that is over with it: mochi
// leaves them where they are.
func (b *bounds) OnClientExpired(cl *mochi.Client) {
	b.server.UnsubscribeClient(cl)
	cl.ClearInflights()
}
