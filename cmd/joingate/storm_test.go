package main

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"joingate/sim"
)

// The storm is answered by the server's own Handler in three ways; all devices join,
// no gateway is told to send two frames at once where airtime is planned, and the
// same seed gives the same storm.
func TestSimulateStorm(t *testing.T) {
	m := newMachine(t)
	args := []string{"simulate", "--storm", "--json", "--count", "120", "--area", "4", "--gateways", "2", "--seed", "3"}
	out := m.run(append(args, "--svg", "storm.svg")...)
	var runs []stormRun
	check(t, json.Unmarshal([]byte(out), &runs))
	if len(runs) != 3 || runs[0].Mode != modeBestSNR || runs[2].Mode != modePlanned {
		t.Fatalf("%+v", runs)
	}
	for _, r := range runs {
		if r.Report.Missing != 0 || r.Until["50"] == 0 || r.Until["50"] > r.Until["95"] || r.Until["95"] > r.Until["100"] || r.Report.Bound <= 0 {
			t.Errorf("%+v", r)
		}
	}
	if planned := runs[2].Report; planned.GatewayRefused != 0 || planned.Unsent != 0 || runs[0].Report.GatewayRefused == 0 {
		t.Errorf("planned: %+v", planned)
	}
	svg, err := os.ReadFile(m.dir + "/storm.svg")
	check(t, err)
	for _, r := range runs {
		if !strings.Contains(string(svg), r.Mode+": 95 % after ") {
			t.Errorf("the picture does not show %q", r.Mode)
		}
	}
	again := m.try(append(args, "--svg", "nowhere/storm.svg")...)
	if again.stdout != out {
		t.Error("the same seed gives another storm")
	}
	if again.status != 1 || !strings.Contains(again.stderr, "nowhere/storm.svg: no such file") {
		t.Errorf("exit status %d, %q", again.status, again.stderr)
	}
}

func TestSimulateMistakes(t *testing.T) {
	m := newMachine(t)
	file := m.write("nodes.csv", "dev_eui,app_key\n004a770066fffe01,11112222333344445555666677778888\n")
	broken := m.write("broken.nonces", "what is this\n")
	for args, want := range map[string]string{
		"":                              "devices storm",
		"--storm --devices " + file:     "[devices storm]",
		"--storm --rates fast":          "neither link nor step",
		"--storm --gateways 0":          "--gateways 0: a storm needs at least 1 gateway",
		"--storm --gateways -1":         "--gateways -1: a storm needs at least 1 gateway",
		"--storm --count 0":             "--count 0: a storm needs at least 1 device",
		"--storm --area 0":              "area",
		"--storm --area 1000 --count 5": "hardly any place is in reach",
		"--devices " + file + " --password-file " + m.dir + "/none": "does not exist",
		"--devices " + file + " --nonces " + broken:                 "nonces line 1",
	} {
		if o := m.try(append([]string{"simulate"}, strings.Fields(args)...)...); o.status != 1 || !strings.Contains(o.stderr, want) {
			t.Errorf("%s: exit status %d, %q", o.command, o.status, o.stderr)
		}
	}
}

// Devices that count go on from the last run, without a word about DevNonces.
func TestSimulatedDevicesRememberTheirNonces(t *testing.T) {
	d := newMachine(t).serve()
	c, _ := d.site(gatewayA)
	devices := newDevices(1, 3, "1.0.4")
	c.register("meters", devices...)
	file := c.write("devices.csv", nodeFile("", devices...))
	for range 3 {
		out := c.run("simulate", "--broker", c.broker, "--devices", file, "--region", "101", "--first-gateway", gatewayA.String(), "--timeout", patience.String())
		if !strings.Contains(out, "3 of 3 devices have joined") {
			t.Fatal(out)
		}
	}
}

// Whoever lets all devices ask at once, with one gateway, learns what to do.
func TestSimulateExplainsSilence(t *testing.T) {
	t.Parallel()
	d := newMachine(t, "JOINGATE_JOIN__AIRTIME=plan").serve()
	c, _ := d.site(sim.DefaultFirstGateway)
	devices := newDevices(0, 10, "1.0.3")
	c.register("meters", devices...)
	csv := d.write("nodes.csv", nodeFile("", devices...))
	args := []string{"simulate", "--broker", d.broker, "--devices", csv, "--region", "101", "--timeout", "1s"}
	if o := d.try(args...); !strings.Contains(o.stdout, "joingate rejects") || !strings.Contains(o.stdout, "--rate 2") {
		t.Errorf("%+v", o)
	}
}
