// Package broker is the MQTT broker inside Joingate: for one machine, with
// nothing to install. It keeps everything in memory; after a restart clients
// subscribe again and gateway bridges tell their state again.
//
// With a file of users, or client certificates, each client has its rights: a gateway
// publishes under its own id only and reads its own commands only. Without both it
// lets everybody in, and therefore listens on a loopback address only. A public
// address needs TLS besides, unless Options.Insecure says otherwise.
//
// The program that runs it connects with Dial, which needs no door.
//
// No client slows another down: a subscriber that falls behind
// by more than the limits below loses messages or its connection, which is
// logged and never silent.
//
// Units. Sizes: octets.
package broker

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	mochi "github.com/mochi-mqtt/server/v2"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// Limits of the broker; maxBacklog bounds what waits for one client.
const (
	// maxPacket bounds one message. A client that sends a larger one is
	// disconnected.
	maxPacket = 256 << 10
	// maxQueue is how many messages may wait to be encoded for one subscriber
	// before the next is dropped: only while publishers on other processors are
	// faster than that. Each client takes 8 octets per place, used or not.
	maxQueue = 16 << 10
	// maxUnacknowledged is how many messages of QoS 1 and 2 one subscriber may
	// leave unacknowledged: nearly all packet identifiers there are (MQTT 3.1.1
	// section 2.3.1).
	maxUnacknowledged = 1<<16 - 2
	// maxClients bounds the queues and backlogs together.
	maxClients = 1024
	// maxConnections bounds the connections, those included that are not let in yet:
	// each has its queue from the start.
	maxConnections = maxClients + 512
	// maxAbsence is for how many seconds the session of a client that is away
	// is kept.
	maxAbsence = 60 * 60
	// reportInterval, in seconds, is how often losses are looked for and logged
	// and the $SYS topics are published.
	reportInterval = 10
)

// Options say how to start a broker.
type Options struct {
	// Listen is host and port; port 0 takes a free one.
	Listen string
	// UsersFile holds users with their passwords and rights, see HashPassword; it is
	// read again when it changes. Empty: nobody has a password.
	UsersFile string
	// TLSCert and TLSKey are PEM files of the broker's certificate; they are read
	// again when they change. Empty: no TLS.
	TLSCert, TLSKey string
	// TLSClientCA is a PEM file with the authorities whose client certificates let a
	// client in as the user that the common name says. Without UsersFile nobody comes
	// in without one. Empty: certificates are not asked for.
	TLSClientCA string
	// Insecure lets the broker listen on a public address without TLS, where everybody
	// on the way can read the passwords.
	Insecure bool
	// Log receives losses as warnings and the broker's own chatter at debug
	// level; nil: nobody.
	Log *zap.Logger
}

// Broker is a running broker.
type Broker struct {
	server   *mochi.Server
	listener *listener
	address  net.Addr
	watched  []looker // the files that are read again
	close    func() error
}

// Start listens and serves until Close. It returns when clients can connect. An
// error says in one sentence what to change.
func Start(o Options) (*Broker, error) {
	log := o.Log
	if log == nil {
		log = zap.NewNop()
	}
	address, err := o.address()
	if err != nil {
		return nil, err
	}
	d, tlsConfig, watched, err := o.open(log)
	if err != nil {
		return nil, fmt.Errorf("embedded broker: %w", err)
	}
	var socket net.Listener
	if socket, err = net.ListenTCP("tcp", address); err != nil {
		return nil, explain(err, o.Listen)
	}
	if tlsConfig != nil {
		socket = tls.NewListener(socket, tlsConfig)
	}
	b := &Broker{listener: newListener(socket, log), address: socket.Addr(), watched: watched}
	if b.server, err = serve(b.listener, d, log); err != nil {
		return nil, errors.Join(fmt.Errorf("embedded broker: %w", err), socket.Close())
	}
	b.close = sync.OnceValue(b.server.Close)
	return b, nil
}

