package joingate_test

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"
)

// newObject gives an empty object of each kind.
var newObject = map[string]func() any{
	"ConfigMap": func() any { return new(configMap) }, "Service": func() any { return new(service) },
	"Deployment": func() any { return new(deployment) }, "PodDisruptionBudget": func() any { return new(podDisruptionBudget) },
	"HorizontalPodAutoscaler": func() any { return new(horizontalPodAutoscaler) }, "NetworkPolicy": func() any { return new(networkPolicy) },
}

// readStrictly decodes a document that may have no field but those of the type.
func readStrictly(text []byte, into any) error {
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	decoder.KnownFields(true)
	return decoder.Decode(into)
}

func TestManifestsHaveKnownFields(t *testing.T) {
	for _, file := range shipped(t, "*.yaml") {
		if !strings.HasPrefix(file, "deploy/kubernetes/") {
			continue
		}
		make := newObject[document(t, file).at("kind").text()]
		if make == nil {
			t.Errorf("%s: no type for its kind", file)
			continue
		}
		object := make()
		if err := readStrictly(content(t, file), object); err != nil {
			t.Errorf("%s: %v", file, err)
		}
		if d, ok := object.(*deployment); ok {
			for _, fault := range deploymentFaults(d) {
				t.Errorf("%s: %s", file, fault)
			}
		}
	}
}

