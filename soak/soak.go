package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"time"

	"joingate/soak/history"
)

// How a soak is set up.
const (
	hammeredDevices = 40
	hammeredPause   = 300 * time.Millisecond // of a device between its joins
	devicePatience  = 8                      // seconds for which a device may be busy with one join
	settle          = 5 * time.Second        // at full rate before the first fault
	recovery        = time.Minute            // past it an outage counts as one that does not end
	answerTime      = 7 * time.Second        // past RX2
)

// soak disturbs a world for the time asked and says whether it kept its promises.
func soak(ctx context.Context, o options, out io.Writer) error {
	fmt.Fprintf(out, "seed %d, folder %s\n", o.seed, o.folder)
	w, err := newWorld(ctx, o, size{
		instances: o.instances, steady: devicePatience * o.rate, hammered: hammeredDevices, gateways: 3, copies: 2, watched: true,
	})
	defer w.close()
	if err != nil {
		return err
	}
	m := &meter{full: float64(o.rate)}
	stop := w.busy(ctx, o.rate, m)
	stuck, err := w.disturb(ctx, o, m, out)
	stop()
	if err != nil {
		return err
	}
	w.summary(out)
	lines, err := w.lines()
	if err != nil {
		return err
	}
	return errors.Join(verdict(lines, out), stuck)
}

// busy lets devices join and the administrator hammer until it is stopped.
func (w *world) busy(ctx context.Context, rate int, m *meter) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var all sync.WaitGroup
	all.Go(func() { w.fleet.JoinAtRate(ctx, rate, w.steady, m.joined) })
	all.Go(func() { w.fleet.JoinForEver(ctx, hammeredPause, w.hammered) })
	all.Go(func() { w.admin.Hammer(ctx) })
	return func() {
		cancel()
		all.Wait()
	}
}

// disturb does one thing after the other until the time is over. stuck tells of
// faults from which the world did not come back; err is of the soak itself.
func (w *world) disturb(ctx context.Context, o options, m *meter, out io.Writer) (stuck, err error) {
	var reports sync.WaitGroup
	defer reports.Wait()
	began := time.Now()
	if _, ok := m.awaitFull(ctx, began, recovery); !ok {
		return nil, fmt.Errorf("the full rate of %d joins a second is not reached without any fault: %w", o.rate, context.Cause(ctx))
	}
	sleep(ctx, settle)
	k := &deck{dice: dice{rand.New(rand.NewPCG(o.seed, 0))}, kinds: w.kinds(), only: o.only}
	for ctx.Err() == nil && time.Since(began) < o.time {
		f, any := k.next()
		if !any {
			return stuck, fmt.Errorf("no fault has %q in its name", o.only)
		}
		from := time.Now()
		if err := f.do(); err != nil {
			return stuck, fmt.Errorf("%s: %w", f.name, err)
		}
		healed := time.Now()
		w.history.Write(history.Line{Fault: &history.Fault{What: f.name, From: from, To: healed}})
		back, ok := m.awaitFull(ctx, healed, recovery)
		reports.Go(func() {
			time.Sleep(answerTime) // then it is known what became of the last one
			report(out, from.Sub(began), f, healed.Sub(from), back, m.answered(from, healed.Add(back)), ok)
		})
		if !ok && ctx.Err() == nil {
			stuck = errors.Join(stuck, fmt.Errorf("not back at full rate within %s of %q", recovery, f.name))
		}
		sleep(ctx, k.between(500*time.Millisecond, 3*time.Second))
	}
	return stuck, nil
}

// report prints when a fault began, what it was, how long after its end the rate was
// full again, and how many of the join-requests sent until then were answered. A
// fault that was over at once says nothing of that.
func report(out io.Writer, at time.Duration, f fault, lasted, back time.Duration, answered float64, ok bool) {
	text := fmt.Sprintf("back at full rate %4.1fs after it", back.Seconds())
	if lasted+back > time.Second {
		text += fmt.Sprintf(", %3.0f%% of joins answered until then", 100*answered)
	}
	if !ok {
		text = "NOT BACK at full rate"
	}
	fmt.Fprintf(out, "%6.1fs  %-66s %s\n", at.Seconds(), f.name, text)
}

func (w *world) summary(out io.Writer) {
	asked, accepted := w.fleet.Asked.Load(), w.fleet.Accepted.Load()
	fmt.Fprintf(out, "%d join-requests, %d accepted (%.1f%%), %d calls of the administrator, %d answers came too late for their device\n",
		asked, accepted, 100*float64(accepted)/float64(max(1, asked)), w.admin.Calls(), w.fleet.Surplus())
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
