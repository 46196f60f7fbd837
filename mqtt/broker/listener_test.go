package broker

import (
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/system"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

// flakySocket fails to accept before it accepts, and is closed then.
type flakySocket struct {
	net.Listener
	accepts []func() (net.Conn, error)
}

func (s *flakySocket) Accept() (net.Conn, error) {
	if len(s.accepts) == 0 {
		return nil, net.ErrClosed
	}
	accept := s.accepts[0]
	s.accepts = s.accepts[1:]
	return accept()
}

func (s *flakySocket) Close() error { return nil }

func TestListenerOutlivesFaults(t *testing.T) {
	ours, theirs := net.Pipe()
	core, logged := observer.New(zap.WarnLevel)
	l := newListener(&flakySocket{accepts: []func() (net.Conn, error){
		func() (net.Conn, error) { return nil, errors.New("too many open files") },
		func() (net.Conn, error) { return ours, nil },
	}}, zap.New(core))

	l.Serve(func(string, net.Conn) error { panic("a packet of death") })

	_ = theirs.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := theirs.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the connection that made the broker panic is open: %v", err)
	}
	l.Close(nil)
	if logged.FilterMessageSnippet("try again").Len() != 1 || logged.FilterMessageSnippet("cannot handle").Len() != 1 {
		t.Errorf("logged %v", logged.All())
	}
	if len(l.conns) != 0 {
		t.Errorf("%d connections left", len(l.conns))
	}
}

func TestClientMustSayConnectInTime(t *testing.T) {
	ours, theirs := net.Pipe()
	defer theirs.Close()
	l := newListener(&flakySocket{accepts: []func() (net.Conn, error){
		func() (net.Conn, error) { return ours, nil },
	}}, zap.NewNop())
	l.patience = time.Millisecond
	ended := make(chan error, 1)
	l.Serve(func(_ string, c net.Conn) error {
		_, err := c.Read(make([]byte, 1))
		ended <- err
		return err
	})
	if err := <-ended; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error(err)
	}
	l.Close(nil)
}

// Who has not said CONNECT yet has a place too. The program always has one.
func TestConnectionsAreBounded(t *testing.T) {
	var ends []net.Conn
	socket := &flakySocket{}
	for range 3 {
		ours, theirs := net.Pipe()
		ends = append(ends, theirs)
		socket.accepts = append(socket.accepts, func() (net.Conn, error) { return ours, nil })
	}
	core, logged := observer.New(zap.WarnLevel)
	l := newListener(socket, zap.New(core))
	l.room = 2
	l.Serve(func(_ string, c net.Conn) error {
		_, err := c.Read(make([]byte, 1))
		return err
	})
	if len(l.conns) != 2 || logged.FilterMessageSnippet("too many connections").Len() != 1 {
		t.Errorf("%d connections are served, logged %v", len(l.conns), logged.All())
	}
	if _, err := ends[2].Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("the third connection: %v", err)
	}
	if _, err := l.dial(); err != nil {
		t.Error(err)
	}
	l.Close(nil)
}

func TestLossIsReportedOnce(t *testing.T) {
	core, logged := observer.New(zap.WarnLevel)
	report := lossReport{log: zap.New(core)}
	for _, dropped := range []int64{0, 3, 3, 5} {
		report.OnSysInfoTick(&system.Info{MessagesDropped: dropped, InflightDropped: 1})
	}
	var got []int64
	for _, entry := range logged.All() {
		got = append(got, entry.ContextMap()["dropped"].(int64))
	}
	if len(got) != 3 || got[0] != 1 || got[1] != 3 || got[2] != 2 {
		t.Errorf("reported %v", got)
	}
}
