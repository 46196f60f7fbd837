package main

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"joingate/band"
	"joingate/config"
	"joingate/joinserver"
	"joingate/keyring"
	"joingate/record"
	"joingate/sim"
)

// benchFleet is what bench registers.
type benchFleet struct {
	number  uint32 // drawn, so that a second run meets no device of the first
	joinEUI string
	region  string
	version band.MACVersion
	account joinserver.AccountID
	group   int64
}

// register makes an account with a join permission, gateways and devices in the
// record, and gives the devices that will join.
func (b *bench) register(ctx context.Context, c config.Config) ([]*sim.Device, error) {
	groups, err1 := bandGroups(c)
	version, err2 := band.ParseMACVersion(b.macVersion)
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	plan, err := findGroup(groups, b.region)
	if err != nil {
		return nil, err
	}
	f := &benchFleet{number: rand.Uint32N(1 << 24), joinEUI: c.Network.DefaultJoinEUI, region: b.region, version: version}
	devices := max(b.devices, 1)
	if b.devices == 0 {
		devices = max(1, b.joins())
	}
	b.say("registering %d gateways and %d devices", b.gateways, devices)
	r, err := openRecord(ctx, c, nil)
	if err != nil {
		return nil, err
	}
	err = r.Update(ctx, operator("bench"), func(tx *record.Tx) error { return f.found(tx, plan.ID, b.load.Gateways) })
	if err == nil {
		err = f.importTo(ctx, r, devices)
	}
	if err := errors.Join(err, r.Close()); err != nil {
		return nil, err
	}
	return f.devices(devices, min(devices, b.joins()))
}

// found makes account, permission, node group and gateways.
func (f *benchFleet) found(tx *record.Tx, plan band.GroupID, gateways []sim.EUI) error {
	name := fmt.Sprintf("bench-%06x", f.number)
	if _, err := createAccount(tx, name, ""); err != nil {
		return err
	}
	account, err := tx.AccountByName(name)
	if err != nil {
		return err
	}
	f.account = account.ID
	joinEUI, err := joinserver.ParseEUI64(f.joinEUI)
	if err != nil {
		return err
	}
	now := time.Now().UnixMilli()
	permission, err := tx.InsertPermission(joinserver.Permission{
		JoinPermission: joinserver.JoinPermission{
			Type: joinserver.Local, Owner: account.ID, Enabled: true, JoinEUI: joinEUI, BandPlanGroup: plan, ClassMode: "A", RxDelay: time.Second,
		},
		Name: "bench", AuthState: joinserver.New, CreateMillis: now,
	})
	if err != nil {
		return err
	}
	if f.group, err = tx.InsertGroup(joinserver.Group{Account: account.ID, Name: "bench", PermissionID: permission, CreateMillis: now}); err != nil {
		return err
	}
	for _, g := range gateways {
		if err := addGateway(tx, eui64(g), name, plan); err != nil {
			return err
		}
	}
	return nil
}

func (f *benchFleet) importTo(ctx context.Context, r *record.Record, devices int) error {
	nodes, err := f.nodes(devices)
	if err != nil {
		return err
	}
	return r.ImportNodes(ctx, operator("bench"), nodes, func(int) {})
}

// euiOf and keyOf give what one device of the fleet has.
func (f *benchFleet) euiOf(i int) sim.EUI {
	return sim.EUI(0xbe4c<<48 | uint64(f.number)<<24 | uint64(i))
}

func (f *benchFleet) keyOf(i int, label string) [keyring.KeySize]byte {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %d %d", label, f.number, i))
	return [keyring.KeySize]byte(sum[:])
}

func (f *benchFleet) nodes(n int) ([]record.NewNode, error) {
	all := make([]record.NewNode, n)
	var errs [2]error
	for i := range all {
		all[i] = record.NewNode{DevEUI: eui64(f.euiOf(i)), MACVersion: f.version, Account: f.account, GroupID: f.group}
		app, nwk := f.keyOf(i, "app"), f.keyOf(i, "nwk")
		all[i].Keys.App, errs[0] = keyring.NewKey(app[:])
		if f.version == band.MAC1_1 {
			all[i].Keys.Nwk, errs[1] = keyring.NewKey(nwk[:])
		}
	}
	return all, errors.Join(errs[:]...)
}

func eui64(e sim.EUI) (out joinserver.EUI64) {
	binary.BigEndian.PutUint64(out[:], uint64(e))
	return out
}

// devices makes those that join: so many, spread evenly over all. They count
// their DevNonces, so that none comes twice.
func (f *benchFleet) devices(registered, joining int) ([]*sim.Device, error) {
	joinEUI, err := sim.ParseEUI(f.joinEUI)
	if err != nil {
		return nil, err
	}
	all := make([]*sim.Device, joining)
	for i := range all {
		at := i * registered / joining
		c := sim.DeviceConfig{
			DevEUI: f.euiOf(at), JoinEUI: joinEUI, AppKey: sim.NewKey(f.keyOf(at, "app")), MACVersion: f.version.String(), Region: f.region,
			Nonces: sim.NoncesCounted, FirstDevNonce: 1,
		}
		if f.version == band.MAC1_1 {
			c.NwkKey = sim.NewKey(f.keyOf(at, "nwk"))
		}
		if all[i], err = sim.NewDevice(c); err != nil {
			return nil, err
		}
	}
	return all, nil
}
