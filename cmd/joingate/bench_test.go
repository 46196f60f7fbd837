package main

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// bench runs bench and reads what it prints.
func (m machine) bench(args ...string) (result benchResult) {
	m.t.Helper()
	check(m.t, json.Unmarshal([]byte(m.run(append([]string{"bench", "--json"}, args...)...)), &result))
	return result
}

// checkRun expects every join answered once and nothing lost.
func checkRun(t *testing.T, r benchRun, joins int64) {
	t.Helper()
	if r.Joins != joins || r.Copies != 3*joins || r.Answered != joins || r.RX1 != joins || r.Accepted != joins || r.CopiesArrived != r.Copies+r.Forged {
		t.Errorf("%+v", r)
	}
	if r.Lost != 0 || r.Failed != 0 || r.Uncommanded != 0 || r.Surplus+r.Strange+r.ForgedAnswered != 0 || !r.Known {
		t.Errorf("%+v", r)
	}
	for _, p := range r.Processes {
		if p.PID == 0 || p.RSS == 0 || p.PeakRSS < p.RSS {
			t.Errorf("%+v", p)
		}
	}
	if m := r.Machine; m.Used <= 0 || m.Stolen < 0 || m.Used+m.Stolen > 1 {
		t.Errorf("%+v", m)
	}
}

// Shares are of the time between two looks; a machine that says nothing used nothing.
func TestMachineTimes(t *testing.T) {
	before := cpuTimes{idle: 100, stolen: 10, all: 1000}
	if got, want := (cpuTimes{idle: 150, stolen: 20, all: 1200}).since(before), (benchMachine{Used: 0.7, Stolen: 0.05}); got != want {
		t.Errorf("%+v, not %+v", got, want)
	}
	if got := (cpuTimes{}).since(cpuTimes{}); got != (benchMachine{}) {
		t.Errorf("%+v of nothing", got)
	}
}

// Bench starts a server, loads it and takes it down again, with all that it made.
func TestBench(t *testing.T) {
	m := newMachine(t)
	file := filepath.Join(t.TempDir(), "cpu.pprof")
	m = m.with("TMPDIR=" + m.dir)
	result := m.bench("--rate", "40", "--duration", "500ms", "--airtime", "off", "--echo", "--profile", file)
	if len(result.Runs) != 1 || result.Runs[0].Airtime != "off" {
		t.Fatalf("%+v", result)
	}
	checkRun(t, result.Runs[0], 20)
	if result.Echo == nil || result.Echo.Answered == 0 || result.Echo.Ratio <= 0 {
		t.Errorf("%+v", result.Echo)
	}
	if profile, err := os.ReadFile(file); err != nil || !bytes.HasPrefix(profile, []byte{0x1f, 0x8b}) {
		t.Errorf("profile of %d octets, not in gzip's form: %v", len(profile), err)
	}
	left, err := os.ReadDir(m.dir)
	check(t, err)
	if len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

// Bench loads a server that runs, with forged requests besides.
func TestBenchOfRunningServer(t *testing.T) {
	d := newMachine(t).serve()
	result := d.bench("--broker", d.broker, "--metrics", d.operations+"/metrics", "--pid", strconv.Itoa(d.process.Pid),
		"--burst", "30", "--duration", "500ms", "--forged-rate", "80", "--mac-version", "1.1")
	r := result.Runs[0]
	checkRun(t, r, 30)
	if r.Forged != 40 || r.RefusedBy["bad_mic"] != 20 || r.RefusedBy["unknown_device"] != 20 || r.Refused["bad_mic"]+r.Refused["unknown_device"] > 40 {
		t.Errorf("%+v", r)
	}
}

func TestBenchMistakes(t *testing.T) {
	m := newMachine(t)
	for args, want := range map[string]string{
		"--airtime never": "none of off, plan, both",
		"--forged 1":      "no share below 1",
		"--instances 2":   "give --broker mosquitto, --record and --cache",
		"--broker mqtt://127.0.0.1:1 --cache redis:": "runs already",
		"--broker mosquito":                          "--broker mosquito is neither embedded nor mosquitto nor a URL",
		"--burst 1 --open 1":                         "not both",
		"--copies 4 --airtime off":                   "--copies 4 of each join-request",
		"--region Mars --airtime off":                `band plan group "Mars" is unknown`,
		"--first-gateway 12":                         "an EUI has 16 hex digits",
		"--rate 0 --duration 1ms":                    "make no join",
	} {
		if o := m.try(append([]string{"bench"}, strings.Fields(args)...)...); o.status != 1 || !strings.Contains(o.stderr, want) {
			t.Errorf("%s: exit status %d, %q", o.command, o.status, o.stderr)
		}
	}
}

// What an address answers with an error is not taken for what it was asked for.
func TestFetch(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/there" {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		_, _ = w.Write([]byte("body"))
	}))
	defer s.Close()
	if answer, err := fetch(t.Context(), s.URL+"/there"); string(answer) != "body" || err != nil {
		t.Errorf("%q, %v", answer, err)
	}
	answer, err := fetch(t.Context(), s.URL+"/away")
	if want := s.URL + "/away answers 503 Service Unavailable"; answer != nil || err == nil || err.Error() != want {
		t.Errorf("%q, %v; not %s", answer, err, want)
	}
}

// The door for profiles opens only to those who asked for it.
func TestProfileIsOffByDefault(t *testing.T) {
	closed, open := newMachine(t).serve(), newMachine(t).with("JOINGATE_OPS__PROFILE=true").serve()
	if status, _ := closed.get(profilePath); status != http.StatusNotFound {
		t.Errorf("closed door: %d", status)
	}
	for _, seconds := range []string{"0", "x", "26"} {
		if status, _ := open.get(profilePath + "?seconds=" + seconds); status != http.StatusBadRequest {
			t.Errorf("%s seconds: %d", seconds, status)
		}
	}
}
