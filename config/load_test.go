package config

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

// parse reads a file "c.toml" that lies in /etc/joingate.
func parse(text string, environ ...string) (Config, error) {
	return load("c.toml", text, "/etc/joingate", environ)
}

func TestLoadWithoutFileGivesDefaults(t *testing.T) {
	t.Chdir(t.TempDir())
	folder, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	c, err := Load("", nil)
	if err != nil {
		t.Fatal(err)
	}
	want := Default()
	want.DataDir = filepath.Join(folder, "joingate-data")
	if !reflect.DeepEqual(c, want) {
		t.Errorf("Load = %+v, want %+v", c, want)
	}
}

func TestLoadFile(t *testing.T) {
	c, err := parse(`
data_dir = "data"
[record]
url = "postgres://joingate@db1,db2:5433/joingate?sslmode=verify-full"
password_file = "db.password"
[mqtt]
url = "wss://broker:8884/mqtt"
prefixes = ["a/b", "c/d,e"]
tls_ca = "/etc/ssl/ca.pem"
[api]
gateways_from_stock_only = true
[join]
collect_window = "0s"
[[band_plan_groups]]
id = 10000
channels = [470.3, 470.5]
[[band_plan_groups]]
id = 10001
[band_plan_groups.rx2]
data_rate = 0
`)
	if err != nil {
		t.Fatal(err)
	}
	want := Default()
	want.DataDir = "/etc/joingate/data"
	want.Record.URL = "postgres://joingate@db1,db2:5433/joingate?sslmode=verify-full"
	want.Record.PasswordFile = "/etc/joingate/db.password"
	want.MQTT.URL = "wss://broker:8884/mqtt"
	want.MQTT.Prefixes = []string{"a/b", "c/d,e"}
	want.MQTT.TLSCA = "/etc/ssl/ca.pem"
	want.API.GatewaysFromStockOnly = true
	want.Join.CollectWindow = 0
	want.BandPlanGroups = []map[string]any{
		{"id": int64(10000), "channels": []any{470.3, 470.5}},
		{"id": int64(10001), "rx2": map[string]any{"data_rate": int64(0)}},
	}
	if !reflect.DeepEqual(c, want) {
		t.Errorf("Load = %+v,\nwant %+v", c, want)
	}
}

