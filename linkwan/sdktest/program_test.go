package sdktest

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// program is the real one, serving from a temporary folder.
type program struct {
	binary string
	config string
	api    string // host:port
}

// account is what joingate account create prints.
type account struct {
	AccountID       string `json:"AccountId"`
	AccessKeyID     string `json:"AccessKeyId"`
	AccessKeySecret string
}

// start builds the program and waits until it is ready.
func start(t *testing.T) program {
	t.Helper()
	dir := t.TempDir()
	p := program{binary: filepath.Join(dir, "joingate"), config: filepath.Join(dir, "joingate.toml"), api: freeAddress(t)}
	build := exec.Command("go", "build", "-o", p.binary, "./cmd/joingate")
	build.Dir = "../.."
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	ops := freeAddress(t)
	config := fmt.Sprintf("data_dir = %q\n[api]\nlisten = %q\n[ops]\nlisten = %q\n[mqtt]\nembedded_listen = %q\n",
		filepath.Join(dir, "data"), p.api, ops, freeAddress(t))
	if err := os.WriteFile(p.config, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	serve := exec.Command(p.binary, "serve", "--config", p.config)
	serve.Stdout, serve.Stderr = os.Stderr, os.Stderr
	if err := serve.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = serve.Process.Signal(syscall.SIGTERM)
		_ = serve.Wait()
	})
	waitReady(t, "http://"+ops+"/readyz")
	return p
}

// freeAddress gives a port that was free a moment ago.
func freeAddress(t *testing.T) string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	return listener.Addr().String()
}

// waitReady polls: another process has no other way to tell.
func waitReady(t *testing.T, url string) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		resp, err := http.Get(url)
		if err != nil {
			continue
		}
		_ = resp.Body.Close()
		if resp.StatusCode == http.StatusOK {
			return
		}
	}
	t.Fatal("the program is not ready after 20 s")
}

func (p program) account(t *testing.T, name string) (a account) {
	t.Helper()
	if err := json.Unmarshal(p.run(t, "account", "create", name, "--json"), &a); err != nil {
		t.Fatal(err)
	}
	return a
}

// importNode puts the story's node into stock.
func (p program) importNode(t *testing.T) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "nodes.csv")
	const text = "dev_eui,app_key,pin_code\n" + devEUI + ",000102030405060708090a0b0c0d0e0f," + pin + "\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	p.run(t, "node", "import", file)
}

func (p program) run(t *testing.T, args ...string) []byte {
	t.Helper()
	command := exec.Command(p.binary, append(args, "--config", p.config)...)
	command.Stderr = os.Stderr
	out, err := command.Output()
	if err != nil {
		t.Fatalf("joingate %v: %v", args, err)
	}
	return out
}
