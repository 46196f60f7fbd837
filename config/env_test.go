package config

import (
	"reflect"
	"strings"
	"testing"
	"time"
)

// other gives a valid value, as a variable has it, that is not the default.
func other(t *testing.T, k key) string {
	t.Helper()
	if text, ok := map[string]string{
		"record.url":               "postgres://db/joingate",
		"cache.url":                "redis://redis:6379/1",
		"mqtt.url":                 "mqtts://broker:8883",
		"mqtt.share_group":         "joingate",
		"mqtt.embedded_listen":     "[::1]:1884",
		"api.listen":               ":8081",
		"ops.listen":               "localhost:9091",
		"backend.listen":           "127.0.0.1:9443",
		"events.webhook_url":       "https://example.org/joins",
		"tracing.url":              "http://127.0.0.1:4318",
		"network.net_id":           "60001F",
		"network.default_join_eui": "0102030405060708",
		"join.airtime":             "off",
		"log.level":                "debug",
		"log.format":               "json",
	}[k.path]; ok {
		return text
	}
	switch k.value.(type) {
	case *string:
		return "/x/" + k.name
	case *bool:
		return "true"
	case *int64:
		return "42"
	case *time.Duration:
		return "1s"
	case *[]string:
		return "a/b, c/d"
	case *[]map[string]any:
		return `[{id = 10000, name = "own"}]`
	}
	t.Fatalf("no value for %s of type %T", k.path, k.value)
	return ""
}

// Each key has a variable, which changes that key alone and wins over the file.
func TestEveryKeyHasAVariable(t *testing.T) {
	base, err := parse("")
	if err != nil {
		t.Fatal(err)
	}
	inFile := base
	for _, k := range keys(&inFile) {
		if list, ok := k.value.(*[]string); ok {
			*list = []string{"from/file"}
		}
	}
	for i, k := range keys(&Config{}) {
		t.Run(k.path, func(t *testing.T) {
			text := other(t, k)
			c := inFile
			if mistakes := c.setEnviron([]string{k.variable() + "=" + text}, places{}); mistakes != nil {
				t.Fatal(mistakes)
			}
			want := inFile
			wantKey := keys(&want)[i]
			if err := wantKey.setText(text); err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(c, want) {
				t.Errorf("%s=%s gave %+v", k.variable(), text, c)
			}
			if reflect.DeepEqual(c, inFile) {
				t.Errorf("%s=%s changed nothing", k.variable(), text)
			}
		})
	}
}

func TestAllVariablesTogether(t *testing.T) {
	var environ []string
	var want Config
	for _, k := range keys(&want) {
		text := other(t, k)
		environ = append(environ, k.variable()+"="+text)
		if err := k.setText(text); err != nil {
			t.Fatal(err)
		}
	}
	c, err := parse("", environ...)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(c, want) {
		t.Errorf("Load = %+v,\nwant %+v", c, want)
	}
}

func TestVariableValues(t *testing.T) {
	want, err := parse(`
[mqtt]
prefixes = ["a/b", "c"]
[join]
collect_window = "150ms"
[api]
listen = ":1"
gateways_from_stock_only = false
[[band_plan_groups]]
id = 10000
`)
	if err != nil {
		t.Fatal(err)
	}
	c, err := parse(
		"mqtt.prefixes = [\"x\"]\n[api]\nlisten = \":2\"\ngateways_from_stock_only = true",
		"JOINGATE_MQTT__PREFIXES= a/b ,c",
		"JOINGATE_JOIN__COLLECT_WINDOW=150ms",
		"JOINGATE_API__LISTEN=:1",
		"JOINGATE_API__GATEWAYS_FROM_STOCK_ONLY=false",
		"JOINGATE_BAND_PLAN_GROUPS=[{id = 10000}]",
	)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(c, want) {
		t.Errorf("Load = %+v,\nwant %+v", c, want)
	}
	c, err = parse("mqtt.prefixes = [\"x\"]", "JOINGATE_MQTT__PREFIXES=")
	if err != nil || c.MQTT.Prefixes != nil {
		t.Errorf("empty list: %v, %v", c.MQTT.Prefixes, err)
	}
}

