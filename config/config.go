// Package config holds the settings of the joingate program: one Config, read
// from defaults, one TOML file and environment variables, in this order, the
// later one winning.
//
// Units. Durations are texts with their unit, such as "200ms". Identifiers are
// hex digits in the order in which they are written. A secret is never a value
// here: the configuration holds the path of its file.
//
// Paths. Load makes every path absolute: a relative one starts at the
// configuration file's folder, without a file at the working directory. Only
// the path in a sqlite: URL starts at data_dir.
//
// BandPlanGroups is passed on as the TOML library decodes it, for another
// package to read: whole numbers are int64, and a list of tables in it is
// []map[string]any or []any, depending on how it was written.
//
// The comments of the fields below are also what WriteTOML prints above the
// keys, so they speak of keys and not of Go.
package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Config is the whole configuration. The zero Config is not valid; start from
// Default or Load.
type Config struct {
	// Folder for what Joingate itself keeps: the SQLite record and the generated
	// key file. Default "./joingate-data", made on first start. Another folder is
	// another, empty installation.
	DataDir string `toml:"data_dir"`

	// The operator's own frequency band plan groups, one [[band_plan_groups]]
	// table each. Default none: only the built-in groups of "joingate band list".
	BandPlanGroups []map[string]any `toml:"band_plan_groups"`

	// The network servers that may ask the Backend Interfaces, one
	// [[network_servers]] table each. Default none.
	NetworkServers []map[string]any `toml:"network_servers"`

	// The record: accounts, permissions, nodes, nonces and sessions.
	Record Record `toml:"record"`

	// The policy cache. Losing it costs time, never data.
	Cache Cache `toml:"cache"`

	// The MQTT broker that the gateways are connected to.
	MQTT MQTT `toml:"mqtt"`

	// The admin API.
	API API `toml:"api"`

	// The operations endpoint: /healthz, /readyz, /metrics and /rejects.
	Ops Ops `toml:"ops"`

	// LoRaWAN Backend Interfaces (TS002) for other network servers.
	Backend Backend `toml:"backend"`

	// Where join events go besides MQTT.
	Events Events `toml:"events"`

	// What this LoRaWAN network is called.
	Network Network `toml:"network"`

	// How joins are answered.
	Join Join `toml:"join"`

	// How much one device may ask for. A device whose requests are good is never
	// refused for what others send in its name.
	Limits Limits `toml:"limits"`

	// Where the key lies that seals the root keys.
	Keys Keys `toml:"keys"`

	// The program's log.
	Log Log `toml:"log"`

	// Traces of joins, for OpenTelemetry.
	Tracing Tracing `toml:"tracing"`
}

// Record says which database is the record.
type Record struct {
	// Database: "sqlite:FILE", the file relative to data_dir, for one machine, or
	// "postgres://USER@HOST:PORT/DATABASE" for several instances. Default
	// "sqlite:joingate.db". Another database is another, empty record.
	URL string `toml:"url"`

	// Database user, unless the URL names one. Default none. SQLite has no users.
	Username string `toml:"username"`

	// File with the user's password. Default none: no password is given.
	PasswordFile string `toml:"password_file"`
}

// SQLitePath gives the file of a SQLite record, and false for another database.
// A relative path starts at dataDir.
func (r Record) SQLitePath(dataDir string) (string, bool) {
	path, ok := strings.CutPrefix(r.URL, "sqlite:")
	if !ok || filepath.IsAbs(path) {
		return path, ok
	}
	return filepath.Join(dataDir, path), true
}

