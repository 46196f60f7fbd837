package cache

import (
	"crypto/tls"
	"errors"
	"net"
	"net/url"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// address is a Redis URL taken apart. net/url does not: it refuses several hosts
// with ports.
//
// Query parameters, all optional:
//
//	tls=true            TLS, also with redis-sentinel:// and redis-cluster://
//	db=N                database with redis-sentinel://
//	sentinel_auth=true  the sentinels want the same user and password
type address struct {
	scheme, user string
	hosts        []string // with ports
	path         string   // without its slash
	query        url.Values
}

// defaultPorts has the schemes; Sentinel's port is from its documentation.
var defaultPorts = map[string]string{"redis": "6379", "rediss": "6379", "redis-sentinel": "26379", "redis-cluster": "6379"}

// parseAddress makes the client's options. Errors quote no part of the URL that
// may be a secret.
func parseAddress(o Options) (*redis.UniversalOptions, error) {
	a, err := splitURL(o.URL)
	if err != nil {
		return nil, err
	}
	client := &redis.UniversalOptions{
		Addrs: a.hosts, Username: o.Username, Password: o.Password.Reveal(),
		IsClusterMode: a.scheme == "redis-cluster",
		// One try per round trip: the record is the second one. The breaker's
		// timeout holds for everything, also for waiting for a connection.
		MaxRetries: -1, DialerRetries: 1, DialTimeout: dialTimeout, ContextTimeoutEnabled: true,
		ReadTimeout: o.Timeout, WriteTimeout: o.Timeout, PoolTimeout: o.Timeout,
		PoolSize: connections, PipelinePoolSize: -1,
		DisableIdentity:          true, // or a user would need more than the commands we use
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
	if a.user != "" {
		client.Username = a.user
	}
	if err := errors.Join(a.place(client), a.parameters(client)); err != nil {
		return nil, err
	}
	switch encrypted := a.scheme == "rediss" || a.query.Get("tls") == "true"; {
	case encrypted && o.TLS == nil:
		client.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	case encrypted:
		client.TLSConfig = o.TLS
	case o.TLS != nil:
		return nil, errors.New("is not encrypted, but there are files for TLS: use rediss:// or ?tls=true, or leave the files out")
	}
	return client, nil
}

func splitURL(text string) (a address, err error) {
	scheme, rest, _ := strings.Cut(text, "://")
	port, known := defaultPorts[scheme]
	if !known {
		return a, errors.New("must begin with redis://, rediss://, redis-sentinel:// or redis-cluster://")
	}
	a.scheme = scheme
	rest, query, _ := strings.Cut(rest, "?")
	if a.query, err = url.ParseQuery(query); err != nil {
		return a, errors.New("what follows the ? is not name=value&name=value")
	}
	if at := strings.LastIndexByte(rest, '@'); at >= 0 {
		if a.user, err = url.PathUnescape(rest[:at]); err != nil || strings.Contains(rest[:at], ":") {
			return a, errors.New("holds a password: put it into a file and name that in password_file")
		}
		rest = rest[at+1:]
	}
	hosts, path, _ := strings.Cut(rest, "/")
	a.path = path
	for _, host := range strings.Split(hosts, ",") {
		if host, err = withPort(host, port); err != nil {
			return a, err
		}
		a.hosts = append(a.hosts, host)
	}
	return a, nil
}

func withPort(host, port string) (string, error) {
	name, given, err := net.SplitHostPort(host)
	if err != nil { // it has no port, or is nothing
		name, given, err = net.SplitHostPort(host + ":" + port)
	}
	if _, notPort := strconv.ParseUint(given, 10, 16); err != nil || notPort != nil || name == "" {
		return "", errors.New("has a host that is not HOST or HOST:PORT")
	}
	return net.JoinHostPort(name, given), nil
}

// place reads what follows the hosts: a database, a master's name, or nothing.
func (a address) place(client *redis.UniversalOptions) (err error) {
	switch {
	case a.scheme == "redis-sentinel" && a.path == "":
		return errors.New("lacks the master's name: redis-sentinel://HOST:PORT,HOST:PORT/MASTER")
	case a.scheme == "redis-sentinel":
		client.MasterName = a.path
	case a.scheme == "redis-cluster" && a.path != "":
		return errors.New("has a database; a cluster has only one")
	case a.path != "":
		client.DB, err = database(a.path)
	}
	if len(a.hosts) > 1 && (a.scheme == "redis" || a.scheme == "rediss") {
		return errors.New("has several hosts: that is for redis-sentinel:// and redis-cluster://")
	}
	return err
}

func (a address) parameters(client *redis.UniversalOptions) (err error) {
	for name := range a.query {
		value := a.query.Get(name)
		switch {
		case name == "db" && a.scheme == "redis-sentinel":
			client.DB, err = database(value)
		case name == "sentinel_auth" && a.scheme == "redis-sentinel" && value == "true":
			client.SentinelUsername, client.SentinelPassword = client.Username, client.Password
		case name == "tls" && value == "true":
		default:
			err = errors.New("has a parameter that is not known here: there are tls=true, and for redis-sentinel:// db=N and sentinel_auth=true")
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func database(text string) (int, error) {
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return 0, errors.New("has a database that is not a number")
	}
	return int(n), nil
}
