package broker

import (
	"errors"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/mochi-mqtt/server/v2/listeners"
	"go.uber.org/zap"
)

// connectTimeout is how long a client may take from opening the connection to
// its CONNECT packet; then its keep-alive rules.
const connectTimeout = 10 * time.Second

// acceptPause is the wait after a failed accept, for example with all file
// descriptors in use. Giving up would lock all gateways out for good.
const acceptPause = 100 * time.Millisecond

// listener hands connections to mochi. It differs from mochi's own in six
// things: a failed accept does not end it, connections that are too many end at
// once, a client that never says CONNECT does not stay, a client that does not read stops nobody else, a packet that
// makes the broker panic costs its sender the connection and not everybody the
// process, and Close leaves nobody behind.
type listener struct {
	socket net.Listener
	log    *zap.Logger
	seldom *zap.Logger // for what strangers can have written
	// patience is connectTimeout and room is maxConnections, but for tests.
	patience time.Duration
	room     int

	// establish is mochi's: it serves a connection. It is there once serves is closed.
	establish listeners.EstablishFn
	serves    chan struct{}

	mu      sync.Mutex
	conns   map[*conn]struct{}
	closed  bool
	serving sync.WaitGroup // one per connection
}

var _ listeners.Listener = (*listener)(nil)

func newListener(socket net.Listener, log *zap.Logger) *listener {
	return &listener{socket: socket, log: log, seldom: seldom(log), patience: connectTimeout, room: maxConnections, serves: make(chan struct{}), conns: map[*conn]struct{}{}}
}

// Init has nothing to do: the socket is open already.
func (l *listener) Init(*slog.Logger) error { return nil }

// ID names the listener among those of the broker.
func (l *listener) ID() string { return "tcp" }

// Address is where it listens.
func (l *listener) Address() string { return l.socket.Addr().String() }

// Protocol is that of the connections.
func (l *listener) Protocol() string { return "tcp" }

// Serve accepts connections until Close.
func (l *listener) Serve(establish listeners.EstablishFn) {
	l.establish = establish
	close(l.serves)
	for {
		socket, err := l.socket.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil:
			l.log.Warn("embedded broker cannot accept a connection and will try again", zap.Error(err))
			time.Sleep(acceptPause)
		default:
			l.start(socket, false)
		}
	}
}

// dial makes a connection that never leaves the process.
func (l *listener) dial() (net.Conn, error) {
	<-l.serves
	near, far := net.Pipe()
	if !l.start(far, true) {
		return nil, net.ErrClosed
	}
	return near, nil
}

func (l *listener) start(socket net.Conn, local bool) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if full := !local && len(l.conns) >= l.room; full || l.closed {
		if full {
			l.seldom.Warn("embedded broker hung up on a client: too many connections are open",
				zap.Stringer("client", socket.RemoteAddr()), zap.Int("most", l.room))
		}
		_ = socket.Close()
		return false
	}
	c := newConn(socket, local, l.log)
	l.conns[c] = struct{}{}
	l.serving.Add(1)
	go l.serve(c)
	return true
}

func (l *listener) serve(c *conn) {
	defer l.end(c)
	defer func() {
		if fault := recover(); fault != nil {
			l.log.Error("embedded broker met a packet that it cannot handle and dropped the client",
				zap.Stringer("client", c.RemoteAddr()), zap.Any("fault", fault), zap.Stack("stack"))
		}
	}()
	_ = c.SetDeadline(time.Now().Add(l.patience))
	err := l.establish(l.ID(), c)
	l.log.Debug("embedded broker: client is gone", zap.Stringer("client", c.RemoteAddr()), zap.Error(err))
}

func (l *listener) end(c *conn) {
	_ = c.Close()
	<-c.done
	l.mu.Lock()
	delete(l.conns, c)
	l.mu.Unlock()
	l.serving.Done()
}

// Close ends all connections, also those that have not said CONNECT and those
// that do not read, and waits for them. MQTT 3.1.1 knows no parting word of a
// broker, so there is none.
func (l *listener) Close(listeners.CloseFn) {
	l.mu.Lock()
	l.closed = true
	_ = l.socket.Close()
	for c := range l.conns {
		_ = c.Close()
	}
	l.mu.Unlock()
	l.serving.Wait()
}
