package config

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// maxCollectWindow leaves three of the five seconds until RX1 (RP002,
// JOIN_ACCEPT_DELAY1) for policy, commit and the way to the gateway.
const maxCollectWindow = 2 * time.Second

// Validate checks every value and returns all mistakes, one a line, each with
// the key, the value and what is allowed. It opens no file and no connection.
func (c Config) Validate() error { return errors.Join(c.check()...) }

// check is Validate with the mistakes one by one.
func (c Config) check() []error {
	var m checker
	m.unless(c.DataDir != "", "data_dir", c.DataDir, "the path of a folder")

	m.url("record", c.Record.URL, c.Record.Username, recordURLs)
	m.url("cache", c.Cache.URL, c.Cache.Username, cacheURLs)
	m.url("mqtt", c.MQTT.URL, c.MQTT.Username, mqttURLs)
	m.mqtt(c.MQTT)

	m.address("api.listen", c.API.Listen)
	m.pair("api.", c.API.TLSCert, c.API.TLSKey)
	m.address("ops.listen", c.Ops.Listen)
	m.pair("ops.", c.Ops.TLSCert, c.Ops.TLSKey)
	m.cache(c.Cache)
	m.backend(c.Backend, len(c.NetworkServers))
	m.events(c.Events, c.Cache)
	m.limits(c.Limits)

	m.hex("network.net_id", c.Network.NetID, 6)
	m.hex("network.default_join_eui", c.Network.DefaultJoinEUI, 16)
	m.unless(c.Join.CollectWindow >= 0 && c.Join.CollectWindow <= maxCollectWindow,
		"join.collect_window", c.Join.CollectWindow.String(),
		"0s to 2s: RX1 opens 5 s after the uplink, and the join-accept must be at the gateway before")
	m.oneOf("join.airtime", c.Join.Airtime, "plan", "off")

	m.unless(c.Tracing.URL == "" || webURL.MatchString(c.Tracing.URL), "tracing.url", shown(c.Tracing.URL), "http://HOST:PORT/PATH or https://…")
	m.unless(c.Tracing.OneOf >= 1, "tracing.one_of", strconv.FormatInt(c.Tracing.OneOf, 10), "1 or more")

	m.oneOf("log.level", c.Log.Level, "debug", "info", "warn", "error")
	m.oneOf("log.format", c.Log.Format, "console", "json")
	return m
}

// checker collects what is wrong with a configuration.
type checker []error

// invalid is a value that may not be, of the first of the keys that was set.
type invalid struct {
	keys []string
	text string
}

func (i invalid) Error() string { return i.text }

// add notes a mistake: the keys that can be mended, and what is wrong with them.
func (m *checker) add(keys []string, format string, args ...any) {
	*m = append(*m, invalid{keys, fmt.Sprintf(format, args...)})
}

func (m *checker) unless(ok bool, key, value, allowed string) {
	if !ok {
		m.add([]string{key}, "%s = %q: must be %s", key, value, allowed)
	}
}

func (m *checker) oneOf(key, value string, allowed ...string) {
	m.unless(slices.Contains(allowed, value), key, value, "one of "+strings.Join(allowed, ", "))
}

func (m *checker) hex(key, value string, digits int) {
	_, err := hex.DecodeString(value)
	m.unless(err == nil && len(value) == digits, key, value, strconv.Itoa(digits)+" hex digits")
}

// pair checks that certificate and private key come together; prefix is "api.".
func (m *checker) pair(prefix, cert, key string) {
	if (cert == "") != (key == "") {
		keys := []string{prefix + "tls_cert", prefix + "tls_key"}
		m.add(keys, "%s = %q and %s = %q: must be set together or not at all", keys[0], cert, keys[1], key)
	}
}

func (m *checker) address(key, value string) {
	host, port, err := net.SplitHostPort(value)
	_, portErr := strconv.ParseUint(port, 10, 16)
	m.unless(err == nil && portErr == nil && !strings.ContainsAny(host, " /"),
		key, value, `HOST:PORT, such as "127.0.0.1:8080", with a port of 0 to 65535`)
}

// mqtt checks what only [mqtt] has.
func (m *checker) mqtt(c MQTT) {
	m.address("mqtt.embedded_listen", c.EmbeddedListen)
	// MQTT 5.0, section 4.8.2: a ShareName has none of these.
	m.unless(!strings.ContainsAny(c.ShareGroup, "/+#"), "mqtt.share_group", c.ShareGroup, "a name without /, + and #")
	for _, p := range c.Prefixes {
		m.unless(p != "" && !strings.HasPrefix(p, "/") && !strings.HasSuffix(p, "/") && !strings.ContainsAny(p, "+#"),
			"mqtt.prefixes", p, `topic levels such as "a/b", without / at the ends and without + and #`)
	}
	m.pair("mqtt.", c.TLSCert, c.TLSKey)
	m.pair("mqtt.embedded_", c.EmbeddedTLSCert, c.EmbeddedTLSKey)
	m.unless(c.EmbeddedTLSClientCA == "" || c.EmbeddedTLSCert != "", "mqtt.embedded_tls_client_ca", c.EmbeddedTLSClientCA, "left out without mqtt.embedded_tls_cert")
	// Files for TLS with a URL that does without it: the operator believes the
	// connection to be encrypted, and it is not.
	if scheme, _, _ := strings.Cut(c.URL, ":"); c.TLSCA+c.TLSCert != "" && slices.Contains([]string{"mqtt", "tcp", "ws"}, scheme) {
		m.add([]string{"mqtt.url", "mqtt.tls_ca", "mqtt.tls_cert"}, "mqtt.url = %q is not encrypted, but mqtt.tls_ca or mqtt.tls_cert is set: use mqtts:// or wss://, or leave the files out", shown(c.URL))
	}
}

