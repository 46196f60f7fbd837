package joingate_test

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"joingate/config"

	"github.com/BurntSushi/toml"
	"gopkg.in/yaml.v3"
)

// node is one value of a YAML document.
type node struct{ value any }

// at goes down through maps by name; what is not there is the zero node.
func (n node) at(names ...string) node {
	for _, name := range names {
		m, _ := n.value.(map[string]any)
		n = node{m[name]}
	}
	return n
}

func (n node) text() string {
	text, _ := n.value.(string)
	return text
}

func (n node) items() (items []node) {
	list, _ := n.value.([]any)
	for _, item := range list {
		items = append(items, node{item})
	}
	return items
}

func (n node) texts() (texts []string) {
	for _, item := range n.items() {
		texts = append(texts, item.text())
	}
	return texts
}

func (n node) fields() map[string]any {
	m, _ := n.value.(map[string]any)
	return m
}

// names gives the field "name" of each item.
func (n node) names(field string) (names []string) {
	for _, item := range n.items() {
		names = append(names, item.at(field).text())
	}
	return names
}

// document reads a file of one YAML document; no key may stand in a map twice.
func document(t *testing.T, file string) node {
	t.Helper()
	decoder := yaml.NewDecoder(bytes.NewReader(content(t, file)))
	var first, second any
	if err := decoder.Decode(&first); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	if err := decoder.Decode(&second); !errors.Is(err, io.EOF) {
		t.Fatalf("%s holds more than one document (%v)", file, err)
	}
	return node{first}
}

