package record

import (
	"context"
	"database/sql"
	"fmt"
	"strings"

	"joingate/joinserver"
)

// Finding is something on record that should not be, or that waits for somebody.
type Finding struct {
	What    string // is wrong
	Rows    int64  // of it
	Example string // one of the rows, by its key
	Remedy  string
}

func (f Finding) String() string {
	return fmt.Sprintf("%s: %d (%s): %s", f.What, f.Rows, f.Example, f.Remedy)
}

const (
	byHand  = "somebody has written to the database by hand: undo it, or restore a backup"
	notSafe = "do not use this record: an old copy of it was put in place as it is; make it anew with joingate record restore, which raises the JoinNonces"
)

// check is a query for what should not be there; it gives the keys of such rows.
type check struct{ what, query, remedy string }

// checks hold on every engine.
var checks = []check{
	{"nodes in a node group that is not there", `SELECT n.dev_eui AS k FROM nodes n WHERE n.group_id IS NOT NULL AND ` + missing("node_groups", "n.group_id"), "they cannot join: AddNodeToGroup, or joingate node remove"},
	{"nodes of an import that never came into force", `SELECT n.dev_eui AS k FROM nodes n WHERE n.import_id IS NOT NULL AND NOT EXISTS (SELECT 1 FROM imports i WHERE i.id = n.import_id AND i.in_force)`, "an import is running, or was broken off: import the same file again"},
	{"node groups bound to a join permission that is not there", `SELECT CAST(g.id AS TEXT) AS k FROM node_groups g WHERE g.permission_id IS NOT NULL AND ` + missing("join_permissions", "g.permission_id"), "their nodes cannot join: bind the group to a join permission"},
	{"nodes of an account that is not there", `SELECT n.dev_eui AS k FROM nodes n WHERE n.account_id <> 0 AND ` + missing("accounts", "n.account_id"), byHand},
	{"node groups of an account that is not there", `SELECT CAST(g.id AS TEXT) AS k FROM node_groups g WHERE ` + missing("accounts", "g.account_id"), byHand},
	{"join permissions of an account that is not there", `SELECT CAST(p.id AS TEXT) AS k FROM join_permissions p WHERE p.owner_id <> 0 AND ` + missing("accounts", "p.owner_id") + ` OR p.renter_id <> 0 AND ` + missing("accounts", "p.renter_id"), byHand},
	{"gateways of an account that is not there", `SELECT w.gw_eui AS k FROM gateways w WHERE w.account_id <> 0 AND ` + missing("accounts", "w.account_id"), byHand},
	{"users of an account that is not there", `SELECT u.name AS k FROM users u WHERE ` + missing("accounts", "u.account_id"), byHand},
	{"AccessKeys of an account that is not there", `SELECT a.id AS k FROM access_keys a WHERE ` + missing("accounts", "a.account_id"), byHand},
	{"keys for servers of an account that is not there", `SELECT CAST(a.account_id AS TEXT) AS k FROM account_keks a WHERE ` + missing("accounts", "a.account_id"), byHand},
	{"states of gateways that are not there", `SELECT s.gw_eui AS k FROM gateway_states s WHERE NOT EXISTS (SELECT 1 FROM gateways w WHERE w.gw_eui = s.gw_eui)`, byHand},

	{"DevNonces that are none", `SELECT d.dev_eui AS k FROM dev_nonces d WHERE d.dev_nonce NOT BETWEEN 0 AND 65535`, byHand},
	{"JoinNonces that are none", fmt.Sprintf(`SELECT s.dev_eui AS k FROM sessions s WHERE s.join_nonce NOT BETWEEN 1 AND %d`, joinserver.MaxJoinNonce), byHand},
	{"DevNonces of devices whose JoinNonce is lost", `SELECT DISTINCT d.dev_eui AS k FROM dev_nonces d WHERE NOT EXISTS (SELECT 1 FROM sessions s WHERE s.dev_eui = d.dev_eui)`, notSafe},
	{"join events that are ahead of their device's JoinNonce", `SELECT o.dev_eui AS k FROM outbox o WHERE o.join_nonce > ` + newestOfDevice("o"), notSafe},
	{"join events for sinks that are ahead of their device's JoinNonce", `SELECT o.dev_eui AS k FROM outbox_sinks o WHERE o.join_nonce > ` + newestOfDevice("o"), notSafe},
	{"rejoin-requests of sessions that are ahead of their device's JoinNonce", `SELECT c.dev_eui AS k FROM rejoin_counts c WHERE c.session > ` + newestOfDevice("c"), notSafe},
	{"devices with two sessions of one JoinNonce", `SELECT a.dev_eui AS k FROM sessions a JOIN sessions b ON b.dev_eui = a.dev_eui AND b.slot = 1 AND b.join_nonce = a.join_nonce WHERE a.slot = 0`, byHand},
	{"live sessions of devices that are not registered", `SELECT s.dev_eui AS k FROM sessions s WHERE s.live AND NOT EXISTS (SELECT 1 FROM nodes n WHERE n.dev_eui = s.dev_eui)`, "end them: joingate session revoke"},
	{"sessions that are live beside a newer one that is confirmed", `SELECT s.dev_eui AS k FROM sessions s WHERE s.live AND EXISTS (SELECT 1 FROM sessions c WHERE c.dev_eui = s.dev_eui AND c.live AND c.confirmed_nonce = c.join_nonce AND c.join_nonce > s.join_nonce)`, "end them: joingate session revoke"},
	{"live sessions without a DevAddr", `SELECT s.dev_eui AS k FROM sessions s WHERE s.live AND s.dev_addr = -1`, byHand},
	{"ids and versions that are ahead of the revision", `SELECT CAST(value AS TEXT) AS k FROM revision WHERE value < (SELECT MAX(v) FROM (
    SELECT MAX(version) AS v FROM nodes UNION ALL SELECT MAX(version) FROM node_groups UNION ALL SELECT MAX(version) FROM join_permissions
    UNION ALL SELECT MAX(version) FROM gateways UNION ALL SELECT MAX(revision) FROM audit UNION ALL SELECT MAX(id) FROM orders UNION ALL SELECT MAX(id) FROM imports) AS all_of_them)`, notSafe},
}

