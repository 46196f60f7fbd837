package broker

import (
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
)

// maxBacklog is how many octets wait for a client that does not read. One more
// and it is disconnected, so that it knows that it missed something.
const maxBacklog = 32 << 20

// farewell is the time in which a closing connection may still deliver what
// was written before, such as the reason of a refusal.
const farewell = time.Second

// keptBuffer is the largest buffer that a connection keeps for its next write.
const keptBuffer = 64 << 10

var errBacklog = errors.New("client does not read what it subscribed to")

// conn is a connection to which writing never waits. Mochi writes under a lock
// that every publisher to the client needs too: on a plain connection one
// subscriber that stops reading stops them all.
type conn struct {
	net.Conn
	local bool // the program's own
	log   *zap.Logger
	done  chan struct{} // closed when the connection is
	who   identity      // set once the client is let in
	trust atomic.Pointer[trust]

	mu      sync.Mutex
	changed sync.Cond // pending or closing has changed
	pending []byte    // written, not yet being sent
	sending int       // octets
	closing bool
}

func newConn(socket net.Conn, local bool, log *zap.Logger) *conn {
	c := &conn{Conn: socket, local: local, log: log, done: make(chan struct{})}
	c.changed.L = &c.mu
	go c.send()
	return c
}

// Write takes the octets to send them soon.
func (c *conn) Write(octets []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing {
		return 0, net.ErrClosed
	}
	if c.sending+len(c.pending)+len(octets) > maxBacklog {
		c.log.Warn("embedded broker disconnected a client that does not read what it subscribed to",
			zap.Stringer("client", c.RemoteAddr()), zap.Int("octets_waiting", c.sending+len(c.pending)))
		c.pending = nil
		c.close()
		return 0, errBacklog
	}
	c.pending = append(c.pending, octets...)
	c.changed.Signal()
	return len(octets), nil
}

// Close ends reading at once, and writing after a farewell. Wait on done for
// the end.
func (c *conn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.close()
	return nil
}

func (c *conn) close() {
	if c.closing {
		return
	}
	c.closing = true
	_ = c.SetReadDeadline(time.Unix(1, 0))
	_ = c.SetWriteDeadline(time.Now().Add(farewell))
	c.changed.Signal()
}

// SetDeadline leaves a closing connection alone.
func (c *conn) SetDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing {
		return net.ErrClosed
	}
	return c.Conn.SetDeadline(t)
}

// send writes to the network until the connection closes or breaks.
func (c *conn) send() {
	defer close(c.done)
	defer c.Conn.Close()
	var buffer []byte
	for {
		batch, more := c.take(buffer)
		if err := c.sendNow(batch); err != nil || !more {
			_ = c.Close()
			return
		}
		buffer = nil
		if cap(batch) <= keptBuffer {
			buffer = batch[:0]
		}
	}
}

func (c *conn) sendNow(batch []byte) error {
	if len(batch) == 0 {
		return nil
	}
	_, err := c.Conn.Write(batch)
	return err
}

// take waits for something to send and puts an empty buffer in its place. It
// reports whether more may come.
func (c *conn) take(buffer []byte) (batch []byte, more bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sending = 0
	for len(c.pending) == 0 && !c.closing {
		c.changed.Wait()
	}
	batch, c.pending = c.pending, buffer
	c.sending = len(batch)
	return batch, !c.closing
}
