// Package load is what a Joingate meets from outside, with a history of it: devices
// that join for ever, an administrator who changes what they join by, a listener to
// its events, and a journal of the record.
package load

import (
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"joingate/sim"
	"joingate/soak/history"
)

// Fleet is devices that join through gateways of one bridge.
type Fleet struct {
	Latencies func(time.Duration) // is told how long each accepted join took; nil: nobody asks

	history *history.Writer
	bridge  *sim.Bridge
	air     *sim.Air
	members map[sim.EUI]*member
	names   map[string]*member // by DevEUI as events write it

	Asked    atomic.Int64 // join-requests
	Accepted atomic.Int64 // join-accepts that devices have taken
}

// member is a device of the fleet.
type member struct {
	device     *sim.Device
	permission string // as history names it

	mu   sync.Mutex
	sent []time.Time // of each join-request
}

// Member is one device, as it is made.
type Member struct {
	EUI        sim.EUI
	Version    string // of LoRaWAN
	Permission string // id of the permission that it joins by
}

// Versions are those that fleets are mixed of.
func Versions() []string { return []string{"1.0.2", "1.0.3", "1.0.4", "1.1"} }

// Members makes n devices with the EUIs from first on, of all versions in turn.
func Members(first sim.EUI, n int, permission string) []Member {
	all := make([]Member, n)
	for i := range all {
		all[i] = Member{first + sim.EUI(i), Versions()[i%len(Versions())], permission}
	}
	return all
}

// keys gives a device the root keys that belong to its EUI, as hex digits; nwkKey
// is empty before 1.1.
func (m Member) keys() (appKey, nwkKey string) {
	key := func(name string) string {
		sum := sha256.Sum256([]byte(name + m.EUI.String()))
		return fmt.Sprintf("%x", sum[:16])
	}
	if m.Version == "1.1" {
		nwkKey = key("NwkKey")
	}
	return key("AppKey"), nwkKey
}

// NodeFile is the file of joingate node import for these devices.
func NodeFile(group string, members []Member) string {
	var s strings.Builder
	s.WriteString("dev_eui,app_key,nwk_key,mac_version,group\n")
	for _, m := range members {
		appKey, nwkKey := m.keys()
		fmt.Fprintf(&s, "%s,%s,%s,%s,%s\n", m.EUI, appKey, nwkKey, m.Version, group)
	}
	return s.String()
}

// FleetConfig says where a fleet is.
type FleetConfig struct {
	Broker   string // address of the gateways' broker
	Gateways []sim.EUI
	Copies   int // gateways that hear each frame; 0: all
	Members  []Member
	Patience time.Duration // of a device; 0: 7 s, past RX2
	History  *history.Writer
}

// joinEUI is Joingate's default.
const joinEUI sim.EUI = 0xd896e0efff000000

// NewFleet connects the gateways and switches the devices on.
func NewFleet(ctx context.Context, c FleetConfig) (*Fleet, error) {
	f := &Fleet{
		history: c.History, members: map[sim.EUI]*member{}, names: map[string]*member{},
		bridge: sim.NewBridge(sim.BridgeConfig{Broker: "mqtt://" + c.Broker, QoS: 1}),
	}
	for _, m := range c.Members {
		if err := f.add(m); err != nil {
			return nil, err
		}
	}
	var gateways []*sim.Gateway
	for _, eui := range c.Gateways {
		g, err := f.bridge.AddGateway(sim.GatewayConfig{EUI: eui})
		if err != nil {
			return nil, err
		}
		gateways = append(gateways, g)
	}
	if err := f.bridge.Connect(ctx); err != nil {
		return nil, err
	}
	if c.Copies == 0 {
		c.Copies = len(gateways)
	}
	f.air = sim.NewAir(sim.AirConfig{Propagation: f.over(gateways, c.Copies), Timeout: c.Patience}, gateways...)
	return f, nil
}

// add switches a device on. All count their DevNonces: what is drawn comes twice
// in a long run, and is refused then, rightly.
func (f *Fleet) add(m Member) error {
	c := sim.DeviceConfig{DevEUI: m.EUI, JoinEUI: joinEUI, MACVersion: m.Version, Region: "101", Nonces: sim.NoncesCounted}
	appKey, nwkKey := m.keys()
	var err error
	if c.AppKey, err = sim.ParseKey(appKey); err != nil {
		return err
	}
	if nwkKey != "" {
		if c.NwkKey, err = sim.ParseKey(nwkKey); err != nil {
			return err
		}
	}
	device, err := sim.NewDevice(c)
	if err != nil {
		return err
	}
	made := &member{device: device, permission: Permission(m.Permission)}
	f.members[m.EUI], f.names[m.EUI.String()] = made, made
	return nil
}