var (
	dnsLabel  = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)
	portName  = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,13}[a-z0-9])?$`)
	quantity  = regexp.MustCompile(`^[0-9]+(\.[0-9]+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?$`)
	envName   = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
	operation = []string{"Always", "IfNotPresent", "Never", ""}
)

// deploymentFaults looks at what the API server checks beyond fields and types.
func deploymentFaults(d *deployment) (faults []string) {
	fault := func(format string, args ...any) { faults = append(faults, fmt.Sprintf(format, args...)) }
	pod := d.Spec.Template
	for key, value := range d.Spec.Selector.MatchLabels {
		if pod.Metadata.Labels[key] != value {
			fault("the selector %s=%s does not select the pods", key, value)
		}
	}
	if s := d.Spec.Strategy.Type; s != "RollingUpdate" && s != "Recreate" {
		fault("strategy %q", s)
	}
	volumes := map[string]bool{}
	for _, v := range pod.Spec.Volumes {
		sources := 0
		for _, there := range []bool{v.ConfigMap != nil, v.Secret != nil, v.EmptyDir != nil, v.PersistentVolumeClaim != nil} {
			if there {
				sources++
			}
		}
		if volumes[v.Name] || !dnsLabel.MatchString(v.Name) || sources != 1 {
			fault("volume %q has %d sources, or its name is bad or there twice", v.Name, sources)
		}
		volumes[v.Name] = true
	}
	for _, c := range pod.Spec.Containers {
		faults = append(faults, containerFaults(c, volumes)...)
	}
	return faults
}

func containerFaults(c container, volumes map[string]bool) (faults []string) {
	fault := func(format string, args ...any) {
		faults = append(faults, "container "+c.Name+": "+fmt.Sprintf(format, args...))
	}
	if !dnsLabel.MatchString(c.Name) || c.Image == "" || !slices.Contains(operation, c.ImagePullPolicy) {
		fault("name, image or pull policy is bad")
	}
	ports := map[any]bool{}
	for _, p := range c.Ports {
		if !portName.MatchString(p.Name) || ports[p.Name] || ports[p.ContainerPort] || p.ContainerPort < 1 || p.ContainerPort > 65535 {
			fault("port %q %d is bad or there twice", p.Name, p.ContainerPort)
		}
		ports[p.Name], ports[p.ContainerPort] = true, true
	}
	for what, p := range map[string]*probe{"readiness": c.ReadinessProbe, "liveness": c.LivenessProbe, "startup": c.StartupProbe} {
		if p == nil || (p.HTTPGet == nil) == (p.TCPSocket == nil) || p.HTTPGet != nil && !ports[p.HTTPGet.Port] || p.TimeoutSeconds > p.PeriodSeconds {
			fault("%s probe asks for nothing, for two things, or at a port that is not there, or takes longer than its period", what)
		}
	}
	for _, e := range c.Env {
		if !envName.MatchString(e.Name) || e.Value != "" && e.ValueFrom != nil {
			fault("variable %q", e.Name)
		}
	}
	for _, m := range c.VolumeMounts {
		if !volumes[m.Name] || !strings.HasPrefix(m.MountPath, "/") {
			fault("mount of %q at %q", m.Name, m.MountPath)
		}
	}
	for _, amounts := range []map[string]string{c.Resources.Requests, c.Resources.Limits} {
		for what, amount := range amounts {
			if what != "cpu" && what != "memory" && what != "ephemeral-storage" || !quantity.MatchString(amount) {
				fault("resource %s %q", what, amount)
			}
		}
	}
	return faults
}

// The check is worth nothing if it lets mistakes pass.
func TestSchemaCheckFindsMistakes(t *testing.T) {
	good := string(content(t, "deploy/kubernetes/deployment.yaml"))
	for name, change := range map[string][2]string{
		"misspelt field":               {"readinessProbe:", "readinesProbe:"},
		"field at the wrong place":     {"      containers:\n", "      replicas: 3\n      containers:\n"},
		"text for a number":            {"replicas: 3", "replicas: three"},
		"number for a text":            {"kind: Deployment", "kind: [Deployment]"},
		"selector of other pods":       {"    matchLabels: {app.kubernetes.io/name: joingate}", "    matchLabels: {app.kubernetes.io/name: other}"},
		"mount of no volume":           {"- {name: secrets, mountPath:", "- {name: secret, mountPath:"},
		"probe at no port":             {"path: /readyz, port: ops", "path: /readyz, port: opps"},
		"amount without a unit's name": {"memory: 128Mi", "memory: 128MB"},
		"port name that is too long":   {"name: api, containerPort", "name: administration-api, containerPort"},
		"key twice":                    {"  replicas: 3\n", "  replicas: 3\n  replicas: 4\n"},
	} {
		t.Run(name, func(t *testing.T) {
			bad := strings.Replace(good, change[0], change[1], 1)
			if bad == good {
				t.Fatal("nothing was changed")
			}
			var d deployment
			err := readStrictly([]byte(bad), &d)
			if err == nil && len(deploymentFaults(&d)) == 0 {
				t.Error("it was not found")
			}
		})
	}
}

var published = regexp.MustCompile(`^(127\.0\.0\.1:)?[0-9]+:[0-9]+(/udp)?$`)

func TestComposeHasKnownFields(t *testing.T) {
	var c compose
	if err := readStrictly(content(t, "deploy/compose/compose.yaml"), &c); err != nil {
		t.Fatal(err)
	}
	taken := map[string]string{}
	for name, s := range c.Services {
		if !slices.Contains([]string{"no", "always", "on-failure", "unless-stopped"}, s.Restart) {
			t.Errorf("%s: restart %q", name, s.Restart)
		}
		for other, on := range s.DependsOn {
			healthy := on.Condition == "service_healthy" && c.Services[other].Healthcheck != nil
			if !healthy && on.Condition != "service_started" && on.Condition != "service_completed_successfully" {
				t.Errorf("%s waits for %s to be %q, which it cannot be", name, other, on.Condition)
			}
		}
		for _, port := range s.Ports {
			host := port[:strings.LastIndex(port, ":")]
			if !published.MatchString(port) || taken[host] != "" {
				t.Errorf("%s: port %s is bad, or %s has it", name, port, taken[host])
			}
			if taken[host] = name; strings.HasPrefix(name, "joingate-") && !strings.HasPrefix(port, "127.0.0.1:") {
				t.Errorf("%s: port %s is open to other machines, and the program has no TLS there", name, port)
			}
		}
	}
}
