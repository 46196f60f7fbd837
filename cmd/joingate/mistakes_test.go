package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// mistake is what an operator does wrong, and what the one sentence has to name.
type mistake struct {
	name string
	at   machine
	args []string
	says []string
}

// check runs the command: exit status 1, and one sentence on standard error.
func (x mistake) check(t *testing.T) {
	t.Helper()
	o := x.at.try(x.args...)
	sentence, rest, _ := strings.Cut(o.stderr, "\n")
	for strings.HasPrefix(sentence, "{") { // serve may have logged what it began
		sentence, rest, _ = strings.Cut(rest, "\n")
	}
	if o.status != 1 || !strings.HasPrefix(sentence, "joingate: ") || rest != "" || len(sentence) > 600 {
		t.Errorf("%s: exit status %d, want 1 and one sentence on standard error:\n%s", x.name, o.status, o.stderr)
	}
	for _, word := range x.says {
		if !strings.Contains(sentence, word) {
			t.Errorf("%s: the sentence does not say %q: %s", x.name, word, sentence)
		}
	}
	if o.stdout != "" && x.args[0] != "call" { // call prints the answer, also that of a refusal
		t.Errorf("%s: standard output: %s", x.name, o.stdout)
	}
}

func checkMistakes(t *testing.T, mistakes []mistake) {
	t.Helper()
	for _, x := range mistakes {
		x.check(t)
	}
}

func TestMistakesOnTheCommandLine(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.write("typo.toml", "[api]\nlisten = \"127.0.0.1:0\"\nlistne = \"127.0.0.1:0\"\n")
	m.write("value.toml", "[join]\ncollect_window = \"9s\"\n")
	m.write("broken.toml", "[join\n")
	checkMistakes(t, []mistake{
		{"no argument", m, []string{"call"}, []string{"joingate call ACTION", "--help"}},
		{"no argument, two deep", m, []string{"node", "remove"}, []string{"joingate node remove DEVEUI", "--help"}},
		{"one argument too many", m, []string{"gateway", "remove", "0016c001f150000a", "b"}, []string{"joingate gateway remove GWEUI", "--help"}},
		{"unknown config key", m, []string{"serve", "--config", "typo.toml"}, []string{"typo.toml", "line 3", `"api.listne"`, `did you mean "api.listen"`}},
		{"bad value in the file", m, []string{"config", "check", "--config", "value.toml"}, []string{"value.toml", "line 2", "join.collect_window", "9s", "0s to 2s"}},
		{"no TOML", m, []string{"config", "check", "--config", "broken.toml"}, []string{"broken.toml", "line "}},
		{"no such config file", m, []string{"serve", "--config", "nowhere.toml"}, []string{"nowhere.toml", "does not exist"}},
		{"bad value of a variable", m.with("JOINGATE_LOG__LEVEL=loud"), []string{"serve"}, []string{"JOINGATE_LOG__LEVEL", "log.level", "loud"}},
		{"unknown variable", m.with("JOINGATE_API__LISTNE=x"), []string{"serve"}, []string{"JOINGATE_API__LISTNE", "did you mean JOINGATE_API__LISTEN"}},
		{"unknown command", m, []string{"sevre"}, []string{`"sevre"`, `did you mean "serve"`}},
		{"unknown command of a group", m, []string{"node", "imprt"}, []string{`"imprt"`, `did you mean "import"`, "joingate node --help"}},
		{"group without command", m, []string{"gateway"}, []string{"joingate gateway --help"}},
		{"unknown flag", m, []string{"serve", "--port", "1"}, []string{"--port"}},
		{"missing argument", m, []string{"account", "create"}, []string{"arg"}},
		{"missing flag", m, []string{"gateway", "add", gatewayA.String()}, []string{"account", "band-plan-group"}},
		{"unknown band plan group", m, []string{"band", "show", "999"}, []string{`"999"`, "joingate band list"}},
		{"bad DevEUI", m, []string{"node", "remove", "xyz"}, []string{`"xyz"`, "16 hex digits"}},
		{"bad GwEUI", m, []string{"gateway", "remove", "0016c001f150000g"}, []string{`"0016c001f150000g"`, "16 hex digits"}},
		{"call without keys", m, []string{"call", "ListFreqBandPlanGroups"}, []string{"JOINGATE_ACCESS_KEY_ID", "JOINGATE_ACCESS_KEY_SECRET"}},
		{"parameter without value", m.with("JOINGATE_ACCESS_KEY_ID=x", "JOINGATE_ACCESS_KEY_SECRET=x"), []string{"call", "X", "Limit"}, []string{`"Limit"`, "Key=Value"}},
	})
}

