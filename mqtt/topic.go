package mqtt

import (
	"fmt"
	"strings"

	"joingate/joinserver"
)

// eventKind is what a gateway bridge tells on a topic.
type eventKind uint8

const (
	eventUp    eventKind = iota + 1 // a frame that a gateway received
	eventAck                        // what became of a downlink command
	eventStats                      // counters of a gateway
	stateConn                       // a gateway came or went
)

var eventKinds = [...]struct{ branch, leaf string }{
	eventUp:    {"event", "up"},
	eventAck:   {"event", "ack"},
	eventStats: {"event", "stats"},
	stateConn:  {"state", "conn"},
}

// String gives the end of the topic: "event/up".
func (k eventKind) String() string {
	if k == 0 || int(k) >= len(eventKinds) {
		return fmt.Sprintf("eventKind(%d)", uint8(k))
	}
	return eventKinds[k].branch + "/" + eventKinds[k].leaf
}

// subscriptions lists the topic filters that catch all events of gateways whose
// bridges use no topic prefix, a prefix of one level, or one of the given
// deeper prefixes.
//
// With a share group, instances behind one broker divide the uplinks among
// them. Everything else reaches every instance: an ack must come to the
// instance that sent the downlink, and brokers hand no retained message, such
// as the state of a gateway, to a shared subscription (MQTT 5.0 section 4.8.2;
// brokers do the same for 3.1.1).
func subscriptions(prefixes []string, shareGroup string) ([]string, error) {
	if strings.ContainsAny(shareGroup, "/+#\x00") {
		return nil, fmt.Errorf("[mqtt] share_group %q: take a name without / + #", shareGroup)
	}
	roots := []string{"gateway", "+/gateway"}
	for _, prefix := range prefixes {
		if err := checkPrefix(prefix); err != nil {
			return nil, err
		}
		if strings.Contains(prefix, "/") { // those of one level are caught already
			roots = append(roots, prefix+"/gateway")
		}
	}
	filters := make([]string, 0, len(roots)*len(eventKinds))
	for _, root := range roots {
		for kind := eventUp; kind <= stateConn; kind++ {
			filters = append(filters, share(shareGroup, kind)+root+"/+/"+kind.String())
		}
	}
	return filters, nil
}

func share(group string, kind eventKind) string {
	if group == "" || kind != eventUp {
		return ""
	}
	return "$share/" + group + "/"
}

// maxPrefix is how long the topic prefix of a bridge may be, in octets. Each copy of a
// join-request keeps it; and a topic has at most 65,535 octets (MQTT 3.1.1 section
// 1.5.3), of which that of a command is longer than that of the uplink it answers: a
// broker ends the connection that a longer one is published on.
const maxPrefix = 512

func checkPrefix(prefix string) error {
	if len(prefix) > maxPrefix {
		return fmt.Errorf("[mqtt] prefixes: one has %d octets; %d are allowed", len(prefix), maxPrefix)
	}
	for _, level := range strings.Split(prefix, "/") {
		if level == "" {
			return fmt.Errorf("[mqtt] prefixes: %q has an empty level; write it like \"a/b\"", prefix)
		}
	}
	if strings.ContainsAny(prefix, "+#\x00") || prefix[0] == '$' {
		return fmt.Errorf("[mqtt] prefixes: %q must hold no + or # and not begin with $", prefix)
	}
	return nil
}

// parseTopic takes the topic of an event apart: "a/b/gateway/{id}/event/up" has
// the prefix "a/b". Bridges write the id in lower case and listen for commands
// on that topic only, so an id in upper case is not theirs.
func parseTopic(topic string) (prefix string, gateway joinserver.EUI64, kind eventKind, ok bool) {
	rest, leaf := cutLast(topic)
	rest, branch := cutLast(rest)
	rest, id := cutLast(rest)
	prefix, root := cutLast(rest)
	kind, known := kindOf(branch, leaf)
	if !known || root != "gateway" || strings.HasPrefix(rest, "/") || len(prefix) > maxPrefix || strings.ToLower(id) != id {
		return "", gateway, 0, false
	}
	gateway, err := joinserver.ParseEUI64(id)
	if err != nil {
		return "", gateway, 0, false
	}
	return prefix, gateway, kind, true
}

// cutLast splits the last level off a topic.
func cutLast(topic string) (before, level string) {
	i := strings.LastIndexByte(topic, '/')
	if i < 0 {
		return "", topic
	}
	return topic[:i], topic[i+1:]
}

func kindOf(branch, leaf string) (eventKind, bool) {
	for kind := eventUp; kind <= stateConn; kind++ {
		if eventKinds[kind].branch == branch && eventKinds[kind].leaf == leaf {
			return kind, true
		}
	}
	return 0, false
}

// commandTopic is where the bridge of a gateway waits for downlink commands.
// Prefix and gateway are those of the topic of the uplink that is answered.
func commandTopic(prefix string, gateway joinserver.EUI64) string {
	return gatewayTopic(prefix, gateway) + "/command/down"
}

// uplinkTopic is where a bridge publishes what its gateway hears.
func uplinkTopic(prefix string, gateway joinserver.EUI64) string {
	return gatewayTopic(prefix, gateway) + "/" + eventUp.String()
}

func gatewayTopic(prefix string, gateway joinserver.EUI64) string {
	topic := "gateway/" + gateway.String()
	if prefix != "" {
		topic = prefix + "/" + topic
	}
	return topic
}