// Cache says where the policy cache is.
type Cache struct {
	// Cache: "memory:" for one instance, or Redis, which all instances of one
	// record must share: "redis://HOST:PORT/DB", "rediss://…" with TLS,
	// "redis-sentinel://HOST:PORT,HOST:PORT/MASTER" or
	// "redis-cluster://HOST:PORT,HOST:PORT". Default "memory:".
	URL string `toml:"url"`

	// Redis user, unless the URL names one. Default none: Redis's default user.
	Username string `toml:"username"`

	// File with the Redis password. Default none: no password is given.
	PasswordFile string `toml:"password_file"`

	// How long Redis may take to answer, "1ms" to "1s", before the record is asked
	// instead. Default "50ms".
	Timeout time.Duration `toml:"timeout"`

	// Start of all names that Joingate keeps in Redis. Default "joingate". Two
	// installations on one Redis need different ones.
	KeyPrefix string `toml:"key_prefix"`

	// PEM file with the authorities that may sign the certificate of Redis.
	// Default none: the system's authorities are trusted.
	TLSCA string `toml:"tls_ca"`

	// PEM file with this program's certificate for Redis; needs tls_key. Default
	// none: no certificate is shown.
	TLSCert string `toml:"tls_cert"`

	// PEM file with the private key of tls_cert. Default none.
	TLSKey string `toml:"tls_key"`
}

// InMemory reports whether the cache is in the process itself.
func (c Cache) InMemory() bool { return c.URL == "memory:" }

// MQTT says which broker the gateways are connected to.
type MQTT struct {
	// Broker: "embedded:" for the one in this program, or "mqtt://HOST:PORT",
	// "mqtts://…" with TLS, "ws://HOST:PORT/PATH", "wss://…" with TLS; "tcp://" is
	// "mqtt://". Default "embedded:".
	URL string `toml:"url"`

	// Address, HOST:PORT, of the embedded broker; port 0 takes a free one. Default
	// "127.0.0.1:1883": gateway bridges on this machine only. Without effect with
	// another broker.
	EmbeddedListen string `toml:"embedded_listen"`

	// File with the users of the embedded broker and the gateways each may speak
	// for. Default none: anonymous clients, from this machine only.
	EmbeddedUsersFile string `toml:"embedded_users_file"`

	// PEM file with the embedded broker's certificate; needs embedded_tls_key.
	// Default none: the broker speaks without TLS.
	EmbeddedTLSCert string `toml:"embedded_tls_cert"`

	// PEM file with the private key of embedded_tls_cert. Default none.
	EmbeddedTLSKey string `toml:"embedded_tls_key"`

	// PEM file with the authorities whose client certificates the embedded broker
	// takes for gateways: the name in one is the user. Default none.
	EmbeddedTLSClientCA string `toml:"embedded_tls_client_ca"`

	// true: the embedded broker may listen on a public address without TLS.
	// Default false: the server refuses to start then.
	EmbeddedInsecure bool `toml:"embedded_insecure"`

	// Name of the MQTT shared subscription. Set it to the same name on all
	// instances behind one broker, so that each message goes to one of them.
	// Default none: this instance receives every message.
	ShareGroup string `toml:"share_group"`

	// Topic prefixes of more than one level, such as "a/b" for a/b/gateway/…, in
	// an environment variable separated by commas. Default none: gateways are
	// heard without a prefix and with any of one level.
	Prefixes []string `toml:"prefixes"`

	// Broker user, unless the URL names one. Default none.
	Username string `toml:"username"`

	// File with the broker user's password. Default none: no password is given.
	PasswordFile string `toml:"password_file"`

	// PEM file with the authorities that may sign the broker's certificate.
	// Default none: the system's authorities are trusted.
	TLSCA string `toml:"tls_ca"`

	// PEM file with this program's certificate for the broker; needs tls_key.
	// Default none: no certificate is shown.
	TLSCert string `toml:"tls_cert"`

	// PEM file with the private key of tls_cert. Default none.
	TLSKey string `toml:"tls_key"`
}

// Embedded reports whether the broker runs in this program.
func (m MQTT) Embedded() bool { return m.URL == "embedded:" }

