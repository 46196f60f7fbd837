package servers_test

import (
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"joingate/soak/servers"
)

// A process is started, killed and started again; what it used is counted.
func TestProcess(t *testing.T) {
	p := servers.NewProcess("shell", func() *exec.Cmd { return exec.Command("sh", "-c", "echo hello; exec sleep 60") }, func() bool { return true }, syscall.SIGTERM)
	if !p.Ended() {
		t.Error("it runs before its start")
	}
	for range 2 {
		if err := p.Start(); err != nil {
			t.Fatal(err)
		}
		if _, err := p.CPU(); err != nil || p.Ended() {
			t.Errorf("running: %v", err)
		}
		p.Pause()
		p.Kill()
		if !p.Ended() {
			t.Error("killed, and it runs")
		}
	}
	fails := servers.NewProcess("false", func() *exec.Cmd { return exec.Command("sh", "-c", "echo why; exit 3") }, func() bool { return false }, syscall.SIGTERM)
	if err := fails.Start(); err == nil || !strings.Contains(err.Error(), "why") {
		t.Errorf("a server that ends at its start: %v", err)
	}
}
