package main

import (
	"context"
	"encoding/binary"
	"errors"
	"slices"
	"time"

	"joingate/band"
	"joingate/cache"
	"joingate/joinserver"
	"joingate/sim"
)

// playStorm runs one storm against the server's own decisions.
func playStorm(ctx context.Context, o sim.StormOptions, devices int, mode string) (sim.StormReport, error) {
	clock := new(sim.Clock)
	fleet := benchFleet{number: 1, joinEUI: "d896e0efff000000", region: "EU868", version: band.MAC1_0_3, account: 1, group: 1}
	made, err1 := fleet.devices(devices, devices)
	answerer, err2 := newStormServer(ctx, o, &fleet, devices, clock, mode)
	if err := errors.Join(err1, err2); err != nil {
		return sim.StormReport{}, err
	}
	o.Devices, o.Answerer = made, answerer
	report, err := sim.Storm(o, clock)
	return report, errors.Join(err, answerer.fault)
}

// stormServer answers a storm as the server does: with its Handler, and with its
// ledger where airtime is planned. Only record and broker are missing.
type stormServer struct {
	ctx     context.Context
	mode    string
	handler *joinserver.Handler
	ledger  joinserver.Airtime // nil: not planned
	record  *stormRecord
	open    map[uint64]*stormJoin // commands whose ack is to come
	last    uint64
	fault   error // the first one; there should be none
}

// stormJoin is a join-accept on its way.
type stormJoin struct {
	downlink joinserver.Downlink
	route    int // that has the command
	tried    map[int]bool
	booked   joinserver.Transmission
}

func newStormServer(ctx context.Context, o sim.StormOptions, fleet *benchFleet, devices int, clock *sim.Clock, mode string) (*stormServer, error) {
	record, err := newStormRecord(fleet, devices, o.Gateways)
	if err != nil {
		return nil, err
	}
	s := &stormServer{ctx: ctx, mode: mode, record: record, open: map[uint64]*stormJoin{}}
	c := joinserver.Config{Policies: record, Record: record, Joins: record, Bands: band.Standard(), Now: clock.Now}
	if mode == modePlanned {
		s.ledger = cache.NewAirtime(clock.Now)
		if !o.Duty {
			s.ledger = unlimited{s.ledger}
		}
		c.Airtime = s.ledger
	}
	s.handler, err = joinserver.NewHandler(c)
	return s, err
}

// unlimited is a ledger of gateways that need not keep a duty cycle.
type unlimited struct{ joinserver.Airtime }

func (u unlimited) Book(ctx context.Context, options []joinserver.Transmission) int {
	options = slices.Clone(options)
	for i := range options {
		options[i].Duty = band.DutyCycle{}
	}
	return u.Airtime.Book(ctx, options)
}

func (u unlimited) Release(ctx context.Context, t joinserver.Transmission) {
	t.Duty = band.DutyCycle{}
	u.Airtime.Release(ctx, t)
}

func (u unlimited) Sent(ctx context.Context, t joinserver.Transmission) {
	t.Duty = band.DutyCycle{}
	u.Airtime.Sent(ctx, t)
}

// Answer implements sim.Answerer.
func (s *stormServer) Answer(_ time.Time, phyPayload []byte, copies []sim.StormCopy) (sim.StormCommand, string) {
	up := joinserver.Uplink{PHYPayload: phyPayload}
	for _, c := range copies {
		up.Receptions = append(up.Receptions, joinserver.Reception{
			Gateway: eui64(c.Gateway), Received: c.Received, Frequency: band.Hz(c.Frequency),
			Modulation: band.Modulation{SpreadingFactor: uint8(c.SpreadingFactor), Bandwidth: band.Hz(c.Bandwidth)},
			RSSI:       int32(c.RSSI), SNR: float32(c.SNR),
		})
	}
	down, err := s.handler.Join(s.ctx, up)
	var refused *joinserver.Rejection
	switch {
	case errors.As(err, &refused):
		return sim.StormCommand{}, refused.Reason.String()
	case err != nil:
		s.fault = errors.Join(s.fault, err)
		return sim.StormCommand{}, "failed"
	}
	j := &stormJoin{downlink: down, tried: map[int]bool{}, booked: down.Routes[0].Booked}
	return s.command(j, 0), ""
}

// command tells the route's gateway to send.
func (s *stormServer) command(j *stormJoin, route int) sim.StormCommand {
	s.last++
	j.route, j.tried[route] = route, true
	s.open[s.last] = j
	r := j.downlink.Routes[route]
	c := sim.StormCommand{ID: s.last, Gateway: sim.EUI(binary.BigEndian.Uint64(r.Gateway[:])), PHYPayload: j.downlink.PHYPayload}
	for i, w := range [...]band.Window{r.RX1, r.RX2} {
		if w == (band.Window{}) {
			continue
		}
		c.Windows = append(c.Windows, sim.StormWindow{Power: int(w.Power), Window: sim.Window{
			Number: i + 1, Delay: w.Delay, Frequency: sim.Hz(w.Frequency),
			Modulation: sim.Modulation{SpreadingFactor: int(w.Modulation.SpreadingFactor), Bandwidth: sim.Hz(w.Modulation.Bandwidth)},
		}})
	}
	return c
}

