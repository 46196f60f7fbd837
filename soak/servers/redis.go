package servers

import (
	"fmt"
	"os/exec"
	"strings"
	"syscall"
)

// Redis is a redis-server that keeps nothing on disk.
type Redis struct {
	*Process
	port, cli string
}

// NewRedis makes one that works in the folder, with further arguments as
// "--maxmemory", "1mb". Start starts it.
func NewRedis(folder string, args ...string) (*Redis, error) {
	server, err := program("redis-server", "redis-server")
	if err != nil {
		return nil, err
	}
	cli, err := program("redis-cli", "redis-tools")
	if err != nil {
		return nil, err
	}
	port, err := FreePort()
	if err != nil {
		return nil, err
	}
	r := &Redis{port: port, cli: cli}
	all := append([]string{"--bind", "127.0.0.1", "--port", port, "--dir", folder, "--save", "", "--appendonly", "no"}, args...)
	r.Process = NewProcess("redis-server", func() *exec.Cmd { return exec.Command(server, all...) }, r.answers, syscall.SIGTERM)
	return r, nil
}

// Address is where it listens.
func (r *Redis) Address() string { return "127.0.0.1:" + r.port }

// Port is that of Address.
func (r *Redis) Port() string { return r.port }

func (r *Redis) answers() bool {
	if !listens(r.Address()) {
		return false
	}
	said, err := r.Do("PING")
	return err == nil && said == "PONG"
}

// Do sends a command and gives what redis-cli prints of the answer.
func (r *Redis) Do(args ...string) (string, error) {
	said, err := exec.Command(r.cli, append([]string{"-e", "-p", r.port}, args...)...).CombinedOutput()
	text := strings.TrimSpace(string(said))
	if err != nil {
		return text, fmt.Errorf("redis-cli %s: %w: %s", strings.Join(args, " "), err, text)
	}
	return text, nil
}
