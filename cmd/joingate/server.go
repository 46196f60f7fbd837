package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"joingate/backend"
	"joingate/band"
	"joingate/cache"
	"joingate/config"
	"joingate/joinserver"
	"joingate/keyring"
	"joingate/linkwan"
	"joingate/mqtt"
	"joingate/mqtt/broker"
	"joingate/record"
	"joingate/tlsfile"

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

	record    *record.Record
	sealer    *keyring.Sealer // of the record
	shared    shared
	tracer    *tracer        // nil: nobody looks at traces
	broker    *broker.Broker // nil: an external one
	netID     joinserver.NetID
	joins     *joinserver.Handler
	edge      *mqtt.Edge
	stopEdge  context.CancelFunc
	stopSinks context.CancelFunc // nil: there is no sink besides MQTT
	backend   *backend.Server    // nil: not served
	tasks     sync.WaitGroup

	api, ops, backendHTTP                 *http.Server
	apiURL, opsURL, backendURL, brokerURL string
}

// startServer starts the parts in the order in which they need each other. When
// it returns, gateways and administrators can connect.
func startServer(ctx context.Context, c config.Config, log *zap.Logger) (*server, error) {
	s := &server{config: c, log: log, registry: prometheus.NewRegistry(), failures: make(chan error, 8)}
	s.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	if err := closedDoors(c); err != nil {
		return nil, err
	}
	for _, start := range []func(context.Context) error{s.startRecord, s.startBroker, s.startJoins, s.startBackend, s.startSinks, s.startOperations} {
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
	o, err := recordOptions(s.config)
	if err != nil {
		return err
	}
	o.Observe, s.sealer = observe, o.Sealer
	if s.record, err = record.Open(ctx, o); err != nil {
		return err
	}
	return registerRecord(s.registry, s.record)
}

func (s *server) startBroker(context.Context) (err error) {
	s.brokerURL = s.config.MQTT.URL
	if !s.config.MQTT.Embedded() {
		return nil
	}
	m := s.config.MQTT
	s.broker, err = broker.Start(broker.Options{
		Listen: m.EmbeddedListen, UsersFile: m.EmbeddedUsersFile, TLSCert: m.EmbeddedTLSCert, TLSKey: m.EmbeddedTLSKey,
		TLSClientCA: m.EmbeddedTLSClientCA, Insecure: m.EmbeddedInsecure, Log: s.log.Named("broker"),
	})
	if err != nil {
		return err
	}
	s.brokerURL = "mqtt://" + s.broker.Addr().String()
	if m.EmbeddedTLSCert != "" {
		s.brokerURL = "mqtts://" + s.broker.Addr().String()
	}
	return nil
}

// startJoins starts what joins and administrators need: handler, gateway edge
// and admin API share policies and band plan groups.
func (s *server) startJoins(ctx context.Context) error {
	groups, err := bandGroups(s.config)
	if err != nil {
		return err
	}
	var err1, err3, err4 error
	s.netID, err1 = joinserver.ParseNetID(s.config.Network.NetID)
	defaultJoinEUI, err2 := joinserver.ParseEUI64(s.config.Network.DefaultJoinEUI)
	s.tracer, err3 = newTracer(ctx, s.config.Tracing)
	s.shared, err4 = s.openShared()
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		return err
	}
	if err := s.newHandler(groups); err != nil {
		return err
	}
	policies := s.shared.policies
	api := linkwan.New(linkwan.Config{
		Record: adminRecord{s.record}, Bands: bandPlans(groups), Memory: s.shared.quotas, DefaultJoinEUI: defaultJoinEUI,
		GatewaysFromStockOnly: s.config.API.GatewaysFromStockOnly,
		Forget:                func(context.Context, []joinserver.Change) { policies.Forget() },
		GatewayCounts:         s.gatewayCounts,
		Sessions:              s.record, ConfirmSession: s.confirmSession,
		Now: time.Now, Log: s.log.Named("api"),
	})
	watch := linkwan.NewWatch(api, func() error { return s.edge.Ready() })
	if err := s.startEdge(s.tracer.handler(s.joins), watch); err != nil {
		return err
	}
	return s.startAPI(ctx, api)
}

