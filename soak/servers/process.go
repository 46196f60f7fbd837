// Package servers starts real servers as processes of their own, on free ports of
// the loopback interface and in a folder given, and does to them what happens to
// servers: PostgreSQL, Redis and mosquitto as Debian installs them, and any program
// like them.
package servers

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// NotInstalled names a program that is missing.
type NotInstalled struct {
	Program string
	Package string // of Debian
}

func (e NotInstalled) Error() string {
	return e.Program + " is not installed: apt-get install " + e.Package
}

// startPatience is how long a server may take to start, or to end when it was told.
const startPatience = 30 * time.Second

// Process is a server that is started, killed and started again. Its methods may be
// called concurrently, but what they do must make sense.
type Process struct {
	name    string
	command func() *exec.Cmd
	ready   func() bool // answers
	stop    syscall.Signal

	mu    sync.Mutex
	cmd   *exec.Cmd
	ended chan struct{} // closed when the process has ended
	said  tail
}

// NewProcess makes a server of a program. command gives it anew for each start,
// ready asks whether it answers, and stop is the signal that ends it at once and
// well.
func NewProcess(name string, command func() *exec.Cmd, ready func() bool, stop syscall.Signal) *Process {
	return &Process{name: name, command: command, ready: ready, stop: stop}
}

// Start returns once the server answers.
func (p *Process) Start() error {
	cmd, ended := p.command(), make(chan struct{})
	if cmd.Stdout == nil {
		cmd.Stdout = &p.said
	}
	if cmd.Stderr == nil {
		cmd.Stderr = &p.said
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", p.name, err)
	}
	p.mu.Lock()
	p.cmd, p.ended = cmd, ended
	p.mu.Unlock()
	go func() {
		_ = cmd.Wait() // whoever ended it knows why
		close(ended)
	}()
	for deadline := time.Now().Add(startPatience); !p.ready(); {
		select {
		case <-ended:
			return fmt.Errorf("%s ended at its start: %s", p.name, &p.said)
		case <-time.After(10 * time.Millisecond): // nobody tells when it is ready
		}
		if time.Now().After(deadline) {
			p.Kill()
			return fmt.Errorf("%s did not answer within %s: %s", p.name, startPatience, &p.said)
		}
	}
	return nil
}

// Kill is kill -9, and returns when the process has ended.
func (p *Process) Kill() { p.end(syscall.SIGKILL) }

// Stop ends the server as its operator does.
func (p *Process) Stop() { p.end(p.stop) }

// end sends a signal, and kills what does not end by it.
func (p *Process) end(by syscall.Signal) {
	cmd, ended := p.running()
	if cmd == nil {
		return
	}
	_ = cmd.Process.Signal(syscall.SIGCONT) // one that is stopped hears nothing else
	_ = cmd.Process.Signal(by)
	select {
	case <-ended:
	case <-time.After(startPatience):
		_ = cmd.Process.Kill()
		<-ended
	}
}

// Pause stops the process where it stands (SIGSTOP); Resume lets it go on.
func (p *Process) Pause()  { p.signal(syscall.SIGSTOP) }
func (p *Process) Resume() { p.signal(syscall.SIGCONT) }

func (p *Process) signal(s syscall.Signal) {
	if cmd, _ := p.running(); cmd != nil {
		_ = cmd.Process.Signal(s) // it may have ended
	}
}

func (p *Process) running() (*exec.Cmd, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cmd, p.ended
}

// Ended reports whether the process has ended, or was never started.
func (p *Process) Ended() bool {
	cmd, ended := p.running()
	if cmd == nil {
		return true
	}
	select {
	case <-ended:
		return true
	default:
		return false
	}
}

// Said is the last of what the process wrote.
func (p *Process) Said() string { return p.said.String() }

// CPU is the processor time that the process and its children have used.
func (p *Process) CPU() (time.Duration, error) {
	cmd, _ := p.running()
	if cmd == nil {
		return 0, fmt.Errorf("%s was not started", p.name)
	}
	return processorTime(cmd.Process.Pid)
}

// clockTick is the unit of /proc/PID/stat; proc(5), and 100 a second on every Linux.
const clockTick = 10 * time.Millisecond

// processorTime adds up a process, its children that have ended, and those that run.
func processorTime(pid int) (time.Duration, error) {
	total, _, err := statOf(pid)
	if err != nil {
		return 0, err
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return 0, err
	}
	for _, e := range entries {
		child, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if used, parent, err := statOf(child); err == nil && parent == pid {
			total += used
		}
	}
	return total, nil
}

// statOf reads /proc/PID/stat; proc(5): the fields after the name are numbered from
// 3, ppid is 4, utime to cstime are 14 to 17.
func statOf(pid int) (used time.Duration, parent int, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, 0, err
	}
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	if len(fields) < 15 {
		return 0, 0, fmt.Errorf("/proc/%d/stat has %d fields", pid, len(fields))
	}
	for _, f := range fields[11:15] {
		ticks, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return 0, 0, err
		}
		used += time.Duration(ticks) * clockTick
	}
	parent, err = strconv.Atoi(fields[1])
	return used, parent, err
}

// tail keeps the end of what a process writes.
type tail struct {
	mu   sync.Mutex
	text []byte
}

const tailLength = 8 << 10

// Write implements io.Writer.
func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, p...)
	t.text = t.text[max(0, len(t.text)-tailLength):]
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.text)
}

// FreePort gives a port that nobody listens on.
func FreePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	_, port, err := net.SplitHostPort(l.Addr().String())
	return port, errors.Join(err, l.Close())
}

// listens reports whether somebody takes connections at the address.
func listens(address string) bool {
	conn, err := net.DialTimeout("tcp", address, time.Second)
	return err == nil && conn.Close() == nil
}

// program finds a program also where not everybody's path leads.
func program(name, pkg string) (string, error) {
	if found, err := exec.LookPath(name); err == nil {
		return found, nil
	}
	if path := "/usr/sbin/" + name; isFile(path) {
		return path, nil
	}
	return "", NotInstalled{name, pkg}
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && !info.IsDir()
}