func TestMistakesInTheEnvironment(t *testing.T) {
	for _, tt := range []struct{ name, entry, want string }{
		{"misspelt key", "JOINGATE_API__LISEN=x", "unknown variable JOINGATE_API__LISEN; did you mean JOINGATE_API__LISTEN?"},
		{"misspelt table", "JOINGATE_APY__LISTEN=x", "unknown variable JOINGATE_APY__LISTEN; did you mean JOINGATE_API__LISTEN?"},
		{"one underscore", "JOINGATE_API_LISTEN=x", "unknown variable JOINGATE_API_LISTEN; did you mean JOINGATE_API__LISTEN?"},
		{"misspelt top key", "JOINGATE_DATADIR=x", "unknown variable JOINGATE_DATADIR; did you mean JOINGATE_DATA_DIR?"},
		{"two underscores in a top key", "JOINGATE_DATA__DIR=x", "unknown variable JOINGATE_DATA__DIR; did you mean JOINGATE_DATA_DIR?"},
		{"lower case", "JOINGATE_api__listen=x", "unknown variable JOINGATE_api__listen; did you mean JOINGATE_API__LISTEN?"},
		{"table without key", "JOINGATE_LOG=debug", "unknown variable JOINGATE_LOG; did you mean JOINGATE_LOG__LEVEL?"},
		{"boolean", "JOINGATE_API__GATEWAYS_FROM_STOCK_ONLY=yes", `JOINGATE_API__GATEWAYS_FROM_STOCK_ONLY="yes": must be true or false`},
		{"duration", "JOINGATE_JOIN__COLLECT_WINDOW=fast", `JOINGATE_JOIN__COLLECT_WINDOW="fast": must be a duration with its unit, such as 200ms`},
		{"tables", "JOINGATE_BAND_PLAN_GROUPS=101", `JOINGATE_BAND_PLAN_GROUPS="101": must be a list of inline TOML tables, such as [{id = 10000}]`},
		{"tables and more", "JOINGATE_BAND_PLAN_GROUPS=[]\nx = 1", `JOINGATE_BAND_PLAN_GROUPS="[]\nx = 1": must be a list of inline TOML tables, such as [{id = 10000}]`},
		{"not text", "JOINGATE_DATA_DIR=\xff", "JOINGATE_DATA_DIR is not UTF-8 text"},
		{"value that Validate refuses", "JOINGATE_LOG__LEVEL=trace", `JOINGATE_LOG__LEVEL: log.level = "trace": must be one of debug, info, warn, error`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := parse("", tt.entry); err == nil || err.Error() != tt.want {
				t.Errorf("error\n%v\nwant\n%s", err, tt.want)
			}
		})
	}
}

// Other commands' variables and those that Kubernetes makes for services called
// joingate, joingate-mqtt and so on must not keep the program from starting.
func TestOtherVariablesAreLeftAlone(t *testing.T) {
	environ := append(strings.Fields(`
		JOINGATE_PORT=tcp://10.0.0.1:8080 JOINGATE_SERVICE_HOST=10.0.0.1 JOINGATE_SERVICE_PORT=8080
		JOINGATE_SERVICE_PORT_API=8080 JOINGATE_PORT_8080_TCP=x JOINGATE_PORT_8080_TCP_ADDR=x
		JOINGATE_TEST_POSTGRES=x JOINGATE_=x PATH=/bin API__LISTEN=x joingate_api__lisen=x =C:=C:`), otherVariables...)
	for _, service := range []string{"API", "OPS", "MQTT", "RECORD", "CACHE", "REDIS", "DB", "LOG", "JOIN", "KEYS", "NETWORK"} {
		for _, suffix := range []string{"PORT", "SERVICE_HOST", "SERVICE_PORT", "SERVICE_PORT_HTTP", "PORT_1883_TCP", "PORT_1883_TCP_PROTO"} {
			environ = append(environ, "JOINGATE_"+service+"_"+suffix+"=x")
		}
	}
	want, err := parse("")
	if err != nil {
		t.Fatal(err)
	}
	c, err := parse("", environ...)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(c, want) {
		t.Errorf("Load = %+v", c)
	}
}

// A value that may not be is told with the variable that has set it, whatever the
// file says; one that nobody has set, with nothing.
func TestMistakesNameTheVariable(t *testing.T) {
	_, err := load("c.toml", "[log]\nlevel = \"info\"\n[backend]\n[[network_servers]]", "/", []string{"JOINGATE_LOG__LEVEL=loud"})
	want := `backend.listen = "": must be set, as there are [[network_servers]]` + "\n" +
		`JOINGATE_LOG__LEVEL: log.level = "loud": must be one of debug, info, warn, error`
	if err == nil || err.Error() != want {
		t.Errorf("error\n%v\nwant\n%s", err, want)
	}
}
