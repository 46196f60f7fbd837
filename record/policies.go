package record

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"joingate/band"
	"joingate/joinserver"
	"joingate/keyring"
)

// policyStatements are what reading policies needs.
type policyStatements struct{ policies, gateway, sessions *sql.Stmt }

const (
	// Its one argument is all the DevEUIs, see engine.among.
	sqlPolicies = `
SELECT n.dev_eui, n.account_id, n.enabled, n.mac_version, n.sealed_app, n.sealed_nwk, n.version,
       COALESCE(g.id, 0), COALESCE(g.version, 0),
       COALESCE(p.id, 0), COALESCE(p.version, 0), COALESCE(p.type, ''), COALESCE(p.owner_id, 0), COALESCE(p.enabled, FALSE),
       COALESCE(p.join_eui, '0000000000000000'), COALESCE(p.band_plan_group, 0), COALESCE(p.class_mode, ''), COALESCE(p.rx_delay_s, 0), p.data_rate,
       COALESCE(p.require_own, FALSE)
FROM nodes n
LEFT JOIN node_groups g ON g.id = n.group_id
LEFT JOIN join_permissions p ON p.id = g.permission_id
LEFT JOIN imports i ON i.id = n.import_id
WHERE n.dev_eui {among} AND (n.import_id IS NULL OR i.in_force)`
	sqlGateway = `
SELECT w.account_id, w.enabled, w.band_plan_group, a.roaming_gateways, w.version
FROM gateways w JOIN accounts a ON a.id = w.account_id WHERE w.gw_eui = $1`
)

func (e *engine) preparePolicies(ctx context.Context, db *sql.DB) (*policyStatements, error) {
	policies, err1 := db.PrepareContext(ctx, strings.Replace(sqlPolicies, "{among}", e.among, 1))
	gateway, err2 := db.PrepareContext(ctx, sqlGateway)
	sessions, err3 := db.PrepareContext(ctx, sqlSessions)
	return &policyStatements{policies, gateway, sessions}, errors.Join(err1, err2, err3)
}

// maxLookups bounds how many policies one statement reads, so that none waits long
// for the others.
const maxLookups = 256

// lookupLoops is how many such statements run at a time.
const lookupLoops = 2

// lookup is a policy that somebody waits for.
type lookup struct {
	errand
	device joinserver.EUI64
	policy joinserver.Policy
	err    error
}

// Policy implements joinserver.Policies from the truth. Concurrent calls share a
// statement, which begins after them all.
func (r *Record) Policy(ctx context.Context, device joinserver.EUI64) (joinserver.Policy, error) {
	l := &lookup{errand: newErrand(), device: device}
	if err := r.lookups.do(ctx, l); err != nil {
		return joinserver.Policy{}, err
	}
	return l.policy, l.err
}

// lookupLoop reads the policies that are waited for, all in one.
func (r *Record) lookupLoop() {
	for batch := r.lookups.take(maxLookups); len(batch) > 0; batch = r.lookups.take(maxLookups) {
		r.lookUp(batch)
	}
}

// lookUp finds what each lookup is for. A fault of one node is its own.
func (r *Record) lookUp(batch []*lookup) {
	waiting := make(map[joinserver.EUI64][]*lookup, len(batch))
	devices := make([]string, 0, len(batch))
	for _, l := range batch {
		if waiting[l.device] == nil {
			devices = append(devices, l.device.String())
		}
		waiting[l.device] = append(waiting[l.device], l)
		l.err = joinserver.ErrUnknownDevice
	}
	err := r.readPolicies(devices, func(device joinserver.EUI64, policy joinserver.Policy, err error) {
		for _, l := range waiting[device] {
			l.policy, l.err = policy, err
		}
	})
	for _, l := range batch {
		if err != nil {
			l.policy, l.err = joinserver.Policy{}, fmt.Errorf("read policy of %s: %w", l.device, explain(err))
		}
		close(l.done)
	}
}

