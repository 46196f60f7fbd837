package sim

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Link is how one gateway stands to one transmission of a device.
type Link struct {
	Gateway *Gateway
	RSSI    int     // dBm
	SNR     float64 // dB
	Channel int     // of the gateway's concentrator
	// Lost: the copy does not reach the server.
	Lost bool
	// Delay is the way from the gateway to its broker.
	Delay time.Duration
	// Duplicates are published besides the copy, equal to it.
	Duplicates int
	// Ghost, if not 0, is how far beside the true frequency the gateway hears
	// the frame a second time: the device is too close.
	Ghost int
	// Deaf: the device does not hear what this gateway sends.
	Deaf bool
}

// Propagation says which gateways hear a transmission of a device, and how. It
// is called concurrently; try counts a device's attempts from 0.
type Propagation func(d *Device, try int) []Link

// AirConfig describes the air.
type AirConfig struct {
	Propagation Propagation // nil: that of the zero Scatter over all gateways
	// Timeout is how long a device waits for its join-accept. 0: 7 s, past RX2.
	Timeout time.Duration
	// Attempts is how often a device asks, with a new DevNonce each time. 0: once.
	Attempts int
	// Realtime: a downlink reaches the device when it would. Without, as soon as
	// the gateway has taken it, which is up to 6 s earlier.
	Realtime bool
}

// Air carries frames between devices and gateways. It is quieter than the real
// one: a downlink reaches only the device whose uplink its context names.
type Air struct {
	config AirConfig
	counts AirCounts

	mu     sync.Mutex
	latest map[*Device]*transmission
}

// AirCounts tell what happened on the air. All only grow.
type AirCounts struct {
	Transmissions atomic.Int64 // join-requests sent by devices
	Copies        atomic.Int64 // published, duplicates and ghosts included
	Ghosts        atomic.Int64
	Lost          atomic.Int64
	Downlinks     atomic.Int64 // put on the air by gateways
	Stray         atomic.Int64 // of these, with a context that names no transmission
	Accepted      atomic.Int64 // of these, join-accepts taken by a device
	Refused       atomic.Int64 // of these, not taken: wrong window, MIC, nonce, …
	Surplus       atomic.Int64 // of these, for a device that had its answer already
}

// Result is what became of one device.
type Result struct {
	JoinAccept
	Attempts int `json:"attempts"`
	// Latency is from sending the join-request to the gateway's taking its
	// answer; in Realtime to the end of the answer on the air.
	Latency   time.Duration `json:"-"`
	LatencyMS float64       `json:"latency_ms"`
	Gateway   string        `json:"gateway"`          // which sent the join-accept, "" for none
	Reason    string        `json:"reason,omitempty"` // why the device has not joined
}

// transmission is one join-request on the air.
type transmission struct {
	device *Device
	at     time.Time // end of the frame
	// done holds the Result once answered is closed.
	done     chan Result
	answered chan struct{}

	mu      sync.Mutex
	refused []string // why downlinks for it were not taken
	copies  int
	deaf    map[*Gateway]bool
	over    bool // the device no longer waits
}

// NewAir connects the air to the gateways that its links will name.
func NewAir(c AirConfig, gateways ...*Gateway) *Air {
	if c.Timeout == 0 {
		c.Timeout = 7 * time.Second
	}
	if c.Propagation == nil {
		c.Propagation = Scatter{}.Over(gateways)
	}
	a := &Air{config: c, latest: map[*Device]*transmission{}}
	for _, g := range gateways {
		g.OnSend(func(s Sent) { a.downlink(g, s) })
	}
	return a
}

// Counts gives the counters of the air.
func (a *Air) Counts() *AirCounts { return &a.counts }

// Join has a device ask until it has joined or its attempts are used up. Not to
// join is a Result with a Reason; an error is a fault of the simulation, or the
// end of ctx.
func (a *Air) Join(ctx context.Context, d *Device) (Result, error) {
	for try := 0; ; try++ {
		up, err := d.JoinRequest()
		if err != nil {
			return Result{JoinAccept: JoinAccept{DevEUI: d.DevEUI()}, Attempts: try, Reason: err.Error()}, err
		}
		res, err := a.attempt(ctx, d, up, try)
		res.Attempts = try + 1
		if err != nil || res.Joined || try+1 >= a.config.Attempts {
			return res, err
		}
	}
}

// JoinOn makes one attempt on the channel given.
func (a *Air) JoinOn(ctx context.Context, d *Device, c Channel) (Result, error) {
	up, err := d.JoinRequestOn(c)
	if err != nil {
		return Result{JoinAccept: JoinAccept{DevEUI: d.DevEUI()}, Reason: err.Error()}, err
	}
	res, err := a.attempt(ctx, d, up, 0)
	res.Attempts = 1
	return res, err
}

// attempt sends one join-request and waits.
func (a *Air) attempt(ctx context.Context, d *Device, up Uplink, try int) (Result, error) {
	t := &transmission{device: d, at: time.Now(), done: make(chan Result, 1), answered: make(chan struct{}), deaf: map[*Gateway]bool{}}
	a.mu.Lock()
	a.latest[d] = t
	a.mu.Unlock()
	none := Result{JoinAccept: JoinAccept{DevEUI: d.DevEUI()}}
	err := a.uplink(t, up, try)
	if err == nil {
		err = a.wait(ctx, t)
	}
	a.end(t)
	select {
	case res := <-t.done:
		return res, nil
	default:
	}
	none.Reason = t.reason(a.config.Timeout)
	if err != nil {
		none.Reason = err.Error()
	}
	return none, err
}

