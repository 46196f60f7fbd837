package main

import (
	"errors"
	"time"

	"joingate/cache"
	"joingate/config"
	"joingate/keyring"
	"joingate/linkwan"
	"joingate/mqtt"

	"github.com/prometheus/client_golang/prometheus"
)

// policiesCached bounds the memory cache: 100,000 policies take about 50 MB.
const policiesCached = 100_000

// shared is what the instances behind one broker share for a moment: in memory
// for one instance, in Redis for several. Losing it costs time, never an answer.
type shared struct {
	policies cache.Policies
	quotas   cache.Quotas
	copies   mqtt.Copies      // nil: this is the only instance
	ids      mqtt.DownlinkIDs // nil: this is the only instance
	redis    *cache.Redis     // nil: in memory
}

func (s *server) openShared() (shared, error) {
	local := linkwan.NewLocalMemory(time.Now)
	if s.config.Cache.InMemory() {
		return shared{policies: cache.NewMemory(s.record, policiesCached), quotas: local}, nil
	}
	c := s.config.Cache
	password, err1 := config.Secret(c.PasswordFile)
	kek, err2 := keyring.LoadKEK(s.config.Keys.KEKPath(s.config.DataDir), false)
	observe, err3 := observeCache(s.registry)
	if err := errors.Join(err1, err2, err3); err != nil {
		return shared{}, err
	}
	sealer, err := keyring.NewSealer(kek)
	if err != nil {
		return shared{}, err
	}
	r, err := cache.Open(cache.Options{URL: c.URL, Username: c.Username, Password: secretOf(password), Sealer: sealer, Observe: observe})
	if err != nil {
		return shared{}, err
	}
	return shared{
		policies: r.Policies(s.record), quotas: r.Quotas(local), copies: r.Copies(), ids: r.DownlinkIDs(), redis: r,
	}, registerCache(s.registry, r)
}

// secretOf makes no secret of an empty text: none is given then.
func secretOf(text string) keyring.Secret {
	if text == "" {
		return keyring.Secret{}
	}
	return keyring.NewSecret(text)
}

func (s shared) close() error {
	if s.redis == nil {
		return nil
	}
	return s.redis.Close()
}

// observeCache counts what happens in the Redis cache.
func observeCache(to prometheus.Registerer) (func(cache.Event), error) {
	events := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "joingate_cache_events_total", Help: "What happened in the Redis cache; bypassed and failed mean that the record was asked.",
	}, []string{"event"})
	return func(e cache.Event) { events.WithLabelValues(string(e)).Inc() }, to.Register(events)
}

func registerCache(to prometheus.Registerer, r *cache.Redis) error {
	return to.Register(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "joingate_cache_up", Help: "1 while Redis is used, 0 while it is left alone after failures.",
	}, func() float64 {
		if r.Up() {
			return 1
		}
		return 0
	}))
}
