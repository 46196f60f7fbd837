// Package broker is the MQTT broker inside Joingate: for one machine, with
// nothing to install. It keeps everything in memory; after a restart clients
// subscribe again and gateway bridges tell their state again.
//
// It lets everybody in without a password and therefore listens on loopback
// addresses only. No client slows another down: a subscriber that falls behind
// by more than the limits below loses messages or its connection, which is
// logged and never silent.
//
// Units. Sizes: octets.
package broker

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"syscall"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/hooks/auth"
	"go.uber.org/zap"
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
	// maxAbsence is for how many seconds the session of a client that is away
	// is kept.
	maxAbsence = 60 * 60
	// reportInterval, in seconds, is how often losses are looked for and logged
	// and the $SYS topics are published.
	reportInterval = 10
)

// Options say how to start a broker.
type Options struct {
	// Listen is host and port of a loopback address; port 0 takes a free one.
	Listen string
	// Log receives losses as warnings and the broker's own chatter at debug
	// level; nil: nobody.
	Log *zap.Logger
}

// Broker is a running broker.
type Broker struct {
	server  *mochi.Server
	address net.Addr
	close   func() error
}

// Start listens and serves until Close. It returns when clients can connect. An
// error says in one sentence what to change.
func Start(o Options) (*Broker, error) {
	address, err := loopbackAddress(o.Listen)
	if err != nil {
		return nil, err
	}
	socket, err := net.ListenTCP("tcp", address)
	if err != nil {
		return nil, explain(err, o.Listen)
	}
	log := o.Log
	if log == nil {
		log = zap.NewNop()
	}
	server, err := serve(socket, log)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("embedded broker: %w", err), socket.Close())
	}
	return &Broker{server: server, address: socket.Addr(), close: sync.OnceValue(server.Close)}, nil
}

func serve(socket net.Listener, log *zap.Logger) (*mochi.Server, error) {
	server := mochi.New(&mochi.Options{
		Capabilities:           capabilities(),
		Logger:                 slogTo(log),
		SysTopicResendInterval: reportInterval,
	})
	err := errors.Join(
		server.AddHook(new(auth.AllowHook), nil),
		server.AddHook(&lossReport{log: log}, nil),
		server.AddListener(newListener(socket, log)),
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

// Dropped counts the messages that subscribers lost because they fell behind.
func (b *Broker) Dropped() int64 {
	return atomic.LoadInt64(&b.server.Info.MessagesDropped) + atomic.LoadInt64(&b.server.Info.InflightDropped)
}

// Close disconnects all clients and frees the port. It may be called twice.
func (b *Broker) Close() error { return b.close() }

// loopbackAddress resolves once, so that the address that is checked is the
// one that is used.
func loopbackAddress(listen string) (*net.TCPAddr, error) {
	address, err := net.ResolveTCPAddr("tcp", listen)
	if err != nil {
		return nil, fmt.Errorf("embedded broker: %q is no address to listen on, write it like 127.0.0.1:1883 in [mqtt] embedded_listen: %w", listen, err)
	}
	if !address.IP.IsLoopback() {
		return nil, fmt.Errorf("embedded broker: it lets everybody in without a password and must not listen on %s; "+
			"set [mqtt] embedded_listen to a loopback address such as 127.0.0.1:1883, or run a broker of your own and set [mqtt] url to it", listen)
	}
	return address, nil
}

func explain(err error, listen string) error {
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("embedded broker: %s is in use; set [mqtt] embedded_listen to another port, or [mqtt] url to the broker that runs there: %w", listen, err)
	}
	return fmt.Errorf("embedded broker: cannot listen on %s, set [mqtt] embedded_listen to another address: %w", listen, err)
}
