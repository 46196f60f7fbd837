package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// asProgram in the environment makes this test binary the program itself, so
// that tests start it as a process without a build of its own.
const asProgram = "JOINGATE_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
	}
	os.Exit(m.Run())
}

// patience is how long a test waits for what must come. It is no promise of the
// program: the machine may be busy.
const patience = 60 * time.Second

// eventually polls until the condition holds.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	look := time.NewTicker(10 * time.Millisecond)
	defer look.Stop()
	for deadline := time.Now().Add(patience); !holds(); <-look.C {
		if time.Now().After(deadline) {
			t.Fatalf("in %s this did not come true: %s", patience, what)
		}
	}
}

// check ends the test on an error.
func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// machine is a folder to work in and the environment of the program there.
type machine struct {
	t       testing.TB
	dir     string
	environ []string
}

// newMachine is one on which nothing of Joingate is: no file, no variable but
// those that keep tests apart, and those given.
func newMachine(t testing.TB, variables ...string) machine {
	m := machine{t: t, dir: t.TempDir()}
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "JOINGATE_") {
			m.environ = append(m.environ, v)
		}
	}
	// Simulated devices do not wait until their frames have been on the air: what
	// plans for gateways that do would find them busy. The race detector would wait a
	// second at the end of each process.
	return m.with(asProgram+"=1", "GORACE=atexit_sleep_ms=0", "JOINGATE_JOIN__AIRTIME=off", "JOINGATE_API__LISTEN=127.0.0.1:0", "JOINGATE_OPS__LISTEN=127.0.0.1:0",
		"JOINGATE_MQTT__EMBEDDED_LISTEN=127.0.0.1:0", "JOINGATE_LOG__FORMAT=json").with(variables...)
}

// with gives the same machine with further variables, which win.
func (m machine) with(variables ...string) machine {
	m.environ = append(m.environ[:len(m.environ):len(m.environ)], variables...)
	return m
}

// write puts a file into the machine's folder and gives its path.
func (m machine) write(name, text string) string {
	m.t.Helper()
	path := filepath.Join(m.dir, name)
	check(m.t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

// outcome is what a command did.
type outcome struct {
	command        string
	stdout, stderr string
	status         int
}

func (m machine) command(ctx context.Context, args ...string) *exec.Cmd {
	m.t.Helper()
	self, err := os.Executable()
	check(m.t, err)
	c := exec.CommandContext(ctx, self, args...)
	c.Dir, c.Env = m.dir, m.environ
	return c
}

// try runs a command to its end.
func (m machine) try(args ...string) outcome {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	c := m.command(ctx, args...)
	var stdout, stderr bytes.Buffer
	c.Stdout, c.Stderr = &stdout, &stderr
	err := c.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		m.t.Fatalf("joingate %s: %v", strings.Join(args, " "), err)
	}
	return outcome{"joingate " + strings.Join(args, " "), stdout.String(), stderr.String(), c.ProcessState.ExitCode()}
}

// run runs a command that has to succeed and gives what it printed.
func (m machine) run(args ...string) string {
	m.t.Helper()
	o := m.try(args...)
	if o.status != 0 {
		m.t.Fatalf("%s: exit status %d\n%s%s", o.command, o.status, o.stdout, o.stderr)
	}
	return o.stdout
}

// daemon is a joingate serve that runs as a process.
type daemon struct {
	machine
	process  *os.Process
	out, log *transcript
	ended    chan struct{} // closed when the process has ended
	status   int           // once it has

	api, broker, operations, record, keyFile string // as announced
}

// serve starts the program and waits until it is ready.
func (m machine) serve() *daemon {
	m.t.Helper()
	d := m.launch()
	d.awaitReady()
	return d
}

// launch starts the program and waits for its announcement.
func (m machine) launch() *daemon {
	m.t.Helper()
	d := &daemon{machine: m, out: newTranscript(), log: newTranscript(), ended: make(chan struct{})}
	c := m.command(context.Background(), "serve")
	c.Stdout, c.Stderr = d.out, d.log
	check(m.t, c.Start())
	d.process = c.Process
	go func() {
		defer close(d.ended)
		_ = c.Wait()
		d.status = c.ProcessState.ExitCode()
	}()
	m.t.Cleanup(d.cleanUp)
	d.readAnnouncement()
	return d
}

func (d *daemon) readAnnouncement() {
	d.t.Helper()
	for name, value := range map[string]*string{
		"admin API": &d.api, "gateways": &d.broker, "operations": &d.operations, "record": &d.record, "key file": &d.keyFile,
	} {
		eventually(d.t, "serve announces its "+name, func() bool {
			if d.hasEnded() {
				d.t.Fatalf("serve ended with status %d before it announced its %s\n%s", d.status, name, d.log)
			}
			*value = d.announced(name)
			return *value != ""
		})
	}
}

// announced finds a line of the announcement and gives its first word.
func (d *daemon) announced(name string) string {
	for line := range strings.Lines(d.out.String()) {
		rest, found := strings.CutPrefix(strings.TrimSpace(line), name+" ")
		if fields := strings.Fields(rest); found && len(fields) > 0 && strings.HasSuffix(line, "\n") {
			return fields[0]
		}
	}
	return ""
}

func (d *daemon) hasEnded() bool {
	select {
	case <-d.ended:
		return true
	default:
		return false
	}
}

func (d *daemon) awaitReady() {
	d.t.Helper()
	eventually(d.t, "/readyz is 200", func() bool { status, _ := d.get("/readyz"); return status == http.StatusOK })
}

// get asks the operations endpoint. Status 0: it does not answer.
func (d *daemon) get(path string) (status int, body string) {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, d.operations+path, nil)
	check(d.t, err)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, err.Error()
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return 0, err.Error()
	}
	return response.StatusCode, string(text)
}

