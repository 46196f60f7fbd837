package cache

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"

	"joingate/keyring"
)

// Options say where Redis is. URL and Sealer must be there.
type Options struct {
	// URL is "redis://HOST:PORT/DB", "rediss://…" with TLS,
	// "redis-sentinel://HOST:PORT,HOST:PORT/MASTER" or
	// "redis-cluster://HOST:PORT,HOST:PORT". A user may stand before the hosts, a
	// password may not. Query: see the table in address.go.
	URL string
	// Username is for an ACL user, unless the URL names one.
	Username string
	// Password of the user, or of Redis's default user; zero: none is given.
	Password keyring.Secret
	// TLS is used with rediss:// and ?tls=true, and an error without: a private
	// authority, a certificate of this program. nil: TLS 1.2 or later, the system's
	// roots, the host's name, no certificate.
	TLS *tls.Config
	// Sealer seals root keys and authenticates everything else of a policy. All
	// instances need the same key; what another sealed counts as not there.
	Sealer *keyring.Sealer
	// KeyPrefix and a colon begin every key. Two installations in one Redis need
	// two. No { or }, which mean something in a cluster. Default "joingate".
	KeyPrefix string
	// Timeout bounds a round trip; past it the record is asked. Default 50 ms.
	Timeout time.Duration
	// Retry is how long Redis is left alone after an outage was seen, and after
	// every probe that fails. Default 1 s.
	Retry time.Duration
	// Observe is told what happens, from many goroutines, and must not block or
	// call back; nil: nobody asks.
	Observe func(Event)
	// Report is told why Redis is left alone, and nil when it is used again; also
	// that it does not answer at the start. It must not block or call back; nil:
	// nobody asks.
	Report func(error)
}

// dialTimeout bounds a new connection. It may take longer than a round trip: no
// caller waits for it beyond his own timeout.
const dialTimeout = time.Second

// connections is how many a node gets. Round trips follow one another; what is
// above one is for connections that were given up on.
const connections = 8

// Redis is one connection to what instances share. It is safe for concurrent
// use.
type Redis struct {
	Options
	client   redis.UniversalClient
	trips    *trips
	breaker  *breaker
	keyStart string
	keys     markKeys
	stop     context.CancelFunc
	tasks    sync.WaitGroup

	mu       sync.Mutex
	closings []func() error
}

// Open reads the options. Redis may be away: it is asked when something is
// wanted of it.
func Open(o Options) (*Redis, error) {
	if o.Sealer == nil {
		return nil, errors.New("a Redis cache needs a Sealer")
	}
	o = o.withDefaults()
	if strings.ContainsAny(o.KeyPrefix, "{}") {
		return nil, errors.New("[cache] key_prefix: must have no { and no }")
	}
	address, err := parseAddress(o)
	if err != nil {
		return nil, fmt.Errorf("[cache] url: %w", err)
	}
	logging.Disable() // of the library: what fails is counted, and the text is for its authors
	ctx, cancel := context.WithCancel(context.Background())
	r := &Redis{
		Options:  o,
		client:   redis.NewUniversalClient(address),
		breaker:  newBreaker(o.Observe, time.Now),
		keyStart: o.KeyPrefix + ":",
		keys:     newMarkKeys(o.KeyPrefix + ":"),
		stop:     cancel,
	}
	r.breaker.tell = o.Report
	r.trips = &trips{client: r.client, timeout: o.Timeout, report: r.breaker.report}
	r.tasks.Go(func() { r.keep(ctx) })
	return r, nil
}

func (o Options) withDefaults() Options {
	if o.KeyPrefix == "" {
		o.KeyPrefix = "joingate"
	}
	if o.Timeout == 0 {
		o.Timeout = 50 * time.Millisecond
	}
	if o.Retry == 0 {
		o.Retry = time.Second
	}
	if o.Observe == nil {
		o.Observe = func(Event) {}
	}
	if o.Report == nil {
		o.Report = func(error) {}
	}
	return o
}

