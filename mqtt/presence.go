package mqtt

import (
	"sync"
	"time"

	"joingate/joinserver"
)

// GatewayState learns which gateways live. Its methods are called from the
// broker's callbacks: they must not block.
type GatewayState interface {
	// GatewaySeen says that an uplink or statistics of the gateway came: proof
	// that it lives. It is said at most once in seenEvery of each gateway.
	GatewaySeen(gateway joinserver.EUI64, at time.Time)
	// GatewayOnline repeats what the gateway's bridge says when that changes. It
	// is a hint: after a crash of the bridge it may stay true.
	GatewayOnline(gateway joinserver.EUI64, online bool, at time.Time)
}

const (
	// seenEvery is how long a gateway that was seen counts as told.
	seenEvery = 30 * time.Second
	// gatewaysRemembered bounds the memory: anybody may invent gateway ids.
	gatewaysRemembered = 1 << 16
)

// presence tells a GatewayState what is news.
type presence struct {
	state GatewayState // nil: nobody wants to know
	limit int

	mu    sync.Mutex
	known map[joinserver.EUI64]sighting
}

// sighting is what was told of a gateway.
type sighting struct {
	seen time.Time // zero: never
	said bool      // whether its bridge has said anything
	up   bool      // what it said last
}

func newPresence(state GatewayState, limit int) *presence {
	return &presence{state: state, limit: limit, known: make(map[joinserver.EUI64]sighting)}
}

func (p *presence) seen(gateway joinserver.EUI64, at time.Time) {
	if p.state == nil {
		return
	}
	news := p.update(gateway, func(s *sighting) bool {
		if at.Sub(s.seen) < seenEvery {
			return false
		}
		s.seen = at
		return true
	})
	if news {
		p.state.GatewaySeen(gateway, at)
	}
}

func (p *presence) online(gateway joinserver.EUI64, online bool, at time.Time) {
	if p.state == nil {
		return
	}
	news := p.update(gateway, func(s *sighting) bool {
		before := *s
		s.said, s.up = true, online
		return *s != before
	})
	if news {
		p.state.GatewayOnline(gateway, online, at)
	}
}

// update changes what is known of a gateway and reports whether that is news.
// With the memory full, all is forgotten and told once more.
func (p *presence) update(gateway joinserver.EUI64, change func(*sighting) (news bool)) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	s, known := p.known[gateway]
	if !known && len(p.known) >= p.limit {
		clear(p.known)
	}
	news := change(&s)
	p.known[gateway] = s
	return news
}
