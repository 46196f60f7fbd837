package joingate_test

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
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
		load(t, file)
	}
	for _, file := range shipped(t, "*.toml") {
		var any map[string]any
		if _, err := toml.DecodeFile(file, &any); err != nil {
			t.Errorf("%s: %v", file, err)
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

var (
	metricName = regexp.MustCompile(`\bjoingate_[a-z_]+`)
	quotedName = regexp.MustCompile(`"(joingate_[a-z_]+)"`)
	label      = regexp.MustCompile(`[{,]([a-z]+)(=~|!~|!=|=)"([^"]*)"`)
)

// registered gives the names of all metrics that the program has: they are quoted
// in its sources.
func registered(t *testing.T) map[string]bool {
	t.Helper()
	names := map[string]bool{}
	for _, folder := range []string{"mqtt", "cmd/joingate"} {
		files, err := filepath.Glob(folder + "/*.go")
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			for _, m := range quotedName.FindAllSubmatch(content(t, file), -1) {
				names[string(m[1])] = true
			}
		}
	}
	if len(names) < 20 {
		t.Fatalf("only %d metrics were found", len(names))
	}
	return names
}

// known reports whether the program has the metric, or the histogram it is part of.
func known(names map[string]bool, metric string) bool {
	for _, suffix := range []string{"", "_bucket", "_sum", "_count"} {
		if base, ok := strings.CutSuffix(metric, suffix); ok && names[base] {
			return true
		}
	}
	return false
}

func TestAlertsNameMetricsThatExist(t *testing.T) {
	names := registered(t)
	for _, group := range document(t, "deploy/prometheus/joingate.rules.yaml").at("groups").items() {
		for _, rule := range group.at("rules").items() {
			alert, expr := rule.at("alert").text(), rule.at("expr").text()
			if !strings.HasPrefix(alert, "Joingate") || expr == "" || rule.at("annotations", "summary").text() == "" || rule.at("annotations", "todo").text() == "" {
				t.Errorf("alert %q lacks its expression or says not what to do", alert)
			}
			if s := rule.at("labels", "severity").text(); s != "critical" && s != "warning" {
				t.Errorf("%s: severity %q", alert, s)
			}
			everything := expr + rule.at("annotations", "todo").text()
			metrics := metricName.FindAllString(everything, -1)
			if len(metrics) == 0 && !strings.HasPrefix(expr, `up{job="joingate"}`) {
				t.Errorf("%s watches no metric of ours: %s", alert, expr)
			}
			for _, metric := range metrics {
				if !known(names, metric) {
					t.Errorf("%s names %s, which the program does not have", alert, metric)
				}
			}
			wantLabels(t, alert, expr)
		}
	}
}

// wantLabels checks that the values of labels are words of the sources.
func wantLabels(t *testing.T, alert, expr string) {
	t.Helper()
	sources := string(content(t, "mqtt/metrics.go")) + string(content(t, "mqtt/transmitter.go")) +
		string(content(t, "joinserver/reason.go")) + strings.ToLower(string(content(t, "mqtt/chirpstack.go")))
	for _, m := range label.FindAllStringSubmatch(expr, -1) {
		for _, value := range strings.Split(m[3], "|") {
			quoted := strings.Contains(sources, `"`+value+`"`) || m[1] == "status" && strings.Contains(sources, "txackstatus_"+value)
			if m[1] != "job" && !quoted {
				t.Errorf("%s: no %s is ever %q", alert, m[1], value)
			}
		}
	}
}

// What the document says of metrics is true as well.
func TestOperationsNamesMetricsThatExist(t *testing.T) {
	names := registered(t)
	for _, metric := range metricName.FindAllString(string(content(t, "doc/operations.md")), -1) {
		if !known(names, metric) {
			t.Errorf("doc/operations.md names %s, which the program does not have", metric)
		}
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
		"NoNewPrivileges": "yes", "ProtectSystem": "strict", "ProtectHome": "yes", "PrivateTmp": "yes", "PrivateDevices": "yes",
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
	module := regexp.MustCompile(`(?m)^go (\S+)$`).FindStringSubmatch(string(content(t, "go.mod")))
	image := regexp.MustCompile(`(?m)^FROM golang:(\S+) AS build$`).FindStringSubmatch(text)
	if module == nil || image == nil || !strings.HasPrefix(image[1], strings.Join(strings.SplitN(module[1], ".", 3)[:2], ".")) {
		t.Errorf("go.mod wants Go %v, the image is built with %v", module, image)
	}
}
