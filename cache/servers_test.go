package cache_test

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// server is a redis-server of the test's own: in a temporary folder, on a free
// port of the loopback interface.
type server struct {
	t       testing.TB
	config  string
	port    string
	process *exec.Cmd
}

// startServer starts one with further lines of configuration.
func startServer(t testing.TB, lines ...string) *server {
	t.Helper()
	if _, err := exec.LookPath("redis-server"); err != nil {
		t.Skip("redis-server is not installed: everything about Redis is left out")
	}
	s := &server{t: t, port: freePort(t)}
	folder := t.TempDir()
	s.config = filepath.Join(folder, "redis.conf")
	text := "bind 127.0.0.1\nsave \"\"\nport " + s.port + "\ndir " + folder + "\n" + strings.Join(lines, "\n") + "\n"
	if err := os.WriteFile(s.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s.start()
	t.Cleanup(s.kill)
	return s
}

func freePort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

// start returns once the server takes connections.
func (s *server) start(args ...string) {
	s.t.Helper()
	s.process = exec.Command("redis-server", append([]string{s.config}, args...)...)
	output, err := s.process.StdoutPipe()
	if err == nil {
		err = s.process.Start()
	}
	if err != nil {
		s.t.Fatal(err)
	}
	var said []string
	lines := bufio.NewScanner(output)
	for lines.Scan() {
		said = append(said, lines.Text())
		if strings.Contains(lines.Text(), "Ready to accept connections") || strings.Contains(lines.Text(), "Sentinel ID") {
			go func() {
				for lines.Scan() {
				}
			}()
			return
		}
	}
	s.t.Fatalf("redis-server did not start:\n%s", strings.Join(said, "\n"))
}

// kill is kill -9. It also ends a server that is paused.
func (s *server) kill() {
	if s.process != nil {
		_ = s.process.Process.Kill()
		_ = s.process.Wait()
		s.process = nil
	}
}

func (s *server) pause()  { s.signal(syscall.SIGSTOP) }
func (s *server) resume() { s.signal(syscall.SIGCONT) }

func (s *server) signal(signal os.Signal) {
	s.t.Helper()
	if err := s.process.Process.Signal(signal); err != nil {
		s.t.Fatal(err)
	}
}

func (s *server) address() string { return "127.0.0.1:" + s.port }
func (s *server) url() string     { return "redis://" + s.address() }

// do sends one command, past everything under test.
func (s *server) do(args ...any) any {
	s.t.Helper()
	client := redis.NewClient(&redis.Options{Addr: s.address()})
	defer client.Close()
	reply, err := client.Do(context.Background(), args...).Result()
	if err != nil {
		s.t.Fatalf("%v: %v", args, err)
	}
	return reply
}

// startCluster starts three nodes that divide the slots.
func startCluster(t testing.TB) []*server {
	t.Helper()
	nodes := make([]*server, 3)
	for i := range nodes {
		nodes[i] = startNode(t)
	}
	for i, node := range nodes {
		const slots = 16384
		node.do("CLUSTER", "ADDSLOTSRANGE", i*slots/3, (i+1)*slots/3-1)
		node.do("CLUSTER", "SET-CONFIG-EPOCH", i+1)
	}
	for _, node := range nodes[1:] {
		nodes[0].meet(node)
	}
	for _, node := range nodes {
		eventually(t, func() bool {
			info := fmt.Sprint(node.do("CLUSTER", "INFO"))
			return strings.Contains(info, "cluster_state:ok") && strings.Contains(info, "cluster_size:3")
		})
	}
	return nodes
}

func startNode(t testing.TB) *server {
	t.Helper()
	return startServer(t, "cluster-enabled yes", "cluster-port "+freePort(t), "cluster-node-timeout 1000")
}

func (s *server) meet(other *server) {
	s.t.Helper()
	busPort := other.do("CONFIG", "GET", "cluster-port").(map[any]any)["cluster-port"]
	s.do("CLUSTER", "MEET", "127.0.0.1", other.port, busPort)
}

func clusterURL(nodes []*server) string {
	addresses := make([]string, len(nodes))
	for i, node := range nodes {
		addresses[i] = node.address()
	}
	return "redis-cluster://" + strings.Join(addresses, ",")
}

// eventually waits for what no event tells of.
func eventually(t testing.TB, done func() bool) {
	t.Helper()
	look := time.NewTicker(5 * time.Millisecond)
	defer look.Stop()
	for deadline := time.Now().Add(20 * time.Second); !done(); <-look.C {
		if time.Now().After(deadline) {
			t.Fatal("it did not come to that")
		}
	}
}