// A relative path starts at the file's folder wherever the program was started,
// and also when an environment variable gives it.
func TestPathsStartAtTheFile(t *testing.T) {
	folder := t.TempDir()
	t.Chdir(folder)
	if err := os.Mkdir("etc", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("etc/joingate.toml", []byte(`data_dir = "../var"`), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Load("etc/joingate.toml", []string{"JOINGATE_CACHE__PASSWORD_FILE=redis.password"})
	if err != nil {
		t.Fatal(err)
	}
	folder, err = os.Getwd() // TempDir may be a symbolic link
	if err != nil {
		t.Fatal(err)
	}
	if want := filepath.Join(folder, "var"); c.DataDir != want {
		t.Errorf("data_dir = %s, want %s", c.DataDir, want)
	}
	if want := filepath.Join(folder, "etc", "redis.password"); c.Cache.PasswordFile != want {
		t.Errorf("cache.password_file = %s, want %s", c.Cache.PasswordFile, want)
	}
}

// Every key that holds a path is resolved; a new one must not be forgotten.
func TestAllPathsAreResolved(t *testing.T) {
	c := Default()
	isPath := func(k key) bool {
		return strings.HasSuffix(k.name, "_file") || strings.HasSuffix(k.name, "_dir") || strings.HasPrefix(k.name, "tls_")
	}
	for _, k := range keys(&c) {
		if isPath(k) {
			*k.value.(*string) = "x"
		}
	}
	c.resolvePaths("/etc/joingate")
	for _, k := range keys(&c) {
		if got := k.value; isPath(k) && *got.(*string) != "/etc/joingate/x" {
			t.Errorf("%s = %q, want /etc/joingate/x", k.path, *got.(*string))
		}
	}
}

func TestSQLiteAndKEKPath(t *testing.T) {
	for _, tt := range []struct{ url, path string }{
		{"sqlite:joingate.db", "/var/j/joingate.db"},
		{"sqlite:sub/../x.db", "/var/j/x.db"},
		{"sqlite:/srv/x.db", "/srv/x.db"},
	} {
		if path, ok := (Record{URL: tt.url}).SQLitePath("/var/j"); path != tt.path || !ok {
			t.Errorf("SQLitePath of %s = %s, %v; want %s", tt.url, path, ok, tt.path)
		}
	}
	if _, ok := (Record{URL: "postgres://h/db"}).SQLitePath("/var/j"); ok {
		t.Error("SQLitePath of PostgreSQL is true")
	}
	if path := (Keys{}).KEKPath("/var/j"); path != "/var/j/kek" {
		t.Errorf("default KEKPath = %s", path)
	}
	if path := (Keys{KEKFile: "/k"}).KEKPath("/var/j"); path != "/k" {
		t.Errorf("KEKPath = %s, want /k", path)
	}
}

func TestMistakesInTheFile(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"misspelt key", "[api]\nlisen = \"x\"", `c.toml, line 2: unknown key "api.lisen"; did you mean "api.listen"?`},
		{"misspelt table", "[apii]\nlisten = \"x\"", `c.toml, line 1: unknown key "apii"; did you mean "api"?`},
		{"wrong letter case", "[api]\nListen = \"x\"", `c.toml, line 2: unknown key "api.Listen"; did you mean "api.listen"?`},
		{"top key in a table", "[log]\ndata_dir = \"x\"", `c.toml, line 2: unknown key "log.data_dir"; did you mean "data_dir"?`},
		{"key without its table", "listen = \"x\"", `c.toml, line 1: unknown key "listen"; did you mean "api.listen"?`},
		{"no table name for a key", "[api]\nport = 80", `c.toml, line 2: unknown key "api.port"; did you mean "api.listen"?`},
		{"quoted dot", "\"api.listen\" = \"x\"", `c.toml, line 1: unknown key "\"api.listen\""; did you mean "api.listen"?`},
		{"inline table", "api = {lisen = \"x\"}", `c.toml, line 1: unknown key "api.lisen"; did you mean "api.listen"?`},
		{"line not known", "api.x.y = 1", `c.toml: unknown key "api.x"; did you mean "api.listen"?`},
		{"number for text", "[api]\nlisten = 8080", `c.toml, line 2: api.listen must be a text in quotes`},
		{"text for boolean", "[api]\ngateways_from_stock_only = \"true\"", `c.toml, line 2: api.gateways_from_stock_only must be true or false, without quotes`},
		{"number for duration", "[join]\ncollect_window = 200", `c.toml, line 2: join.collect_window must be a duration in quotes, such as "200ms"`},
		{"duration without unit", "[join]\ncollect_window = \"200\"", `c.toml, line 2: join.collect_window = "200": must be a duration with its unit, such as 200ms`},
		{"text for list", "[mqtt]\nprefixes = \"a/b\"", `c.toml, line 2: mqtt.prefixes must be a list of texts, such as ["a/b", "c/d"]`},
		{"list of numbers", "[mqtt]\nprefixes = [1]", `c.toml, line 2: mqtt.prefixes must be a list of texts, such as ["a/b", "c/d"]`},
		{"value for table", "api = 8080", `c.toml, line 1: api must be a table with the header [api]`},
		{"list of tables for table", "[[api]]", `c.toml, line 1: api must be a table with the header [api]`},
		{"one band plan group as a table", "[band_plan_groups]\nid = 1", `c.toml, line 1: band_plan_groups must be tables with the header [[band_plan_groups]]`},
		{"band plan groups as numbers", "band_plan_groups = [101]", `c.toml, line 1: band_plan_groups must be tables with the header [[band_plan_groups]]`},
		{"broken syntax", "[api]\n\nlisten = \n", `c.toml, line 3: expected value but found '\n' instead`},
		{"open quotes", "[api]\nlisten = \":80\n", `c.toml, line 2: strings cannot contain newlines`},
		{"value that may not be", "[ops]\n\nlisten = \"nine\"", `c.toml, line 3: ops.listen = "nine": must be ` + wantAddress},
		{"one of two that belong together", "[api]\ntls_key = \"/k\"", `c.toml, line 2: api.tls_cert = "" and api.tls_key = "/k": must be set together or not at all`},
		{"key twice", "[log]\nlevel = \"info\"\nlevel = \"info\"", `c.toml, line 3: Key 'log.level' has already been defined.`},
		{
			"several, from top to bottom, with those of Validate",
			"[log]\nlevle = \"info\"\nformat = \"xml\"\n[ops]\nlisten = false",
			`c.toml, line 2: unknown key "log.levle"; did you mean "log.level"?` + "\n" +
				`c.toml, line 5: ops.listen must be a text in quotes` + "\n" +
				`c.toml, line 3: log.format = "xml": must be one of console, json`,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, err := parse(tt.text)
			if err == nil || err.Error() != tt.want {
				t.Errorf("error\n%v\nwant\n%s", err, tt.want)
			}
			if !reflect.DeepEqual(c, Config{}) {
				t.Error("a configuration came with the error")
			}
		})
	}
}

