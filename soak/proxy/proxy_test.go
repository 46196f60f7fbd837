package proxy_test

import (
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"joingate/soak/proxy"
)

// echo answers with what it hears, until the test ends.
func echo(t *testing.T) (address string) {
	t.Helper()
	l := must[net.Listener](t)(net.Listen("tcp", "127.0.0.1:0"))
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(conn, conn)
				_ = conn.Close()
			}()
		}
	}()
	return l.Addr().String()
}

func open(t *testing.T) *proxy.Proxy {
	t.Helper()
	p := must[*proxy.Proxy](t)(proxy.Open(echo(t)))
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// line is a connection through a proxy.
type line struct {
	t *testing.T
	net.Conn
}

func connect(t *testing.T, p *proxy.Proxy) line {
	t.Helper()
	conn := must[net.Conn](t)(net.Dial("tcp", p.Address()))
	t.Cleanup(func() { _ = conn.Close() })
	return line{t, conn}
}

const patience = 10 * time.Second

// wants sends a word and wants it back.
func (l line) wants(word string) {
	l.t.Helper()
	l.says(word)
	l.hears(word)
}

func (l line) says(word string) {
	l.t.Helper()
	if _, err := io.WriteString(l, word); err != nil {
		l.t.Fatal(err)
	}
}

func (l line) hears(word string) {
	l.t.Helper()
	got := make([]byte, len(word))
	_ = l.SetReadDeadline(time.Now().Add(patience))
	if _, err := io.ReadFull(l, got); err != nil || string(got) != word {
		l.t.Fatalf("heard %q, want %q: %v", got, word, err)
	}
}

// silent: nothing comes for a moment, and the connection stays.
func (l line) silent() {
	l.t.Helper()
	_ = l.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if n, err := l.Read(make([]byte, 1)); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		l.t.Fatalf("%d octets came: %v", n, err)
	}
}

// broken: the connection ends.
func (l line) broken() {
	l.t.Helper()
	_ = l.SetReadDeadline(time.Now().Add(patience))
	if n, err := l.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		l.t.Fatalf("the connection goes on, %d octets came: %v", n, err)
	}
}

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func TestPass(t *testing.T) {
	p := open(t)
	l := connect(t, p)
	l.wants("hello")
	p.Set(proxy.State{Delay: 30 * time.Millisecond})
	began := time.Now()
	l.wants("slowly")
	if took := time.Since(began); took < 60*time.Millisecond {
		t.Errorf("there and back took %s with 30ms each way", took)
	}
	p.Heal()
	l.wants("and fast")
}

func TestHold(t *testing.T) {
	p := open(t)
	l := connect(t, p)
	l.wants("hello")
	p.Set(proxy.State{Hold: true})
	l.says("held")
	l.silent()
	late := connect(t, p)
	late.says("held too")
	late.silent()
	p.Heal()
	l.hears("held")
	late.hears("held too")
}

func TestLose(t *testing.T) {
	p := open(t)
	l, idle := connect(t, p), connect(t, p)
	l.wants("hello")
	idle.wants("hello")
	p.Set(proxy.State{Lose: true})
	l.says("lost")
	l.silent()
	p.Heal()
	l.broken()
	idle.wants("nothing of this one was lost")
}

func TestCut(t *testing.T) {
	p := open(t)
	l := connect(t, p)
	l.wants("hello")
	p.Set(proxy.State{Cut: true})
	l.broken()
	connect(t, p).broken()
	p.Heal()
	connect(t, p).wants("again")
}

func TestRate(t *testing.T) {
	p := open(t)
	l := connect(t, p)
	l.wants("hello")
	p.Set(proxy.State{Rate: 5000})
	word := string(make([]byte, 1000))
	began := time.Now()
	l.wants(word)
	if took := time.Since(began); took < 150*time.Millisecond {
		t.Errorf("1,000 octets at 5,000 a second took %s", took)
	}
	l.says(string(make([]byte, 100_000)))
	p.Heal()
	l.hears(string(make([]byte, 100_000)))
}

// A server that is not there is found out at once, and used once it is.
func TestNoServer(t *testing.T) {
	address := echo(t)
	gone := must[net.Listener](t)(net.Listen("tcp", "127.0.0.1:0"))
	_ = gone.Close()
	p := must[*proxy.Proxy](t)(proxy.Open(gone.Addr().String()))
	connect(t, p).broken()
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	p = must[*proxy.Proxy](t)(proxy.Open(address))
	l := connect(t, p)
	l.wants("hello")
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	l.broken()
}

// The end of a connection passes as everything else does.
func TestEnd(t *testing.T) {
	p := open(t)
	l := connect(t, p)
	l.wants("hello")
	if err := l.Conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	l.broken()
}
