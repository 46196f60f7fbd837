package cache

import (
	"context"
	"time"

	"github.com/redis/go-redis/v9"

	"joingate/joinserver"
)

// MaxSpans bounds the transmissions of a gateway.
const MaxSpans = maxSpans

// Settle waits until everything has been stored that was read before.
func Settle(p Policies) {
	if r, ok := p.(redisPolicies); ok {
		_ = r.do(context.Background(), func(t *trip) { t.Get(context.Background(), r.keys.generation) })
	}
}

// WithUnknownLife makes unknown devices known sooner.
func WithUnknownLife(p Policies, life time.Duration) Policies {
	r := p.(redisPolicies)
	r.unknownLife = life
	return r
}

// WithClock makes a ledger in Redis go by the clock of the instance, so that a
// test can turn it.
func WithClock(a joinserver.Airtime) joinserver.Airtime {
	r := a.(redisAirtime)
	r.sameClock = 100 * 365 * 24 * time.Hour
	return r
}

// Key is the key of that name.
func (r *Redis) Key(name string) string { return r.keyStart + name }

// Client is the connection itself.
func (r *Redis) Client() redis.UniversalClient { return r.client }