// open makes the door, and what TLS needs; nil: none.
func (o Options) open(log *zap.Logger) (d *door, config *tls.Config, watched []looker, err error) {
	d = &door{everybody: !o.guarded(), log: seldom(log)}
	if o.UsersFile != "" {
		read := func() (*userTable, error) { return readUsers(o.UsersFile) }
		if d.users, err = keep("users", log, read, o.UsersFile); err != nil {
			return nil, nil, nil, fmt.Errorf("[mqtt] embedded_users_file: %w", err)
		}
		watched = append(watched, d.users)
	}
	if o.TLSCert+o.TLSKey != "" {
		current, err := keep("certificates", log, o.readTLS, o.TLSCert, o.TLSKey, o.TLSClientCA)
		if err != nil {
			return nil, nil, nil, fmt.Errorf("[mqtt] embedded_tls_cert, embedded_tls_key and embedded_tls_client_ca: %w", err)
		}
		watched, d.tls = append(watched, current), current
		config = &tls.Config{
			MinVersion:         tls.VersionTLS12,
			GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return current.get(), nil },
		}
	}
	return d, config, watched, nil
}

// seldom logs ten of a kind in a minute, and then every thousandth: strangers can
// have a line written as often as they like.
func seldom(log *zap.Logger) *zap.Logger {
	return log.WithOptions(zap.WrapCore(func(core zapcore.Core) zapcore.Core {
		return zapcore.NewSamplerWithOptions(core, time.Minute, 10, 1000)
	}))
}

// guarded reports whether clients have to say who they are.
func (o Options) guarded() bool { return o.UsersFile+o.TLSClientCA != "" }

func serve(listener *listener, d *door, log *zap.Logger) (*mochi.Server, error) {
	server := mochi.New(&mochi.Options{
		Capabilities:           capabilities(),
		Logger:                 slogTo(log),
		SysTopicResendInterval: reportInterval,
	})
	d.server = server
	err := errors.Join(
		server.AddHook(d, nil),
		server.AddHook(&bounds{door: d, server: server, log: d.log}, nil),
		server.AddHook(&lossReport{log: log}, nil),
		server.AddListener(listener),
	)
	if err != nil {
		return nil, err
	}
	return server, server.Serve()
}

func capabilities() *mochi.Capabilities {
	c := mochi.NewDefaultServerCapabilities()
	c.MaximumPacketSize = maxPacket
	c.MaximumClientWritesPending = maxQueue
	c.MaximumInflight = maxUnacknowledged
	c.MaximumClients = maxClients
	c.MaximumSessionExpiryInterval = maxAbsence
	c.MaximumMessageExpiryInterval = 0 // else retained gateway states would go after a day
	return c
}

// Addr is where the broker listens.
func (b *Broker) Addr() net.Addr { return b.address }

// Dial connects the program that runs the broker, past door and network, with all
// rights.
func (b *Broker) Dial() (net.Conn, error) { return b.listener.dial() }

// Dropped counts the messages that subscribers lost because they fell behind.
func (b *Broker) Dropped() int64 {
	return atomic.LoadInt64(&b.server.Info.MessagesDropped) + atomic.LoadInt64(&b.server.Info.InflightDropped)
}

// Close disconnects all clients and frees the port. It may be called twice.
func (b *Broker) Close() error { return b.close() }

// address resolves once, so that the address that is checked is the one that is
// used.
func (o Options) address() (*net.TCPAddr, error) {
	address, err := net.ResolveTCPAddr("tcp", o.Listen)
	public := err == nil && !address.IP.IsLoopback()
	switch {
	case err != nil:
		return nil, fmt.Errorf("embedded broker: %q is no address to listen on, write it like 127.0.0.1:1883 in [mqtt] embedded_listen: %w", o.Listen, err)
	case o.TLSClientCA != "" && o.TLSCert+o.TLSKey == "":
		return nil, errors.New("embedded broker: client certificates need TLS; set [mqtt] embedded_tls_cert and embedded_tls_key too")
	case public && !o.guarded():
		return nil, fmt.Errorf("embedded broker: it lets everybody in without a password and must not listen on %s; "+
			"set [mqtt] embedded_users_file or embedded_tls_client_ca, or embedded_listen to a loopback address such as 127.0.0.1:1883, "+
			"or run a broker of your own and set [mqtt] url to it", o.Listen)
	case public && o.TLSCert+o.TLSKey == "" && !o.Insecure:
		return nil, fmt.Errorf("embedded broker: without TLS everybody on the way reads the passwords, so it must not listen on %s; "+
			"set [mqtt] embedded_tls_cert and embedded_tls_key, or embedded_insecure = true if the network is your own", o.Listen)
	}
	return address, nil
}

func explain(err error, listen string) error {
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("embedded broker: %s is in use; set [mqtt] embedded_listen to another port, or [mqtt] url to the broker that runs there: %w", listen, err)
	}
	return fmt.Errorf("embedded broker: cannot listen on %s, set [mqtt] embedded_listen to another address: %w", listen, err)
}
