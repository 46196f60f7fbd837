package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"joingate/config"
	"joingate/joinserver"
	"joingate/linkwan"
	"joingate/mqtt"
	"joingate/mqtt/broker"
	"joingate/record"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"go.uber.org/zap"
)

// server is all parts of a running Joingate, joined.
type server struct {
	config   config.Config
	log      *zap.Logger
	registry *prometheus.Registry
	failures chan error // a part that ended although nobody asked it to

	record   *record.Record
	shared   shared
	broker   *broker.Broker // nil: an external one
	edge     *mqtt.Edge
	stopEdge context.CancelFunc
	api, ops *http.Server
	tasks    sync.WaitGroup

	apiURL, opsURL, brokerURL string
}

// startServer starts the parts in the order in which they need each other. When
// it returns, gateways and administrators can connect.
func startServer(ctx context.Context, c config.Config, log *zap.Logger) (*server, error) {
	s := &server{config: c, log: log, registry: prometheus.NewRegistry(), failures: make(chan error, 3)}
	s.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	for _, start := range []func(context.Context) error{s.startRecord, s.startBroker, s.startJoins, s.startOperations} {
		if err := start(ctx); err != nil {
			return nil, errors.Join(err, s.close())
		}
	}
	return s, nil
}

func (s *server) startRecord(ctx context.Context) (err error) {
	observe, err := observeCommits(s.registry)
	if err != nil {
		return err
	}
	if s.record, err = openRecord(ctx, s.config, observe); err != nil {
		return err
	}
	return registerRecord(s.registry, s.record)
}

func (s *server) startBroker(context.Context) (err error) {
	s.brokerURL = s.config.MQTT.URL
	if !s.config.MQTT.Embedded() {
		return nil
	}
	s.broker, err = broker.Start(broker.Options{Listen: s.config.MQTT.EmbeddedListen, Log: s.log.Named("broker")})
	if err != nil {
		return err
	}
	s.brokerURL = "mqtt://" + s.broker.Addr().String()
	return nil
}

// startJoins starts what joins and administrators need: handler, gateway edge
// and admin API share policies and band plan groups.
func (s *server) startJoins(ctx context.Context) error {
	groups, err := bandGroups(s.config)
	if err != nil {
		return err
	}
	netID, err1 := joinserver.ParseNetID(s.config.Network.NetID)
	defaultJoinEUI, err2 := joinserver.ParseEUI64(s.config.Network.DefaultJoinEUI)
	observe, err3 := mqtt.NewStepObserver(s.registry)
	if err := errors.Join(err1, err2, err3); err != nil {
		return err
	}
	if s.shared, err = s.openShared(); err != nil {
		return err
	}
	policies := s.shared.policies
	handler, err := joinserver.NewHandler(joinserver.Config{
		Policies: policies, Record: policies.Fresh(), Joins: s.record, Bands: groups, NetID: netID, Now: time.Now, Observe: observe,
	})
	if err != nil {
		return err
	}
	api := linkwan.New(linkwan.Config{
		Record: adminRecord{s.record}, Bands: bandPlans(groups), Memory: s.shared.quotas, DefaultJoinEUI: defaultJoinEUI,
		GatewaysFromStockOnly: s.config.API.GatewaysFromStockOnly,
		Forget:                func(context.Context, []joinserver.Change) { policies.Forget() },
		Now:                   time.Now, Log: s.log.Named("api"),
	})
	watch := linkwan.NewWatch(api, func() error { return s.edge.Ready() })
	if err := s.startEdge(handler, watch); err != nil {
		return err
	}
	return s.startAPI(ctx, api)
}

func (s *server) startEdge(handler mqtt.Handler, watch *linkwan.Watch) error {
	m := s.config.MQTT
	edge, err := mqtt.New(mqtt.Config{
		Broker: mqtt.BrokerConfig{
			URL: s.brokerURL, Username: m.Username, PasswordFile: m.PasswordFile,
			CAFile: m.TLSCA, CertFile: m.TLSCert, KeyFile: m.TLSKey,
		},
		Prefixes: m.Prefixes, ShareGroup: m.ShareGroup, CollectWindow: s.config.Join.CollectWindow,
		Copies: s.shared.copies, IDs: s.shared.ids,
		Handler: handler, Outbox: s.record, Gateways: watch, Registerer: s.registry, Logger: s.log.Named("joins"),
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.edge, s.stopEdge = edge, cancel
	s.tasks.Go(func() { watch.Run(ctx) })
	s.tasks.Go(func() {
		if err := s.edge.Run(ctx); err != nil {
			s.failures <- err
		}
	})
	return nil
}

func (s *server) startAPI(ctx context.Context, api http.Handler) error {
	listener, err := listen(ctx, "api.listen", s.config.API.Listen)
	if err != nil {
		return err
	}
	s.api, s.apiURL = newHTTPServer(api, s.log), "http://"+listener.Addr().String()
	certificate, key := s.config.API.TLSCert, s.config.API.TLSKey
	if certificate == "" {
		s.serve(func() error { return s.api.Serve(listener) })
		return nil
	}
	s.apiURL = "https://" + listener.Addr().String()
	s.serve(func() error { return s.api.ServeTLS(listener, certificate, key) })
	return nil
}

func (s *server) startOperations(ctx context.Context) error {
	listener, err := listen(ctx, "ops.listen", s.config.Ops.Listen)
	if err != nil {
		return err
	}
	s.ops, s.opsURL = newHTTPServer(s.operations(), s.log), "http://"+listener.Addr().String()
	s.serve(func() error { return s.ops.Serve(listener) })
	return nil
}

func (s *server) serve(run func() error) {
	s.tasks.Go(func() {
		if err := run(); !errors.Is(err, http.ErrServerClosed) {
			s.failures <- err
		}
	})
}

// listen opens a port, or says in one sentence what to do.
func listen(ctx context.Context, key, address string) (net.Listener, error) {
	var open net.ListenConfig
	listener, err := open.Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("%s: %w: stop the program that has the port, or set another one", key, err)
	}
	return listener, nil
}

// newHTTPServer bounds what a slow or greedy client can hold.
func newHTTPServer(handler http.Handler, log *zap.Logger) *http.Server {
	return &http.Server{
		Handler: handler, ErrorLog: zap.NewStdLog(log.Named("http")),
		ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 15 * time.Second, WriteTimeout: 30 * time.Second, IdleTimeout: time.Minute,
		MaxHeaderBytes: 64 << 10,
	}
}

// close ends the parts in the order in which a join needs them: no more calls,
// joins finished and sent, then broker and record.
func (s *server) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), drainTime)
	defer cancel()
	var errs []error
	if s.api != nil {
		errs = append(errs, s.api.Shutdown(ctx))
	}
	if s.edge != nil {
		s.edge.Drain(ctx)
		s.stopEdge()
	}
	if s.ops != nil {
		errs = append(errs, s.ops.Shutdown(ctx))
	}
	s.tasks.Wait()
	if s.broker != nil {
		errs = append(errs, s.broker.Close())
	}
	errs = append(errs, s.shared.close())
	if s.record != nil {
		errs = append(errs, s.record.Close())
	}
	return errors.Join(errs...)
}
