package joinserver_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"sync"
	"time"

	"joingate/band"
	"joingate/joinserver"
	"joingate/keyring"

	"github.com/brocaar/lorawan"
)

// Memory is the least that a network server gives the join handler: devices with
// their policies, gateways, and the joins so far. One mutex is its transaction.
// What is kept in memory does not survive a crash, so a real one writes to disk
// before Commit returns.
type Memory struct {
	mu       sync.Mutex
	policies map[joinserver.EUI64]joinserver.Policy
	gateways map[joinserver.EUI64]joinserver.Gateway
	joins    map[joinserver.EUI64][]join
}

type join struct {
	claim joinserver.Claim
	grant joinserver.Grant
}

// Policy implements joinserver.Policies.
func (m *Memory) Policy(_ context.Context, device joinserver.EUI64) (joinserver.Policy, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	policy, known := m.policies[device]
	if !known {
		return joinserver.Policy{}, joinserver.ErrUnknownDevice
	}
	return policy, nil
}

// Gateways implements joinserver.Policies.
func (m *Memory) Gateways(_ context.Context, euis []joinserver.EUI64) ([]joinserver.Gateway, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var registered []joinserver.Gateway
	for _, eui := range euis {
		if gateway, known := m.gateways[eui]; known {
			registered = append(registered, gateway)
		}
	}
	return registered, nil
}

// Commit implements joinserver.Joins: the versions, then the DevNonce, then the
// JoinNonce and a DevAddr.
func (m *Memory) Commit(_ context.Context, c joinserver.Claim) (joinserver.Grant, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	device := c.Request.DevEUI
	now := joinserver.Claim{Policy: m.policies[device], Gateway: m.gateways[c.Gateway.EUI]}
	if now.Versions() != c.Versions() {
		return joinserver.Grant{}, joinserver.ErrPolicyMoved
	}
	for _, earlier := range m.joins[device] {
		if err := fresh(c, earlier.claim); err != nil {
			return joinserver.Grant{}, err
		}
	}
	number := uint32(len(m.joins[device])) + 1
	grant := joinserver.Grant{JoinNonce: number, DevAddr: c.NetID.Address(number)}
	m.joins[device] = append(m.joins[device], join{c, grant})
	return grant, nil
}

// Sessions implements joinserver.Sessions: the newest and the one before it. It is
// for rejoin-requests; a Handler works without.
func (m *Memory) Sessions(_ context.Context, device joinserver.EUI64) ([]joinserver.Session, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var sessions []joinserver.Session
	for i := len(m.joins[device]) - 1; i >= 0 && len(sessions) < 2; i-- {
		j := m.joins[device][i]
		sessions = append(sessions, j.claim.Opened(j.grant, j.claim.Received))
	}
	return sessions, nil
}

// fresh checks a DevNonce, or an RJcount, against an earlier join of the device.
// RJcounts only count up; those of types 0 and 2 count within a session.
func fresh(c, earlier joinserver.Claim) error {
	nonce, before := c.Request.DevNonce, earlier.Request.DevNonce
	same := c.Request.JoinEUI == earlier.Request.JoinEUI && c.Session == earlier.Session && (c.Type == joinserver.Joined) == (earlier.Type == joinserver.Joined)
	countsUp := c.Type != joinserver.Joined || joinserver.Monotonic(c.Policy.Node.MACVersion)
	switch {
	case c.Request == earlier.Request && c.Received.Before(earlier.AnswerUntil()):
		return joinserver.ErrLateCopy
	case same && nonce == before, same && countsUp && nonce < before:
		return &joinserver.Rejection{
			Reason: joinserver.DevNonceReplayed, DevEUI: c.Request.DevEUI, JoinEUI: c.Request.JoinEUI, Account: c.Policy.Node.Account,
		}
	}
	return nil
}

