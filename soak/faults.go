package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"joingate/soak/proxy"
)

// fault is something that happens to a part, and is over when do returns.
type fault struct {
	name string
	do   func() error
}

// dice draw what happens next.
type dice struct{ *rand.Rand }

// between draws a time.
func (d dice) between(shortest, longest time.Duration) time.Duration {
	return shortest + time.Duration(d.Int64N(int64(longest-shortest)))
}

func pick[T any](d dice, from []T) T { return from[d.IntN(len(from))] }

// kinds lists all faults; each call draws whom it befalls and how hard.
func (w *world) kinds() []func(dice) fault {
	return []func(dice) fault{
		w.redisFlushed, w.redisKilled, w.redisStopped, w.redisFull,
		w.postgresKilled, w.postgresRestarted, w.postgresFull, w.postgresLocked,
		w.brokerKilled, w.brokerHalfOpen, w.brokerSlow,
		w.instanceKilled, w.instanceStopped,
		w.delayed, w.cut, w.held,
	}
}

// draw draws a fault of the kind whose name has the text in it, if it comes to one.
func draw(d dice, kind func(dice) fault, text string) (f fault, ok bool) {
	const tries = 50
	for range tries {
		if f = kind(d); strings.Contains(f.name, text) {
			return f, true
		}
	}
	return f, false
}

// deck gives the faults one after the other: each kind once before any comes again.
type deck struct {
	dice
	kinds []func(dice) fault
	only  string
	left  []func(dice) fault
}

// next draws a fault, and now and then a second one that befalls another part at the
// same time. It is false if there is none of the name.
func (k *deck) next() (fault, bool) {
	first, ok := k.one()
	if !ok || k.IntN(4) > 0 {
		return first, ok
	}
	second, _ := k.one()
	if part(first) == part(second) {
		return first, true
	}
	return fault{first.name + " + " + second.name, func() error {
		outcome := make(chan error, 1)
		go func() { outcome <- second.do() }()
		return errors.Join(first.do(), <-outcome)
	}}, true
}

func (k *deck) one() (fault, bool) {
	for range 2 * len(k.kinds) {
		if len(k.left) == 0 {
			k.left = slices.Clone(k.kinds)
			k.Shuffle(len(k.left), func(i, j int) { k.left[i], k.left[j] = k.left[j], k.left[i] })
		}
		kind := k.left[0]
		k.left = k.left[1:]
		if f, ok := draw(k.dice, kind, k.only); ok {
			return f, true
		}
	}
	return fault{}, false
}

// part is what a fault befalls.
func part(f fault) string {
	name, _, _ := strings.Cut(f.name, ":")
	return name
}

func (w *world) redisFlushed(dice) fault {
	return fault{"redis: FLUSHALL", func() error {
		_, err := w.redis.Do("FLUSHALL")
		return err
	}}
}

func (w *world) redisKilled(d dice) fault {
	away := d.between(0, 5*time.Second)
	return fault{"redis: kill -9, away for " + round(away), func() error {
		w.redis.Kill()
		time.Sleep(away)
		return w.redis.Start()
	}}
}

func (w *world) redisStopped(dice) fault {
	return fault{"redis: SIGSTOP for 10s", func() error {
		w.redis.Pause()
		time.Sleep(10 * time.Second)
		w.redis.Resume()
		return nil
	}}
}

func (w *world) redisFull(d dice) fault {
	full := d.between(2*time.Second, 5*time.Second)
	return fault{"redis: memory full, noeviction, for " + round(full), func() error {
		_, err := w.redis.Do("CONFIG", "SET", "maxmemory", "1mb", "maxmemory-policy", "noeviction")
		if err != nil {
			return err
		}
		time.Sleep(full)
		_, err = w.redis.Do("CONFIG", "SET", "maxmemory", "0")
		return err
	}}
}

func (w *world) postgresKilled(d dice) fault {
	away := d.between(0, 4*time.Second)
	return fault{"postgres: kill -9, away for " + round(away), func() error {
		w.postgres.Kill()
		time.Sleep(away)
		return w.postgres.Start()
	}}
}

