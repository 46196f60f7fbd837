package servers

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
)

// Mosquitto is a broker for anonymous clients, with the queue limits of
// deploy/mosquitto and without persistence.
type Mosquitto struct {
	*Process
	port string
}

// NewMosquitto makes one that works in the folder. Start starts it.
func NewMosquitto(folder string) (*Mosquitto, error) {
	server, err := program("mosquitto", "mosquitto")
	if err != nil {
		return nil, err
	}
	port, err := FreePort()
	if err != nil {
		return nil, err
	}
	config := filepath.Join(folder, "mosquitto.conf")
	text := fmt.Sprintf("listener %s 127.0.0.1\nallow_anonymous true\npersistence false\nmax_queued_messages 100000\nmax_inflight_messages 1000\n", port)
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil { // root's mosquitto reads it as another user
		return nil, err
	}
	m := &Mosquitto{port: port}
	m.Process = NewProcess("mosquitto", func() *exec.Cmd { return exec.Command(server, "-c", config) },
		func() bool { return listens(m.Address()) }, syscall.SIGTERM)
	return m, nil
}

// Address is where it listens.
func (m *Mosquitto) Address() string { return "127.0.0.1:" + m.port }
