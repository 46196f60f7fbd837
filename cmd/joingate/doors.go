package main

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
)

// publicWithoutTLS refuses an address beyond this machine that has no TLS, unless
// the operator has said by name that it may be so. key is the configuration's
// key of the address, as in "api.listen"; its neighbours are named in the error.
// An address that cannot be read counts as public.
func publicWithoutTLS(key, address string, tls, insecure bool) error {
	if tls || insecure || isLoopback(address) {
		return nil
	}
	neighbour := strings.TrimSuffix(key, "listen")
	return fmt.Errorf("%s = %q is open to other machines and has no TLS: whoever is on the way reads and changes what is said there. "+
		"Set %stls_cert and %stls_key, or listen on 127.0.0.1; set %sinsecure = true if something in front of it has TLS",
		key, address, neighbour, neighbour, neighbour)
}

// isLoopback reports whether HOST:PORT is this machine only. A name other than
// localhost may be any machine tomorrow.
func isLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}

// Connections that one port holds, and of them those of one address; an IPv6
// address is a /64. A proxy in front of the port is one address.
const (
	mostConnections    = 1024
	mostConnectionsOne = 256
)

// boundedListener hangs up at once on connections that are too many, so that
// clients who hold theirs open leave room for others, and files for the record.
type boundedListener struct {
	net.Listener
	total, each int

	mu   sync.Mutex
	open map[netip.Prefix]int
	sum  int
}

// bounded limits the connections of a listener in all and for each address.
func bounded(l net.Listener, total, each int) net.Listener {
	return &boundedListener{Listener: l, total: total, each: each, open: map[netip.Prefix]int{}}
}

// Accept gives the next connection that there is room for.
func (l *boundedListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		from := networkOf(conn.RemoteAddr())
		if l.enter(from) {
			return &boundedConn{Conn: conn, leave: sync.OnceFunc(func() { l.leave(from) })}, nil
		}
		_ = conn.Close()
	}
}

func (l *boundedListener) enter(from netip.Prefix) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.sum >= l.total || l.open[from] >= l.each {
		return false
	}
	l.sum++
	l.open[from]++
	return true
}

func (l *boundedListener) leave(from netip.Prefix) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sum--
	if l.open[from]--; l.open[from] == 0 {
		delete(l.open, from)
	}
}

// networkOf gives the network that connections are counted by. What is no IP
// address is one network.
func networkOf(address net.Addr) netip.Prefix {
	at, err := netip.ParseAddrPort(address.String())
	if err != nil {
		return netip.Prefix{}
	}
	ip, bits := at.Addr().Unmap().WithZone(""), 64
	if ip.Is4() {
		bits = 32
	}
	network, _ := ip.Prefix(bits) // bits fit the address
	return network
}

// boundedConn gives its place back when it is closed.
type boundedConn struct {
	net.Conn
	leave func()
}

// Close closes the connection; it may be called twice.
func (c *boundedConn) Close() error {
	err := c.Conn.Close()
	c.leave()
	return err
}

// CloseWrite lets net/http end an answer before it hangs up on what it did not
// read.
func (c *boundedConn) CloseWrite() error {
	half, ok := c.Conn.(interface{ CloseWrite() error })
	if !ok {
		return nil
	}
	return half.CloseWrite()
}
