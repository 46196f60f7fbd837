package cache

import (
	"context"
	"errors"
	"time"

	"github.com/redis/go-redis/v9"

	"joingate/joinserver"
)

const (
	// policyLife bounds for how long a policy costs memory that nobody asks for,
	// and for how long one is wrong that was changed past the cache and whose
	// device does not join.
	policyLife = 5 * time.Minute
	// unknownLife is how long an unknown device may be remembered as such.
	unknownLife = 2 * time.Second
)

// redisPolicies reads through Redis to the record.
type redisPolicies struct {
	*Redis
	record      joinserver.Policies
	unknownLife time.Duration
}

// Policies caches the policies of the record in Redis. Whatever happens there,
// the record answers; its errors are the only ones.
func (r *Redis) Policies(record joinserver.Policies) Policies {
	return redisPolicies{r, record, unknownLife}
}

// Forget implements Policies. Where Redis does not hear of it, it is not read any
// more until it has; other instances may read it meanwhile, and the commit
// refuses what they read.
func (p redisPolicies) Forget() { p.forget() }

// Fresh implements Policies.
func (p redisPolicies) Fresh() joinserver.Policies { return redisFresh{p} }

type redisFresh struct{ redisPolicies }

// Policy implements joinserver.Policies.
func (p redisPolicies) Policy(ctx context.Context, device joinserver.EUI64) (joinserver.Policy, error) {
	seen := p.look(ctx, p.policyKey(device))
	if seen.at[0].value.unknown(seen.now) {
		p.Observe(Hit)
		return joinserver.Policy{}, joinserver.ErrUnknownDevice
	}
	if policy, ok := seen.at[0].value.policy(p.Sealer, device); ok {
		p.Observe(Hit)
		return policy, nil
	}
	p.Observe(Miss)
	return p.read(ctx, device, seen)
}

// Policy asks the record.
func (f redisFresh) Policy(ctx context.Context, device joinserver.EUI64) (joinserver.Policy, error) {
	return f.read(ctx, device, f.look(ctx, f.policyKey(device)))
}

// read asks the record and stores what it says, unless that was seen already. The
// marks are of the time before the record was asked.
func (p redisPolicies) read(ctx context.Context, device joinserver.EUI64, seen sight) (joinserver.Policy, error) {
	now, cached := p.renew(ctx, seen), seen.at[0]
	policy, err := p.record.Policy(ctx, device)
	switch {
	case now.generation == "": // there is nothing to store it under
	case errors.Is(err, joinserver.ErrUnknownDevice):
		if !cached.value.unknown(now) {
			p.storeUnknown(cached.key, now)
		}
	case err == nil:
		if !cached.value.same(kindPolicy, now, policyVersions(policy)) {
			p.store(cached.key, policyValue(p.Sealer, policy, now.generation))
		}
	}
	return policy, err
}

// Gateways implements joinserver.Policies. Only those that are not in the cache
// are asked of the record; that a gateway is unknown is not remembered.
func (p redisPolicies) Gateways(ctx context.Context, euis []joinserver.EUI64) ([]joinserver.Gateway, error) {
	seen := p.lookForGateways(ctx, euis)
	known := make([]joinserver.Gateway, 0, len(euis))
	missing, missed := []joinserver.EUI64(nil), seen
	missed.at = nil
	for i, eui := range euis {
		if g, ok := seen.at[i].value.gateway(eui); ok {
			p.Observe(Hit)
			known = append(known, g)
			continue
		}
		p.Observe(Miss)
		missing, missed.at = append(missing, eui), append(missed.at, seen.at[i])
	}
	if len(missing) == 0 {
		return known, nil
	}
	read, err := p.readGateways(ctx, missing, missed)
	if err != nil {
		return nil, err
	}
	return append(known, read...), nil
}

// Gateways asks the record.
func (f redisFresh) Gateways(ctx context.Context, euis []joinserver.EUI64) ([]joinserver.Gateway, error) {
	return f.readGateways(ctx, euis, f.lookForGateways(ctx, euis))
}

// readGateways asks the record, stores the gateways that are registered and drops
// those that are not any more. What was seen of each EUI has the same index.
func (p redisPolicies) readGateways(ctx context.Context, euis []joinserver.EUI64, seen sight) ([]joinserver.Gateway, error) {
	now := p.renew(ctx, seen)
	read, err := p.record.Gateways(ctx, euis)
	if err != nil {
		return nil, err
	}
	registered := make(map[joinserver.EUI64]joinserver.Gateway, len(read))
	for _, g := range read {
		registered[g.EUI] = g
	}
	for i, eui := range euis {
		g, ok := registered[eui]
		cached := seen.at[i]
		switch {
		case now.generation == "": // there is nothing to store it under
		case !ok && cached.present:
			p.drop(cached.key)
		case ok && !cached.value.same(kindGateway, now, versions{g.Version}):
			p.store(cached.key, gatewayValue(g, now.generation))
		}
	}
	return read, nil
}