// A network server embeds the join handler by giving it what finds policies and
// what commits joins. Frames come and go by whatever way the server has.
func Example() {
	const euRegion = 1000 // EU868, see package band
	device, _ := joinserver.ParseEUI64("70b3d5e75e000001")
	joinEUI, _ := joinserver.ParseEUI64("d896e0efff000001")
	roof, _ := joinserver.ParseEUI64("0016c001f1500a01")
	appKey, _ := keyring.ParseKey("000102030405060708090a0b0c0d0e0f")

	memory := &Memory{
		joins:    map[joinserver.EUI64][]join{},
		gateways: map[joinserver.EUI64]joinserver.Gateway{roof: {EUI: roof, Owner: 1, Enabled: true, BandPlanGroup: euRegion, Version: 1}},
		policies: map[joinserver.EUI64]joinserver.Policy{device: {
			Node:  joinserver.Node{DevEUI: device, Account: 1, Enabled: true, MACVersion: band.MAC1_0_3, Keys: keyring.RootKeys{App: appKey}, Version: 1},
			Group: joinserver.NodeGroup{ID: 1, Version: 1},
			Permission: joinserver.JoinPermission{
				ID: 1, Type: joinserver.Local, Owner: 1, Enabled: true, JoinEUI: joinEUI,
				BandPlanGroup: euRegion, ClassMode: "A", RxDelay: 2 * time.Second, Version: 1,
			},
		}},
	}
	handler, err := joinserver.NewHandler(joinserver.Config{
		Policies: memory, Record: memory, Joins: memory, Sessions: memory,
		Bands: band.Standard(), NetID: joinserver.NetID{0x00, 0x00, 0x13}, Now: time.Now,
	})
	if err != nil {
		log.Fatal(err)
	}

	uplink := joinserver.Uplink{
		PHYPayload: deviceSends(device, joinEUI, 1),
		Receptions: []joinserver.Reception{{
			Gateway: roof, Received: time.Now(), Frequency: 868_100_000,
			Modulation: band.Modulation{SpreadingFactor: 7, Bandwidth: 125_000}, RSSI: -60, SNR: 9,
		}},
	}
	for range 2 {
		downlink, err := handler.Join(context.Background(), uplink)
		var refused *joinserver.Rejection
		switch {
		case errors.Is(err, joinserver.ErrLateCopy):
			fmt.Println("a copy of a frame that was answered: swallow it")
		case errors.As(err, &refused):
			fmt.Println("silence on the air, because of", refused.Reason)
		case err != nil:
			log.Fatal(err)
		default:
			best := downlink.Routes[0]
			fmt.Printf("send %d octets through %s: after %s on %s, or after %s on %s\n", len(downlink.PHYPayload),
				best.Gateway, best.RX1.Delay, best.RX1.Frequency, best.RX2.Delay, best.RX2.Frequency)
			fmt.Printf("session %s: JoinNonce %d, RX1 delay %s\n", downlink.Grant.DevAddr, downlink.Grant.JoinNonce, downlink.Claim.RxDelay)
		}
	}
	uplink.PHYPayload[22] ^= 1 // the last octet of the MIC
	_, err = handler.Join(context.Background(), uplink)
	fmt.Println(err)

	// Output:
	// send 33 octets through 0016c001f1500a01: after 5s on 868.1 MHz, or after 6s on 869.525 MHz
	// session 26000001: JoinNonce 1, RX1 delay 2s
	// a copy of a frame that was answered: swallow it
	// join of 70b3d5e75e000001 refused: bad_mic
}

// deviceSends is a device with the AppKey of the example.
func deviceSends(device, joinEUI joinserver.EUI64, devNonce uint16) []byte {
	frame := lorawan.PHYPayload{
		MHDR: lorawan.MHDR{MType: lorawan.JoinRequest, Major: lorawan.LoRaWANR1},
		MACPayload: &lorawan.JoinRequestPayload{
			JoinEUI: lorawan.EUI64(joinEUI), DevEUI: lorawan.EUI64(device), DevNonce: lorawan.DevNonce(devNonce),
		},
	}
	if err := frame.SetUplinkJoinMIC(lorawan.AES128Key{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}); err != nil {
		log.Fatal(err)
	}
	octets, err := frame.MarshalBinary()
	if err != nil {
		log.Fatal(err)
	}
	return octets
}
