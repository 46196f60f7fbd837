package record

import (
	"bufio"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"joingate/joinserver"
	"joingate/keyring"
)

// DefaultJump is by how much Restore raises each JoinNonce. A device has 65,536
// DevNonces with a JoinEUI, so it cannot have joined more often since the backup;
// but where its DevNonces were reset, its JoinEUI changed, or it sends
// rejoin-requests without an end. 256 such jumps use up all JoinNonces.
const DefaultJump = 1 << 16

// revisionJump is by how much Restore raises the revision, so that no id and no
// version comes again that was given since the backup: policies with such versions
// may wait in caches.
const revisionJump = 1_000_000_000

// Restoration says what to make a record of.
type Restoration struct {
	Backup string  // a file that Backup has written
	To     Options // where no record is yet
	Jump   uint32  // added to each JoinNonce; 0: DefaultJump
	// Events are join events since the backup, or more, a JSON document in each line;
	// nil: there are none.
	Events io.Reader
}

// Restored is what a restoration has done.
type Restored struct {
	Devices    int64 // whose JoinNonce was raised
	Exhausted  int64 // those of them that have no JoinNonce left
	Events     int64 // join events that were taken over
	Unreadable int64 // lines that are no join event
	Findings   []Finding
}

// Restore makes a record of a backup. It verifies the file first, and puts nothing
// in place of a record that is there.
//
// What was written since the backup is not in it, joins above all. So that none of
// their keys comes again when an old join-request is replayed, each JoinNonce jumps
// beyond what can have been used; also that of devices which had not joined, and of
// those that are registered anew later. The DevNonces, RJcount1s and JoinNonces of
// events are taken over besides, so that those requests are refused again.
//
// What remains: sessions opened since the backup are not known, so that their
// DevAddrs may be given to other devices, their rejoin-requests of types 0 and 2 are
// refused and nobody can ask for their keys, until the devices join again. What
// administrators changed is as it was.
func Restore(ctx context.Context, o Restoration) (done Restored, err error) {
	if o.To.Sealer == nil {
		if o.To.Sealer, err = keyring.NewSealer(o.To.KEK); err != nil {
			return done, err
		}
	}
	if o.To.PostgresURL == "" {
		if err := mustNotExist(o.To.SQLitePath); err != nil {
			return done, fmt.Errorf("restore: %w", err)
		}
	}
	if err := verifyFile(ctx, o.Backup, o.To.Sealer); err != nil {
		return done, fmt.Errorf("restore %s: %w", o.Backup, err)
	}
	folder, err := o.workFolder()
	if err != nil {
		return done, fmt.Errorf("restore: %w", err)
	}
	defer os.RemoveAll(folder)
	part := filepath.Join(folder, "record.db")
	if done, err = o.prepare(ctx, part); err != nil {
		return done, fmt.Errorf("restore %s: %w", o.Backup, err)
	}
	if o.To.PostgresURL == "" {
		err = putInPlace(part, o.To.SQLitePath)
	} else {
		err = o.copyFrom(ctx, part)
	}
	if err != nil {
		return done, fmt.Errorf("restore to %s: %w", o.To.name(), err)
	}
	return done, nil
}

// workFolder is beside the file to be, so that the file only has to be given its
// name.
func (o Restoration) workFolder() (string, error) {
	if o.To.PostgresURL != "" {
		return os.MkdirTemp("", "joingate-restore-*") // mode 0700
	}
	beside := filepath.Dir(o.To.SQLitePath)
	if err := os.MkdirAll(beside, 0o700); err != nil {
		return "", err
	}
	return os.MkdirTemp(beside, ".restore-*")
}

// prepare makes of a copy of the backup what is to be put in place: whoever finds it
// there finds it whole, its JoinNonces raised.
func (o Restoration) prepare(ctx context.Context, part string) (done Restored, err error) {
	if err := copyFile(o.Backup, part); err != nil {
		return done, err
	}
	r, err := Open(ctx, Options{SQLitePath: part, Sealer: o.To.Sealer, Sinks: o.To.Sinks, Now: o.To.Now})
	if err != nil {
		return done, err
	}
	err = r.inTransaction(ctx, func(ctx context.Context, tx *sql.Tx) error {
		return (&restoring{tx: &Tx{ctx: ctx, tx: tx, record: r}, done: &done, jump: int64(o.Jump)}).run(o.Events)
	})
	if err == nil {
		done.Findings, err = r.Check(ctx)
	}
	return done, errors.Join(err, r.Close())
}

