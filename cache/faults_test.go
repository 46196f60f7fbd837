package cache_test

import (
	"errors"
	"math/rand/v2"
	"strconv"
	"testing"
	"time"

	"joingate/cache"
	"joingate/joinserver"
	"joingate/linkwan"
)

// impatient is a Redis that is soon found to be away, and found again.
func impatient(w *watch) func(*cache.Options) {
	return func(o *cache.Options) {
		o.Timeout, o.Retry, o.Observe = 100*time.Millisecond, 20*time.Millisecond, w.observe
	}
}

// outage is one instance with a warm cache, and a record that has moved past it.
type outage struct {
	*testing.T
	server   *server
	truth    *record
	redis    *cache.Redis
	policies cache.Policies
	seen     watch
}

func newOutage(t *testing.T) *outage {
	o := &outage{T: t, server: startServer(t), truth: newRecord(1)}
	o.redis = openRedis(t, o.server.url(), impatient(&o.seen))
	o.policies = o.redis.Policies(o.truth)
	o.warm(1)
	return o
}

// warm waits until the version is in the cache. On a slow machine a round trip may
// have failed.
func (o *outage) warm(version int64) {
	o.Helper()
	eventually(o, func() bool {
		asked := o.truth.timesAsked()
		expect(o.T, o.policies, version)
		return o.truth.timesAsked() == asked
	})
}

// away reads until Redis is known to be away. Every answer on the way is right.
func (o *outage) away(version int64) {
	o.Helper()
	eventually(o, func() bool {
		expect(o.T, o.policies, version)
		return !o.redis.Up()
	})
}

func (o *outage) back() {
	o.Helper()
	eventually(o, o.redis.Up)
	if o.seen.of(cache.Opened) == 0 || o.seen.of(cache.Closed) == 0 {
		o.Error("the outage was not observed")
	}
}

func TestFlush(t *testing.T) {
	o := newOutage(t)
	o.truth.set(2)
	o.server.do("FLUSHALL")
	o.warm(2)
}

// Flushing at any moment does not bring an old policy back.
func TestHammeredAndFlushed(t *testing.T) {
	s := startServer(t)
	truth := newRecord(1)
	a, b := openRedis(t, s.url()), openRedis(t, s.url())
	hammer(t, truth, [2]cache.Policies{a.Policies(truth), b.Policies(truth)}, func(int) {
		if rand.IntN(5) == 0 {
			a.Client().FlushAll(t.Context())
		}
	})
}

func TestKillAndRestart(t *testing.T) {
	o := newOutage(t)
	o.server.kill()
	o.truth.set(2)
	o.away(2)
	o.server.start()
	o.back()
	o.warm(2)
}

// A paused Redis keeps what was written before, and carries out later what was
// sent meanwhile. A Forget that it did not hear is made up for before anybody
// reads from it again.
func TestPause(t *testing.T) {
	o := newOutage(t)
	o.server.pause()
	expect(o.T, o.policies, 1) // within the timeout, from the record
	o.truth.set(2)
	o.policies.Forget()
	if o.redis.Up() {
		t.Error("Redis is read although it did not hear of a write")
	}
	expect(o.T, o.policies, 2)
	o.server.resume()
	o.back()
	expect(o.T, o.policies, 2)
	o.warm(2)
}

func TestAwayWhenOpened(t *testing.T) {
	s := startServer(t)
	s.kill()
	o := &outage{T: t, server: s, truth: newRecord(1)}
	o.redis = openRedis(t, s.url(), impatient(&o.seen))
	o.policies = o.redis.Policies(o.truth)
	o.away(1)
	if o.seen.of(cache.Bypassed) == 0 {
		expect(t, o.policies, 1)
	}
	s.start()
	o.back()
	o.warm(1)
}

// With its memory full, Redis answers and forgets, but stores nothing.
func TestMemoryFull(t *testing.T) {
	o := newOutage(t)
	o.server.do("CONFIG", "SET", "maxmemory", "1mb", "maxmemory-policy", "noeviction")
	o.truth.set(2)
	expect(t, o.policies, 1) // a hit
	o.policies.Forget()
	for v := int64(2); v < 10; v++ {
		o.truth.set(v)
		expect(t, o.policies, v)
	}
	o.server.do("CONFIG", "SET", "maxmemory", "0")
	eventually(t, o.redis.Up)
	o.warm(9)
}