// newHandler makes what decides joins.
func (s *server) newHandler(groups *band.Groups) error {
	observe, err := mqtt.NewStepObserver(s.registry)
	if err != nil {
		return err
	}
	joins, err := countMoved(s.registry, s.record)
	if err != nil {
		return err
	}
	l, policies := s.config.Limits, s.shared.policies
	s.joins, err = joinserver.NewHandler(joinserver.Config{
		Policies: s.tracer.policies("cache", policies), Record: s.tracer.policies("record", policies.Fresh()),
		Joins: s.tracer.joins(joins), Sessions: s.record, Bands: groups, NetID: s.netID, Airtime: s.shared.airtime,
		Limits: joinserver.Limits{
			DeviceFailures: int(l.DeviceFailures), DeviceJoins: int(l.DeviceJoins), JoinEUIJoins: int(l.JoinEUIJoins), Rejoin1: int(l.Rejoins),
		},
		Now: time.Now, Observe: observe,
	})
	return err
}

// gatewayCounts tells the API how many frames a gateway has brought, and how many
// it was told to send, since the start of this instance.
func (s *server) gatewayCounts(eui joinserver.EUI64) (received, sent int64) {
	c := s.edge.GatewayCounts(eui)
	return c.Uplinks, c.Commands
}

// confirmSession notes what a network server says through the API. That a device
// uses the session before its newest, because it has not heard the last join-accept,
// changes nothing: both are live, and stay so.
func (s *server) confirmSession(ctx context.Context, w joinserver.Write, device joinserver.EUI64, joinNonce uint32) error {
	err := s.record.Confirm(ctx, w, device, joinNonce)
	if older := (*record.NotNewestError)(nil); errors.As(err, &older) {
		return nil
	}
	return err
}