func (o Restoration) copyFrom(ctx context.Context, part string) error {
	from, err := Open(ctx, Options{SQLitePath: part, Sealer: o.To.Sealer})
	if err != nil {
		return err
	}
	to, err := Open(ctx, o.To)
	if err != nil {
		return errors.Join(err, from.Close())
	}
	return errors.Join(Copy(ctx, from, to, func(string, int64) {}), to.Close(), from.Close())
}

// restoring is the one write that a backup on SQLite gets before it is a record.
type restoring struct {
	tx   *Tx
	done *Restored
	jump int64
}

func (r *restoring) run(events io.Reader) error {
	if r.jump == 0 {
		r.jump = DefaultJump
	}
	if _, err := r.tx.exec(`CREATE TEMPORARY TABLE joined_since (dev_eui TEXT PRIMARY KEY, join_nonce BIGINT NOT NULL)`); err != nil {
		return err
	}
	if events != nil {
		if err := r.takeOver(events); err != nil {
			return err
		}
	}
	for _, step := range []struct {
		statement string
		args      []any
	}{
		{sqlRaiseJoinNonces, []any{r.jump, int64(joinserver.MaxJoinNonce)}},
		{`INSERT INTO restored (only_row, join_nonce_floor) VALUES (1, MIN($1, $2))
ON CONFLICT (only_row) DO UPDATE SET join_nonce_floor = MIN(join_nonce_floor + $1, $2)`, []any{r.jump, int64(joinserver.MaxJoinNonce)}},
		{`UPDATE revision SET value = value + $1`, []any{revisionJump}},
		{`DROP TABLE joined_since`, nil},
	} {
		if _, err := r.tx.exec(step.statement, step.args...); err != nil {
			return err
		}
	}
	return r.tx.row(`SELECT COUNT(*), COALESCE(SUM(join_nonce >= $1), 0) FROM sessions WHERE dev_addr = -1`, int64(joinserver.MaxJoinNonce)).
		Scan(&r.done.Devices, &r.done.Exhausted)
}

// noSession are the columns and values of a row that is no session, and only holds
// how far JoinNonce has come.
const (
	noSessionColumns = `dev_addr, live, join_eui, dev_nonce, account_id, group_id, permission_id,
    gateway, mac_version, class_mode, band_plan_group, net_id, rx_delay_s, dl_settings, cf_list, joined_ms`
	noSessionValues = `-1, FALSE, '0000000000000000', 0, 0, 0, 0, '0000000000000000', '1.0.0', 'A', 0, '000000', 0, 0, NULL, 0`
)

// Of SQLite. A row that is no session takes the slot of one that is not live, or
// else of the older one: the newest may be the one that the device uses.
const sqlRaiseJoinNonces = `
INSERT INTO sessions (dev_eui, slot, join_nonce, ` + noSessionColumns + `)
SELECT d.dev_eui,
       CASE WHEN NOT COALESCE(a.live, FALSE) THEN 0 WHEN NOT COALESCE(b.live, FALSE) THEN 1 WHEN a.join_nonce < b.join_nonce THEN 0 ELSE 1 END,
       MIN($2, $1 + MAX(COALESCE(a.join_nonce, 0), COALESCE(b.join_nonce, 0), COALESCE(e.join_nonce, 0))),
       ` + noSessionValues + `
FROM (SELECT dev_eui FROM nodes UNION SELECT dev_eui FROM sessions UNION SELECT dev_eui FROM dev_nonces
      UNION SELECT dev_eui FROM rejoin_counts UNION SELECT dev_eui FROM joined_since) d
LEFT JOIN sessions a ON a.dev_eui = d.dev_eui AND a.slot = 0
LEFT JOIN sessions b ON b.dev_eui = d.dev_eui AND b.slot = 1
LEFT JOIN joined_since e ON e.dev_eui = d.dev_eui
WHERE TRUE
ON CONFLICT (dev_eui, slot) DO UPDATE SET join_nonce = excluded.join_nonce, dev_addr = -1, live = FALSE, joined_ms = 0`

