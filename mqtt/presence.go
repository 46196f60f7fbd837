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

// GatewayCounts is what was seen of a gateway since the start, or since it was
// forgotten: the gateways that were silent for longest make room for new ones.
type GatewayCounts struct {
	Uplinks  int64            // frames that it has heard, of whatever kind
	Requests int64            // copies of join- and rejoin-requests among them
	Commands int64            // join-accepts that it was told to send
	Refused  int64            // join-requests heard first by it that were refused
	Acks     map[string]int64 // what it said of the windows of the commands: "OK", "TOO_LATE", …
	LastSeen time.Time        // zero: never
}

const (
	// seenEvery is how long a gateway that was seen counts as told.
	seenEvery = 30 * time.Second
	// gatewaysRemembered bounds the memory: anybody may invent gateway ids.
	gatewaysRemembered = 1 << 16
	// gatewaysNamed is how many gateways have metrics of their own. The others are
	// one.
	gatewaysNamed = 1000
)

// presence knows the gateways: it counts what they do, and tells a GatewayState what
// is news.
type presence struct {
	state GatewayState // nil: nobody wants to know
	limit int

	mu    sync.Mutex
	known map[joinserver.EUI64]*sighting
	order list[sighting] // those without a name, whoever was silent for longest first
	named []*sighting    // those with metrics of their own, never forgotten
	all   tally
}

// sighting is what is known of a gateway.
type sighting struct {
	gateway  joinserver.EUI64
	place    node[sighting] // in order
	counts   tally
	unnamed  *tally // counts from before it got its name, which metrics have under "other"; nil: no name
	lastSeen time.Time
	told     time.Time // when GatewaySeen was; zero: never
	said     bool      // whether its bridge has said anything
	up       bool      // what it said last
}

// tally counts what gateways do.
type tally struct {
	uplinks, requests, commands, refused int64
	acks                                 [txDutyCycleOverflow + 2]int64 // by status; the last one: any other
}

func newPresence(state GatewayState, limit int) *presence {
	return &presence{state: state, limit: limit, known: make(map[joinserver.EUI64]*sighting)}
}

// seen notes that a gateway lives.
func (p *presence) seen(gateway joinserver.EUI64, at time.Time) { p.see(gateway, at, tally{}) }

// heard notes an uplink, which may be a join- or rejoin-request.
func (p *presence) heard(gateway joinserver.EUI64, request bool, at time.Time) {
	what := tally{uplinks: 1}
	if request {
		what.requests = 1
	}
	p.see(gateway, at, what)
}

func (p *presence) see(gateway joinserver.EUI64, at time.Time, what tally) {
	p.mu.Lock()
	s := p.count(gateway, what)
	s.lastSeen = at
	news := at.Sub(s.told) >= seenEvery
	if news {
		s.told = at
	}
	p.mu.Unlock()
	if news && p.state != nil {
		p.state.GatewaySeen(gateway, at)
	}
}

func (p *presence) online(gateway joinserver.EUI64, online bool, at time.Time) {
	p.mu.Lock()
	s := p.find(gateway)
	news := !s.said || s.up != online
	s.said, s.up = true, online
	p.mu.Unlock()
	if news && p.state != nil {
		p.state.GatewayOnline(gateway, online, at)
	}
}

// commanded counts a join-accept that a gateway was told to send. So it is one that
// is registered, and worth metrics of its own as long as there is room for more.
func (p *presence) commanded(gateway joinserver.EUI64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.find(gateway)
	if s.unnamed == nil && len(p.named) < gatewaysNamed {
		before := s.counts
		s.unnamed = &before
		p.order.remove(&s.place)
		p.named = append(p.named, s)
	}
	p.count(gateway, tally{commands: 1})
}

// refused counts a refused request by the gateway that heard it first.
func (p *presence) refused(gateway joinserver.EUI64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.count(gateway, tally{refused: 1})
}

// acknowledged counts what a gateway says of a command.
func (p *presence) acknowledged(a ack) {
	var what tally
	for _, status := range a.Items {
		if status < txIgnored || status > txDutyCycleOverflow {
			status = txDutyCycleOverflow + 1
		}
		what.acks[status]++
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.count(a.Gateway, what)
}

func (p *presence) count(gateway joinserver.EUI64, what tally) *sighting {
	s := p.find(gateway)
	s.counts.add(what, 1)
	p.all.add(what, 1)
	return s
}

// add adds a number of times what another tally has.
func (t *tally) add(what tally, times int64) {
	t.uplinks += times * what.uplinks
	t.requests += times * what.requests
	t.commands += times * what.commands
	t.refused += times * what.refused
	for i, n := range what.acks {
		t.acks[i] += times * n
	}
}

// countedStatus is the status that a tally counts under the index.
func countedStatus(i int) txStatus {
	if s := txStatus(i); s <= txDutyCycleOverflow {
		return s
	}
	return txUnknown
}

// find gives what is known of a gateway that does something now. With the memory
// full, the one that was silent for longest makes room. The lock is held.
func (p *presence) find(gateway joinserver.EUI64) *sighting {
	s, known := p.known[gateway]
	switch {
	case known && s.unnamed != nil:
		return s
	case known:
		p.order.remove(&s.place)
	default:
		if silent := p.order.first; silent != nil && len(p.known)-len(p.named) >= p.limit {
			delete(p.known, silent.of.gateway)
			p.order.remove(silent)
		}
		s = &sighting{gateway: gateway}
		p.known[gateway] = s
	}
	p.order.push(&s.place, s)
	return s
}

// counts gives what is known of a gateway.
func (p *presence) counts(gateway joinserver.EUI64) GatewayCounts {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.known[gateway]
	if s == nil {
		return GatewayCounts{}
	}
	c := GatewayCounts{
		Uplinks: s.counts.uplinks, Requests: s.counts.requests, Commands: s.counts.commands, Refused: s.counts.refused,
		Acks: make(map[string]int64), LastSeen: s.lastSeen,
	}
	for i, n := range s.counts.acks {
		if n > 0 {
			c.Acks[countedStatus(i).String()] = n
		}
	}
	return c
}
