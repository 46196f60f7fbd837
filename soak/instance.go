package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"joingate/soak/proxy"
	"joingate/soak/servers"
)

// instance is one joingate serve, with a disturbed network to everything it needs
// and to who needs it.
type instance struct {
	*servers.Process
	number  int
	program string
	folder  string
	environ []string

	record, cache, broker *proxy.Proxy
	api                   *proxy.Proxy // before its admin API
	operations            string       // URL, undisturbed
}

// network is where an instance finds the servers.
type network struct {
	postgres   *servers.Postgres
	redis      *servers.Redis
	broker     string // address
	keyFile    string
	shareGroup string
}

// newInstance opens the network of an instance. Start starts it.
func newInstance(number int, program, folder string, n network) (*instance, error) {
	i := &instance{number: number, program: program, folder: filepath.Join(folder, fmt.Sprintf("instance-%d", number))}
	apiPort, err1 := servers.FreePort()
	opsPort, err2 := servers.FreePort()
	if err := errors.Join(err1, err2, os.MkdirAll(i.folder, 0o755)); err != nil {
		return nil, err
	}
	for to, p := range map[string]**proxy.Proxy{
		n.postgres.Address(): &i.record, n.redis.Address(): &i.cache, n.broker: &i.broker, "127.0.0.1:" + apiPort: &i.api,
	} {
		var err error
		if *p, err = proxy.Open(to); err != nil {
			return nil, err
		}
	}
	i.operations = "http://127.0.0.1:" + opsPort
	i.environ = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + i.folder,
		"JOINGATE_RECORD__URL=" + n.postgres.URLAt(i.record.Address()),
		"JOINGATE_CACHE__URL=redis://" + i.cache.Address(),
		"JOINGATE_MQTT__URL=mqtt://" + i.broker.Address(),
		"JOINGATE_MQTT__SHARE_GROUP=" + n.shareGroup,
		"JOINGATE_API__LISTEN=127.0.0.1:" + apiPort,
		"JOINGATE_OPS__LISTEN=127.0.0.1:" + opsPort,
		"JOINGATE_KEYS__KEK_FILE=" + n.keyFile,
		"JOINGATE_JOIN__AIRTIME=off", "JOINGATE_LOG__LEVEL=warn", "JOINGATE_LOG__FORMAT=json",
	}
	i.Process = servers.NewProcess(i.name(), func() *exec.Cmd { return i.command("serve") }, i.ready, syscall.SIGTERM)
	return i, nil
}

func (i *instance) name() string { return fmt.Sprintf("instance %d", i.number) }

// command runs the program with the settings of the instance.
func (i *instance) command(args ...string) *exec.Cmd {
	c := exec.Command(i.program, args...)
	c.Dir, c.Env = i.folder, i.environ
	return c
}

// run runs a command of the program to its end and gives what it printed.
func (i *instance) run(args ...string) ([]byte, error) {
	c := i.command(args...)
	var stdout, stderr bytes.Buffer
	c.Stdout, c.Stderr = &stdout, &stderr
	if err := c.Run(); err != nil {
		return nil, fmt.Errorf("joingate %v: %w: %s", args, err, stderr.String())
	}
	return stdout.Bytes(), nil
}

// ready asks /readyz.
func (i *instance) ready() bool {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, i.operations+"/readyz", nil)
	if err != nil {
		return false
	}
	response, err := http.DefaultClient.Do(request)
	return err == nil && response.Body.Close() == nil && response.StatusCode == http.StatusOK
}

// startAgain starts the instance as a service manager does: without the record it ends
// at once, and is started once more.
func (i *instance) startAgain() (err error) {
	for range 30 {
		if err = i.Start(); err == nil {
			return nil
		}
		time.Sleep(time.Second)
	}
	return err
}

// proxies lists the ways from and to the instance.
func (i *instance) proxies() []*proxy.Proxy {
	return []*proxy.Proxy{i.record, i.cache, i.broker, i.api}
}

// account makes an account and gives its AccessKey.
func (i *instance) account(name string) (id, secret string, err error) {
	var made struct{ AccessKeyID, AccessKeySecret string }
	said, err := i.run("account", "create", name, "--json")
	if err != nil {
		return "", "", err
	}
	err = json.Unmarshal(said, &made)
	return made.AccessKeyID, made.AccessKeySecret, err
}
