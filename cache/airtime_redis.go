package cache

import (
	"context"
	"time"

	"github.com/redis/go-redis/v9"

	"joingate/band"
	"joingate/joinserver"
)

const (
	// airtimeLife is how long a gateway's keys stay without use: until nothing it
	// has sent counts any more.
	airtimeLife = band.DutyWindow + 2*airtimeAhead + 3*dutyBucket
	// sameClock is how far the clocks of an instance and of Redis may be apart to
	// count as the same: less than that may be the way of the question.
	sameClock = 100 * time.Millisecond
)

// redisAirtime is one ledger for all instances.
type redisAirtime struct {
	*Redis
	local     *Airtime
	sameClock time.Duration
}

// Airtime gives a ledger that all instances share. It goes by the clock of Redis:
// an instance whose clock is wrong plans right.
//
// local is told of all that this instance books and hears of. When Redis is away
// it decides: the instance keeps to what it has done itself, and knows nothing of
// the others. Duty cycles must fit into local always, so that what was sent
// during an outage counts for its hour, and a Redis that has forgotten allows no
// more. What another instance releases stays in local: of a duty cycle that is
// the airtime of frames that gateways have refused.
//
// In a cluster gateways lie on different nodes, so the options of each are asked
// for in a round trip of their own, in order, until one fits.
func (r *Redis) Airtime(local *Airtime) joinserver.Airtime {
	return redisAirtime{r, local, sameClock}
}

// Book implements joinserver.Airtime. A booking whose answer comes too late to be
// heard stays, and is past within a minute.
func (a redisAirtime) Book(ctx context.Context, options []joinserver.Transmission) int {
	allowed := a.local.allowed(options)
	for len(allowed) > 0 {
		together := allowed[:a.together(options, allowed)]
		booked, err := a.ask(ctx, "book", options, together)
		if err != nil {
			return a.bookAlone(ctx, options, allowed)
		}
		if booked >= 0 && booked < len(together) {
			chosen := together[booked]
			a.local.Sent(ctx, options[chosen])
			return chosen
		}
		allowed = allowed[len(together):]
	}
	return -1
}

// together says how many of the options can be asked for at once.
func (a redisAirtime) together(options []joinserver.Transmission, allowed []int) int {
	if _, cluster := a.client.(*redis.ClusterClient); !cluster {
		return len(allowed)
	}
	n := 1
	for n < len(allowed) && options[allowed[n]].Gateway == options[allowed[0]].Gateway {
		n++
	}
	return n
}

func (a redisAirtime) bookAlone(ctx context.Context, options []joinserver.Transmission, allowed []int) int {
	for _, i := range allowed {
		if a.local.Book(ctx, options[i:i+1]) == 0 {
			return i
		}
	}
	return -1
}

// Release implements joinserver.Airtime.
func (a redisAirtime) Release(ctx context.Context, t joinserver.Transmission) {
	a.local.Release(ctx, t)
	_, _ = a.ask(ctx, "release", []joinserver.Transmission{t}, []int{0})
}

// Sent implements joinserver.Airtime.
func (a redisAirtime) Sent(ctx context.Context, t joinserver.Transmission) {
	a.local.Sent(ctx, t)
	_, _ = a.ask(ctx, "sent", []joinserver.Transmission{t}, []int{0})
}