func TestMistakesInFilesAndNames(t *testing.T) {
	t.Parallel()
	d := newMachine(t).serve()
	c, _ := d.site(gatewayA)
	d.account("globex")
	known := newDevice(1, "1.0.3")
	c.register("meters", known)
	lines := strings.SplitAfter(nodeFile("meters", newDevices(10, 9, "1.0.3")...), "\n") // line 7 is lines[6]
	file := func(name string, change func(line7 string) string) string {
		changed := append([]string(nil), lines...)
		changed[6] = change(changed[6])
		return filepath.Base(d.write(name, strings.Join(changed, "")))
	}
	badKey := file("bad-key.csv", func(s string) string { return strings.Replace(s, keyOf("AppKey", 15), "abc", 1) })
	badGroup := file("bad-group.csv", func(s string) string { return strings.Replace(s, "meters", "metres", 1) })
	badVersion := file("bad-version.csv", func(s string) string { return strings.Replace(s, "1.0.3", "1.1", 1) })
	twice := file("twice.csv", func(string) string { return lines[3] })
	column := filepath.Base(d.write("column.csv", strings.Replace(strings.Join(lines, ""), "app_key", "appkey", 1)))
	again := filepath.Base(d.write("again.csv", nodeFile("meters", newDevice(20, "1.0.3"), known)))
	good := filepath.Base(d.write("good.csv", strings.Join(lines, "")))
	imported := func(file string) []string { return []string{"node", "import", file, "--account", "acme"} }

	checkMistakes(t, []mistake{
		{"bad key in line 7", d.machine, imported(badKey), []string{"line 7", "column app_key"}},
		{"unknown group in line 7", d.machine, imported(badGroup), []string{"line 7", "column group", `"metres"`}},
		{"1.1 without NwkKey in line 7", d.machine, imported(badVersion), []string{"line 7", "column nwk_key"}},
		{"DevEUI twice", d.machine, imported(twice), []string{"line 7", "column dev_eui", "line 4"}},
		{"unknown column", d.machine, imported(column), []string{"line 1", `"appkey"`, "app_key"}},
		{"known DevEUI", d.machine, imported(again), []string{"line 3", "column dev_eui", known.eui.String(), "registered already"}},
		{"no such file", d.machine, imported("nowhere.csv"), []string{"nowhere.csv"}},
		{"unknown account", d.machine, []string{"node", "import", good, "--account", "acem"}, []string{`"acem"`, "joingate account list"}},
		{"taken account name", d.machine, []string{"account", "create", "acme"}, []string{`"acme"`, "exists"}},
		{"gateway of another account", d.machine, []string{"gateway", "add", gatewayA.String(), "--account", "globex", "--band-plan-group", "101"}, []string{gatewayA.String(), "another account"}},
		{"gateway registered already", d.machine, []string{"gateway", "add", gatewayA.String(), "--account", "acme", "--band-plan-group", "101"}, []string{gatewayA.String(), "joingate gateway remove"}},
		{"gateway in an unknown band plan group", d.machine, []string{"gateway", "add", gatewayB.String(), "--account", "acme", "--band-plan-group", "EU999"}, []string{`"EU999"`, "joingate band list"}},
		{"unknown DevEUI", d.machine, []string{"node", "set", newDevice(99, "1.0.3").eui.String(), "--enabled=true"}, []string{newDevice(99, "1.0.3").eui.String(), "not registered"}},
		{"unknown gateway", d.machine, []string{"gateway", "remove", gatewayD.String()}, []string{gatewayD.String(), "not registered"}},
		{"wrong secret", c.keys().with("JOINGATE_ACCESS_KEY_SECRET=wrong"), []string{"call", "ListFreqBandPlanGroups"}, []string{"SignatureDoesNotMatch"}},
		{"unknown AccessKey", c.keys().with("JOINGATE_ACCESS_KEY_ID=wrong"), []string{"call", "ListFreqBandPlanGroups"}, []string{"InvalidAccessKeyId.NotFound"}},
		{"unknown action", c.keys(), []string{"call", "ListFreqBandPlanGroup"}, []string{"InvalidAction.NotFound"}},
		{"no server", c.keys().with("JOINGATE_ENDPOINT=http://127.0.0.1:1"), []string{"call", "ListFreqBandPlanGroups"}, []string{"127.0.0.1:1"}},
	})
	if n := openDatabase(t, d.record).number(`SELECT COUNT(*) FROM nodes`); n != 1 {
		t.Errorf("%d nodes are registered: a file with a mistake was imported in part", n)
	}
	d.run(imported(good)...) // the file itself is good
}