func (s *server) startEdge(handler mqtt.Handler, watch *linkwan.Watch) error {
	m := s.config.MQTT
	connection := mqtt.BrokerConfig{
		URL: s.brokerURL, Username: m.Username, PasswordFile: m.PasswordFile,
		CAFile: m.TLSCA, CertFile: m.TLSCert, KeyFile: m.TLSKey,
	}
	if s.broker != nil {
		connection.Dial = s.broker.Dial
	}
	var able func(context.Context) error
	if m.ShareGroup != "" {
		able = func(ctx context.Context) error {
			ctx, cancel := context.WithTimeout(ctx, readyTimeout)
			defer cancel()
			return s.record.Ready(ctx)
		}
	}
	devices := cache.NewKnown(s.record.DevEUIs)
	edge, err := mqtt.New(mqtt.Config{
		Broker:   connection,
		Prefixes: m.Prefixes, ShareGroup: m.ShareGroup, CollectWindow: s.config.Join.CollectWindow,
		Copies: s.shared.copies, IDs: s.shared.ids, Airtime: s.shared.airtime,
		Known: devices.Has, Able: able,
		Handler: handler, Outbox: s.record, Turn: s.turn("mqtt", brokerTurn), Gateways: watch, Registerer: s.registry, Logger: s.log.Named("joins"),
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.edge, s.stopEdge = edge, cancel
	look, err := newRecordWatch(s.registry, s.record, devices, s.log)
	if err != nil {
		return err
	}
	s.tasks.Go(func() { look.run(ctx) })
	s.tasks.Go(func() { watch.Run(ctx) })
	s.tasks.Go(func() {
		if err := s.edge.Run(ctx); err != nil {
			s.failures <- err
		}
	})
	return nil
}

// How long an instance that delivers join events to a sink may be silent before
// another one takes over: longer than a round takes.
const (
	brokerTurn = 3 * time.Second
	sinkTurn   = 15 * time.Second
)

// turn lets one of several instances deliver what waits for a sink; nil: there is
// only this one.
func (s *server) turn(sink string, life time.Duration) func(context.Context) bool {
	if s.shared.redis == nil {
		return nil
	}
	return s.shared.redis.Turn(sink, life)
}

func (s *server) startAPI(ctx context.Context, api http.Handler) (err error) {
	a := s.config.API
	s.api, s.apiURL, err = s.startHTTP(ctx, "api", a.Listen, tlsfile.Files{Cert: a.TLSCert, Key: a.TLSKey}, api)
	return err
}

func (s *server) startOperations(ctx context.Context) (err error) {
	o := s.config.Ops
	s.ops, s.opsURL, err = s.startHTTP(ctx, "ops", o.Listen, tlsfile.Files{Cert: o.TLSCert, Key: o.TLSKey}, s.operations())
	return err
}

// startHTTP serves over TLS where there is a certificate, and tells at which URL.
func (s *server) startHTTP(ctx context.Context, table, address string, files tlsfile.Files, handler http.Handler) (*http.Server, string, error) {
	var certificates *tls.Config
	if files.Cert != "" {
		tls, err := tlsfile.NewServer(files, s.reloads(table))
		if err != nil {
			return nil, "", fmt.Errorf("%s: %w", table, err)
		}
		certificates = tls.Config()
	}
	listener, err := listen(ctx, table+".listen", address)
	if err != nil {
		return nil, "", err
	}
	listener = bounded(listener, mostConnections, mostConnectionsOne)
	server := linkwan.NewHTTPServer(handler, zap.NewStdLog(s.log.Named("http")))
	if certificates == nil {
		s.serve(func() error { return server.Serve(listener) })
		return server, "http://" + listener.Addr().String(), nil
	}
	server.TLSConfig = certificates
	s.serve(func() error { return server.ServeTLS(listener, "", "") })
	return server, "https://" + listener.Addr().String(), nil
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

// close ends the server within drainTime.
func (s *server) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), drainTime)
	defer cancel()
	return s.end(ctx)
}

// end ends the parts in the order in which a join needs them: no more calls and no
// more joins, those under way finished and sent, then broker and record. The doors
// close while joins are finished, so that no slow caller takes the time of joins.
func (s *server) end(ctx context.Context) error {
	var calls, messages error
	var doors sync.WaitGroup
	doors.Go(func() { calls = shut(ctx, s.api) })
	doors.Go(func() {
		messages = shut(ctx, s.backendHTTP)
		if s.backend != nil {
			s.lost("answers to network servers", s.backend.Close(ctx))
		}
	})
	if s.edge != nil {
		s.edge.Drain(ctx)
		s.stopEdge()
	}
	doors.Wait()
	if s.stopSinks != nil {
		s.stopSinks()
	}
	errs := []error{calls, messages, shut(ctx, s.ops)}
	s.tasks.Wait()
	if s.broker != nil {
		errs = append(errs, s.broker.Close())
	}
	s.lost("traces", s.tracer.close(context.WithoutCancel(ctx)))
	errs = append(errs, s.shared.close())
	if s.record != nil {
		errs = append(errs, s.record.Close())
	}
	return errors.Join(errs...)
}

// lost tells of what others did not take in time, which is no fault of the server.
func (s *server) lost(what string, err error) {
	if err != nil {
		s.log.Warn("stopped without all being taken", zap.String("what", what), zap.Error(err))
	}
}

// shut lets a door's callers finish, and hangs up on those who take longer than the
// context: that they are slow is no fault of the server.
func shut(ctx context.Context, door *http.Server) error {
	if door == nil {
		return nil
	}
	err := door.Shutdown(ctx)
	if ctx.Err() != nil {
		return door.Close()
	}
	return err
}