// API says how the admin API is served.
type API struct {
	// Address, HOST:PORT, of the admin API; port 0 takes a free one. Default
	// "127.0.0.1:8080": this machine only. ":8080" serves all its networks.
	Listen string `toml:"listen"`

	// PEM file with the API's certificate; needs tls_key. Default none: plain
	// HTTP, which shows calls and answers to whoever can listen on the way.
	TLSCert string `toml:"tls_cert"`

	// PEM file with the private key of tls_cert. Default none.
	TLSKey string `toml:"tls_key"`

	// true: the API may listen on a public address without TLS, for example
	// behind a proxy that has it. Default false: the server refuses to start then.
	Insecure bool `toml:"insecure"`

	// true: CreateGateway takes only gateways of the stock, with their PIN.
	// Default false: it also takes any other free EUI with any six-digit PIN.
	GatewaysFromStockOnly bool `toml:"gateways_from_stock_only"`
}

// Ops says where the operations endpoint is.
type Ops struct {
	// Address, HOST:PORT, of the operations endpoint; port 0 takes a free one.
	// Default "127.0.0.1:9090": this machine only. It asks for no password.
	Listen string `toml:"listen"`

	// PEM file with the endpoint's certificate; needs tls_key. Default none: plain
	// HTTP.
	TLSCert string `toml:"tls_cert"`

	// PEM file with the private key of tls_cert. Default none.
	TLSKey string `toml:"tls_key"`

	// true: the endpoint may listen on a public address without TLS. Default
	// false: the server refuses to start then.
	Insecure bool `toml:"insecure"`

	// true: /debug/pprof/profile?seconds=10 measures where the program spends its time,
	// for "go tool pprof". Default false. A profile holds names of functions, and
	// nothing of what they worked on.
	Profile bool `toml:"profile"`
}

// Backend says how LoRaWAN Backend Interfaces are served.
type Backend struct {
	// Address, HOST:PORT, of the Backend Interfaces over HTTPS. Default none: they
	// are not served. It needs tls_cert, tls_key and tls_client_ca.
	Listen string `toml:"listen"`

	// PEM file with the certificate that network servers see. Default none.
	TLSCert string `toml:"tls_cert"`

	// PEM file with the private key of tls_cert. Default none.
	TLSKey string `toml:"tls_key"`

	// PEM file with the authorities that sign the network servers' certificates.
	// Default none.
	TLSClientCA string `toml:"tls_client_ca"`

	// File with the authorities' list of revoked certificates, PEM or DER, read
	// again when it changes. Default none: no certificate is known as revoked.
	TLSClientCRL string `toml:"tls_client_crl"`
}

// Events says where join events go besides MQTT.
type Events struct {
	// URL that each join event is posted to, https:// or http://. Default none.
	WebhookURL string `toml:"webhook_url"`

	// File with the secret that signs what is posted. Default none; needed with
	// webhook_url.
	WebhookSecretFile string `toml:"webhook_secret_file"`

	// PEM file with the authorities that may sign the webhook's certificate.
	// Default none: the system's authorities are trusted.
	WebhookCA string `toml:"webhook_ca"`

	// Name of a Redis stream, in the Redis of [cache], that each join event is
	// added to. Default none. A stream is only as durable as that Redis.
	RedisStream string `toml:"redis_stream"`

	// About how many events the stream keeps. Default 100000; 0 keeps all.
	RedisStreamLength int64 `toml:"redis_stream_length"`
}

// Limits says how much one device may ask for.
type Limits struct {
	// Failed join-requests a minute in the name of one DevEUI, past which the rest
	// are refused as rate_limited without more work. Good requests always pass.
	// Default 60000, which no device reaches; 0 is no limit.
	DeviceFailures int64 `toml:"device_failures"`

	// Good join-requests a minute of one device. Default 0: no limit.
	DeviceJoins int64 `toml:"device_joins"`

	// Good join-requests a second of one JoinEUI. Default 0: no limit.
	JoinEUIJoins int64 `toml:"join_eui_joins"`

	// Rejoin-requests of type 1 an hour of one device. Default 6; 0 is no limit.
	Rejoins int64 `toml:"rejoins"`
}

