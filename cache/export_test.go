package cache

import (
	"context"
	"time"

	"github.com/redis/go-redis/v9"
)

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

// Client is the connection itself.
func (r *Redis) Client() redis.UniversalClient { return r.client }
