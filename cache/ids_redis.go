package cache

import (
	"context"
	"crypto/rand"
	"fmt"
	mathrand "math/rand/v2"
	"time"

	"github.com/redis/go-redis/v9"
)

// DownlinkIDs gives the ids of this instance.
func (r *Redis) DownlinkIDs() DownlinkIDs {
	return newSharedIDs(redisCounter{r}, rand.Text(), time.Now, func() { r.Observe(Reused) })
}

// redisCounter is one number, and a hash of slots: the holder of each and until
// when it is his, in ms.
type redisCounter struct{ *Redis }

// take implements counter. A counter that has been lost is found by the first
// instance that knows better; nobody knows better than 1.
func (c redisCounter) take(ctx context.Context, least int64) (int64, error) {
	var reply *redis.IntCmd
	key := c.keyStart + "downlink-ids"
	if err := c.do(ctx, func(t *trip) { reply = t.Incr(context.Background(), key) }); err != nil {
		return 0, err
	}
	number, err := reply.Result()
	if err != nil || number > least && number > 1 {
		return number, err
	}
	if least < 0 {
		least = mathrand.Int64N(maxID)
	}
	err = c.do(ctx, func(t *trip) {
		reply = t.IncrBy(context.Background(), key, max(0, least-number)+numbersAhead)
	})
	if err != nil {
		return 0, err
	}
	return reply.Result()
}

// slotScript keeps the slot of ARGV[1], or gives it the first that is free. ARGV
// is the name, the number of slots and the life in ms. It returns the slot, or -1,
// and the highest that is in use.
var slotScript = redis.NewScript(`
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local own, free, highest = -1, -1, -1
for slot = 0, ARGV[2] - 1 do
  local holder, ends = string.match(redis.call('HGET', KEYS[1], slot) or '', '^(%S+) (%d+)$')
  if holder == ARGV[1] then own = slot end
  if holder and tonumber(ends) > now then highest = slot elseif free < 0 then free = slot end
end
if own < 0 then own = free end
if own >= 0 then
  redis.call('HSET', KEYS[1], own, ARGV[1] .. ' ' .. string.format('%.0f', now + ARGV[3]))
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
  highest = math.max(highest, own)
end
return (own + 1) * 100 + highest + 1`)

// slot implements counter.
func (c redisCounter) slot(ctx context.Context, name string) (slot, highest int, err error) {
	both, err := c.evaluate(ctx, slotScript, []string{c.keyStart + "downlink-slots"}, []any{name, idSlots, slotLife.Milliseconds()})
	if err != nil {
		return 0, 0, err
	}
	slot, highest = both/100-1, both%100-1
	if slot < -1 || slot >= idSlots || highest < -1 || highest >= idSlots {
		return 0, 0, fmt.Errorf("redis answered %d for a slot", both)
	}
	return slot, highest, nil
}
