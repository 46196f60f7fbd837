package record

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"joingate/joinserver"
)

// MQTT is the sink that every record has.
const MQTT = "mqtt"

// Outbox holds the join events that wait for a sink. Each join puts one into the
// outbox of every sink, in its own transaction. They leave when the sink has them.
type Outbox struct {
	record *Record
	added  chan struct{} // holds an element when the outbox has grown

	table     string // with a condition that selects the sink
	of        []any  // the arguments of the condition
	delivered bulk
}

// Outbox gives the outbox of a sink: MQTT, or one of Options.Sinks. Another is an
// error: its events are there until DropSink.
func (r *Record) Outbox(sink string) (*Outbox, error) {
	if o := r.outboxes[sink]; o != nil {
		return o, nil
	}
	return nil, fmt.Errorf("the record was not opened with a sink %q for join events", sink)
}

func (r *Record) prepareOutboxes(ctx context.Context) error {
	var err1, err2 error
	r.delivered, err1 = r.engine.prepareBulk(ctx, r.writer, sqlDelivered, "bigint", "text", "bigint")
	r.sinkDelivered, err2 = r.engine.prepareBulk(ctx, r.writer, sqlSinkDelivered, "text", "bigint", "text", "bigint")
	r.outboxes = map[string]*Outbox{MQTT: r.newOutbox(MQTT)}
	for _, sink := range r.sinks {
		r.outboxes[sink] = r.newOutbox(sink)
	}
	return errors.Join(err1, err2)
}

func (r *Record) newOutbox(sink string) *Outbox {
	o := &Outbox{record: r, added: make(chan struct{}, 1), table: `outbox WHERE TRUE`, delivered: r.delivered}
	if sink != MQTT {
		o.table, o.of, o.delivered = `outbox_sinks WHERE sink = $1`, []any{sink}, r.sinkDelivered
	}
	return o
}

// Notify holds an element when join events have come since Pending was asked.
func (o *Outbox) Notify() <-chan struct{} { return o.added }

func (r *Record) signalOutboxes() {
	for _, o := range r.outboxes {
		wake(o.added)
	}
}

// Pending gives the oldest join events that wait for delivery, at most limit, those
// of a device in the order of its joins.
func (o *Outbox) Pending(ctx context.Context, limit int) ([]joinserver.OutboxEvent, error) {
	r := o.record
	ctx, cancel := r.bound(ctx, r.busyTimeout)
	defer cancel()
	var events []joinserver.OutboxEvent
	rows, err := r.reader.QueryContext(ctx, fmt.Sprintf(`
SELECT committed_ms, dev_eui, join_nonce, account_id, payload FROM %s
ORDER BY committed_ms, dev_eui, join_nonce LIMIT %d`, o.table, limit), o.of...)
	err = eachRow(rows, err, func(rows *sql.Rows) error {
		var e joinserver.OutboxEvent
		var devEUI string
		err := rows.Scan(&e.CommittedMillis, &devEUI, &e.JoinNonce, &e.Account, &e.Payload)
		if err == nil {
			e.DevEUI, err = joinserver.ParseEUI64(devEUI)
		}
		events = append(events, e)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read join events: %w", explain(err))
	}
	return events, nil
}

const (
	sqlDelivered     = `DELETE FROM outbox WHERE (committed_ms, dev_eui, join_nonce) IN ({rows})`
	sqlSinkDelivered = `DELETE FROM outbox_sinks WHERE (sink, committed_ms, dev_eui, join_nonce) IN ({rows})`
)

// Delivered takes events off the outbox. Those of a transaction that fails are
// delivered once more.
func (o *Outbox) Delivered(ctx context.Context, events []joinserver.OutboxEvent) error {
	args := make([]any, 0, len(events)*o.delivered.columns)
	for _, e := range events {
		args = append(append(args, o.of...), e.CommittedMillis, e.DevEUI.String(), int64(e.JoinNonce))
	}
	return o.record.inTransaction(ctx, func(ctx context.Context, tx *sql.Tx) error {
		if err := take(ctx, tx, o.record.engine.locks.deliveries); err != nil {
			return err
		}
		return o.delivered.exec(ctx, tx, args)
	})
}

// Backlog is how far a sink is behind.
type Backlog struct {
	Events int       // that wait; BacklogBound stands for that many or more
	Oldest time.Time // when the first of them was committed; zero: none waits
}

// BacklogBound bounds the effort of counting events.
const BacklogBound = 10_000

// Backlog tells how many events wait, and since when.
func (o *Outbox) Backlog(ctx context.Context) (b Backlog, err error) {
	ctx, cancel := o.record.bound(ctx, o.record.busyTimeout)
	defer cancel()
	var oldest sql.NullInt64
	err = o.record.reader.QueryRowContext(ctx, fmt.Sprintf(`
SELECT COUNT(*), MIN(committed_ms) FROM (SELECT committed_ms FROM %s ORDER BY committed_ms LIMIT %d) AS waiting`, o.table, BacklogBound), o.of...).
		Scan(&b.Events, &oldest)
	if err != nil {
		return b, fmt.Errorf("count join events: %w", explain(err))
	}
	if oldest.Valid {
		b.Oldest = time.UnixMilli(oldest.Int64)
	}
	return b, nil
}

// Pending, Delivered and Notify are those of the outbox for MQTT.

// Pending gives the oldest join events for MQTT; see Outbox.Pending.
func (r *Record) Pending(ctx context.Context, limit int) ([]joinserver.OutboxEvent, error) {
	return r.outboxes[MQTT].Pending(ctx, limit)
}

// Delivered takes events for MQTT off; see Outbox.Delivered.
func (r *Record) Delivered(ctx context.Context, events []joinserver.OutboxEvent) error {
	return r.outboxes[MQTT].Delivered(ctx, events)
}

// Notify tells of events for MQTT; see Outbox.Notify.
func (r *Record) Notify() <-chan struct{} { return r.outboxes[MQTT].Notify() }

// dropChunk is how many events are forgotten in one transaction.
const dropChunk = 1000

// DropSink forgets the events that wait for a sink which is not used any more, in
// small transactions between which joins go on. It refuses one that the record was
// opened with. One that was broken off goes on when it is started again.
func (r *Record) DropSink(ctx context.Context, w joinserver.Write, sink string) (dropped int64, err error) {
	if r.outboxes[sink] != nil {
		return 0, fmt.Errorf("sink %q is in use: take it out of the configuration of all instances first", sink)
	}
	o := r.newOutbox(sink)
	for more := true; more; giveWay() {
		events, err := o.Pending(ctx, dropChunk)
		if err == nil {
			err = o.Delivered(ctx, events)
		}
		if err != nil {
			return dropped, fmt.Errorf("forget join events for %q: %w", sink, err)
		}
		dropped, more = dropped+int64(len(events)), len(events) == dropChunk
	}
	return dropped, r.Update(ctx, w, func(tx *Tx) error {
		return tx.Audit(joinserver.Change{Entity: "sink", ID: sink, Old: fmt.Sprintf(`{"events":%d}`, dropped)})
	})
}