// Close ends all connections. What was made of r goes on without Redis.
func (r *Redis) Close() error {
	r.mu.Lock()
	closings := r.closings
	r.closings = nil
	r.mu.Unlock()
	var errs []error
	for _, end := range closings {
		errs = append(errs, end())
	}
	r.stop()
	r.tasks.Wait()
	return errors.Join(append(errs, r.client.Close())...)
}

// atClose makes Close do something more, while Redis can still be asked.
func (r *Redis) atClose(end func() error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closings = append(r.closings, end)
}

// Up reports whether Redis is asked. It begins true, until an outage is seen.
func (r *Redis) Up() bool { return !r.breaker.open.Load() }

// do asks Redis, unless it is away.
func (r *Redis) do(ctx context.Context, queue func(*trip)) error {
	err := errAway
	if r.Up() {
		err = r.trips.do(ctx, queue)
	}
	if errors.Is(err, errAway) || errors.Is(err, errFull) {
		r.Observe(Bypassed)
	}
	return err
}

// evaluate runs a script by its hash; a server that does not know it is given it.
// The script returns an integer.
func (r *Redis) evaluate(ctx context.Context, script *redis.Script, keys []string, args []any) (int, error) {
	var reply *redis.Cmd
	err := r.do(ctx, func(t *trip) { reply = script.EvalSha(context.Background(), t, keys, args...) })
	if err == nil && isUnknownScript(reply.Err()) {
		err = r.do(ctx, func(t *trip) { reply = script.Eval(context.Background(), t, keys, args...) })
	}
	if err != nil {
		return 0, err
	}
	return reply.Int()
}

// send tells Redis something, soon or never.
func (r *Redis) send(queue func(*trip)) {
	if !r.Up() || !r.trips.send(queue) {
		r.Observe(Dropped)
	}
}

// forget drops the generation. What Redis deletes needs no memory, so that it
// works also when there is none left.
func (r *Redis) forget() {
	ctx := context.Background()
	var reply *redis.IntCmd
	err := r.do(ctx, func(t *trip) { reply = t.Del(ctx, r.keys.generation) })
	if err != nil || reply.Err() != nil {
		r.breaker.owe()
	}
}

// begin asks Redis before anything else does, so that a wrong address, password or
// certificate is told at the start and not with the first join. It asks again
// before it tells: a machine that has just started may be slow.
func (r *Redis) begin(ctx context.Context) {
	var err error
	for range failuresToOpen {
		if err = r.ping(ctx, dialTimeout); err == nil || !r.Up() {
			return // without it, the breaker has told
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(r.Retry):
		}
	}
	r.Report(err)
}

// keep brings Redis back after outages.
func (r *Redis) keep(ctx context.Context) {
	r.begin(ctx)
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.breaker.opened:
		}
		for back := false; !back; {
			select {
			case <-ctx.Done():
				return
			case <-time.After(r.Retry):
				back = r.probe(ctx)
			}
		}
	}
}

// probe closes the breaker if Redis answers as fast as it must. The first ping
// may take as long as a connection does.
func (r *Redis) probe(ctx context.Context) bool {
	if r.ping(ctx, dialTimeout) != nil || r.ping(ctx, r.Timeout) != nil {
		return false
	}
	for !r.breaker.close() {
		if r.breaker.inDebt() && r.payForget(ctx) != nil {
			r.breaker.owe()
			return false
		}
	}
	return true
}

// ping asks every node that keys may be on.
func (r *Redis) ping(ctx context.Context, within time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	if cluster, ok := r.client.(*redis.ClusterClient); ok {
		return cluster.ForEachMaster(ctx, func(ctx context.Context, node *redis.Client) error {
			return node.Ping(ctx).Err()
		})
	}
	return r.client.Ping(ctx).Err()
}

func (r *Redis) payForget(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, r.Timeout)
	defer cancel()
	return r.client.Del(ctx, r.keys.generation).Err()
}
