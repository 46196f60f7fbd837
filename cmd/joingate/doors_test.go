package main

import (
	"io"
	"net"
	"strings"
	"testing"
)

func TestPublicWithoutTLS(t *testing.T) {
	for _, c := range []struct {
		address string
		public  bool
	}{
		{"127.0.0.1:8080", false},
		{"127.9.9.9:0", false},
		{"[::1]:8080", false},
		{"[::ffff:127.0.0.1]:8080", false},
		{"localhost:8080", false},
		{":8080", true},
		{"0.0.0.0:8080", true},
		{"[::]:8080", true},
		{"192.0.2.1:8080", true},
		{"10.0.0.1:8080", true}, // private, and still other machines'
		{"[fe80::1%eth0]:8080", true},
		{"localhost.example:8080", true},
		{"127.0.0.1.example:8080", true},
		{"0:8080", true},
		{"nonsense", true},
		{"", true},
	} {
		if err := publicWithoutTLS("api.listen", c.address, false, false); (err != nil) != c.public {
			t.Errorf("%s: %v", c.address, err)
		}
		if err := publicWithoutTLS("api.listen", c.address, true, false); err != nil {
			t.Errorf("%s with TLS: %v", c.address, err)
		}
		if err := publicWithoutTLS("api.listen", c.address, false, true); err != nil {
			t.Errorf("%s that is insecure by name: %v", c.address, err)
		}
	}
}

func TestPublicWithoutTLSNamesTheKeys(t *testing.T) {
	for key, want := range map[string][]string{
		"api.listen":           {"api.tls_cert", "api.tls_key", "api.insecure"},
		"ops.listen":           {"ops.tls_cert", "ops.tls_key", "ops.insecure"},
		"mqtt.embedded_listen": {"mqtt.embedded_tls_cert", "mqtt.embedded_tls_key", "mqtt.embedded_insecure"},
	} {
		err := publicWithoutTLS(key, ":1", false, false)
		for _, name := range want {
			if !strings.Contains(err.Error(), name) {
				t.Errorf("%v does not name %s", err, name)
			}
		}
	}
}

// arrivals is a listener whose connections come from given addresses.
type arrivals struct {
	net.Listener
	from chan string
}

type arrival struct {
	net.Conn
	from string
}

func (a arrival) RemoteAddr() net.Addr { return address(a.from) }

type address string

func (address) Network() string  { return "tcp" }
func (a address) String() string { return string(a) }

func (a arrivals) Accept() (net.Conn, error) {
	from, more := <-a.from
	if !more {
		return nil, io.EOF
	}
	ours, _ := net.Pipe()
	return arrival{ours, from}, nil
}

// accepted gives the addresses of the connections that came through.
func accepted(l net.Listener) (from []string, conns []net.Conn) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return from, conns
		}
		from, conns = append(from, conn.RemoteAddr().String()), append(conns, conn)
	}
}

func arrive(from ...string) arrivals {
	a := arrivals{from: make(chan string, len(from))}
	for _, f := range from {
		a.from <- f
	}
	close(a.from)
	return a
}

func TestBoundedListener(t *testing.T) {
	for name, c := range map[string]struct{ come, stay string }{
		"one address":          {"1.1.1.1:1 1.1.1.1:2 1.1.1.1:3", "1.1.1.1:1 1.1.1.1:2"},
		"in all":               {"1.1.1.1:1 1.1.1.2:1 1.1.1.3:1 1.1.1.4:1", "1.1.1.1:1 1.1.1.2:1 1.1.1.3:1"},
		"a network of IPv6":    {"[2001:db8::1]:1 [2001:db8::2]:1 [2001:db8::3]:1 [2001:db8:0:1::]:1", "[2001:db8::1]:1 [2001:db8::2]:1 [2001:db8:0:1::]:1"},
		"IPv4 written as IPv6": {"1.1.1.1:1 [::ffff:1.1.1.1]:2 1.1.1.1:3 [::ffff:1.1.1.2]:1", "1.1.1.1:1 [::ffff:1.1.1.1]:2 [::ffff:1.1.1.2]:1"},
		"no IP address":        {"@ @ @", "@ @"},
	} {
		t.Run(name, func(t *testing.T) {
			stay, _ := accepted(bounded(arrive(strings.Fields(c.come)...), 3, 2))
			if got := strings.Join(stay, " "); got != c.stay {
				t.Errorf("stay %s, want %s", got, c.stay)
			}
		})
	}
}

// A closed connection makes room once, however often it is closed.
func TestBoundedListenerForgetsTheGone(t *testing.T) {
	l := bounded(arrive("1.1.1.1:1"), 2, 1).(*boundedListener)
	_, conns := accepted(l)
	_ = conns[0].Close()
	_ = conns[0].Close()
	if l.sum != 0 || len(l.open) != 0 {
		t.Errorf("%d are open, of %v", l.sum, l.open)
	}
	l.Listener = arrive("1.1.1.1:2", "1.1.1.1:3", "1.1.1.2:1")
	if stay, _ := accepted(l); strings.Join(stay, " ") != "1.1.1.1:2 1.1.1.2:1" {
		t.Errorf("stay %v", stay)
	}
}