// Refused implements sim.Answerer: the next gateway, if the mode has one.
func (s *stormServer) Refused(now time.Time, c sim.StormCommand) (sim.StormCommand, bool) {
	j := s.land(c)
	s.release(j)
	if s.mode == modeBestSNR {
		return sim.StormCommand{}, false
	}
	ways := slices.DeleteFunc(j.downlink.Ways(now.Add(s.handler.SendLead)), func(w joinserver.Way) bool { return j.tried[w.Route] })
	if len(ways) == 0 {
		return sim.StormCommand{}, false
	}
	if s.ledger == nil {
		return s.command(j, ways[0].Route), true
	}
	wanted := make([]joinserver.Transmission, len(ways))
	for i, w := range ways {
		wanted[i] = w.Transmission
	}
	i := s.ledger.Book(s.ctx, wanted)
	if i < 0 {
		return sim.StormCommand{}, false
	}
	j.booked = wanted[i]
	return s.command(j, ways[i].Route), true
}

// Sent implements sim.Answerer: the ledger learns what the gateway says.
func (s *stormServer) Sent(_ time.Time, c sim.StormCommand, window int) {
	j := s.land(c)
	if s.ledger == nil {
		return
	}
	r := j.downlink.Routes[j.route]
	w := r.RX1
	if c.Windows[window].Number == 2 {
		w = r.RX2
	}
	if sent := j.downlink.Transmission(r, w); sent != j.booked {
		s.release(j)
		s.ledger.Sent(s.ctx, sent)
	}
}

// land ends the wait for a command's ack.
func (s *stormServer) land(c sim.StormCommand) *stormJoin {
	j := s.open[c.ID]
	delete(s.open, c.ID)
	return j
}

func (s *stormServer) release(j *stormJoin) {
	if s.ledger != nil && j.booked != (joinserver.Transmission{}) {
		s.ledger.Release(s.ctx, j.booked)
		j.booked = joinserver.Transmission{}
	}
}

// stormRecord is a record of one account in memory.
type stormRecord struct {
	policies map[joinserver.EUI64]joinserver.Policy
	gateways map[joinserver.EUI64]joinserver.Gateway
	grants   map[joinserver.EUI64]joinserver.Grant
}

func newStormRecord(fleet *benchFleet, devices int, gateways []sim.EUI) (*stormRecord, error) {
	joinEUI, err1 := joinserver.ParseEUI64(fleet.joinEUI)
	plan, err2 := findGroup(band.Standard(), fleet.region)
	nodes, err3 := fleet.nodes(devices)
	if err := errors.Join(err1, err2, err3); err != nil {
		return nil, err
	}
	r := &stormRecord{map[joinserver.EUI64]joinserver.Policy{}, map[joinserver.EUI64]joinserver.Gateway{}, map[joinserver.EUI64]joinserver.Grant{}}
	permission := joinserver.JoinPermission{
		ID: 1, Type: joinserver.Local, Owner: fleet.account, Enabled: true, JoinEUI: joinEUI, BandPlanGroup: plan.ID, ClassMode: "A", RxDelay: time.Second,
	}
	for _, n := range nodes {
		r.policies[n.DevEUI] = joinserver.Policy{
			Node:       joinserver.Node{DevEUI: n.DevEUI, Account: fleet.account, Enabled: true, MACVersion: n.MACVersion, Keys: n.Keys},
			Group:      joinserver.NodeGroup{ID: fleet.group},
			Permission: permission,
		}
	}
	for _, g := range gateways {
		r.gateways[eui64(g)] = joinserver.Gateway{EUI: eui64(g), Owner: fleet.account, Enabled: true, BandPlanGroup: plan.ID}
	}
	return r, nil
}

// Policy implements joinserver.Policies.
func (r *stormRecord) Policy(_ context.Context, device joinserver.EUI64) (joinserver.Policy, error) {
	if p, ok := r.policies[device]; ok {
		return p, nil
	}
	return joinserver.Policy{}, joinserver.ErrUnknownDevice
}

// Gateways implements joinserver.Policies.
func (r *stormRecord) Gateways(_ context.Context, euis []joinserver.EUI64) (list []joinserver.Gateway, err error) {
	for _, eui := range euis {
		if g, ok := r.gateways[eui]; ok {
			list = append(list, g)
		}
	}
	return list, nil
}

// Commit implements joinserver.Joins. No two devices have the same DevAddr.
func (r *stormRecord) Commit(_ context.Context, c joinserver.Claim) (joinserver.Grant, error) {
	g := r.grants[c.Request.DevEUI]
	if g.JoinNonce == 0 {
		binary.BigEndian.PutUint32(g.DevAddr[:], uint32(len(r.grants)+1))
	}
	g.JoinNonce++
	r.grants[c.Request.DevEUI] = g
	return g, nil
}
