package cache

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"
)

// way is a Redis that lets round trips through when a test says so.
type way struct {
	redis.Hook
	begun chan int   // commands of a trip that begins
	end   chan error // lets it end
}

func (w way) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (w way) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (w way) ProcessPipelineHook(redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(_ context.Context, commands []redis.Cmder) error {
		w.begun <- len(commands)
		return <-w.end
	}
}

func newWay(t *testing.T) (way, *trips, chan error) {
	client := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1"})
	t.Cleanup(func() { _ = client.Close() })
	w := way{begun: make(chan int), end: make(chan error)}
	client.AddHook(w)
	reported := make(chan error, 100)
	return w, &trips{client: client, timeout: time.Minute, report: func(err error) { reported <- err }}, reported
}

func ask(t *trip) { t.Get(context.Background(), "k") }

func TestWhoComesDuringATripGoesWithTheNext(t *testing.T) {
	synctest.Test(t, whoComesDuringATripGoesWithTheNext)
}

func whoComesDuringATripGoesWithTheNext(t *testing.T) {
	w, trips, _ := newWay(t)
	results := make(chan error)
	go func() { results <- trips.do(t.Context(), ask) }()
	sizes := []int{<-w.begun} // alone: it waits for nobody
	const more = callsPerTrip + 44
	for range more {
		if !trips.send(ask) {
			t.Fatal("no room")
		}
	}
	go func() { results <- trips.do(t.Context(), ask) }()
	synctest.Wait()
	w.end <- nil
	sizes = append(sizes, <-w.begun)
	w.end <- nil
	sizes = append(sizes, <-w.begun)
	w.end <- nil
	if !slices.Equal(sizes, []int{1, callsPerTrip, 45}) {
		t.Errorf("trips of %v calls", sizes)
	}
	if err1, err2 := <-results, <-results; err1 != nil || err2 != nil {
		t.Error(err1, err2)
	}
}

// In a storm a few trips carry all; whoever comes alone, and not soon after several, is
// not kept waiting.
func TestTripsOfSeveralKeepAnInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, trips, _ := newWay(t)
		next := func(calls int, after time.Duration) {
			start := time.Now()
			trips.mu.Lock()
			for range calls - 1 {
				trips.waiting = append(trips.waiting, &call{queue: ask})
			}
			trips.mu.Unlock()
			trips.send(ask)
			if n := <-w.begun; n != calls {
				t.Errorf("a trip of %d calls, not %d", n, calls)
			}
			if waited := time.Since(start); waited != after {
				t.Errorf("a trip of %d calls waited %s, not %s", calls, waited, after)
			}
			w.end <- nil
			synctest.Wait()
		}
		next(1, 0)
		next(1, 0)
		next(2, 0)
		next(1, tripInterval)
		next(3, 0)
		next(5, tripInterval)
		time.Sleep(tripInterval)
		next(1, 0)
	})
}

// Of all who ask for a key on one trip, one asks Redis.
func TestTripReadsAKeyOnce(t *testing.T) {
	w, trips, _ := newWay(t)
	trips.send(ask)
	<-w.begun
	replies := make(chan *redis.StringCmd, 3)
	for _, key := range []string{"a", "b", "a"} {
		trips.send(func(t *trip) { replies <- t.read(key) })
	}
	w.end <- nil
	if n := <-w.begun; n != 2 {
		t.Errorf("a trip of %d commands, not 2", n)
	}
	w.end <- nil
	if first, second, third := <-replies, <-replies, <-replies; first == second || first != third {
		t.Error("the reply of another key")
	}
}

func TestWhatWaitsBehindAFailedTripFails(t *testing.T) {
	synctest.Test(t, whatWaitsBehindAFailedTripFails)
}

func whatWaitsBehindAFailedTripFails(t *testing.T) {
	w, trips, reported := newWay(t)
	var all sync.WaitGroup
	lost := errors.New("connection lost")
	fail := func() {
		if err := trips.do(t.Context(), ask); !errors.Is(err, lost) {
			t.Errorf("%v", err)
		}
	}
	all.Go(fail)
	<-w.begun
	all.Go(fail)
	all.Go(fail)
	synctest.Wait()
	w.end <- lost
	all.Wait()
	if len(reported) != 1 {
		t.Errorf("%d trips were made, want 1", len(reported))
	}
}

// A caller leaves when its context or its patience ends. What it wanted is not
// asked for any more.
func TestCallersLeave(t *testing.T) { synctest.Test(t, callersLeave) }

func callersLeave(t *testing.T) {
	w, trips, reported := newWay(t)
	trips.send(ask)
	<-w.begun
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := trips.do(ctx, ask); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	trips.timeout = time.Millisecond
	if err := trips.do(t.Context(), ask); !errors.Is(err, errFull) {
		t.Errorf("%v", err)
	}
	w.end <- nil
	synctest.Wait()
	trips.send(ask)
	if n := <-w.begun; n != 1 {
		t.Errorf("%d commands, want only the last caller's", n)
	}
	w.end <- nil
	<-reported
	<-reported
	if len(reported) != 0 {
		t.Error("a trip that nobody went on was reported")
	}
}