// wait returns when the device has its answer or waits no longer.
func (a *Air) wait(ctx context.Context, t *transmission) error {
	patience := time.NewTimer(a.config.Timeout)
	defer patience.Stop()
	select {
	case <-t.answered:
		return nil
	case <-patience.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// end switches the receiver off. A delivery under way is finished first, so that
// no answer reaches the device's next attempt in place of this one.
func (a *Air) end(t *transmission) {
	t.mu.Lock()
	t.over = true
	t.mu.Unlock()
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.latest, t.device)
}

// reason says why an attempt ended without a join.
func (t *transmission) reason(waited time.Duration) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.copies == 0:
		return "no gateway heard the join-request"
	case len(t.refused) == 0:
		return fmt.Sprintf("no answer within %s", waited)
	}
	return strings.Join(t.refused, "; ")
}

// gatewayRefused notes an item that a gateway did not put on the air.
func (t *transmission) gatewayRefused(gateway EUI, index int, s Status) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.refused = append(t.refused, fmt.Sprintf("gateway %s answered %s for item %d", gateway, s, index))
}

// uplink lets every gateway in reach hear the frame at the same moment, and
// publishes each copy when its way to the broker is over.
func (a *Air) uplink(t *transmission, up Uplink, try int) error {
	a.counts.Transmissions.Add(1)
	for _, l := range a.config.Propagation(t.device, try) {
		reading, ok := l.Gateway.hear(t)
		if !ok || l.Lost {
			a.counts.Lost.Add(1)
			continue
		}
		t.mu.Lock()
		t.copies++
		t.deaf[l.Gateway] = l.Deaf
		t.mu.Unlock()
		publish := func() error { return a.publish(l, reading, up) }
		if l.Delay > 0 {
			// What a late copy cannot publish is lost on the way.
			time.AfterFunc(l.Delay, func() { _ = publish() })
			continue
		}
		if err := publish(); err != nil {
			return err
		}
	}
	return nil
}

// How a frame comes in on the channel beside its own, as a real gateway did with
// a device at -22 dBm.
const (
	ghostLoss = 75 // dB
	ghostSNR  = -12.2
)

// publish sends the copies that one gateway makes of a frame: one PUSH_DATA, one
// counter reading. The ghost goes first, which real bridges do as well.
func (a *Air) publish(l Link, reading uint32, up Uplink) error {
	token := newPushToken()
	if l.Ghost != 0 {
		ghost := Reception{Uplink: up, RSSI: l.RSSI - ghostLoss, SNR: ghostSNR, Channel: (l.Channel + 1) % 8}
		ghost.Frequency = Hz(int(up.Frequency) + l.Ghost)
		if err := l.Gateway.publishUp(reading, token, ghost); err != nil {
			return err
		}
		a.counts.Ghosts.Add(1)
		a.counts.Copies.Add(1)
	}
	for range 1 + l.Duplicates {
		if err := l.Gateway.publishUp(reading, token, Reception{Uplink: up, RSSI: l.RSSI, SNR: l.SNR, Channel: l.Channel}); err != nil {
			return err
		}
		a.counts.Copies.Add(1)
	}
	return nil
}

// downlink carries what a gateway sends to the device that it is for.
func (a *Air) downlink(g *Gateway, s Sent) {
	a.counts.Downlinks.Add(1)
	t := s.heard
	if t == nil {
		a.counts.Stray.Add(1)
		return
	}
	arrival := t.at.Add(s.Delay)
	if a.config.Realtime {
		wait := time.Until(arrival) + s.Airtime(len(s.PHYPayload), false)
		time.AfterFunc(wait, func() { a.deliver(g, s, arrival) })
		return
	}
	a.deliver(g, s, arrival)
}

// deliver gives a device a frame that arrives at the time given. The device
// counts from its latest join-request: an answer to an earlier one finds the
// receiver off.
func (a *Air) deliver(g *Gateway, s Sent, arrival time.Time) {
	a.mu.Lock()
	t := a.latest[s.heard.device]
	a.mu.Unlock()
	if t == nil {
		a.counts.Surplus.Add(1)
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.deaf[g] {
		a.refuse(t, g, errDeaf)
		return
	}
	s.Delay = arrival.Sub(t.at)
	accept, err := t.device.Receive(s.Downlink)
	switch {
	case t.over || errors.Is(err, ErrNotWaiting):
		a.counts.Surplus.Add(1)
	case err != nil:
		a.refuse(t, g, err)
	default:
		a.counts.Accepted.Add(1)
		latency := time.Since(t.at)
		t.done <- Result{
			JoinAccept: accept, Gateway: g.EUI().String(),
			Latency: latency, LatencyMS: float64(latency.Microseconds()) / 1000,
		}
		close(t.answered)
	}
}

var errDeaf = errors.New("the device does not hear this gateway")

// refuse notes why; the caller holds the lock of the transmission.
func (a *Air) refuse(t *transmission, g *Gateway, err error) {
	a.counts.Refused.Add(1)
	t.refused = append(t.refused, fmt.Sprintf("join-accept through gateway %s: %s", g.EUI(), err))
}