func (w *world) postgresRestarted(dice) fault {
	return fault{"postgres: restart", func() error {
		w.postgres.Stop()
		return w.postgres.Start()
	}}
}

func (w *world) postgresFull(d dice) fault {
	full := d.between(2*time.Second, 5*time.Second)
	connections := d.IntN(2 * len(w.instances))
	return fault{fmt.Sprintf("postgres: %d connections left for %s", connections, round(full)), func() error {
		if err := w.postgres.Limit(connections); err != nil {
			return err
		}
		time.Sleep(full)
		return w.postgres.Limit(-1)
	}}
}

func (w *world) postgresLocked(d dice) fault {
	table, held := pick(d, []string{"sessions", "nodes", "dev_nonces", "outbox", "join_permissions", "revision"}), d.between(2*time.Second, 7*time.Second)
	return fault{fmt.Sprintf("postgres: a hanging lock on %s for %s", table, round(held)), func() error {
		return w.postgres.Lock(table, held)
	}}
}

func (w *world) brokerKilled(d dice) fault {
	away := d.between(0, 4*time.Second)
	return fault{"broker: kill -9, away for " + round(away), func() error {
		w.mosquitto.Kill()
		time.Sleep(away)
		return w.mosquitto.Start()
	}}
}

func (w *world) brokerHalfOpen(d dice) fault {
	i := pick(d, w.instances)
	return disturbed(d, "broker: half-open connection to "+i.name(), i.broker, proxy.State{Lose: true})
}

func (w *world) brokerSlow(d dice) fault {
	i := pick(d, w.instances)
	rate := 2000 + d.IntN(20_000)
	return disturbed(d, fmt.Sprintf("broker: %s is a slow consumer of %d octets a second", i.name(), rate), i.broker, proxy.State{Rate: rate})
}

func (w *world) instanceKilled(d dice) fault {
	i, away := pick(d, w.instances), d.between(0, 3*time.Second)
	return fault{i.name() + ": kill -9, away for " + round(away), func() error {
		i.Kill()
		time.Sleep(away)
		return i.startAgain()
	}}
}

func (w *world) instanceStopped(d dice) fault {
	i, still := pick(d, w.instances), d.between(6*time.Second, 9*time.Second) // RX2 is 6 s after the join-request
	return fault{i.name() + ": SIGSTOP for " + round(still), func() error {
		i.Pause()
		time.Sleep(still)
		i.Resume()
		return nil
	}}
}

func (w *world) delayed(d dice) fault {
	delay := d.between(10*time.Millisecond, 300*time.Millisecond)
	name, way := w.way(d)
	return disturbed(d, fmt.Sprintf("network: %s each way between %s", round(delay), name), way, proxy.State{Delay: delay})
}

func (w *world) cut(d dice) fault {
	name, way := w.way(d)
	return disturbed(d, "network: cut between "+name, way, proxy.State{Cut: true})
}

func (w *world) held(d dice) fault {
	name, way := w.way(d)
	return disturbed(d, "network: nothing passes between "+name, way, proxy.State{Hold: true})
}

// way draws two parts that speak to each other.
func (w *world) way(d dice) (name string, p *proxy.Proxy) {
	n := d.IntN(4*len(w.instances) + 1)
	if n == 4*len(w.instances) {
		return "gateways and broker", w.gateways
	}
	i := w.instances[n/4]
	parts := []string{"postgres", "redis", "broker", "administrator"}
	return i.name() + " and " + parts[n%4], i.proxies()[n%4]
}

// disturbed has a way in a state for some seconds.
func disturbed(d dice, name string, p *proxy.Proxy, s proxy.State) fault {
	long := d.between(2*time.Second, 8*time.Second)
	return fault{name + " for " + round(long), func() error {
		p.Set(s)
		time.Sleep(long)
		p.Heal()
		return nil
	}}
}

func round(d time.Duration) string {
	if d < time.Second {
		return d.Round(10 * time.Millisecond).String()
	}
	return d.Round(100 * time.Millisecond).String()
}