func content(t *testing.T, file string) []byte {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// shipped lists the files under deploy/ whose name matches.
func shipped(t *testing.T, pattern string) (files []string) {
	t.Helper()
	err := filepath.WalkDir("deploy", func(file string, entry fs.DirEntry, err error) error {
		if match, _ := filepath.Match(pattern, filepath.Base(file)); err == nil && !entry.IsDir() && match {
			files = append(files, filepath.ToSlash(file))
		}
		return err
	})
	if err != nil || len(files) == 0 {
		t.Fatalf("no %s under deploy/: %v", pattern, err)
	}
	return files
}

// What doc/operations.md writes for TLS everywhere loads, with TLS everywhere, and
// is what deploy/ has for the broker.
func TestTLSEverywhere(t *testing.T) {
	page := string(content(t, "doc/operations.md"))
	written := func(file string) string {
		_, rest, found := strings.Cut(page, "cat > "+file+" <<END\n")
		text, _, ended := strings.Cut(rest, "\nEND\n")
		if !found || !ended {
			t.Fatalf("doc/operations.md does not write %s", file)
		}
		return text
	}
	folder := t.TempDir()
	file := filepath.Join(folder, "joingate.toml")
	if err := os.WriteFile(file, []byte(strings.ReplaceAll(written("joingate.toml"), "$PWD", folder)), 0o600); err != nil {
		t.Fatal(err)
	}
	c := load(t, file)
	wantDoors(t, file, c)
	for _, url := range []string{c.Record.URL, c.Cache.URL, c.MQTT.URL, c.Events.WebhookURL} {
		if !strings.Contains(url, "sslmode=verify-full") && !strings.HasPrefix(url, "rediss:") && !strings.HasPrefix(url, "mqtts:") && !strings.HasPrefix(url, "https:") {
			t.Errorf("%s has no TLS", url)
		}
	}
	if c.API.TLSCert == "" || c.Ops.TLSCert == "" || c.Backend.TLSClientCA == "" || c.MQTT.ShareGroup == "" {
		t.Error("a door has no TLS, or each instance hears everything")
	}
	for text, whole := range map[string]string{
		written("acl"):            string(content(t, "deploy/mosquitto/acl")),
		written("mosquitto.conf"): string(content(t, "deploy/mosquitto/mosquitto.conf")),
	} {
		for line := range strings.Lines(text + "\n") {
			name, _, _ := strings.Cut(line, " ")
			if slices.Contains([]string{"user", "topic", "pattern", "require_certificate", "use_identity_as_username"}, name) || strings.HasPrefix(name, "max_") {
				if !strings.Contains(whole, line) {
					t.Errorf("deploy/mosquitto does not have %q", line)
				}
			}
		}
	}
}

// load reads a configuration as joingate does, with the variables that its
// container or unit sets.
func load(t *testing.T, file string, environ ...string) config.Config {
	t.Helper()
	c, err := config.Load(file, environ)
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return c
}

func TestDeployedConfigurations(t *testing.T) {
	for _, file := range shipped(t, "joingate.toml") {
		wantDoors(t, file, load(t, file))
	}
	for _, file := range shipped(t, "*.toml") {
		var any map[string]any
		if _, err := toml.DecodeFile(file, &any); err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
}

// wantDoors checks that what is open to other machines has TLS, or is insecure by
// name, which the server wants too; and that the file says why.
func wantDoors(t *testing.T, file string, c config.Config) {
	t.Helper()
	for key, door := range map[string]struct {
		listen, certificate string
		insecure            bool
	}{
		"api.listen": {c.API.Listen, c.API.TLSCert, c.API.Insecure}, "ops.listen": {c.Ops.Listen, c.Ops.TLSCert, c.Ops.Insecure},
		"mqtt.embedded_listen": {c.MQTT.EmbeddedListen, c.MQTT.EmbeddedTLSCert, c.MQTT.EmbeddedInsecure},
	} {
		local := strings.HasPrefix(door.listen, "127.0.0.1:")
		if !local && door.certificate == "" && !door.insecure {
			t.Errorf("%s: %s = %s: joingate will not start with it", file, key, door.listen)
		}
		if local && door.insecure {
			t.Errorf("%s: %s = %s needs no exception", file, key, door.listen)
		}
	}
}

// secretFiles lists the files of a configuration that a secret store provides.
func secretFiles(c config.Config) []string {
	files := []string{c.Record.PasswordFile, c.Cache.PasswordFile, c.MQTT.PasswordFile, c.Keys.KEKFile}
	return slices.DeleteFunc(files, func(f string) bool { return f == "" })
}

// wantShared checks what several instances of one installation need.
func wantShared(t *testing.T, c config.Config) {
	t.Helper()
	if !strings.HasPrefix(c.Record.URL, "postgres://") || c.Cache.InMemory() || c.MQTT.Embedded() || c.MQTT.ShareGroup == "" || c.Keys.KEKFile == "" {
		t.Errorf("not for several instances: record %s, cache %s, broker %s, share group %q, key file %q",
			c.Record.URL, c.Cache.URL, c.MQTT.URL, c.MQTT.ShareGroup, c.Keys.KEKFile)
	}
}

var pinned = regexp.MustCompile(`^[a-z0-9./-]+:(local|[0-9]+\.[0-9]+(\.[0-9]+)?)$`)

func TestCompose(t *testing.T) {
	compose := document(t, "deploy/compose/compose.yaml")
	instances := 0
	for name, value := range compose.at("services").fields() {
		service := node{value}
		if image := service.at("image").text(); !pinned.MatchString(image) {
			t.Errorf("%s: image %q has no exact tag", name, image)
		}
		for _, secret := range service.at("secrets").texts() {
			if compose.at("secrets", secret, "file").text() == "" {
				t.Errorf("%s: secret %s is declared nowhere", name, secret)
			}
		}
		for _, volume := range service.at("volumes").texts() {
			wantVolume(t, compose, name, volume)
		}
		for other := range service.at("depends_on").fields() {
			if compose.at("services", other).value == nil {
				t.Errorf("%s depends on %s, which is not there", name, other)
			}
		}
		if strings.HasPrefix(name, "joingate-") {
			instances++
			wantInstance(t, service)
		}
	}
	if instances != 3 {
		t.Errorf("%d instances, want 3", instances)
	}
	for _, service := range []string{"postgres", "redis", "mosquitto", "gateway-bridge"} {
		if compose.at("services", service).value == nil {
			t.Errorf("service %s is missing", service)
		}
	}
}

// wantInstance checks an instance of the compose file together with its
// configuration.
func wantInstance(t *testing.T, service node) {
	t.Helper()
	var environ []string
	for name, value := range service.at("environment").fields() {
		environ = append(environ, name+"="+node{value}.text())
	}
	c := load(t, "deploy/compose/joingate.toml", environ...)
	wantShared(t, c)
	wantDoors(t, "deploy/compose/joingate.toml", c)
	for _, file := range secretFiles(c) {
		if secret, ok := strings.CutPrefix(file, "/run/secrets/"); !ok || !slices.Contains(service.at("secrets").texts(), secret) {
			t.Errorf("an instance does not get %s", file)
		}
	}
	if service.at("read_only").value != true || !slices.Contains(service.at("cap_drop").texts(), "ALL") {
		t.Error("an instance is not confined")
	}
	if service.at("stop_grace_period").text() != "15s" {
		t.Error("an instance has no time to finish its joins")
	}
}

// wantVolume checks that a volume is declared, or that its file is there.
func wantVolume(t *testing.T, compose node, service, volume string) {
	t.Helper()
	source, _, _ := strings.Cut(volume, ":")
	if strings.HasPrefix(source, "./") {
		if _, err := os.Stat(filepath.Join("deploy/compose", source)); err != nil {
			t.Errorf("%s: %v", service, err)
		}
	} else if _, declared := compose.at("volumes").fields()[source]; !declared {
		t.Errorf("%s: volume %s is declared nowhere", service, source)
	}
}

// kinds are the manifests there must be, with what the API calls them.
var kinds = map[string]string{
	"ConfigMap": "v1", "Service": "v1", "Deployment": "apps/v1", "PodDisruptionBudget": "policy/v1",
	"HorizontalPodAutoscaler": "autoscaling/v2", "NetworkPolicy": "networking.k8s.io/v1",
}

const appLabel = "app.kubernetes.io/name"

func manifests(t *testing.T) map[string]node {
	t.Helper()
	found := map[string]node{}
	for _, file := range shipped(t, "*.yaml") {
		if !strings.HasPrefix(file, "deploy/kubernetes/") {
			continue
		}
		m := document(t, file)
		kind := m.at("kind").text()
		if kinds[kind] == "" || m.at("apiVersion").text() != kinds[kind] || found[kind].value != nil {
			t.Errorf("%s: %s of %s is not wanted here", file, kind, m.at("apiVersion").text())
		}
		if m.at("metadata", "name").text() != "joingate" || m.at("metadata", "labels", appLabel).text() != "joingate" {
			t.Errorf("%s: name and label are not joingate", file)
		}
		found[kind] = m
	}
	for kind := range kinds {
		if found[kind].value == nil {
			t.Errorf("there is no %s", kind)
		}
	}
	return found
}

func TestKubernetes(t *testing.T) {
	found := manifests(t)
	deployment := found["Deployment"].at("spec")
	pod := deployment.at("template", "spec")
	for what, label := range map[string]node{
		"Deployment": deployment.at("selector", "matchLabels"), "pod": deployment.at("template", "metadata", "labels"),
		"Service":             found["Service"].at("spec", "selector"),
		"PodDisruptionBudget": found["PodDisruptionBudget"].at("spec", "selector", "matchLabels"),
		"NetworkPolicy":       found["NetworkPolicy"].at("spec", "podSelector", "matchLabels"),
	} {
		if label.at(appLabel).text() != "joingate" {
			t.Errorf("%s does not select joingate", what)
		}
	}
	if target := found["HorizontalPodAutoscaler"].at("spec", "scaleTargetRef"); target.at("kind").text() != "Deployment" || target.at("name").text() != "joingate" {
		t.Error("the autoscaler scales something else")
	}
	replicas, _ := deployment.at("replicas").value.(int)
	if least, _ := found["PodDisruptionBudget"].at("spec", "minAvailable").value.(int); replicas != 3 || least < 1 || least >= replicas {
		t.Errorf("%d replicas, of which %d must be there: no node could be emptied, or all at once", replicas, least)
	}
	for _, ports := range [][]string{found["Service"].at("spec", "ports").names("targetPort"), {"ops"}} {
		for _, port := range ports {
			if !slices.Contains(pod.at("containers").items()[0].at("ports").names("name"), port) {
				t.Errorf("the pod has no port %s", port)
			}
		}
	}
	wantConfined(t, pod)
}

// wantConfined checks probes and rights of the pod.
func wantConfined(t *testing.T, pod node) {
	t.Helper()
	containers := pod.at("containers").items()
	if len(containers) != 1 {
		t.Fatalf("%d containers, want 1", len(containers))
	}
	c := containers[0]
	for what, got := range map[string][2]any{
		"readiness":    {c.at("readinessProbe", "httpGet", "path").value, "/readyz"},
		"liveness":     {c.at("livenessProbe", "httpGet", "path").value, "/healthz"},
		"user":         {pod.at("securityContext", "runAsNonRoot").value, true},
		"seccomp":      {pod.at("securityContext", "seccompProfile", "type").value, "RuntimeDefault"},
		"root files":   {c.at("securityContext", "readOnlyRootFilesystem").value, true},
		"escalation":   {c.at("securityContext", "allowPrivilegeEscalation").value, false},
		"API token":    {pod.at("automountServiceAccountToken").value, false},
		"memory limit": {c.at("resources", "limits", "memory").value, "512Mi"},
	} {
		if got[0] != got[1] {
			t.Errorf("%s: %v, want %v", what, got[0], got[1])
		}
	}
	if !slices.Contains(c.at("securityContext", "capabilities", "drop").texts(), "ALL") {
		t.Error("the container keeps capabilities")
	}
	if image := c.at("image").text(); !pinned.MatchString(image) {
		t.Errorf("image %q has no exact tag", image)
	}
}

// The configuration in the ConfigMap loads, and the pod mounts all that it names.
func TestKubernetesConfiguration(t *testing.T) {
	found := manifests(t)
	file := filepath.Join(t.TempDir(), "joingate.toml")
	text := found["ConfigMap"].at("data", "joingate.toml").text()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	pod := found["Deployment"].at("spec", "template", "spec")
	container := pod.at("containers").items()[0]
	var environ []string
	for _, variable := range container.at("env").items() {
		environ = append(environ, variable.at("name").text()+"="+variable.at("value").text())
	}
	c := load(t, file, environ...)
	wantShared(t, c)
	wantDoors(t, "deploy/kubernetes/configmap.yaml", c)
	if !slices.Contains(environ, "JOINGATE_CONFIG=/etc/joingate/joingate.toml") ||
		!slices.Contains(container.at("volumeMounts").names("mountPath"), "/etc/joingate/joingate.toml") {
		t.Error("the pod does not use the ConfigMap")
	}
	var given []string
	for _, volume := range pod.at("volumes").items() {
		given = append(given, volume.at("secret", "items").names("path")...)
	}
	for _, file := range secretFiles(c) {
		if secret, ok := strings.CutPrefix(file, "/etc/joingate/secrets/"); !ok || !slices.Contains(given, secret) {
			t.Errorf("the pod does not get %s", file)
		}
	}
	ports := container.at("ports").items()
	if c.API.Listen != ":8080" || c.Ops.Listen != ":9090" || ports[0].at("containerPort").value != 8080 || ports[1].at("containerPort").value != 9090 {
		t.Errorf("the program listens on %s and %s, the container has other ports", c.API.Listen, c.Ops.Listen)
	}
}

func TestUnitIsConfined(t *testing.T) {
	keys := map[string][]string{}
	for _, line := range strings.Split(string(content(t, "deploy/systemd/joingate.service")), "\n") {
		if key, value, ok := strings.Cut(line, "="); ok && !strings.HasPrefix(line, "#") {
			keys[key] = append(keys[key], value)
		}
	}
	for key, want := range map[string]string{
		"User": "joingate", "StateDirectory": "joingate", "StateDirectoryMode": "0700", "UMask": "0077",
		"LimitCORE": "0", "NoNewPrivileges": "yes", "ProtectSystem": "strict", "ProtectHome": "yes", "PrivateTmp": "yes", "PrivateDevices": "yes", "PrivateUsers": "yes",
		"CapabilityBoundingSet": "", "AmbientCapabilities": "", "RestrictSUIDSGID": "yes", "RestrictNamespaces": "yes",
		"RestrictAddressFamilies": "AF_INET AF_INET6 AF_UNIX", "MemoryDenyWriteExecute": "yes", "LockPersonality": "yes",
		"SystemCallArchitectures": "native", "SystemCallFilter": "@system-service",
		"ProtectKernelTunables": "yes", "ProtectKernelModules": "yes", "ProtectControlGroups": "yes", "ProtectClock": "yes",
		"ExecStart": "/usr/local/bin/joingate serve --config /etc/joingate/joingate.toml",
	} {
		if !slices.Contains(keys[key], want) {
			t.Errorf("%s=%q, want %q", key, keys[key], want)
		}
	}
	c := load(t, "deploy/systemd/joingate.toml")
	if c.DataDir != "/var/lib/"+keys["StateDirectory"][0] {
		t.Errorf("the unit may not write to %s", c.DataDir)
	}
	if path, embedded := c.Record.SQLitePath(c.DataDir); !embedded || !strings.HasPrefix(path, c.DataDir+"/") {
		t.Errorf("the unit may not write the record at %s", path)
	}
}

func TestImageIsStatic(t *testing.T) {
	text := string(content(t, "deploy/Dockerfile"))
	for _, want := range []string{"CGO_ENABLED=0", "-trimpath", "\nFROM scratch\n", "\nUSER 65532:65532\n", `ENTRYPOINT ["/joingate"]`} {
		if !strings.Contains(text, want) {
			t.Errorf("deploy/Dockerfile lacks %q", want)
		}
	}
	for _, flag := range []string{"CGO_ENABLED=0", "-trimpath", "-buildvcs=true", `-ldflags="-s -w -buildid="`} {
		if !strings.Contains(text, flag) || !strings.Contains(string(content(t, "deploy/build")), flag) {
			t.Errorf("image and deploy/build are not built alike: %s", flag)
		}
	}
	module := regexp.MustCompile(`(?m)^go (\S+)$`).FindStringSubmatch(string(content(t, "go.mod")))
	image := regexp.MustCompile(`(?m)^FROM golang:(\S+) AS build$`).FindStringSubmatch(text)
	if module == nil || image == nil || !strings.HasPrefix(image[1], strings.Join(strings.SplitN(module[1], ".", 3)[:2], ".")) {
		t.Errorf("go.mod wants Go %v, the image is built with %v", module, image)
	}
}

// The exposure that systemd computes for the unit is the one that the document
// tells. Without systemd there is nothing to compute it with.
func TestUnitExposure(t *testing.T) {
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		t.Skip("systemd-analyze is not here")
	}
	out, err := exec.Command("systemd-analyze", "security", "--offline=true", "--no-pager", "deploy/systemd/joingate.service").CombinedOutput()
	figure := regexp.MustCompile(`exposure level for joingate.service: ([0-9.]+) OK`).FindSubmatch(out)
	if err != nil || figure == nil {
		t.Fatalf("systemd-analyze: %v\n%s", err, out)
	}
	if told := "exposure level " + string(figure[1]); !strings.Contains(string(content(t, "doc/security.md")), told) {
		t.Errorf("doc/security.md does not tell %q", told)
	}
}
