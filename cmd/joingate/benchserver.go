package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"joingate/config"
	"joingate/sim"
)

// benchWorld is broker, record and servers that bench has started.
type benchWorld struct {
	*bench
	dir    string
	broker *exec.Cmd // mosquitto; nil: the server's own
	url    string    // of mosquitto
	echoed *benchEcho
}

const (
	// startPatience is how long a process may take until it serves.
	startPatience = 60 * time.Second
	// stopPatience is how long it may take to end: a server finishes its joins.
	stopPatience = drainTime + 8*time.Second
)

// prepare starts what all modes share, and registers the devices.
func (w *benchWorld) prepare(ctx context.Context) error {
	if w.bench.broker == "mosquitto" {
		if err := w.startMosquitto(ctx); err != nil {
			return err
		}
	}
	settings, err := config.Load("", w.environment("off"))
	if err != nil {
		return err
	}
	w.load.Devices, err = w.register(ctx, settings)
	return err
}

// environment is the configuration of the servers.
func (w *benchWorld) environment(airtime string) []string {
	own := []string{
		"JOINGATE_CONFIG=", "JOINGATE_DATA_DIR=" + w.dir, "JOINGATE_API__LISTEN=127.0.0.1:0", "JOINGATE_OPS__LISTEN=127.0.0.1:0",
		"JOINGATE_MQTT__EMBEDDED_LISTEN=127.0.0.1:0", "JOINGATE_JOIN__AIRTIME=" + airtime, "JOINGATE_JOIN__COLLECT_WINDOW=" + w.window.String(),
	}
	if w.profile != "" {
		own = append(own, "JOINGATE_OPS__PROFILE=true")
	}
	if w.url != "" {
		own = append(own, "JOINGATE_MQTT__URL="+w.url)
	}
	if w.record != "" {
		own = append(own, "JOINGATE_RECORD__URL="+w.record)
	}
	if w.cache != "" {
		own = append(own, "JOINGATE_CACHE__URL="+w.cache)
	}
	if w.instances > 1 {
		own = append(own, "JOINGATE_MQTT__SHARE_GROUP=bench")
	}
	return overlay(w.environ, own)
}

// overlay replaces variables: of two values of one, the last would not win
// everywhere.
func overlay(environ, own []string) []string {
	all := make([]string, 0, len(environ)+len(own))
	for _, v := range environ {
		name, _, _ := strings.Cut(v, "=")
		replaced := false
		for _, o := range own {
			replaced = replaced || strings.HasPrefix(o, name+"=")
		}
		if !replaced {
			all = append(all, v)
		}
	}
	return append(all, own...)
}

// startMosquitto starts a broker that loses nothing: no limit to its queues.
func (w *benchWorld) startMosquitto(ctx context.Context) error {
	path, err := exec.LookPath("mosquitto")
	if err != nil {
		path = "/usr/sbin/mosquitto" // not in everybody's PATH
	}
	port, err := freePort(ctx)
	if err != nil {
		return err
	}
	file := filepath.Join(w.dir, "mosquitto.conf")
	text := fmt.Sprintf("listener %s 127.0.0.1\nallow_anonymous true\npersistence false\n"+
		"max_queued_messages 0\nmax_inflight_messages 0\nset_tcp_nodelay true\nlog_type error\nlog_dest stderr\n", port)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return err
	}
	w.broker = exec.Command(path, "-c", file)
	w.broker.Stderr = w.stderr
	if err := w.broker.Start(); err != nil {
		w.broker = nil
		return fmt.Errorf("start mosquitto: %w: install it, or leave --broker out", err)
	}
	w.url = "mqtt://127.0.0.1:" + port
	return awaitPort(ctx, "127.0.0.1:"+port)
}

// freePort finds a port. Nobody else takes it in the moment until it is used, or
// the start fails and says so.
func freePort(ctx context.Context) (string, error) {
	var open net.ListenConfig
	listener, err := open.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	_, port, err := net.SplitHostPort(listener.Addr().String())
	return port, errors.Join(err, listener.Close())
}

func awaitPort(ctx context.Context, address string) error {
	return awaitTrue(ctx, address+" to accept connections", func() bool {
		var dial net.Dialer
		conn, err := dial.DialContext(ctx, "tcp", address)
		if err != nil {
			return false
		}
		_ = conn.Close()
		return true
	})
}

// awaitTrue polls until the condition holds.
func awaitTrue(ctx context.Context, what string, holds func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	for !holds() {
		select {
		case <-ctx.Done():
			return fmt.Errorf("waited for %s: %w", what, ctx.Err())
		case <-look.C:
		}
	}
	return nil
}

func (w *benchWorld) stopBroker() error {
	if w.broker == nil {
		return nil
	}
	return stopProcess(w.broker)
}

