package cache

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"time"

	"github.com/redis/go-redis/v9"
)

// Quotas counts events and remembers nonces for a while: what the admin API
// bounds its callers with. A key is always used with the same n and window.
type Quotas interface {
	// Take counts one event under the key, unless n were counted within the last
	// window, and reports whether it did. It is exact under concurrency.
	Take(ctx context.Context, key string, n int, window time.Duration) (bool, error)
	// Full reports whether Take would refuse now. It counts nothing.
	Full(ctx context.Context, key string, n int, window time.Duration) (bool, error)
	// Release takes back the newest event counted under the key, if there is one.
	Release(ctx context.Context, key string) error
	// Forget drops all events counted under the key.
	Forget(ctx context.Context, key string) error
	// Once reports whether the key is new within the last ttl, and remembers it. Its
	// keys are others than those of Take.
	Once(ctx context.Context, key string, ttl time.Duration) (bool, error)
}

// redisQuotas are one count for all instances, by the clock of Redis.
type redisQuotas struct {
	*Redis
	local Quotas
}

// Quotas gives quotas that all instances share. Without Redis they hold per
// instance, by local; it knows what this instance has taken, so that losing Redis
// does not begin every window anew. Errors are those of local.
func (r *Redis) Quotas(local Quotas) Quotas { return redisQuotas{r, local} }

// A quota is a list of the times of its last n events in microseconds, newest
// first. The window is full when the last of n is within it. So a key costs no
// more than n times, however often it is tried.
const (
	quotaTime = `
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local last = redis.call('LINDEX', KEYS[1], ARGV[1] - 1)
local full = last and now - last < tonumber(ARGV[2])`

	takeScript = quotaTime + `
if full then return 0 end
redis.call('LPUSH', KEYS[1], string.format('%.0f', now))
redis.call('LTRIM', KEYS[1], 0, ARGV[1] - 1)
redis.call('PEXPIRE', KEYS[1], math.ceil(ARGV[2] / 1000))
return 1`

	fullScript = quotaTime + `
if full then return 1 end
return 0`
)

// Take implements Quotas.
func (q redisQuotas) Take(ctx context.Context, key string, n int, window time.Duration) (bool, error) {
	return q.take(ctx, q.quotaKey("quota:", key), n, window, func() (bool, error) { return q.local.Take(ctx, key, n, window) })
}

// take asks Redis, and tells local what Redis has granted.
func (q redisQuotas) take(ctx context.Context, key string, n int, window time.Duration, local func() (bool, error)) (bool, error) {
	taken, err := q.ask(ctx, takeScript, key, n, window)
	if err == nil && !taken {
		return false, nil
	}
	alone, localErr := local()
	if err == nil {
		return true, nil
	}
	return alone, localErr
}

// Full implements Quotas.
func (q redisQuotas) Full(ctx context.Context, key string, n int, window time.Duration) (bool, error) {
	full, err := q.ask(ctx, fullScript, q.quotaKey("quota:", key), n, window)
	if err != nil {
		return q.local.Full(ctx, key, n, window)
	}
	return full, nil
}

// Release implements Quotas. What Redis does not hear of stays counted until its
// window has passed.
func (q redisQuotas) Release(ctx context.Context, key string) error {
	_ = q.do(ctx, func(t *trip) { t.LPop(context.Background(), q.quotaKey("quota:", key)) })
	return q.local.Release(ctx, key)
}

// Forget implements Quotas, as Release does.
func (q redisQuotas) Forget(ctx context.Context, key string) error {
	_ = q.do(ctx, func(t *trip) { t.Del(context.Background(), q.quotaKey("quota:", key)) })
	return q.local.Forget(ctx, key)
}

// Once implements Quotas.
func (q redisQuotas) Once(ctx context.Context, key string, ttl time.Duration) (bool, error) {
	return q.take(ctx, q.quotaKey("once:", key), 1, ttl, func() (bool, error) { return q.local.Once(ctx, key, ttl) })
}

func (q redisQuotas) ask(ctx context.Context, script, key string, n int, window time.Duration) (bool, error) {
	var reply *redis.Cmd
	err := q.do(ctx, func(t *trip) {
		reply = t.Eval(context.Background(), script, []string{key}, n, window.Microseconds())
	})
	if err != nil {
		return false, err
	}
	return reply.Bool()
}

// longestKey is how much of a caller's own text, such as a nonce, becomes a key.
const longestKey = 128

func (q redisQuotas) quotaKey(kind, key string) string {
	if len(key) > longestKey {
		sum := sha256.Sum256([]byte(key))
		key = hex.EncodeToString(sum[:])
	}
	return q.keyStart + kind + key
}