// cache checks what only [cache] has.
func (m *checker) cache(c Cache) {
	m.unless(c.Timeout >= time.Millisecond && c.Timeout <= time.Second, "cache.timeout", c.Timeout.String(), "1ms to 1s: the record is asked after that")
	// Braces tell Redis Cluster which part of a name picks the node.
	m.unless(c.KeyPrefix != "" && !strings.ContainsAny(c.KeyPrefix, "{} "), "cache.key_prefix", c.KeyPrefix, "a name without { } and blanks")
	m.pair("cache.", c.TLSCert, c.TLSKey)
}

// backend checks that the Backend Interfaces are served over mutual TLS or not
// at all.
func (m *checker) backend(b Backend, servers int) {
	if b.Listen == "" {
		m.unless(servers == 0, "backend.listen", "", "set, as there are [[network_servers]]")
		return
	}
	m.address("backend.listen", b.Listen)
	if b.TLSCert == "" || b.TLSKey == "" || b.TLSClientCA == "" {
		m.add([]string{"backend.listen"}, "backend.listen = %q needs backend.tls_cert, backend.tls_key and backend.tls_client_ca: a network server is known by its certificate", b.Listen)
	}
}

var webURL = regexp.MustCompile(`^https?://` + hostPart + `(/[^#]*)?$`)

// events checks where join events go.
func (m *checker) events(e Events, c Cache) {
	if e.WebhookURL != "" {
		m.unless(webURL.MatchString(e.WebhookURL), "events.webhook_url", shown(e.WebhookURL), "http://HOST:PORT/PATH or https://…, without user and password")
		m.unless(e.WebhookSecretFile != "", "events.webhook_secret_file", "", "the path of a file, as events.webhook_url is set")
	}
	m.unless(e.RedisStream == "" || !c.InMemory(), "events.redis_stream", e.RedisStream, `left out with cache.url = "memory:", or cache.url must name a Redis`)
	m.unless(e.RedisStreamLength >= 0, "events.redis_stream_length", strconv.FormatInt(e.RedisStreamLength, 10), "0 or more")
}

func (m *checker) limits(l Limits) {
	for _, k := range []struct {
		key   string
		value int64
	}{
		{"device_failures", l.DeviceFailures},
		{"device_joins", l.DeviceJoins},
		{"join_eui_joins", l.JoinEUIJoins},
		{"rejoins", l.Rejoins},
	} {
		m.unless(k.value >= 0 && k.value <= 1_000_000, "limits."+k.key, strconv.FormatInt(k.value, 10), "0 to 1000000")
	}
}

// urls is what the url of one table may be.
type urls struct {
	pattern *regexp.Regexp
	allowed string
}

// The parts of the patterns. net/url is no help here: it refuses several hosts.
// An @ is allowed in front of the hosts only; behind them it is the sign of a
// password with a slash in it.
const (
	userPart  = `([^@/?#:]*@)?`
	hostPart  = `([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?`
	hostsPart = hostPart + `(,` + hostPart + `)*`
	queryPart = `(\?[^@]*)?$`
)

var (
	recordURLs = urls{
		// SQLite: neither folder nor //authority nor options, for the record sets
		// those that its promises need. PostgreSQL: no host is the local socket.
		regexp.MustCompile(`^sqlite:/?[^/?:]([^?]*[^/?])?$|^postgres(ql)?://` + userPart + `(` + hostsPart + `)?(/[^/?#@]*)?` + queryPart),
		"sqlite:FILE, postgres://USER@HOST:PORT/DATABASE or postgresql://…",
	}
	cacheURLs = urls{
		regexp.MustCompile(`^memory:$|^rediss?://` + userPart + hostPart + `(/[0-9]*)?` + queryPart +
			`|^redis-sentinel://` + userPart + hostsPart + `/[^/?#@]+` + queryPart +
			`|^redis-cluster://` + userPart + hostsPart + `/?` + queryPart),
		"memory:, redis://HOST:PORT/DB, rediss://…, redis-sentinel://HOST:PORT,HOST:PORT/MASTER or redis-cluster://HOST:PORT,HOST:PORT",
	}
	mqttURLs = urls{
		regexp.MustCompile(`^embedded:$|^(mqtts?|tcp)://` + userPart + hostPart + `/?$|^wss?://` + userPart + hostPart + `(/[^?#@]*)?` + queryPart),
		"embedded:, mqtt://HOST:PORT, mqtts://…, tcp://…, ws://HOST:PORT/PATH or wss://…",
	}
	userInURL     = regexp.MustCompile(`^[a-z-]+://[^@/?#]+@`)
	passwordInURL = regexp.MustCompile(`^[a-z-]+://[^@/?#]*:[^/?#]*@|(?i)\?.*password`)
	schemeOfURL   = regexp.MustCompile(`^[a-z-]+:`)
)

// url checks the url of a table and that user and password stand where they
// should.
func (m *checker) url(table, value, username string, u urls) {
	if passwordInURL.MatchString(value) {
		m.add([]string{table + ".url"}, "%s.url = %q holds a password: take it out and put it into a file that %s.password_file names", table, shown(value), table)
		return
	}
	m.unless(u.pattern.MatchString(value), table+".url", shown(value), u.allowed)
	if username != "" && userInURL.MatchString(value) {
		m.add([]string{table + ".username"}, "%s.username = %q, but %s.url names a user too: leave one of them out", table, username, table)
	}
}

// shown is what an error may print of a URL: all of it only when there is no
// place for a password in it, for a malformed one may have it anywhere.
func shown(url string) string {
	if !strings.ContainsAny(url, "@?=") {
		return url
	}
	return schemeOfURL.FindString(url) + "…"
}
