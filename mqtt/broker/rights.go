package broker

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
)

// rights say what a client may publish and read. The zero rights are none.
//
// A gateway publishes on gateway/{id}/event/… and gateway/{id}/state/… and reads
// gateway/{id}/command/…, each also below a prefix.
type rights struct {
	all      bool     // everything
	events   bool     // reads what Joingate tells: joingate/…
	any      bool     // speaks for every gateway
	gateways []string // speaks for these: 16 hex digits, lower case
}

// The words for rights in the file of users, beside ids of gateways.
const (
	wordAll    = "all"
	wordEvents = "events"
	wordAny    = "*"
)

// parseRights reads a list such as "0016c001f1500a01,events".
func parseRights(list string) (r rights, err error) {
	for _, word := range strings.Split(list, ",") {
		switch word = strings.TrimSpace(word); {
		case word == wordAll:
			r.all = true
		case word == wordEvents:
			r.events = true
		case word == wordAny:
			r.any = true
		case isGateway(word):
			r.gateways = append(r.gateways, strings.ToLower(word))
		default:
			return rights{}, fmt.Errorf("%q is neither the id of a gateway nor %s, %s or %s", word, wordAny, wordEvents, wordAll)
		}
	}
	return r, nil
}

// rightsByName are those of who has no others: a name that is a gateway's id speaks
// for that gateway.
func rightsByName(name string) rights {
	if !isGateway(name) {
		return rights{}
	}
	return rights{gateways: []string{strings.ToLower(name)}}
}

func isGateway(name string) bool {
	_, err := hex.DecodeString(name)
	return err == nil && len(name) == 16
}

// mayPublish reports whether a message may be published on the topic.
func (r rights) mayPublish(topic string) bool {
	if r.all {
		return true
	}
	id, branch, ok := gatewayTopic(topic)
	return ok && r.speaksFor(id) && (branch == "event" || branch == "state") && !strings.ContainsAny(topic, "+#")
}

// mayRead reports whether a topic or topic filter may be read: all that the filter
// matches must be allowed.
func (r rights) mayRead(filter string) bool {
	if r.all {
		return true
	}
	if first, _, deeper := strings.Cut(filter, "/"); r.events && deeper && first == "joingate" {
		return len(filter) <= maxTopic
	}
	id, branch, ok := gatewayTopic(filter)
	return ok && r.speaksFor(id) && branch == "command"
}

func (r rights) speaksFor(gateway string) bool {
	return r.any || slices.Contains(r.gateways, gateway)
}

// gatewayTopic takes "…/gateway/{id}/{branch}/{leaf}" apart. A shared subscription
// is none: whoever shares another's takes messages away from it. Nor is what is
// longer than any gateway's: there would be no end of topics to keep.
func gatewayTopic(topic string) (id, branch string, ok bool) {
	levels := strings.Split(topic, "/")
	at := len(levels) - 4
	if len(topic) > maxTopic || at < 0 || levels[at] != "gateway" || strings.HasPrefix(topic, "$") || slices.Contains(levels, "") {
		return "", "", false
	}
	return levels[at+1], levels[at+2], true
}