// loggedJoin is what a join event tells that matters here. JoinReqType is 255 for a
// join-request, as it is for events of a version that knew nothing else.
type loggedJoin struct {
	DevEUI      joinserver.EUI64 `json:"devEui"`
	JoinEUI     joinserver.EUI64 `json:"joinEui"`
	DevNonce    *uint16          `json:"devNonce"`
	JoinNonce   uint32           `json:"joinNonce"`
	JoinReqType *byte            `json:"joinReqType"`
}

// readLoggedJoin tells whether a line is a join event.
func readLoggedJoin(line []byte) (join loggedJoin, ok bool) {
	err := json.Unmarshal(line, &join)
	return join, err == nil && join.DevNonce != nil && join.JoinNonce != 0 && join.JoinNonce <= joinserver.MaxJoinNonce
}

// longestEvent bounds a line, in octets: a join event of a thousand gateways.
const longestEvent = 1 << 20

// takeOver reads join events line by line. Lines that are something else are
// counted: a log may hold other events, and end in the middle of one.
func (r *restoring) takeOver(events io.Reader) error {
	lines := bufio.NewScanner(events)
	lines.Buffer(nil, longestEvent)
	for lines.Scan() {
		join, ok := readLoggedJoin(lines.Bytes())
		if !ok {
			r.done.Unreadable++
			continue
		}
		if err := r.takeOverJoin(join); err != nil {
			return err
		}
		r.done.Events++
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("read the join events: %w", err)
	}
	return nil
}

func (r *restoring) takeOverJoin(j loggedJoin) error {
	device, joinEUI := j.DevEUI.String(), j.JoinEUI.String()
	_, err := r.tx.exec(`
INSERT INTO joined_since (dev_eui, join_nonce) VALUES ($1, $2) ON CONFLICT (dev_eui) DO UPDATE SET join_nonce = MAX(join_nonce, excluded.join_nonce)`,
		device, int64(j.JoinNonce))
	if err != nil {
		return err
	}
	switch {
	case j.JoinReqType == nil || *j.JoinReqType == joinserver.Joined.JoinReqType():
		_, err = r.tx.exec(`
INSERT INTO dev_nonces (dev_eui, join_eui, dev_nonce, mic, answer_until_ms) VALUES ($1, $2, $3, 0, 0) ON CONFLICT DO NOTHING`, device, joinEUI, int64(*j.DevNonce))
	case *j.JoinReqType == joinserver.Rejoin1.JoinReqType():
		_, err = r.tx.exec(`
INSERT INTO rejoin_counts (dev_eui, join_eui, session, rj_count, mic, answer_until_ms) VALUES ($1, $2, 0, $3, 0, 0)
ON CONFLICT (dev_eui, join_eui) DO UPDATE SET rj_count = excluded.rj_count, mic = 0, answer_until_ms = 0 WHERE rj_count < excluded.rj_count`,
			device, joinEUI, int64(*j.DevNonce))
	}
	return err
}

// startBeyond makes devices that are registered in a restored record begin with a
// JoinNonce that they cannot have used, if they were registered and joined after the
// backup.
func (tx *Tx) startBeyond(nodes []NewNode) error {
	var floor int64
	err := tx.row(`SELECT join_nonce_floor FROM restored`).Scan(&floor)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, n := range nodes {
		_, err := tx.exec(`
INSERT INTO sessions (dev_eui, slot, join_nonce, `+noSessionColumns+`)
SELECT CAST($1 AS TEXT), 0, CAST($2 AS BIGINT), `+noSessionValues+` WHERE NOT EXISTS (SELECT 1 FROM sessions WHERE dev_eui = $3)`,
			n.DevEUI.String(), floor, n.DevEUI.String())
		if err != nil {
			return err
		}
	}
	return nil
}
