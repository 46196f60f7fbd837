package load

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"joingate/soak/history"
	"joingate/soak/servers"
)

// What the record's tables had in them, and when: the database notes every session,
// every join event, its removal, and every state of a permission, whoever wrote it
// and whatever becomes of it later. With track_commit_timestamp each note has the
// time of its commit. Joingate does not know of it.
const (
	sqlNotes = `
CREATE TABLE soak_journal (number BIGSERIAL PRIMARY KEY, kind TEXT NOT NULL, body JSONB NOT NULL)`
	// A definer's right, so that Joingate's user needs none. TG_ARGV: the kind.
	sqlNote = `
CREATE FUNCTION soak_note() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
	INSERT INTO soak_journal (kind, body)
	VALUES (TG_ARGV[0], CASE WHEN TG_OP = 'DELETE' THEN to_jsonb(OLD) ELSE to_jsonb(NEW) END);
	RETURN NULL;
END $$`
	// An event's payload is JSON, which to_jsonb would show as hex digits.
	sqlNoteEvent = `
CREATE FUNCTION soak_note_event() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
	INSERT INTO soak_journal (kind, body) VALUES ('event', convert_from(NEW.payload, 'UTF8')::jsonb);
	RETURN NULL;
END $$`
	// One snapshot of the journal and of the sessions that are live.
	sqlJournal = `
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT json_build_object('kind', kind, 'body', body, 'committed',
	to_char(pg_xact_commit_timestamp(xmin) AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'))
FROM soak_journal ORDER BY number;
SELECT json_build_object('kind', 'live', 'body', to_json(sessions)) FROM sessions WHERE live;
COMMIT`
)

// Watch has the database keep the journal from now on. The record's schema must be
// there; permissions that are there are noted as they are.
func Watch(db *servers.Postgres) error {
	trigger := func(name, when, table, function string) string {
		return fmt.Sprintf("CREATE TRIGGER soak_%s AFTER %s ON %s FOR EACH ROW EXECUTE FUNCTION %s", name, when, table, function)
	}
	_, err := db.Query(sqlNotes, sqlNote, sqlNoteEvent,
		trigger("event", "INSERT", "outbox", "soak_note_event()"),
		trigger("removed", "DELETE", "outbox", "soak_note('removed')"),
		trigger("session", "INSERT OR UPDATE", "sessions", "soak_note('session')"),
		trigger("permission", "INSERT OR UPDATE", "join_permissions", "soak_note('permission')"),
		`INSERT INTO soak_journal (kind, body) SELECT 'permission', to_jsonb(join_permissions) FROM join_permissions`)
	return err
}

// Journal gives the journal as lines of a history, with the sessions that are live.
// waiting counts the join events that are still in the outbox.
func Journal(db *servers.Postgres) (lines []history.Line, waiting int, err error) {
	notes, err := db.Query(sqlJournal)
	if err != nil {
		return nil, 0, err
	}
	j := journal{events: map[string]*history.Event{}, sessions: map[history.Join]bool{}}
	for _, text := range notes {
		if err := j.note(text); err != nil {
			return nil, 0, fmt.Errorf("journal: %w: %s", err, text)
		}
	}
	for _, e := range j.events {
		if e.Removed.IsZero() {
			waiting++
		}
	}
	return j.lines, waiting, nil
}

// Collect waits until every join event has left the outbox and was heard, at most for
// the time, closes the listener and gives the journal. What is missing past the time,
// the checker will tell.
func Collect(db *servers.Postgres, l *Listener, atMost time.Duration) ([]history.Line, error) {
	for deadline := time.Now().Add(atMost); time.Now().Before(deadline); {
		if _, waiting, err := Journal(db); err == nil && waiting == 0 && l.Settle() {
			break
		}
		time.Sleep(50 * time.Millisecond) // only the database knows
	}
	l.Close() // before the journal is read, so that nothing is heard which is not in it
	lines, _, err := Journal(db)
	return lines, err
}

// journal turns notes into lines.
type journal struct {
	lines    []history.Line
	events   map[string]*history.Event // those that were written, by device and JoinNonce
	sessions map[history.Join]bool
}

// note is one row of the journal.
type note struct {
	Kind      string
	Body      json.RawMessage
	Committed time.Time
}