func TestPortsInUse(t *testing.T) {
	t.Parallel()
	d := newMachine(t).serve()
	other := newMachine(t)
	at := func(url string) string { return url[strings.LastIndex(url, "/")+1:] }
	checkMistakes(t, []mistake{
		{"API", other.with("JOINGATE_API__LISTEN=" + at(d.api)), []string{"serve"}, []string{"api.listen", at(d.api), "in use"}},
		{"operations", other.with("JOINGATE_OPS__LISTEN=" + at(d.operations)), []string{"serve"}, []string{"ops.listen", at(d.operations), "in use"}},
		{"broker", other.with("JOINGATE_MQTT__EMBEDDED_LISTEN=" + at(d.broker)), []string{"serve"}, []string{"embedded_listen", at(d.broker), "in use"}},
		{"broker for everybody", other.with("JOINGATE_MQTT__EMBEDDED_LISTEN=0.0.0.0:0"), []string{"serve"}, []string{"embedded_listen", "open to other machines"}},
	})
}

func TestMistakesWithTheRecord(t *testing.T) {
	t.Parallel()
	serve := []string{"serve"}
	used := func() (machine, string) {
		m := newMachine(t)
		m.run("account", "create", "acme")
		return m, filepath.Join(m.dir, "joingate-data")
	}
	newer, data := used()
	openDatabase(t, filepath.Join(data, "joingate.db")).do(`INSERT INTO goose_db_version (version_id, is_applied) VALUES (999, TRUE)`)
	wrongKey, data := used()
	check(t, os.WriteFile(filepath.Join(data, "kek"), []byte(keyOf("KEK", 1)+keyOf("KEK", 2)), 0o600))
	noKey, data := used()
	check(t, os.Remove(filepath.Join(data, "kek")))
	garbledKey, data := used()
	check(t, os.WriteFile(filepath.Join(data, "kek"), []byte("not hex"), 0o600))
	folder := newMachine(t)
	check(t, os.MkdirAll(filepath.Join(folder.dir, "joingate-data", "joingate.db"), 0o700))
	noDatabase := newMachine(t)
	check(t, os.Mkdir(filepath.Join(noDatabase.dir, "joingate-data"), 0o700))
	noDatabase.write("joingate-data/joingate.db", strings.Repeat("this is no database ", 100))
	noDatabase.write("joingate-data/kek", keyOf("KEK", 1)+keyOf("KEK", 2))

	checkMistakes(t, []mistake{
		{"database of a newer version", newer, serve, []string{"joingate.db", "newer", "999"}},
		{"wrong key file", wrongKey, serve, []string{"key file", "kek_file"}},
		{"wrong key file, other command", wrongKey, []string{"account", "list"}, []string{"key file"}},
		{"missing key file", noKey, serve, []string{"key file", "kek", "missing"}},
		{"garbled key file", garbledKey, serve, []string{"key file", "kek", "hex"}},
		{"record is a folder", folder, serve, []string{"joingate.db", "directory"}},
		{"record is no database", noDatabase, serve, []string{"joingate.db", "not a database"}},
		{"record of another kind", newMachine(t, "JOINGATE_RECORD__URL=mysql://x"), serve, []string{"record.url"}},
	})
	if _, err := os.Stat(filepath.Join(noKey.dir, "joingate-data", "kek")); err == nil {
		t.Error("a new key file was made for an old record")
	}
}

// Every command explains itself, with an example.
func TestHelp(t *testing.T) {
	t.Parallel()
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		if c.Hidden || c.Name() == "help" {
			return
		}
		args := append(strings.Fields(c.CommandPath())[1:], "--help")
		var stdout, stderr bytes.Buffer
		if status := run(t.Context(), args, nil, &stdout, &stderr); status != 0 || stderr.Len() > 0 {
			t.Errorf("%s: exit status %d: %s", strings.Join(args, " "), status, &stderr)
		}
		if help := stdout.String(); !strings.Contains(help, "Examples:\n") || !strings.Contains(help, "  joingate ") {
			t.Errorf("%s shows no example:\n%s", strings.Join(args, " "), help)
		}
		for _, below := range c.Commands() {
			walk(below)
		}
	}
	walk((&program{}).command())
}