func (r *Record) readPolicies(devices []string, found func(joinserver.EUI64, joinserver.Policy, error)) error {
	ctx, cancel := r.bound(context.Background(), r.busyTimeout)
	defer cancel()
	rows, err := r.policies.policies.QueryContext(ctx, r.engine.list(devices))
	return eachRow(rows, err, func(rows *sql.Rows) error {
		device, policy, err := r.scanPolicy(rows)
		if device == (joinserver.EUI64{}) && err != nil {
			return err
		}
		found(device, policy, err)
		return nil
	})
}

// scanPolicy reads a row of sqlPolicies. Without a device the row could not be read.
func (r *Record) scanPolicy(rows *sql.Rows) (device joinserver.EUI64, policy joinserver.Policy, err error) {
	var (
		n, g, p              = &policy.Node, &policy.Group, &policy.Permission
		app, nwk             []byte
		devEUI, mac, joinEUI string
		rxDelay              int64
		dataRate             sql.NullInt64
		err1, err2, err3     error
	)
	err = rows.Scan(&devEUI, &n.Account, &n.Enabled, &mac, &app, &nwk, &n.Version,
		&g.ID, &g.Version, &p.ID, &p.Version, &p.Type, &p.Owner, &p.Enabled, &joinEUI, &p.BandPlanGroup, &p.ClassMode, &rxDelay, &dataRate, &p.RequireOwn)
	if err == nil {
		device, err = joinserver.ParseEUI64(devEUI)
	}
	if err != nil {
		return joinserver.EUI64{}, joinserver.Policy{}, err
	}
	n.DevEUI = device
	n.MACVersion, err1 = band.ParseMACVersion(mac)
	n.Keys, err2 = r.openRootKeys(device, app, nwk)
	p.JoinEUI, err3 = joinserver.ParseEUI64(joinEUI)
	p.RxDelay, p.DataRate = time.Duration(rxDelay)*time.Second, dataRateOf(dataRate)
	if err := errors.Join(err1, err2, err3); err != nil {
		return device, joinserver.Policy{}, fmt.Errorf("record of %s: %w", device, err)
	}
	return device, policy, nil
}

// Gateways implements joinserver.Policies from the truth. A gateway in stock
// belongs to nobody and is not registered.
func (r *Record) Gateways(ctx context.Context, euis []joinserver.EUI64) ([]joinserver.Gateway, error) {
	ctx, cancel := r.bound(ctx, r.busyTimeout)
	defer cancel()
	found := make([]joinserver.Gateway, 0, len(euis))
	for _, eui := range euis {
		g := joinserver.Gateway{EUI: eui}
		err := r.policies.gateway.QueryRowContext(ctx, eui.String()).Scan(&g.Owner, &g.Enabled, &g.BandPlanGroup, &g.OpenToRoaming, &g.Version)
		if errors.Is(err, sql.ErrNoRows) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read gateway %s: %w", eui, explain(err))
		}
		found = append(found, g)
	}
	return found, nil
}

// A root key is sealed for its device and column: it opens nowhere else.
func placeOf(device joinserver.EUI64, column string) string {
	return "nodes." + column + " " + device.String()
}

func (r *Record) openRootKeys(device joinserver.EUI64, app, nwk []byte) (keyring.RootKeys, error) {
	appKey, err1 := r.sealer.OpenKey(app, placeOf(device, "sealed_app"))
	nwkKey, err2 := r.sealer.OpenKey(nwk, placeOf(device, "sealed_nwk"))
	return keyring.RootKeys{App: appKey, Nwk: nwkKey}, errors.Join(err1, err2)
}

func dataRateOf(n sql.NullInt64) *band.DataRate {
	if !n.Valid {
		return nil
	}
	rate := band.DataRate(n.Int64)
	return &rate
}

func dataRateNumber(rate *band.DataRate) sql.NullInt64 {
	if rate == nil {
		return sql.NullInt64{}
	}
	return sql.NullInt64{Int64: int64(*rate), Valid: true}
}