func TestUnreadableFile(t *testing.T) {
	folder := t.TempDir()
	missing := filepath.Join(folder, "none.toml")
	_, err := Load(missing, nil)
	if want := `configuration file "` + missing + `" does not exist: correct the path, or run without one to use the defaults`; err == nil || err.Error() != want {
		t.Errorf("error %v, want %s", err, want)
	}
	if _, err := Load(folder, nil); err == nil || !strings.HasPrefix(err.Error(), "read configuration file: ") {
		t.Errorf("error of a folder: %v", err)
	}
}

func TestSecret(t *testing.T) {
	folder := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(folder, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, tt := range []struct{ name, text, want string }{
		{"plain", "s3cret", "s3cret"},
		{"newline", "s3cret\n", "s3cret"},
		{"carriage return", "s3cret\r\n", "s3cret"},
		{"only the last newline goes", " s3 cret \n\n", " s3 cret \n"},
	} {
		if got, err := Secret(write(tt.name, tt.text)); got != tt.want || err != nil {
			t.Errorf("%s: Secret = %q, %v; want %q", tt.name, got, err, tt.want)
		}
	}
	if got, err := Secret(""); got != "" || err != nil {
		t.Errorf("Secret without a path = %q, %v", got, err)
	}
	empty, missing := write("empty", "\n"), filepath.Join(folder, "missing")
	for path, want := range map[string]string{
		empty:   `password file "` + empty + `" is empty: write the password into it`,
		missing: `password file "` + missing + `" does not exist: create it or correct the path`,
	} {
		if _, err := Secret(path); err == nil || err.Error() != want {
			t.Errorf("error %v, want %s", err, want)
		}
	}
}

// FuzzLoad: no text and no variable makes Load panic; what it accepts is valid,
// and printed and loaded again it is the same.
func FuzzLoad(f *testing.F) {
	for _, text := range []string{
		"",
		"data_dir = \"x\"\n[api]\nlisten = \":80\"",
		"[api]\nlisen = 1",
		"[[band_plan_groups]]\nid = 10000\nx = [1, 1.5, true, 2026-01-02, [{a = 1}]]\n[band_plan_groups.y]\nz = {}",
		"[mqtt]\nprefixes = [\"a/b\"]\nurl = \"mqtts://u@h:8883\"",
		"[join]\ncollect_window = \"1s\"",
		"api.x.y = 1\n\"\" = 2\n'a.b' = 3",
		"[record]\nurl = \"postgres://u:p@h/d\"",
	} {
		f.Add(text, "JOINGATE_API__LISTEN=127.0.0.1:0")
	}
	f.Add("", "JOINGATE_BAND_PLAN_GROUPS=[{id = 1}]")
	f.Add("", "JOINGATE_MQTT__PREFIXES=a, b/c")
	f.Add("", "JOINGATE_")
	f.Fuzz(func(t *testing.T, text, variable string) {
		c, err := parse(text, variable)
		if err != nil {
			return
		}
		if err := c.Validate(); err != nil {
			t.Fatalf("Load gave what Validate refuses: %v", err)
		}
		var first, second bytes.Buffer
		if err := c.WriteTOML(&first); err != nil {
			t.Fatal(err)
		}
		again, err := parse(first.String())
		if err != nil {
			t.Fatalf("what was printed cannot be loaded: %v\n%s", err, first.String())
		}
		if err := again.WriteTOML(&second); err != nil {
			t.Fatal(err)
		}
		// The texts are compared, because a NaN in a band plan group is not equal
		// to itself.
		if first.String() != second.String() {
			t.Fatalf("printed %s\nand after loading %s", first.String(), second.String())
		}
	})
}

func TestCollectWindowIsADuration(t *testing.T) {
	c, err := parse("[join]\ncollect_window = \"1.5s\"")
	if err != nil || c.Join.CollectWindow != 1500*time.Millisecond {
		t.Errorf("collect_window = %v, %v", c.Join.CollectWindow, err)
	}
}
