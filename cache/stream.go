package cache

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"joingate/joinserver"
)

const (
	// streamTimeout bounds a round trip of a stream. Nobody waits for it, so it is
	// much longer than that of the cache.
	streamTimeout = 5 * time.Second
	// eventsPerScript bounds for how long Redis does nothing else: a millisecond.
	eventsPerScript = 64
)

// Stream adds join events to a Redis stream, in their order. An entry has the
// fields "id" (the same whenever the event comes again), "account", "devEui" and
// "event", which is its JSON.
//
// An event that is in the stream is as safe as that Redis makes it: without
// persistence and replicas it is lost with it.
type Stream struct {
	client redis.UniversalClient
	key    string
	length int64
}

// Stream gives the stream with the key, which has no prefix. It is cut to about
// length entries, also such that nobody has read; 0: never. It has connections of
// its own, which r closes.
func (r *Redis) Stream(key string, length int64) (*Stream, error) {
	if key == "" || length < 0 {
		return nil, errors.New("a Redis stream needs a name, and a length that is not negative")
	}
	patient := r.Options
	patient.Timeout = streamTimeout
	address, err := parseAddress(patient)
	if err != nil {
		return nil, fmt.Errorf("[cache] url: %w", err)
	}
	client := redis.NewUniversalClient(address)
	r.atClose(client.Close)
	return &Stream{client: client, key: key, length: length}, nil
}

// streamScript adds entries until one fails: then the rest must not come before
// it. ARGV is the length, then the fields of each entry. It returns how many were
// added, and why not all.
var streamScript = redis.NewScript(`
local added = 0
for i = 2, #ARGV, 4 do
  local entry = {'*', 'id', ARGV[i], 'account', ARGV[i + 1], 'devEui', ARGV[i + 2], 'event', ARGV[i + 3]}
  local reply
  if ARGV[1] == '0' then
    reply = redis.pcall('XADD', KEYS[1], unpack(entry))
  else
    reply = redis.pcall('XADD', KEYS[1], 'MAXLEN', '~', ARGV[1], unpack(entry))
  end
  if type(reply) == 'table' and reply.err then return {added, reply.err} end
  added = added + 1
end
return {added, ''}`)

// Deliver adds the events and returns how many of them, from the first, Redis has
// taken.
func (s *Stream) Deliver(ctx context.Context, events []joinserver.OutboxEvent) (delivered int, err error) {
	for delivered < len(events) {
		some := events[delivered:min(delivered+eventsPerScript, len(events))]
		added, err := s.add(ctx, some)
		delivered += added
		if err != nil {
			return delivered, fmt.Errorf("add join events to Redis stream %q: %w", s.key, err)
		}
	}
	return delivered, nil
}

func (s *Stream) add(ctx context.Context, events []joinserver.OutboxEvent) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, streamTimeout)
	defer cancel()
	args := make([]any, 0, 1+4*len(events))
	args = append(args, s.length)
	for _, e := range events {
		device := e.DevEUI.String()
		args = append(args, fmt.Sprintf("%s-%d", device, e.JoinNonce), int64(e.Account), device, e.Payload)
	}
	reply, err := streamScript.Run(ctx, s.client, []string{s.key}, args...).Slice()
	if err != nil {
		return 0, err
	}
	added, why := readStreamReply(reply)
	switch {
	case added < 0 || added > len(events) || added < len(events) && why == "":
		return 0, fmt.Errorf("redis answered %v", reply)
	case why != "":
		return added, errors.New(why)
	}
	return added, nil
}

// readStreamReply gives -1 for a reply of another shape.
func readStreamReply(reply []any) (added int, why string) {
	if len(reply) != 2 {
		return -1, ""
	}
	n, ok1 := reply[0].(int64)
	why, ok2 := reply[1].(string)
	if !ok1 || !ok2 {
		return -1, ""
	}
	return int(n), why
}