// Faults of the rest of what instances share: errors that say act alone, quotas
// per instance, ids all the same.
func TestTheRestWithoutRedis(t *testing.T) {
	s := startServer(t)
	var seen watch
	r := openRedis(t, s.url(), impatient(&seen))
	quotas, copies, ids := r.Quotas(linkwan.NewLocalMemory(time.Now)), r.Copies(), r.DownlinkIDs()
	ctx := t.Context()
	take := func() bool {
		ok, err := quotas.Take(ctx, "k", 3, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		return ok
	}
	if first, second := take(), take(); !first || !second {
		t.Fatal("two of three were refused")
	}
	s.kill()
	if !take() || take() {
		t.Error("the window began anew with the outage")
	}
	if full, err := quotas.Full(ctx, "k", 3, time.Hour); !full || err != nil {
		t.Error(full, err)
	}
	if err := quotas.Release(ctx, "k"); err != nil || !take() || take() {
		t.Errorf("without Redis nothing is taken back: %v", err)
	}
	if err := quotas.Forget(ctx, "k"); err != nil || !take() {
		t.Errorf("without Redis nothing is forgotten: %v", err)
	}
	if first, err := quotas.Once(ctx, "nonce", time.Hour); !first || err != nil {
		t.Error(first, err)
	}
	if again, err := quotas.Once(ctx, "nonce", time.Hour); again || err != nil {
		t.Error(again, err)
	}
	_, err1 := copies.Claim(ctx, []byte("f"))
	err2 := copies.Hand(ctx, []byte("f"), []byte("c"))
	_, err3 := copies.Collect(ctx, []byte("f"))
	if err1 == nil || err2 == nil || err3 == nil {
		t.Error("an outage was kept secret", err1, err2, err3)
	}
	used := map[uint16]bool{}
	for range 1000 {
		used[ids.Next(ctx)] = true
	}
	if len(used) != 1000 || used[0] {
		t.Errorf("%d different ids of 1000, 0 used: %v", len(used), used[0])
	}
	s.start()
	eventually(t, r.Up)
	if mine, err := copies.Claim(ctx, []byte("f")); !mine || err != nil {
		t.Error(mine, err)
	}
}

// Instances that lose Redis, and find it empty, still use different ids.
func TestDownlinkIDsThroughAnOutage(t *testing.T) {
	s := startServer(t)
	instances := make([]cache.DownlinkIDs, 3)
	redises := make([]*cache.Redis, len(instances))
	for i := range instances {
		redises[i] = openRedis(t, s.url(), impatient(new(watch)))
		instances[i] = redises[i].DownlinkIDs()
		eventually(t, redises[i].Up)
	}
	var used [1 << 16]bool
	send := func(when string) {
		for range 5000 {
			for _, ids := range instances {
				id := ids.Next(t.Context())
				if used[id] {
					t.Fatalf("%s: id %d came again", when, id)
				}
				used[id] = true
			}
		}
	}
	send("with Redis")
	s.kill()
	send("without")
	s.start()
	for _, r := range redises {
		eventually(t, r.Up)
	}
	send("with Redis again")
}

// Whatever happens to Redis, no read from after a write that was made known in
// this instance is older than it, and no fault of Redis is a fault of the cache.
func TestReadYourForgetThroughFaults(t *testing.T) {
	o := newOutage(t)
	disturb := []func(){
		func() { o.server.do("FLUSHALL") },
		func() { o.server.kill(); o.server.start() },
		func() { o.server.pause() },
		func() { o.server.resume() },
		func() { o.server.kill() },
		func() { o.server.start() },
		func() {},
	}
	for v := int64(2); v < 50; v++ {
		disturb[int(v)%len(disturb)]()
		o.truth.set(v)
		o.policies.Forget()
		for range 3 {
			expect(t, o.policies, v)
		}
	}
	o.server.kill()
	o.server.start()
	eventually(t, func() bool { // with an end in sight, all of them are back
		expect(t, o.policies, 49)
		return o.redis.Up() && o.seen.of(cache.Closed) > 0
	})
	o.warm(49)
}

// A stranger that floods with device after device costs no memory without bound.
func TestMuchMoreThanRedisTakes(t *testing.T) {
	s := startServer(t)
	truth := newRecord(1)
	var seen watch
	r := openRedis(t, s.url(), impatient(&seen))
	policies := r.Policies(truth)
	s.pause()
	failures := make(chan error)
	const callers = 10_000
	for i := range callers {
		go func() {
			eui, _ := joinserver.ParseEUI64("00000000" + strconv.FormatInt(1<<28+int64(i), 16))
			_, err := policies.Policy(t.Context(), eui)
			failures <- err
		}()
	}
	for range callers {
		if err := <-failures; !errors.Is(err, joinserver.ErrUnknownDevice) && err != nil {
			t.Fatal(err)
		}
	}
	s.resume()
}