// Network identifies the LoRaWAN network.
type Network struct {
	// NetID, 6 hex digits; it decides which DevAddrs devices get. Default
	// "000000", for private networks. Change it before devices join: those that
	// have joined keep their DevAddr until they join again.
	NetID string `toml:"net_id"`

	// JoinEUI, 16 hex digits, of join permissions that ask for the default one
	// (UseDefaultJoinEui) and of ROAMING ones. Default "d896e0efff000000".
	DefaultJoinEUI string `toml:"default_join_eui"`
}

// Join says how joins are answered.
type Join struct {
	// How long copies of a join-request from other gateways are awaited, "0s" to
	// "2s". Default "200ms". Longer finds better gateways and leaves less of the
	// 5 s in which the join-accept must reach one.
	CollectWindow time.Duration `toml:"collect_window"`

	// Ledger of the gateways' airtime: "plan" gives each join-accept to a gateway
	// that is free to send it and keeps to its duty cycle, "off" always takes the
	// best gateway. Default "plan".
	Airtime string `toml:"airtime"`
}

// Keys says where the key-encryption key is.
type Keys struct {
	// File with the key that seals the root keys in the record. Default none,
	// which is <data_dir>/kek, made on first start with mode 0600. All instances
	// of one record need the same file. Without it no sealed key can be read.
	KEKFile string `toml:"kek_file"`

	// Command, with its arguments, that prints what the file would hold: a key
	// vault's client, for example. It goes before kek_file. Paths in it start where
	// the program was started; in an environment variable it is separated by
	// commas. Default none.
	KEKCommand []string `toml:"kek_command"`
}

// KEKPath gives the file of the key-encryption key: kek_file, or kek in dataDir.
func (k Keys) KEKPath(dataDir string) string {
	if k.KEKFile == "" {
		return filepath.Join(dataDir, "kek")
	}
	return k.KEKFile
}

// Log says what the program's log shows.
type Log struct {
	// Least level that is logged: "debug", "info", "warn" or "error". Default
	// "info", which has one line for each join attempt.
	Level string `toml:"level"`

	// "console" for people or "json", one object a line, for programs. Default
	// "console".
	Format string `toml:"format"`
}

// Tracing says where traces of joins go.
type Tracing struct {
	// URL of an OpenTelemetry collector (OTLP over HTTP). Default none: no traces.
	URL string `toml:"url"`

	// Of how many joins one is traced. Default 1: each. Without effect without url.
	OneOf int64 `toml:"one_of"`
}

// Default gives the configuration of a fresh machine: everything in one process,
// all addresses on loopback. Its paths are still relative to the working
// directory.
func Default() Config {
	return Config{
		DataDir: "./joingate-data",
		Record:  Record{URL: "sqlite:joingate.db"},
		Cache:   Cache{URL: "memory:", Timeout: 50 * time.Millisecond, KeyPrefix: "joingate"},
		MQTT:    MQTT{URL: "embedded:", EmbeddedListen: "127.0.0.1:1883"},
		API:     API{Listen: "127.0.0.1:8080"},
		Ops:     Ops{Listen: "127.0.0.1:9090"},
		Network: Network{NetID: "000000", DefaultJoinEUI: "d896e0efff000000"},
		Events:  Events{RedisStreamLength: 100_000},
		Limits:  Limits{DeviceFailures: 60_000, Rejoins: 6},
		Tracing: Tracing{OneOf: 1},
		Join:    Join{CollectWindow: 200 * time.Millisecond, Airtime: "plan"},
		Log:     Log{Level: "info", Format: "console"},
	}
}

// Secret reads a password file, such as Record.PasswordFile, and gives its text
// without the newline at the end. No path is no secret: "" and no error. An
// empty file is an error, because it is more often a mistake than a password.
func Secret(path string) (string, error) {
	if path == "" {
		return "", nil
	}
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("password file %q does not exist: create it or correct the path", path)
	}
	if err != nil {
		return "", fmt.Errorf("read password file: %w", err)
	}
	secret := strings.TrimSuffix(strings.TrimSuffix(string(text), "\n"), "\r")
	if secret == "" {
		return "", fmt.Errorf("password file %q is empty: write the password into it", path)
	}
	return secret, nil
}
