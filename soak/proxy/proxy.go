// Package proxy is a network that can be disturbed: a TCP proxy between two
// programs that delays, throttles, holds, loses or cuts what passes.
//
// Units. Delay: of each direction. Rate: octets per second.
package proxy

import (
	"errors"
	"net"
	"sync"
	"time"
)

// State is what a proxy does with what passes. The zero value lets it pass.
type State struct {
	Delay time.Duration // of each direction
	// Rate bounds what the server sends to each client; 0: no bound. The server
	// sees a slow consumer.
	Rate int
	// Hold: nothing passes, and nothing is lost, as when packets are lost for a
	// while. New connections are taken and wait.
	Hold bool
	// Lose: what is sent vanishes and the connections stay open, as when the other
	// machine has gone without a word. Those that lost something never recover.
	Lose bool
	// Cut: connections break, and new ones are ended at once.
	Cut bool
}

// Proxy stands before one server.
type Proxy struct {
	to       string
	listener net.Listener
	tasks    sync.WaitGroup

	mu      sync.Mutex
	state   State
	changed chan struct{} // closed when the state changes
	wires   map[*wire]struct{}
	closed  bool
}

// wire is one connection through the proxy.
type wire struct {
	client, server net.Conn
	torn           bool // something was lost; the lock is the proxy's
}

// Open listens on a free port of the loopback interface, for clients of the server
// at the address. The server need not be there yet.
func Open(to string) (*Proxy, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &Proxy{to: to, listener: listener, changed: make(chan struct{}), wires: map[*wire]struct{}{}}
	p.tasks.Go(p.accept)
	return p, nil
}

// Address is where clients connect: "127.0.0.1:40001".
func (p *Proxy) Address() string { return p.listener.Addr().String() }

// Set puts the proxy into a state. Connections that lost something break when it
// is another one than losing.
func (p *Proxy) Set(s State) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.state = s
	close(p.changed)
	p.changed = make(chan struct{})
	for w := range p.wires {
		if s.Cut || w.torn && !s.Lose {
			w.close()
		}
	}
}

// Heal lets everything pass again.
func (p *Proxy) Heal() { p.Set(State{}) }

// Close breaks all connections and waits until they have ended.
func (p *Proxy) Close() error {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.Set(State{Cut: true})
	err := p.listener.Close()
	p.tasks.Wait()
	return err
}

func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil {
			p.tasks.Go(func() { p.serve(client) })
		}
	}
}

// serve carries one connection until an end of it is closed. Without a server the
// client finds out at once, as without a proxy.
func (p *Proxy) serve(client net.Conn) {
	server, err := net.Dial("tcp", p.to)
	if err != nil {
		_ = client.Close()
		return
	}
	w := &wire{client: client, server: server}
	if !p.add(w) {
		return
	}
	var both sync.WaitGroup
	both.Go(func() { p.carry(w, server, client, false) })
	both.Go(func() { p.carry(w, client, server, true) })
	both.Wait()
	w.close()
	p.mu.Lock()
	delete(p.wires, w)
	p.mu.Unlock()
}

// add is false while the proxy is cut.
func (p *Proxy) add(w *wire) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state.Cut || p.closed {
		w.close()
		return false
	}
	p.wires[w] = struct{}{}
	return true
}

// close may be called again and again.
func (w *wire) close() {
	_, _ = w.client.Close(), w.server.Close()
}

// chunk is what was read at once, and when it was.
type chunk struct {
	octets []byte
	read   time.Time
}

// underWay is how many chunks are on their way in one direction; more wait with the
// sender.
const underWay = 64

// carry takes one direction of a wire. Reading and writing are apart, so that a
// delay does not bound what passes in a second.
func (p *Proxy) carry(w *wire, to, from net.Conn, slowly bool) {
	chunks := make(chan chunk, underWay)
	go func() {
		defer close(chunks)
		for {
			buffer := make([]byte, 16<<10)
			n, err := from.Read(buffer)
			if err != nil {
				return
			}
			chunks <- chunk{buffer[:n], time.Now()}
		}
	}()
	for c := range chunks {
		if err := p.pass(w, to, c, slowly); err != nil {
			w.close()
		}
	}
	p.awaitNotHeld()
	w.close() // the other side hears of an end only when something may pass
}

// pass lets a chunk by in the way of the state.
func (p *Proxy) pass(w *wire, to net.Conn, c chunk, slowly bool) error {
	s := p.awaitNotHeld()
	if s.Delay > 0 {
		time.Sleep(time.Until(c.read.Add(s.Delay)))
	}
	if s.Lose {
		p.mu.Lock()
		w.torn = true
		p.mu.Unlock()
		return nil
	}
	if slowly && s.Rate > 0 {
		return p.trickle(to, c.octets, s.Rate)
	}
	_, err := to.Write(c.octets)
	return err
}

// trickle writes at the rate, and the rest at once when the state changes.
func (p *Proxy) trickle(to net.Conn, octets []byte, rate int) error {
	const tick = 20 * time.Millisecond
	_, changed := p.current()
	portion := max(1, int(float64(rate)*tick.Seconds()))
	for len(octets) > portion {
		if _, err := to.Write(octets[:portion]); err != nil {
			return err
		}
		octets = octets[portion:]
		select {
		case <-time.After(tick):
		case <-changed:
			portion = len(octets)
		}
	}
	_, err := to.Write(octets)
	return err
}

func (p *Proxy) current() (State, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.state, p.changed
}

// awaitNotHeld returns once something may pass, with the state in which it may.
func (p *Proxy) awaitNotHeld() State {
	for {
		s, changed := p.current()
		if !s.Hold {
			return s
		}
		<-changed
	}
}