func (p redisPolicies) lookForGateways(ctx context.Context, euis []joinserver.EUI64) sight {
	keys := make([]string, len(euis))
	for i, eui := range euis {
		keys[i] = p.gatewayKey(eui)
	}
	return p.look(ctx, keys...)
}

func (p redisPolicies) policyKey(device joinserver.EUI64) string {
	return p.keyStart + "policy:" + device.String()
}

func (p redisPolicies) gatewayKey(eui joinserver.EUI64) string {
	return p.keyStart + "gateway:" + eui.String()
}

// sight is what was seen in Redis, in one round trip.
type sight struct {
	at     []sighting // one per key that was asked for
	now    marks
	broken []string // keys of marks that hold none
	asked  bool     // false: Redis gave no answer, and nothing was seen
}

// sighting is what one key holds.
type sighting struct {
	key     string
	present bool
	value   value // of the current generation; zero: there is none
}

func (p redisPolicies) look(ctx context.Context, keys ...string) sight {
	var marks *markReplies
	replies := make([]*redis.StringCmd, len(keys))
	err := p.do(ctx, func(t *trip) {
		marks = t.readMarks(p.keys)
		for i, key := range keys {
			replies[i] = t.read(key)
		}
	})
	seen := sight{at: make([]sighting, len(keys)), asked: err == nil}
	if seen.asked {
		seen.now, seen.broken = marks.marks(), marks.broken(p.keys)
	}
	for i, key := range keys {
		seen.at[i].key = key
		if seen.asked {
			octets, _ := replies[i].Bytes() // what is no string will be overwritten
			seen.at[i].present = len(octets) > 0
			seen.at[i].value = p.open(key, octets, seen.now.generation)
		}
	}
	return seen
}

// open reads a value if it is of the current generation. What is not ours is
// dropped.
func (p redisPolicies) open(key string, octets []byte, current mark) value {
	if len(octets) == 0 {
		return value{}
	}
	generation, ok := generationOf(octets)
	if ok && generation != current {
		return value{}
	}
	v, ok := openValue(p.Sealer, key, octets)
	if !ok {
		p.Observe(Garbage)
		p.drop(key)
	}
	return v
}

// renew gives marks under which something can be stored. Setting those that are
// missing takes another round trip: after Forget, and when the moment has passed.
func (p redisPolicies) renew(ctx context.Context, seen sight) marks {
	if !seen.asked || seen.now.generation != "" && seen.now.moment != "" {
		return seen.now
	}
	var renewed *markReplies
	err := p.do(ctx, func(t *trip) {
		for _, key := range seen.broken {
			t.Del(context.Background(), key)
		}
		renewed = t.renewMarks(p.keys, p.unknownLife)
	})
	if err != nil {
		return marks{}
	}
	return renewed.marks()
}

// storeScript sets a value unless a newer one of the same generation is there: a
// reader that was slow does not undo what another one has mended. See value.go
// for what stands where.
const storeScript = `
local old, new = redis.pcall('GET', KEYS[1]), ARGV[1]
if type(old) == 'string' and #old >= 42 and string.sub(old, 1, 18) == string.sub(new, 1, 18) then
  local a, b, c = struct.unpack('>I8I8I8', old, 19)
  local x, y, z = struct.unpack('>I8I8I8', new, 19)
  if a > x or (a == x and (b > y or (b == y and c > z))) then return 0 end
end
redis.call('SET', KEYS[1], new, 'PX', ARGV[2])
return 1`

// store sends a value off. The whole script goes along each time: that works
// through restarts and on every node, and costs a hash of 400 octets.
func (p redisPolicies) store(key string, v value) {
	sealed := v.seal(p.Sealer, key)
	p.send(func(t *trip) {
		t.Eval(context.Background(), storeScript, []string{key}, sealed, policyLife.Milliseconds())
	})
}

// storeUnknown may overwrite anything: it counts for a moment only.
func (p redisPolicies) storeUnknown(key string, now marks) {
	if now.moment == "" {
		return
	}
	sealed := unknownValue(now).seal(p.Sealer, key)
	p.send(func(t *trip) { t.Set(context.Background(), key, sealed, p.unknownLife) })
}

func (p redisPolicies) drop(key string) {
	p.send(func(t *trip) { t.Del(context.Background(), key) })
}
