package config

import (
	"strings"
	"testing"
	"time"
)

func TestDefaultIsValid(t *testing.T) {
	if err := Default().Validate(); err != nil {
		t.Error(err)
	}
}

const (
	wantRecord  = "sqlite:FILE, postgres://USER@HOST:PORT/DATABASE or postgresql://…"
	wantCache   = "memory:, redis://HOST:PORT/DB, rediss://…, redis-sentinel://HOST:PORT,HOST:PORT/MASTER or redis-cluster://HOST:PORT,HOST:PORT"
	wantMQTT    = "embedded:, mqtt://HOST:PORT, mqtts://…, tcp://…, ws://HOST:PORT/PATH or wss://…"
	wantAddress = `HOST:PORT, such as "127.0.0.1:8080", with a port of 0 to 65535`
	wantPrefix  = `topic levels such as "a/b", without / at the ends and without + and #`
)

func TestMistakesInValues(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*Config)
		want   string
	}{
		{"no data_dir", func(c *Config) { c.DataDir = "" }, `data_dir = "": must be the path of a folder`},
		{"other database", func(c *Config) { c.Record.URL = "mysql://h/db" }, `record.url = "mysql://h/db": must be ` + wantRecord},
		{"SQLite options", func(c *Config) { c.Record.URL = "sqlite:x.db?_pragma=synchronous(OFF)" }, `record.url = "sqlite:…": must be ` + wantRecord},
		{"cache of no kind", func(c *Config) { c.Cache.URL = "memory" }, `cache.url = "memory": must be ` + wantCache},
		{"broker of no kind", func(c *Config) { c.MQTT.URL = "broker:1883" }, `mqtt.url = "broker:1883": must be ` + wantMQTT},
		{
			"password in a URL", func(c *Config) { c.Record.URL = "postgres://joingate:s3cret@db/joingate" },
			`record.url = "postgres:…" holds a password: take it out and put it into a file that record.password_file names`,
		},
		{
			"user twice", func(c *Config) { c.MQTT.URL, c.MQTT.Username = "mqtt://a@broker", "b" },
			`mqtt.username = "b", but mqtt.url names a user too: leave one of them out`,
		},
		{"address without port", func(c *Config) { c.API.Listen = "127.0.0.1" }, `api.listen = "127.0.0.1": must be ` + wantAddress},
		{"address with a named port", func(c *Config) { c.Ops.Listen = ":http" }, `ops.listen = ":http": must be ` + wantAddress},
		{"address with a big port", func(c *Config) { c.MQTT.EmbeddedListen = ":65536" }, `mqtt.embedded_listen = ":65536": must be ` + wantAddress},
		{"address that is a URL", func(c *Config) { c.API.Listen = "http://h:80" }, `api.listen = "http://h:80": must be ` + wantAddress},
		{"address that is empty", func(c *Config) { c.API.Listen = "" }, `api.listen = "": must be ` + wantAddress},
		{"slow cache", func(c *Config) { c.Cache.Timeout = time.Minute }, `cache.timeout = "1m0s": must be 1ms to 1s: the record is asked after that`},
		{"cache names with braces", func(c *Config) { c.Cache.KeyPrefix = "{a}" }, `cache.key_prefix = "{a}": must be a name without { } and blanks`},
		{
			"backend without certificates", func(c *Config) { c.Backend.Listen = ":9443" },
			`backend.listen = ":9443" needs backend.tls_cert, backend.tls_key and backend.tls_client_ca: a network server is known by its certificate`,
		},
		{
			"network servers without backend", func(c *Config) { c.NetworkServers = []map[string]any{{}} },
			`backend.listen = "": must be set, as there are [[network_servers]]`,
		},
		{
			"webhook with a password", func(c *Config) { c.Events.WebhookURL, c.Events.WebhookSecretFile = "https://u:p@h/", "/s" },
			`events.webhook_url = "https:…": must be http://HOST:PORT/PATH or https://…, without user and password`,
		},
		{
			"webhook without a secret", func(c *Config) { c.Events.WebhookURL = "https://h/" },
			`events.webhook_secret_file = "": must be the path of a file, as events.webhook_url is set`,
		},
		{
			"stream without Redis", func(c *Config) { c.Events.RedisStream = "joins" },
			`events.redis_stream = "joins": must be left out with cache.url = "memory:", or cache.url must name a Redis`,
		},
		{"negative limit", func(c *Config) { c.Limits.Rejoins = -1 }, `limits.rejoins = "-1": must be 0 to 1000000`},
		{"traces to nowhere", func(c *Config) { c.Tracing.URL = "collector:4318" }, `tracing.url = "collector:4318": must be http://HOST:PORT/PATH or https://…`},
		{"no trace at all", func(c *Config) { c.Tracing.OneOf = 0 }, `tracing.one_of = "0": must be 1 or more`},
		{
			"embedded certificate without key", func(c *Config) { c.MQTT.EmbeddedTLSCert = "/c" },
			`mqtt.embedded_tls_cert = "/c" and mqtt.embedded_tls_key = "": must be set together or not at all`,
		},
		{
			"embedded client authorities without TLS", func(c *Config) { c.MQTT.EmbeddedTLSClientCA = "/ca" },
			`mqtt.embedded_tls_client_ca = "/ca": must be left out without mqtt.embedded_tls_cert`,
		},
		{"share group", func(c *Config) { c.MQTT.ShareGroup = "a/b" }, `mqtt.share_group = "a/b": must be a name without /, + and #`},
		{"empty prefix", func(c *Config) { c.MQTT.Prefixes = []string{""} }, `mqtt.prefixes = "": must be ` + wantPrefix},
		{
			"prefixes with slash and wildcards", func(c *Config) { c.MQTT.Prefixes = []string{"/a", "ok/ay", "b/", "c/+", "#"} },
			`mqtt.prefixes = "/a": must be ` + wantPrefix + "\n" + `mqtt.prefixes = "b/": must be ` + wantPrefix + "\n" +
				`mqtt.prefixes = "c/+": must be ` + wantPrefix + "\n" + `mqtt.prefixes = "#": must be ` + wantPrefix,
		},
		{
			"key without certificate", func(c *Config) { c.API.TLSKey = "/k" },
			`api.tls_cert = "" and api.tls_key = "/k": must be set together or not at all`,
		},
		{
			"certificate without key", func(c *Config) { c.MQTT.TLSCert = "/c" },
			`mqtt.tls_cert = "/c" and mqtt.tls_key = "": must be set together or not at all`,
		},
		{
			"TLS files without TLS", func(c *Config) { c.MQTT.URL, c.MQTT.TLSCA = "mqtt://broker", "/ca" },
			`mqtt.url = "mqtt://broker" is not encrypted, but mqtt.tls_ca or mqtt.tls_cert is set: use mqtts:// or wss://, or leave the files out`,
		},
		{"short NetID", func(c *Config) { c.Network.NetID = "00001" }, `network.net_id = "00001": must be 6 hex digits`},
		{"NetID of other letters", func(c *Config) { c.Network.NetID = "00000g" }, `network.net_id = "00000g": must be 6 hex digits`},
		{"long JoinEUI", func(c *Config) { c.Network.DefaultJoinEUI = "d896e0efff00000000" }, `network.default_join_eui = "d896e0efff00000000": must be 16 hex digits`},
		{
			"long window", func(c *Config) { c.Join.CollectWindow = 2*time.Second + 1 },
			`join.collect_window = "2.000000001s": must be 0s to 2s: RX1 opens 5 s after the uplink, and the join-accept must be at the gateway before`,
		},
		{
			"negative window", func(c *Config) { c.Join.CollectWindow = -time.Second },
			`join.collect_window = "-1s": must be 0s to 2s: RX1 opens 5 s after the uplink, and the join-accept must be at the gateway before`,
		},
		{"airtime", func(c *Config) { c.Join.Airtime = "on" }, `join.airtime = "on": must be one of plan, off`},
		{"level", func(c *Config) { c.Log.Level = "INFO" }, `log.level = "INFO": must be one of debug, info, warn, error`},
		{"format", func(c *Config) { c.Log.Format = "" }, `log.format = "": must be one of console, json`},
		{
			"several at once", func(c *Config) { c.Log.Level, c.Join.Airtime = "x", "y" },
			`join.airtime = "y": must be one of plan, off` + "\n" + `log.level = "x": must be one of debug, info, warn, error`,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := Default()
			tt.change(&c)
			if err := c.Validate(); err == nil || err.Error() != tt.want {
				t.Errorf("error\n%v\nwant\n%s", err, tt.want)
			}
		})
	}
}

