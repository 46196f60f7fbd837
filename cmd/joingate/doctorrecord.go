package main

import (
	"context"
	"time"

	"joingate/record"
)

// Devices that have used this share of their nonces are named, the nearest to the
// end first, at most so many.
const (
	nearExhaustion  = 0.9
	mostNearlyEnded = 10
)

// oldEvents is how long a join event may wait before it is worth a word.
const oldEvents = 10 * time.Minute

// rows opens the record and looks through it: sealed values, references, sessions,
// nonces and events, and which devices will run out of nonces.
func (d *doctor) rows(ctx context.Context) {
	r, err := openRecord(ctx, d.config, nil)
	if err != nil {
		d.fail("record", "what the text says", "%v", err)
		return
	}
	defer func() { _ = r.Close() }()
	found, err := r.Check(ctx)
	if err != nil {
		d.fail("record", "look at the database", "%v", err)
		return
	}
	for _, f := range found {
		d.fail("record", f.Remedy, "%s: %d, such as %s", f.What, f.Rows, f.Example)
	}
	if len(found) == 0 {
		d.ok("record", "its rows agree with each other, and what is sealed opens")
	}
	d.nonces(ctx, r)
	d.backlog(ctx, r)
}

func (d *doctor) nonces(ctx context.Context, r *record.Record) {
	list, err := r.NearExhaustion(ctx, nearExhaustion, mostNearlyEnded)
	if err != nil {
		d.warn("nonces", "", "%v", err)
		return
	}
	for _, e := range list {
		d.warn("nonces", exhaustionRemedy(e),
			"device %s has used %d of its %d values of %s", e.DevEUI, e.Used, e.Of, e.Counter)
	}
	if len(list) == 0 {
		d.ok("nonces", "no device has used over %.0f %% of them", nearExhaustion*100)
	}
}

// exhaustionRemedy: what a reset forgets can begin again; JoinNonces never do.
func exhaustionRemedy(e record.Exhaustion) string {
	if e.Counter == "JoinNonce" {
		return "find out why it joins so often; then give it a new DevEUI and root key"
	}
	return "find out why it joins so often; then give it another JoinEUI, or joingate node reset-nonces"
}

// backlog looks at the join events that wait for MQTT and for the other sinks.
func (d *doctor) backlog(ctx context.Context, r *record.Record) {
	for _, sink := range append([]string{record.MQTT}, sinksOf(d.config.Events)...) {
		outbox, err := r.Outbox(sink)
		if err != nil {
			d.warn("events", "", "%v", err)
			continue
		}
		b, err := outbox.Backlog(ctx)
		switch {
		case err != nil:
			d.warn("events", "", "%v", err)
		case !b.Oldest.IsZero() && d.now().Sub(b.Oldest) > oldEvents:
			d.warn("events", "look at the broker, or at who is to get them", "%d join events wait for %s, the oldest since %s", b.Events, sink, b.Oldest.Format(time.DateTime))
		default:
			d.ok("events", "%d join events wait for %s", b.Events, sink)
		}
	}
}