func TestWaitingIsBounded(t *testing.T) {
	w, trips, _ := newWay(t)
	trips.send(ask)
	<-w.begun
	for range maxWaiting {
		trips.send(ask)
	}
	if err := trips.do(t.Context(), ask); !errors.Is(err, errFull) {
		t.Errorf("%v", err)
	}
	w.end <- errors.New("lost")
}

func TestTripError(t *testing.T) {
	ctx := context.Background()
	reply := func(err error) redis.Cmder {
		c := redis.NewStringCmd(ctx, "get", "k")
		c.SetErr(err)
		return c
	}
	broken, oom := errors.New("broken pipe"), redisError("OOM")
	for name, c := range map[string]struct {
		replies []redis.Cmder
		failure error
		want    error
	}{
		"nothing asked":  {nil, nil, nil},
		"answered":       {[]redis.Cmder{reply(nil), reply(redis.Nil)}, redis.Nil, nil},
		"one refused":    {[]redis.Cmder{reply(oom), reply(nil)}, oom, nil},
		"all refused":    {[]redis.Cmder{reply(oom), reply(oom)}, oom, oom},
		"one lost":       {[]redis.Cmder{reply(nil), reply(broken)}, broken, broken},
		"no connection":  {[]redis.Cmder{reply(nil), reply(nil)}, oom, oom},
		"only not there": {[]redis.Cmder{reply(redis.Nil)}, redis.Nil, nil},
	} {
		if got := tripError(c.replies, c.failure); !errors.Is(got, c.want) {
			t.Errorf("%s: %v", name, got)
		}
	}
}

type redisError string

func (e redisError) Error() string { return string(e) }
func (redisError) RedisError()     {}

func TestBreaker(t *testing.T) {
	var seen []Event
	b := newBreaker(func(e Event) { seen = append(seen, e) }, time.Now)
	failed := errors.New("failed")
	b.report(failed)
	b.report(failed)
	b.report(nil) // they were not in a row
	b.report(failed)
	b.report(failed)
	if b.open.Load() {
		t.Fatal("open after two failures")
	}
	b.report(failed)
	b.report(failed)
	<-b.opened
	b.owe()
	if !b.open.Load() || b.close() {
		t.Error("closed although a Forget is owed")
	}
	if !b.inDebt() || b.inDebt() || !b.close() || b.open.Load() {
		t.Error("not closed although nothing is owed")
	}
	b.owe()
	<-b.opened
	want := []Event{Failed, Failed, Failed, Failed, Failed, Opened, Failed, Closed, Opened}
	if !slices.Equal(seen, want) {
		t.Errorf("%v", seen)
	}
}

// A machine that is held up for a moment does not cost an outage; a Redis that
// stays slow does.
func TestBreakerIsPatientWithTimeouts(t *testing.T) {
	now := time.Unix(0, 0)
	var slow error = &net.OpError{Op: "read", Err: os.ErrDeadlineExceeded}
	for name, c := range map[string]struct {
		every time.Duration
		errs  []error
		open  bool
	}{
		"slow for a moment":         {slowToOpen / 10, []error{slow, slow, context.DeadlineExceeded, slow, slow, slow}, false},
		"slow for long":             {slowToOpen / 4, []error{slow, context.DeadlineExceeded, slow, slow, slow}, true},
		"slow, fine, slow":          {slowToOpen / 4, []error{slow, slow, slow, nil, slow, slow, slow}, false},
		"two timeouts far apart":    {time.Hour, []error{slow, slow}, false},
		"slow, and then not there":  {time.Millisecond, []error{slow, slow, errors.New("refused")}, true},
		"not there":                 {0, []error{io.EOF, io.EOF, io.EOF}, true},
		"not there, two times only": {time.Hour, []error{io.EOF, io.EOF}, false},
	} {
		b := newBreaker(func(Event) {}, func() time.Time { return now })
		for _, err := range c.errs {
			b.report(err)
			now = now.Add(c.every)
		}
		if b.open.Load() != c.open {
			t.Errorf("%s: open is %v", name, !c.open)
		}
	}
}

// What is told: why Redis is left alone, once, and that it is back.
func TestBreakerTellsWhy(t *testing.T) {
	var told []error
	b := newBreaker(func(Event) {}, time.Now)
	b.tell = func(err error) { told = append(told, err) }
	failed := errors.New("failed")
	for range failuresToOpen + 2 {
		b.report(failed)
	}
	<-b.opened
	b.close()
	b.owe()
	if want := []error{failed, nil, errOwed}; !slices.Equal(told, want) {
		t.Errorf("%v", told)
	}
}