// kill ends the process as a power cut would.
func (d *daemon) kill() {
	d.t.Helper()
	check(d.t, d.process.Kill())
	<-d.ended
}

// stop ends the process as an operator does and gives its exit status.
func (d *daemon) stop() int {
	d.t.Helper()
	if err := d.process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		d.t.Fatal(err)
	}
	select {
	case <-d.ended:
	case <-time.After(patience):
		d.kill()
		d.t.Errorf("serve did not stop within %s of SIGTERM", patience)
	}
	return d.status
}

// cleanUp ends what still runs. Whatever a test is about, a process that was
// not killed ends well, and no process of ours has a data race or a panic.
func (d *daemon) cleanUp() {
	if !d.hasEnded() {
		if status := d.stop(); status != 0 {
			d.t.Errorf("serve ended with status %d", status)
		}
	}
	for _, fault := range []string{"DATA RACE", "panicked", "goroutine 1 ["} {
		if strings.Contains(d.log.String(), fault) {
			d.t.Errorf("%q is in the log", fault)
		}
	}
	if d.t.Failed() {
		d.t.Logf("log of serve:\n%s", clipped(d.log.String()))
	}
}

// clipped keeps the log of a failed test readable.
func clipped(log string) string {
	const most = 8_000
	if len(log) <= most {
		return log
	}
	return log[:most/2] + "\n…\n" + log[len(log)-most/2:]
}

// transcript gathers what a process writes.
type transcript struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func newTranscript() *transcript { return &transcript{} }

func (s *transcript) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

func (s *transcript) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// logLine is a line of the log in JSON.
type logLine struct {
	Msg, Reason, Detail, Error string
	DevEUI                     string `json:"dev_eui"`
	Count                      int
}

// logged gives the lines of the log with this message.
func (d *daemon) logged(message string) (found []logLine) {
	d.t.Helper()
	lines := bufio.NewScanner(strings.NewReader(d.log.String()))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var line logLine
		if json.Unmarshal(lines.Bytes(), &line) == nil && line.Msg == message {
			found = append(found, line)
		}
	}
	check(d.t, lines.Err())
	return found
}

// metrics reads /metrics: the value of each series by its name and labels.
func (d *daemon) metrics() map[string]float64 {
	d.t.Helper()
	status, body := d.get("/metrics")
	if status != http.StatusOK {
		d.t.Fatalf("/metrics answered %d: %s", status, body)
	}
	values := make(map[string]float64)
	for line := range strings.Lines(body) {
		var value float64
		series, number, found := cutLastSpace(strings.TrimSpace(line))
		if _, err := fmt.Sscan(number, &value); found && err == nil && !strings.HasPrefix(line, "#") {
			values[series] = value
		}
	}
	return values
}

func cutLastSpace(s string) (before, after string, found bool) {
	i := strings.LastIndexByte(s, ' ')
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+1:], true
}

// joins gives joingate_joins_total of a result, "accepted" or "failed", or of a
// reason.
func (d *daemon) joins(of string) float64 {
	d.t.Helper()
	return d.metrics()[joinsSeries(of)]
}

func joinsSeries(of string) string {
	if of == "accepted" || of == "failed" {
		return fmt.Sprintf(`joingate_joins_total{result=%q}`, of)
	}
	return fmt.Sprintf(`joingate_joins_total{reason=%q,result="refused"}`, of)
}
