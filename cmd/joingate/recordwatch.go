package main

import (
	"context"
	"errors"
	"time"

	"joingate/cache"
	"joingate/joinserver"
	"joingate/record"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
)

// countedJoins counts the claims that were made from a policy that had moved.
type countedJoins struct {
	joinserver.Joins
	moved prometheus.Counter
}

// countMoved counts how often the commit refuses a policy, so that the join is
// decided again from the record.
func countMoved(to prometheus.Registerer, joins joinserver.Joins) (joinserver.Joins, error) {
	moved := prometheus.NewCounter(prometheus.CounterOpts{
		Name: "joingate_policies_moved_total", Help: "Joins whose policy had moved since it was read: decided again from the record.",
	})
	return countedJoins{joins, moved}, to.Register(moved)
}

// Commit is that of the joins below.
func (j countedJoins) Commit(ctx context.Context, c joinserver.Claim) (joinserver.Grant, error) {
	grant, err := j.Joins.Commit(ctx, c)
	if errors.Is(err, joinserver.ErrPolicyMoved) {
		j.moved.Inc()
	}
	return grant, err
}

// How often the record is looked at: waiting events by a count that is bounded,
// nonces by a look at all of them, which waits until the storm of joins is over
// that meets a server after an outage.
const (
	lookAtOutbox  = 15 * time.Second
	lookAtDevices = 10 * time.Second
	firstCare     = 10 * time.Minute
	careEvery     = time.Hour
)

// devicesShare is how many times as long as a look at the devices takes the next one
// waits: with a million devices and an administrator who is always at work, the looks
// take this part of a processor.
const devicesShare = 20

// prunedAfter is how long online states of gateways and notifications that were
// handled stay on record.
const prunedAfter = 90 * 24 * time.Hour

// mostExhausted bounds the list of what devices have nearly used up.
const mostExhausted = 10_000

// recordWatch shows what waits in the record, and what comes to its end there.
type recordWatch struct {
	record  *record.Record
	devices *cache.Known
	log     *zap.Logger
	now     func() time.Time

	events, age, exhausted prometheus.Gauge
}

// newRecordWatch registers the metrics of a record; run fills them.
func newRecordWatch(to prometheus.Registerer, r *record.Record, devices *cache.Known, log *zap.Logger) (*recordWatch, error) {
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
	}
	w := &recordWatch{
		record: r, devices: devices, log: log, now: time.Now,
		events:    gauge("joingate_outbox_events", "Join events that waited for the broker at the last look, up to 10,000."),
		age:       gauge("joingate_outbox_age_seconds", "How long the oldest join event had waited for the broker at the last look."),
		exhausted: gauge("joingate_devices_near_exhaustion", "Devices that had used over 90 % of their DevNonces, RJcounts or JoinNonces at the last look, once an hour."),
	}
	return w, errors.Join(to.Register(w.events), to.Register(w.age), to.Register(w.exhausted))
}

// run looks until the context ends.
func (w *recordWatch) run(ctx context.Context) {
	outbox, devices, care := time.NewTicker(lookAtOutbox), time.NewTimer(0), time.NewTimer(firstCare)
	defer outbox.Stop()
	defer devices.Stop()
	defer care.Stop()
	w.lookAtOutbox(ctx)
	for {
		select {
		case <-ctx.Done():
			return
		case <-outbox.C:
			w.lookAtOutbox(ctx)
		case <-devices.C:
			devices.Reset(w.lookAtDevices(ctx))
		case <-care.C:
			w.lookAtNonces(ctx)
			w.prune(ctx)
			care.Reset(careEvery)
		}
	}
}

func (w *recordWatch) lookAtOutbox(ctx context.Context) {
	outbox, err := w.record.Outbox(record.MQTT)
	if err != nil {
		return // every record has it
	}
	backlog, err := outbox.Backlog(ctx)
	if err != nil {
		w.failed(ctx, "join events that wait cannot be counted", err)
		return
	}
	w.events.Set(float64(backlog.Events))
	age := 0.0
	if !backlog.Oldest.IsZero() {
		age = max(0, w.now().Sub(backlog.Oldest).Seconds())
	}
	w.age.Set(age)
}

// lookAtDevices keeps up with who is on record, and tells how long to leave it so.
func (w *recordWatch) lookAtDevices(ctx context.Context) time.Duration {
	began := w.now()
	if err := w.devices.Look(ctx); err != nil {
		w.failed(ctx, "devices on record cannot be listed", err)
	}
	return max(lookAtDevices, devicesShare*w.now().Sub(began))
}

func (w *recordWatch) lookAtNonces(ctx context.Context) {
	list, err := w.record.NearExhaustion(ctx, nearExhaustion, mostExhausted)
	if err != nil {
		w.failed(ctx, "devices near the end of their nonces cannot be counted", err)
		return
	}
	devices := map[joinserver.EUI64]bool{}
	for _, e := range list {
		devices[e.DevEUI] = true
	}
	w.exhausted.Set(float64(len(devices)))
}

func (w *recordWatch) prune(ctx context.Context) {
	if _, err := w.record.Prune(ctx, w.now().Add(-prunedAfter)); err != nil {
		w.failed(ctx, "old states and notifications cannot be pruned", err)
	}
}

// failed tells of a look that failed, unless the server is stopping.
func (w *recordWatch) failed(ctx context.Context, what string, err error) {
	if ctx.Err() == nil {
		w.log.Warn(what, zap.Error(err))
	}
}