// over lets gateways hear a device, as many as copies, each time others. The RSSI is
// the number of the join-request: events repeat it, and so tell which they mean.
func (f *Fleet) over(gateways []*sim.Gateway, copies int) sim.Propagation {
	return func(d *sim.Device, _ int) []sim.Link {
		number := f.members[d.DevEUI()].last()
		links := make([]sim.Link, 0, copies)
		for i := range copies {
			links = append(links, sim.Link{Gateway: gateways[(number+i)%len(gateways)], RSSI: -1 - number, SNR: 9 - 3*float64(i)})
		}
		return links
	}
}

func (m *member) last() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.sent) - 1
}

// request is what the device asked of which an event tells, and whom the reason
// names.
func (f *Fleet) request(devEUI, reason string, rssi int) (target string, sent time.Time, ok bool) {
	m := f.names[devEUI]
	if m == nil {
		return "", sent, false
	}
	target = m.permission
	if reason == "device_disabled" {
		target = "node " + devEUI
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if number := -1 - rssi; number >= 0 && number < len(m.sent) {
		return target, m.sent[number], true
	}
	return "", sent, false
}

// EUIs lists the devices.
func (f *Fleet) EUIs() []sim.EUI {
	all := make([]sim.EUI, 0, len(f.members))
	for eui := range f.members {
		all = append(all, eui)
	}
	slices.Sort(all)
	return all
}

// Join has a device ask once. One device asks one after the other.
func (f *Fleet) Join(ctx context.Context, eui sim.EUI) sim.Result {
	m := f.members[eui]
	sent := time.Now()
	m.mu.Lock()
	m.sent = append(m.sent, sent)
	m.mu.Unlock()
	f.Asked.Add(1)
	r, _ := f.air.Join(ctx, m.device) // why it has not joined is in the Reason as well
	if !r.Joined {
		return r
	}
	f.Accepted.Add(1)
	f.history.Write(history.Line{Accept: &history.Accept{
		Join: history.Join{
			DevEUI: r.DevEUI.String(), JoinEUI: joinEUI.String(), DevNonce: r.DevNonce, JoinNonce: r.JoinNonce,
			DevAddr: r.DevAddr, RxDelay: r.RxDelay, DataRate: r.DataRate,
		},
		Sent: sent, Received: sent.Add(r.Latency),
	}})
	if f.Latencies != nil {
		f.Latencies(r.Latency)
	}
	return r
}

// JoinForEver has the devices join again and again until ctx is done, each with a
// pause between two join-requests.
func (f *Fleet) JoinForEver(ctx context.Context, pause time.Duration, euis []sim.EUI) {
	var all sync.WaitGroup
	for _, eui := range euis {
		all.Go(func() {
			for ctx.Err() == nil {
				f.Join(ctx, eui)
				select {
				case <-ctx.Done():
				case <-time.After(pause):
				}
			}
		})
	}
	all.Wait()
}

// JoinAtRate has so many of the devices ask per second until ctx is done, whatever
// becomes of those before. It needs more devices than ask within a device's
// patience: when all of them wait, none asks. joined is told when the join-request of
// each accepted join was sent.
func (f *Fleet) JoinAtRate(ctx context.Context, perSecond int, euis []sim.EUI, joined func(sent time.Time)) {
	idle := make(chan sim.EUI, len(euis))
	for _, eui := range euis {
		idle <- eui
	}
	var all sync.WaitGroup
	defer all.Wait()
	began, tick := time.Now(), time.NewTicker(5*time.Millisecond)
	defer tick.Stop()
	for asked := 0; ; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for due := int(time.Since(began).Seconds() * float64(perSecond)); asked < due; asked++ {
			select {
			case eui := <-idle:
				all.Go(func() {
					sent := time.Now()
					if f.Join(ctx, eui).Joined {
						joined(sent)
					}
					idle <- eui
				})
			default: // the rate is lower for a while
			}
		}
	}
}

// Surplus counts join-accepts for devices that had theirs already.
func (f *Fleet) Surplus() int64 { return f.air.Counts().Surplus.Load() }

// Close takes the gateways down.
func (f *Fleet) Close() { f.bridge.Kill() }