// airtimeScript is ledger.go for Redis. Two keys belong to a gateway:
//
//	spans  sorted set: "start:onAir:subBand" by start; the text has the start by the
//	       clock of the instance, the score that by the clock of Redis
//	sums   hash: "longest"; for each sub-band N its buckets "N:number", its "N:total"
//	       and the "N:oldest" bucket that it may hold
//
// Either may be evicted without the other: what sums has forgotten is not taken out
// of it, or there would be less than none, in a key that nobody lets expire.
//
// KEYS are spans and sums of each gateway. ARGV: what to do, the instance's time,
// guard, past, ahead, kept, size of a bucket, buckets, sameClock, life (ms), the
// most spans; then for each transmission the number of its gateway from 0, start,
// onAir, sub-band and limit. All times are integer microseconds, which a double
// holds exactly.
//
// It returns the index of what was booked from 0, or -1.
var airtimeScript = redis.NewScript(`
local guard, past, ahead, kept = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local size, buckets = tonumber(ARGV[7]), tonumber(ARGV[8])
local now, time = tonumber(ARGV[2]), redis.call('TIME')
local shift = time[1] * 1000000 + time[2] - now
if math.abs(shift) < tonumber(ARGV[9]) then shift = 0 end
now = now + shift

local function bucketOf(at) return (at - at % size) / size end
local function text(n) return string.format('%.0f', n) end
local function onAirOf(member) return tonumber(string.match(member, ':(%d+):')) end

local function numbers(from, to, band)
  local fields = {}
  for n = from, to do fields[#fields + 1] = band .. ':' .. text(n) end
  return fields
end

-- forget drops the buckets of a sub-band that no hour touches any more.
local function forget(sums, band)
  local oldest = bucketOf(now - kept) - buckets
  local known = tonumber(redis.call('HGET', sums, band .. ':oldest') or oldest)
  if known < oldest then
    local fields = numbers(math.max(known, oldest - 2 * buckets), oldest - 1, band)
    local total = tonumber(redis.call('HGET', sums, band .. ':total') or 0)
    for _, airtime in ipairs(redis.call('HMGET', sums, unpack(fields))) do
      total = total - (tonumber(airtime) or 0)
    end
    redis.call('HDEL', sums, unpack(fields))
    redis.call('HSET', sums, band .. ':total', text(total), band .. ':oldest', text(oldest))
  end
end

local function dutyFits(sums, band, from, onAir, limit)
  forget(sums, band)
  if tonumber(redis.call('HGET', sums, band .. ':total') or 0) + onAir <= limit then return true end
  local first, last = bucketOf(from), bucketOf(from + onAir)
  local newest = math.max(last, bucketOf(now + 2 * ahead))
  local airtimes = redis.call('HMGET', sums, unpack(numbers(first - buckets + 1, newest, band)))
  local within = 0
  for i, airtime in ipairs(airtimes) do
    local n = first - buckets + i
    within = within + (tonumber(airtime) or 0)
    if i > buckets then within = within - (tonumber(airtimes[i - buckets]) or 0) end
    if n >= first and (n <= last or (airtime and n < last + buckets)) and within + onAir > limit then return false end
  end
  return true
end

local function meets(spans, longest, from, onAir)
  local near = redis.call('ZRANGEBYSCORE', spans, text(from - guard - longest), '(' .. text(from + onAir + guard), 'WITHSCORES')
  for i = 1, #near, 2 do
    if from < tonumber(near[i + 1]) + onAirOf(near[i]) + guard then return true end
  end
  return false
end

local function charge(sums, band, from, onAir, sign)
  local at = from
  while at < from + onAir do
    local n = bucketOf(at)
    local after = math.min((n + 1) * size, from + onAir)
    redis.call('HINCRBY', sums, band .. ':' .. text(n), text(sign * (after - at)))
    at = after
  end
  redis.call('HINCRBY', sums, band .. ':total', text(sign * onAir))
  if sign > 0 then redis.call('HSETNX', sums, band .. ':oldest', text(bucketOf(now - kept) - buckets)) end
end

local function enter(spans, sums, longest, member, from, onAir, band)
  redis.call('ZADD', spans, text(from), member)
  if onAir > longest then redis.call('HSET', sums, 'longest', text(onAir)) end
  if band ~= '-1' then charge(sums, band, from, onAir, 1) end
  redis.call('PEXPIRE', spans, ARGV[10])
  redis.call('PEXPIRE', sums, ARGV[10])
end

for i = 12, #ARGV, 5 do
  local gateway, onAir, band, limit = tonumber(ARGV[i]), tonumber(ARGV[i + 2]), ARGV[i + 3], tonumber(ARGV[i + 4])
  local spans, sums = KEYS[2 * gateway + 1], KEYS[2 * gateway + 2]
  local member, from = ARGV[i + 1] .. ':' .. ARGV[i + 2] .. ':' .. band, tonumber(ARGV[i + 1]) + shift
  local longest = tonumber(redis.call('HGET', sums, 'longest') or 0)
  redis.call('ZREMRANGEBYSCORE', spans, '-inf', text(now - kept - longest))
  local known = redis.call('ZSCORE', spans, member)
  local hasRoom = from > now - past and from <= now + ahead and onAir <= ahead
    and redis.call('ZCARD', spans) < tonumber(ARGV[11])
  if ARGV[1] == 'release' then
    if known and tonumber(known) + onAir > now - kept then
      redis.call('ZREM', spans, member)
      if band ~= '-1' and redis.call('HGET', sums, band .. ':oldest') then charge(sums, band, tonumber(known), onAir, -1) end
    end
  elseif ARGV[1] == 'sent' then
    if hasRoom and not known then enter(spans, sums, longest, member, from, onAir, band) end
  elseif hasRoom and not known and not meets(spans, longest, from, onAir)
    and (band == '-1' or dutyFits(sums, band, from, onAir, limit)) then
    enter(spans, sums, longest, member, from, onAir, band)
    return (i - 12) / 5
  end
end
return -1`)

// ask runs the script for some of the transmissions.
func (a redisAirtime) ask(ctx context.Context, what string, options []joinserver.Transmission, some []int) (int, error) {
	keys := make([]string, 0, 2*len(some))
	args := make([]any, 0, 11+5*len(some))
	args = append(args, what, a.local.now().UnixMicro(), AirtimeGuard.Microseconds(), airtimePast.Microseconds(),
		airtimeAhead.Microseconds(), airtimeKept, dutyBucket.Microseconds(), dutyBuckets, a.sameClock.Microseconds(), airtimeLife.Milliseconds(), maxSpans)
	for i, at := range some {
		t := options[at]
		s := spanOf(t)
		gateway := len(keys) / 2
		for j, earlier := range some[:i] {
			if options[earlier].Gateway == t.Gateway {
				gateway = args[11+5*j].(int)
			}
		}
		if 2*gateway == len(keys) {
			keys = append(keys, a.gatewayAirKey(t.Gateway, "spans"), a.gatewayAirKey(t.Gateway, "sums"))
		}
		args = append(args, gateway, s.start, s.onAir, s.subBand, t.Duty.Limit.Microseconds())
	}
	return a.evaluate(ctx, airtimeScript, keys, args)
}

// gatewayAirKey lies in one slot of a cluster for one gateway.
func (a redisAirtime) gatewayAirKey(gateway joinserver.EUI64, what string) string {
	return a.keyStart + "air:{" + gateway.String() + "}:" + what
}
