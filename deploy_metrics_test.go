package joingate_test

import (
	"encoding/json"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	metricName = regexp.MustCompile(`\b(joingate|process|go)_[a-z_]+`)
	quotedName = regexp.MustCompile(`"(joingate_[a-z_]+)"`)
	// Of each gateway: mqtt/gatewaymetrics.go.
	gatewayName = regexp.MustCompile(`describe\("([a-z_]+)"`)
	groupedBy   = regexp.MustCompile(`(?:by|without) \([^)]*\)`)
	label       = regexp.MustCompile(`[{,]([a-z]+)(=~|!~|!=|=)"([^"]*)"`)
)

// registered gives the names of all metrics that the program has: they are quoted
// in its sources.
func registered(t *testing.T) map[string]bool {
	t.Helper()
	names := map[string]bool{}
	for _, folder := range []string{"mqtt", "cache", "record", "backend", "cmd/joingate"} {
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
			for _, m := range gatewayName.FindAllSubmatch(content(t, file), -1) {
				names["joingate_gateway_"+string(m[1])] = true
			}
		}
	}
	// These are client_golang's, of its Go and process collectors.
	for _, name := range []string{"process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds", "process_max_fds", "go_goroutines"} {
		names[name] = true
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
			metrics := metricsIn(everything)
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
		string(content(t, "joinserver/reason.go")) + string(content(t, "cache/event.go")) + strings.ToLower(string(content(t, "mqtt/chirpstack.go")))
	for _, m := range label.FindAllStringSubmatch(expr, -1) {
		for _, value := range strings.Split(m[3], "|") {
			quoted := strings.Contains(sources, `"`+value+`"`) || m[1] == "status" && strings.Contains(sources, "txackstatus_"+value)
			if m[1] != "job" && !quoted {
				t.Errorf("%s: no %s is ever %q", alert, m[1], value)
			}
		}
	}
}

// metricsIn finds the names of metrics; what a sum is grouped by is none.
func metricsIn(text string) []string {
	return metricName.FindAllString(groupedBy.ReplaceAllString(text, ""), -1)
}

// Promtool reads the rules as Prometheus does. It is in Debian's package
// prometheus; without it the expressions are only searched for names.
func TestAlertsCanBeRead(t *testing.T) {
	if _, err := exec.LookPath("promtool"); err != nil {
		t.Skip("promtool is not here")
	}
	for _, arguments := range [][]string{{"check", "rules"}, {"test", "rules"}} {
		file := "deploy/prometheus/joingate.rules.yaml"
		if arguments[0] == "test" {
			file = "deploy/prometheus/joingate.rules.test.yaml"
		}
		if out, err := exec.Command("promtool", append(arguments, file)...).CombinedOutput(); err != nil {
			t.Errorf("promtool %v: %v\n%s", arguments, err, out)
		}
	}
}

// dashboard is what is checked of deploy/grafana/joingate.json.
type dashboard struct {
	UID, Title string
	Templating struct {
		List []struct{ Name, Type string }
	}
	Panels []struct {
		ID          int
		Type        string
		Title       string
		Description string
		GridPos     struct{ H, W, X, Y int }
		Datasource  struct{ UID string }
		FieldConfig struct{ Defaults struct{ Unit string } }
		Targets     []struct{ RefID, Expr, LegendFormat string }
	}
}

func TestDashboard(t *testing.T) {
	var d dashboard
	if err := json.Unmarshal(content(t, "deploy/grafana/joingate.json"), &d); err != nil {
		t.Fatal(err)
	}
	if d.UID != "joingate" || len(d.Templating.List) != 2 || len(d.Panels) < 20 {
		t.Errorf("dashboard %s has %d variables and %d panels", d.UID, len(d.Templating.List), len(d.Panels))
	}
	names, ids, taken := registered(t), map[int]bool{}, map[[2]int]string{}
	for _, p := range d.Panels {
		if ids[p.ID] {
			t.Errorf("%s: id %d is used twice", p.Title, p.ID)
		}
		ids[p.ID] = true
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				if other := taken[[2]int{x, y}]; other != "" || x >= 24 {
					t.Fatalf("%s lies on %q, or beyond the edge", p.Title, other)
				}
				taken[[2]int{x, y}] = p.Title
			}
		}
		if p.Type == "row" {
			continue
		}
		if p.Description == "" || p.Datasource.UID != "${datasource}" || p.FieldConfig.Defaults.Unit == "" || len(p.Targets) == 0 {
			t.Errorf("%s lacks its description, data source, unit or target", p.Title)
		}
		for _, target := range p.Targets {
			wantTarget(t, names, p.Title, target.Expr)
		}
	}
}

// wantTarget checks what a panel asks Prometheus for.
func wantTarget(t *testing.T, names map[string]bool, panel, expr string) {
	t.Helper()
	metrics := metricsIn(expr)
	if len(metrics) == 0 && !strings.HasPrefix(expr, "sum(up{") {
		t.Errorf("%s shows no metric of ours: %s", panel, expr)
	}
	for _, metric := range metrics {
		if !known(names, metric) {
			t.Errorf("%s shows %s, which the program does not have", panel, metric)
		}
	}
	if strings.Count(expr, `{job="joingate",instance=~"$instance"`) < len(metrics) {
		t.Errorf("%s does not heed the chosen instances: %s", panel, expr)
	}
	wantLabels(t, panel, strings.ReplaceAll(expr, `,instance=~"$instance"`, ""))
}