// stopProcess ends a process as an operator does.
func stopProcess(c *exec.Cmd) error {
	_ = c.Process.Signal(syscall.SIGTERM) // it may have ended
	kill := time.AfterFunc(stopPatience, func() { _ = c.Process.Kill() })
	defer kill.Stop()
	if err := c.Wait(); err != nil {
		return fmt.Errorf("%s, process %d: %w", filepath.Base(c.Path), c.Process.Pid, err)
	}
	return nil
}

// benchServer is one joingate serve.
type benchServer struct {
	command            *exec.Cmd
	broker, operations string // as announced
}

// startServer starts this program again, as serve, and waits until it is ready.
func (w *benchWorld) startServer(ctx context.Context, environ []string, number int) (s *benchServer, err error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	logPath := filepath.Join(w.dir, fmt.Sprintf("serve-%d.log", number))
	log, err := os.Create(logPath)
	if err != nil {
		return nil, err
	}
	defer log.Close() // the process has a handle of its own
	s = &benchServer{command: exec.Command(self, "serve")}
	s.command.Env, s.command.Dir, s.command.Stderr = environ, w.dir, log
	out, err := s.command.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := s.command.Start(); err != nil {
		return nil, err
	}
	if err := s.awaitReady(ctx, out); err != nil {
		return nil, errors.Join(err, stopProcess(s.command), lastLines(logPath))
	}
	return s, nil
}

// awaitReady reads the announcement to its end and waits for /readyz.
func (s *benchServer) awaitReady(ctx context.Context, out io.Reader) error {
	lines := bufio.NewScanner(out)
	for s.operations == "" || s.broker == "" {
		if !lines.Scan() {
			return errors.New("the server ended before it was ready")
		}
		switch fields := strings.Fields(lines.Text()); {
		case len(fields) < 2:
		case fields[0] == "gateways":
			s.broker = fields[1]
		case fields[0] == "operations":
			s.operations = fields[1]
		}
	}
	go func() { _, _ = io.Copy(io.Discard, out) }() // so that it never blocks
	return awaitTrue(ctx, "the server to be ready", func() bool {
		_, err := fetch(ctx, s.operations+"/readyz")
		return err == nil
	})
}

// lastLines makes an error of the end of a log.
func lastLines(path string) error {
	const most = 2000
	text, err := os.ReadFile(path)
	if err != nil || len(text) == 0 {
		return err
	}
	return fmt.Errorf("the server's last words: %s", text[max(0, len(text)-most):])
}

// measure starts the servers, loads them and stops them.
func (w *benchWorld) measure(ctx context.Context, airtime string) (run benchRun, err error) {
	var servers []*benchServer
	defer func() {
		for _, s := range servers {
			err = errors.Join(err, stopProcess(s.command))
		}
	}()
	environ := w.environment(airtime)
	processes := w.givenProcesses()
	var metrics []string
	for i := range w.instances {
		s, err := w.startServer(ctx, environ, i)
		if err != nil {
			return run, err
		}
		servers = append(servers, s)
		processes = append(processes, benchProcess{Name: "joingate serve", PID: s.command.Process.Pid, server: true})
		metrics = append(metrics, s.operations+"/metrics")
	}
	if w.broker != nil {
		processes = append(processes, benchProcess{Name: "mosquitto", PID: w.broker.Process.Pid})
	}
	w.load.Broker.URL = servers[0].broker
	run.Airtime = airtime
	if err := w.bench.measure(ctx, &run, metrics, processes); err != nil {
		return run, err
	}
	if w.echo && w.broker == nil && w.echoed == nil {
		w.echoed, err = w.echoRun(ctx, nil) // while its broker lives
	}
	return run, err
}

// measureEcho gives the transport's limit beside what the runs have reached.
func (w *benchWorld) measureEcho(ctx context.Context, runs []benchRun) (*benchEcho, error) {
	if w.echoed != nil {
		w.echoed.compare(runs)
		return w.echoed, nil
	}
	return w.echoRun(ctx, runs)
}

// echoRun measures the transport in a closed loop, under a prefix that no server
// listens to.
func (b *bench) echoRun(ctx context.Context, runs []benchRun) (*benchEcho, error) {
	b.say("echo: broker and load alone")
	o := b.load
	o.Prefix, o.Echo, o.Burst, o.ForgedRate = "bench/echo", true, 0, 0
	o.Open, o.Duration = echoOpen, min(max(o.Duration, time.Second), 5*time.Second)
	o.Rate, o.Progress = echoRate, b.showLoad
	report, err := sim.Load(ctx, o)
	if err != nil {
		return nil, err
	}
	e := &benchEcho{JoinsPerSecond: report.AnswersPerSecond, Answered: report.Answered, Sent: report.Joins}
	e.compare(runs)
	return e, nil
}

const (
	echoOpen = 2000    // joins under way: enough that nobody waits for anybody
	echoRate = 200_000 // joins per second, more than there can be
)
