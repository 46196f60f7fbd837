package main

import (
	"bufio"
	"context"
	"net"
	"strings"
	"testing"

	"joingate/config"

	"go.uber.org/zap"
)

// localServer is a server in this process that needs nothing; change may ask for more.
func localServer(t testing.TB, change func(*config.Config)) *server {
	t.Helper()
	c := config.Default()
	c.DataDir = t.TempDir()
	c.MQTT.EmbeddedListen, c.API.Listen, c.Ops.Listen = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"
	change(&c)
	s, err := startServer(t.Context(), c, zap.NewNop())
	check(t, err)
	return s
}

// slowCaller begins a call that it does not end: the server waits for its body.
func slowCaller(t testing.TB, s *server) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.apiURL, "http://"))
	check(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	_, err = conn.Write([]byte("POST / HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n"))
	check(t, err)
	if line, err := bufio.NewReader(conn).ReadString('\n'); err != nil || !strings.Contains(line, "100 Continue") {
		t.Fatalf("the server does not wait for the body: %q, %v", line, err)
	}
	return conn
}

// Joins are finished while a caller is slow, and the caller does not make a clean
// stop a failure.
func TestSlowCallerTakesNoTimeOfJoins(t *testing.T) {
	t.Parallel()
	s := localServer(t, func(*config.Config) {})
	slowCaller(t, s)
	ctx, giveUp := context.WithCancel(context.Background())
	defer giveUp()
	ended := make(chan error, 1)
	go func() { ended <- s.end(ctx) }()
	eventually(t, "joins are finished and the broker is left", func() bool { return s.edge.Ready() != nil })
	select {
	case err := <-ended:
		t.Errorf("ended although the caller has time: %v", err)
	default:
	}
	giveUp()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// A collector of traces that does not answer does not make a clean stop a failure.
func TestStopWithoutCollector(t *testing.T) {
	t.Parallel()
	mute, err := net.Listen("tcp", "127.0.0.1:0") // the system accepts, and nobody answers
	check(t, err)
	defer mute.Close()
	s := localServer(t, func(c *config.Config) { c.Tracing.URL = "http://" + mute.Addr().String() })
	_, span := s.tracer.Start(t.Context(), "a join")
	span.End()
	if err := s.close(); err != nil {
		t.Error(err)
	}
}
