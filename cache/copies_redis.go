package cache

import (
	"context"
	"crypto/sha256"
	"encoding/hex"

	"github.com/redis/go-redis/v9"
)

// redisCopies are the frames of all instances behind one broker.
type redisCopies struct{ *Redis }

// Copies gives the copies that all instances share. An error says that Redis gave
// no answer in time: act alone.
func (r *Redis) Copies() Copies { return redisCopies{r} }

// Claim implements Copies.
func (c redisCopies) Claim(ctx context.Context, frame []byte) (bool, error) {
	var reply *redis.BoolCmd
	err := c.do(ctx, func(t *trip) { reply = t.SetNX(context.Background(), c.frameKey("claim:", frame), 1, FrameLife) })
	if err != nil {
		return false, err
	}
	return reply.Result()
}

// handScript adds a copy to a list that has room. One script, so that no list is
// ever without an end.
const handScript = `
if redis.call('LLEN', KEYS[1]) < tonumber(ARGV[2]) then
  redis.call('RPUSH', KEYS[1], ARGV[1])
end
return redis.call('PEXPIRE', KEYS[1], ARGV[3])`

// Hand implements Copies.
func (c redisCopies) Hand(ctx context.Context, frame, copy []byte) error {
	if err := checkCopy(copy); err != nil {
		return err
	}
	var reply *redis.Cmd
	err := c.do(ctx, func(t *trip) {
		keys := []string{c.frameKey("copies:", frame)}
		reply = t.Eval(context.Background(), handScript, keys, copy, MaxCopies, FrameLife.Milliseconds())
	})
	if err != nil {
		return err
	}
	return reply.Err()
}

// Collect implements Copies.
func (c redisCopies) Collect(ctx context.Context, frame []byte) ([][]byte, error) {
	var reply *redis.StringSliceCmd
	err := c.do(ctx, func(t *trip) {
		reply = t.LRange(context.Background(), c.frameKey("copies:", frame), 0, MaxCopies-1)
	})
	if err != nil {
		return nil, err
	}
	if err := reply.Err(); err != nil {
		return nil, err
	}
	copies := make([][]byte, len(reply.Val()))
	for i, text := range reply.Val() {
		copies[i] = []byte(text)
	}
	return copies, nil
}

// frameKey is as long for every frame.
func (c redisCopies) frameKey(kind string, frame []byte) string {
	sum := sha256.Sum256(frame)
	return c.keyStart + kind + hex.EncodeToString(sum[:16])
}