func TestURLs(t *testing.T) {
	for _, tt := range []struct {
		urls     urls
		good     []string
		bad      []string
		password []string
	}{
		{
			recordURLs,
			strings.Fields(`sqlite:joingate.db sqlite:/var/lib/j.db sqlite:../j.db sqlite:a/b=c@d.db
				postgres://user@host/db postgresql://host postgres://h:5432/db?sslmode=verify-full
				postgres://u@h1:5432,h2:5432/db postgres:///db?host=/run/postgresql postgres://[::1]:5432/db`),
			strings.Fields(`sqlite: sqlite:///x.db sqlite://x.db sqlite::memory: sqlite:dir/ sqlite:x.db?mode=memory
				postgres: postgres:h/db POSTGRES://h/db postgres://h:port/db memory: x.db`),
			strings.Fields(`postgres://u:pw@h/db postgres://:pw@h/db postgres://u:@h/db postgres://u:p@w@h/db
				postgres://h/db?password=pw postgres://h/db?sslmode=require&sslpassword=pw`),
		},
		{
			cacheURLs,
			strings.Fields(`memory: redis://localhost redis://h:6379/0 rediss://user@h:6380/1?dial_timeout=1s
				redis-sentinel://h1:26379,h2:26379/master redis-sentinel://h1/my-master
				redis-cluster://h1:6379,h2:6379 redis-cluster://h1:6379,h2:6379/ redis-cluster://[::1]:6379,h_2`),
			strings.Fields(`memory memory:x redis: redis:// redis://h1,h2 redis://h/db redis-sentinel://h1:26379 redis-sentinel://h1/
				redis-sentinel://h1,,h2/m redis-cluster://h1/1 redis-cluster://h1:6379,`),
			strings.Fields(`redis://:pw@h rediss://u:pw@h/0 redis-sentinel://u:pw@h1,h2/m redis-cluster://:pw@h1,h2
				redis-sentinel://h1/m?sentinel_password=pw`),
		},
		{
			mqttURLs,
			strings.Fields(`embedded: mqtt://h mqtt://h:1883 mqtts://u@h:8883/ tcp://10.0.0.1:1883 ws://h:80/mqtt wss://h/a/b?x=1`),
			strings.Fields(`embedded h:1883 mqtt://h/topic mqtt://h1,h2 ssl://h mqtt:// ws:///mqtt mqtt://h:123456`),
			strings.Fields(`mqtt://u:pw@h tcp://:pw@h wss://u:pw@h/mqtt`),
		},
	} {
		for _, url := range tt.good {
			var m checker
			if m.url("x", url, "", tt.urls); m != nil {
				t.Errorf("%s is refused: %v", url, m)
			}
		}
		for _, url := range tt.bad {
			var m checker
			if m.url("x", url, "", tt.urls); len(m) != 1 || !strings.HasSuffix(m[0].Error(), "must be "+tt.urls.allowed) {
				t.Errorf("%s: %v", url, m)
			}
		}
		for _, url := range tt.password {
			var m checker
			if m.url("x", url, "", tt.urls); len(m) != 1 || !strings.Contains(m[0].Error(), "holds a password") || !strings.Contains(m[0].Error(), "x.password_file") {
				t.Errorf("%s: %v", url, m)
			}
		}
	}
}