func missing(table, id string) string {
	return `NOT EXISTS (SELECT 1 FROM ` + table + ` x WHERE x.id = ` + id + `)`
}

func newestOfDevice(row string) string {
	return `COALESCE((SELECT MAX(s.join_nonce) FROM sessions s WHERE s.dev_eui = ` + row + `.dev_eui), 0)`
}

// Check looks through the whole record: whether the file is whole (SQLite), each
// reference leads somewhere, every sealed value opens, sessions, nonces and join
// events agree, and no events wait for a sink that is gone. It changes nothing, and
// joins go on meanwhile.
func (r *Record) Check(ctx context.Context) (findings []Finding, err error) {
	if !r.engine.remote {
		if err := integrity(ctx, r.reader); err != nil {
			findings = append(findings, Finding{What: "the file: " + err.Error(), Rows: 1, Example: r.sqlitePath, Remedy: "restore a backup: joingate record restore"})
		}
	}
	err = r.View(ctx, func(tx *Tx) error {
		for _, c := range checks {
			f := Finding{What: c.what, Remedy: c.remedy}
			err := tx.row(`SELECT COUNT(*), COALESCE(MIN(k), '') FROM (`+c.query+`) AS found`).Scan(&f.Rows, &f.Example)
			if err != nil {
				return fmt.Errorf("look for %s: %w", c.what, err)
			}
			if f.Rows > 0 {
				findings = append(findings, f)
			}
		}
		more, err := tx.checkSinks()
		if err != nil {
			return err
		}
		findings = append(findings, more...)
		more, err = tx.checkSealed()
		findings = append(findings, more...)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("check the record: %w", explain(err))
	}
	return findings, nil
}

// checkSinks finds events that wait for nobody.
func (tx *Tx) checkSinks() (findings []Finding, err error) {
	err = tx.rows(func(rows *sql.Rows) error {
		f := Finding{Remedy: "configure the sink again, so that it gets them, or forget them: joingate record drop-sink"}
		err := rows.Scan(&f.Example, &f.Rows)
		f.What = "join events for a sink that is not configured"
		if tx.record.outboxes[f.Example] == nil {
			findings = append(findings, f)
		}
		return err
	}, `SELECT sink, COUNT(*) FROM outbox_sinks GROUP BY sink ORDER BY sink`)
	return findings, err
}

// checkSealed opens all that is sealed.
func (tx *Tx) checkSealed() (findings []Finding, err error) {
	for _, t := range sealedTables {
		shut := Finding{What: "values in " + t.name + " that do not open", Remedy: "they were sealed with a key that is not in the key file, or were moved: put the right key file in place, or register them again"}
		older := Finding{What: "values in " + t.name + " under an older key", Remedy: "finish the rotation: joingate keys rotate"}
		err := tx.eachSealed(tx.ctx, t, func(key string, isOlder bool, err error) error {
			if err != nil {
				shut.count(key)
			} else if isOlder {
				older.count(key)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		for _, f := range []Finding{shut, older} {
			if f.Rows > 0 {
				findings = append(findings, f)
			}
		}
	}
	return findings, nil
}

func (f *Finding) count(key string) {
	if f.Rows++; f.Rows == 1 {
		f.Example = strings.TrimSpace(key)
	}
}
