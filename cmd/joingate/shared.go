package main

import (
	"crypto/tls"
	"errors"
	"time"

	"joingate/cache"
	"joingate/config"
	"joingate/joinserver"
	"joingate/keyring"
	"joingate/linkwan"
	"joingate/mqtt"
	"joingate/tlsfile"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
)

// policiesCached bounds the memory cache: 100,000 policies take about 50 MB.
const policiesCached = 100_000

// shared is what the instances behind one broker share for a moment: in memory
// for one instance, in Redis for several. Losing it costs time, never an answer.
type shared struct {
	policies cache.Policies
	quotas   cache.Quotas
	copies   mqtt.Copies        // nil: this is the only instance
	ids      mqtt.DownlinkIDs   // nil: this is the only instance
	airtime  joinserver.Airtime // nil: not planned
	redis    *cache.Redis       // nil: in memory
}

func (s *server) openShared() (shared, error) {
	local, ledger := linkwan.NewLocalMemory(time.Now), cache.NewAirtime(time.Now)
	if s.config.Cache.InMemory() {
		return shared{policies: cache.NewMemory(s.record, policiesCached), quotas: local}.planning(s.config.Join, ledger), nil
	}
	r, err := s.openRedis()
	if err != nil {
		return shared{}, err
	}
	return shared{
		policies: r.Policies(s.record), quotas: r.Quotas(local), copies: r.Copies(), ids: r.DownlinkIDs(), redis: r,
	}.planning(s.config.Join, r.Airtime(ledger)), registerCache(s.registry, r)
}

// planning adds the ledger, if airtime is to be planned.
func (s shared) planning(c config.Join, ledger joinserver.Airtime) shared {
	if c.Airtime == "plan" {
		s.airtime = ledger
	}
	return s
}

func (s *server) openRedis() (*cache.Redis, error) {
	c := s.config.Cache
	password, err1 := config.Secret(c.PasswordFile)
	observe, err2 := observeCache(s.registry)
	var certificates *tls.Config
	var err3 error
	if c.TLSCA+c.TLSCert != "" {
		certificates, err3 = tlsfile.NewClient(c.TLSCert, c.TLSKey, c.TLSCA, s.reloads("cache"))
	}
	if err := errors.Join(err1, err2, err3); err != nil {
		return nil, err
	}
	return cache.Open(cache.Options{
		URL: c.URL, Username: c.Username, Password: secretOf(password), TLS: certificates, Sealer: s.sealer,
		KeyPrefix: c.KeyPrefix, Timeout: c.Timeout, Observe: observe, Report: s.tellOfRedis,
	})
}

// tellOfRedis logs that Redis is left alone, or used again.
func (s *server) tellOfRedis(why error) {
	log := s.log.Named("cache")
	if why != nil {
		log.Warn("Redis does not answer as it should; joins go on without it, slower: joingate doctor looks at it", zap.Error(why))
		return
	}
	log.Info("Redis is used again")
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