// Whatever shape a URL with a password has, it is refused, and the error, which
// ends in logs and tickets, does not repeat the password.
func TestPasswordsAreRefusedAndNotPrinted(t *testing.T) {
	const secret = "H0rse"
	for _, url := range []string{
		"postgres://u:H0rse@h/db", "postgres:u:H0rse@h/db", "postgres:/u:H0rse@h/db", "u:H0rse@h", "H0rse@h", ":H0rse@h",
		"postgres://u:1/H0rse@h/db", "postgres://u:1?H0rse@h/db", "postgres://u:1#H0rse@h/db", "postgres://u:a@H0rse@h/db",
		"POSTGRES://u:H0rse@h/db", "postgres://h/db?password=H0rse", "postgres://h/db?PASSWORD=H0rse",
		"host=h password=H0rse", "password=H0rse", "redis://:H0rse@h", "redis://:H0rse@h1,h2/m", "redis-cluster://u:H0rse@h1,h2",
		"mqtt://u:H0rse@h", "ws://u:1/H0rse@h/mqtt", "redis-sentinel://u:1/H0rse@h",
	} {
		c := Default()
		c.Record.URL, c.Cache.URL, c.MQTT.URL = url, url, url
		err := c.Validate()
		if err == nil {
			t.Fatalf("%s is accepted", url)
		}
		if n := strings.Count(err.Error(), "\n") + 1; n < 3 {
			t.Errorf("%s: %d of 3 mistakes found: %v", url, n, err)
		}
		if strings.Contains(err.Error(), secret) {
			t.Errorf("the error repeats the password: %v", err)
		}
	}
}
