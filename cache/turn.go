package cache

import (
	"context"
	"crypto/rand"
	"time"

	"github.com/redis/go-redis/v9"
)

// turnScript takes or keeps a turn: ARGV is who asks, and the life in ms.
var turnScript = redis.NewScript(`
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1`)

// endTurnScript gives the turn back.
var endTurnScript = redis.NewScript(`
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0`)

// Turn gives a function that reports whether it is the turn of this instance to do
// a work that one should do for all: once it is, it stays so while it is asked for
// more often than once in life, and until r is closed. When an instance dies, or
// does not ask because it fails, another one takes over after that time. Without
// Redis it is everybody's turn, so the work must bear being done twice.
func (r *Redis) Turn(work string, life time.Duration) func(context.Context) bool {
	keys, me := []string{r.keyStart + "turn:" + work}, rand.Text()
	r.atClose(func() error {
		_, _ = r.evaluate(context.Background(), endTurnScript, keys, []any{me})
		return nil
	})
	return func(ctx context.Context) bool {
		mine, err := r.evaluate(ctx, turnScript, keys, []any{me, life.Milliseconds()})
		return err != nil || mine == 1
	}
}