// sessionRow and permissionRow are rows of the record, as far as they matter here.
type sessionRow struct {
	DevEUI     string `json:"dev_eui"`
	JoinEUI    string `json:"join_eui"`
	JoinNonce  uint32 `json:"join_nonce"`
	DevNonce   uint16 `json:"dev_nonce"`
	DevAddr    int64  `json:"dev_addr"` // below 0: no session, but how far JoinNonce has come
	RxDelay    int    `json:"rx_delay_s"`
	DLSettings int    `json:"dl_settings"`
}

func (r sessionRow) join() history.Join {
	return history.Join{
		DevEUI: r.DevEUI, JoinEUI: r.JoinEUI, DevNonce: r.DevNonce, JoinNonce: r.JoinNonce, DevAddr: fmt.Sprintf("%08x", r.DevAddr),
		RxDelay: r.RxDelay, DataRate: r.DLSettings & 0x0f, // RX2DataRate, TS001-1.0.4 section 6.2.6
	}
}

type permissionRow struct {
	ID       int64 `json:"id"`
	Enabled  bool  `json:"enabled"`
	RxDelay  int   `json:"rx_delay_s"`
	DataRate *int  `json:"data_rate"` // nil: that of the band plan group
}

func (j *journal) note(text string) error {
	if text == "" {
		return nil // there is no row
	}
	var n note
	if err := json.Unmarshal([]byte(text), &n); err != nil {
		return err
	}
	switch n.Kind {
	case "event":
		e, err := eventOf(n.Body)
		if err != nil {
			return err
		}
		e.Written = n.Committed
		j.events[sessionName(e.DevEUI, e.JoinNonce)] = &e
		j.lines = append(j.lines, history.Line{Event: &e})
	case "removed":
		var r sessionRow
		if err := json.Unmarshal(n.Body, &r); err != nil {
			return err
		}
		if e := j.events[sessionName(r.DevEUI, r.JoinNonce)]; e != nil {
			e.Removed = n.Committed
		}
	case "session", "live":
		return j.session(n)
	case "permission":
		return j.permission(n)
	}
	return nil
}

func sessionName(devEUI string, joinNonce uint32) string {
	return fmt.Sprintf("%s-%d", devEUI, joinNonce)
}

// session notes a new one, or one that is live in the end. What is written to a
// session later is none.
func (j *journal) session(n note) error {
	var r sessionRow
	if err := json.Unmarshal(n.Body, &r); err != nil {
		return err
	}
	if r.DevAddr < 0 {
		return nil
	}
	join, live := r.join(), n.Kind == "live"
	if live || !j.sessions[join] {
		j.lines = append(j.lines, history.Line{Session: &history.Session{Join: join, Live: live, Committed: n.Committed}})
	}
	j.sessions[join] = true
	return nil
}

func (j *journal) permission(n note) error {
	var r permissionRow
	if err := json.Unmarshal(n.Body, &r); err != nil {
		return err
	}
	set := map[string]int{history.RxDelay: r.RxDelay, history.Enabled: number(r.Enabled)}
	if r.DataRate != nil {
		set[history.DataRate] = *r.DataRate
	}
	j.lines = append(j.lines, history.Line{State: &history.State{Target: Permission(fmt.Sprint(r.ID)), Set: set, Committed: n.Committed}})
	return nil
}

// eventOf reads a join event.
func eventOf(payload []byte) (e history.Event, err error) {
	var told struct {
		DevEUI, JoinEUI, DevAddr string
		DevNonce                 uint16
		JoinNonce                uint32
		RxDelay, DataRate        int
		JoinPermissionID         string
		Time                     time.Time
	}
	if err := json.Unmarshal(payload, &told); err != nil {
		return e, err
	}
	return history.Event{
		Join: history.Join{
			DevEUI: told.DevEUI, JoinEUI: told.JoinEUI, DevNonce: told.DevNonce, JoinNonce: told.JoinNonce,
			DevAddr: strings.ToLower(told.DevAddr), RxDelay: told.RxDelay, DataRate: told.DataRate,
		},
		Permission: Permission(told.JoinPermissionID), Time: told.Time,
	}, nil
}

// Permission is how a history names a join permission.
func Permission(id string) string { return "permission " + id }

func number(b bool) int {
	if b {
		return 1
	}
	return 0
}
