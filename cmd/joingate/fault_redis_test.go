package main

import (
	"testing"
	"time"

	"joingate/soak/proxy"
)

// Promise 1, whatever becomes of Redis: an administrator changes the permission again
// and again on one instance while devices join through all of them. No join is
// committed by what a call that was answered has replaced, or after "disabled"; no
// refusal is left over from before "enabled".
func TestHammerWhileRedisFails(t *testing.T) {
	t.Parallel()
	th := newTheatre(t, playbill{instances: 3, devices: 30})
	th.goesOn("nothing is wrong", 40, 6)
	redis := func(args ...string) {
		t.Helper()
		_, err := th.redis.Do(args...)
		check(t, err)
	}
	admins, others := th.instances[0].cache, th.instances[1:]
	for _, fault := range []struct {
		what     string
		do, undo func()
	}{
		{"Redis is flushed", func() { redis("FLUSHALL") }, func() { redis("FLUSHALL") }},
		{"Redis is paused", th.redis.Pause, th.redis.Resume},
		{"Redis is killed", th.redis.Kill, func() { check(t, th.redis.Start()) }},
		{"Redis is full", func() { redis("CONFIG", "SET", "maxmemory", "1mb", "maxmemory-policy", "noeviction") }, func() { redis("CONFIG", "SET", "maxmemory", "0") }},
		{"the administrator's instance is cut off from Redis", func() { admins.Set(proxy.State{Cut: true}) }, admins.Heal},
		{"the administrator's instance loses what it sends to Redis", func() { admins.Set(proxy.State{Lose: true}) }, admins.Heal},
		{"the others are cut off from Redis", func() { others[0].cache.Set(proxy.State{Hold: true}); others[1].cache.Set(proxy.State{Cut: true}) }, func() { others[0].cache.Heal(); others[1].cache.Heal() }},
		{"Redis is slow", func() { others[0].cache.Set(proxy.State{Delay: 30 * time.Millisecond}) }, others[0].cache.Heal},
	} {
		fault.do()
		th.goesOn(fault.what, 40, 12)
		fault.undo()
		th.goesOn("no longer", 15, 3)
	}
	th.everyoneJoins("the faults of Redis")
	for n, i := range th.instances {
		eventually(t, "Redis is used again", func() bool { return i.metrics()["joingate_cache_up"] == 1 })
		t.Logf("instance %d: %.0f joins accepted, %.0f decided by Redis", n, i.joins("accepted"), i.metrics()[`joingate_cache_events_total{event="hit"}`])
	}
	th.verdict()
}
