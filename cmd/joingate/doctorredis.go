package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"

	"joingate/config"
)

// redisProbe speaks as much of the Redis protocol (RESP2) as the doctor needs.
type redisProbe struct {
	conn net.Conn
	in   *bufio.Reader
}

// mostReply bounds what a reply may make the doctor hold.
const mostReply = 1 << 20

var errRedisSays = errors.New("the answer is")

// ask sends one command and gives its reply: texts in order.
func (p redisProbe) ask(words ...string) ([]string, error) {
	var b strings.Builder
	fmt.Fprintf(&b, "*%d\r\n", len(words))
	for _, w := range words {
		fmt.Fprintf(&b, "$%d\r\n%s\r\n", len(w), w)
	}
	if _, err := io.WriteString(p.conn, b.String()); err != nil {
		return nil, err
	}
	return readReply(p.in, 0)
}

// readReply reads a reply; arrays within arrays become one list.
func readReply(in *bufio.Reader, depth int) ([]string, error) {
	text, err := in.ReadSlice('\n')
	if err != nil {
		return nil, err
	}
	kind, rest := text[0], strings.TrimRight(string(text[1:]), "\r\n")
	size, numeric := strconv.Atoi(rest)
	switch {
	case kind == '+' || kind == ':':
		return []string{rest}, nil
	case kind == '-':
		return nil, fmt.Errorf("%w: %s", errRedisSays, rest)
	case kind == '$' && numeric == nil && size == -1, kind == '*' && numeric == nil && size == -1:
		return nil, nil
	case kind == '$' && numeric == nil && size >= 0 && size < mostReply:
		value := make([]byte, size+2)
		_, err := io.ReadFull(in, value)
		return []string{string(value[:size])}, err
	case kind == '*' && numeric == nil && size >= 0 && size < 1024 && depth < 4:
		var all []string
		for range size {
			part, err := readReply(in, depth+1)
			if err != nil {
				return nil, err
			}
			all = append(all, part...)
		}
		return all, nil
	}
	return nil, errors.New("what answers there is no Redis")
}

// redis looks at the Redis of [cache]: whether it lets us in, what it does when
// it is full, whether it keeps what it should or should not, and its clock.
func (d *doctor) redis(ctx context.Context) {
	if d.config.Cache.InMemory() {
		return
	}
	p, place, err := openRedisProbe(ctx, d.config.Cache)
	if err != nil {
		d.fail("redis", "look at Redis, its user and the way to it; joins go on without it, slower", "%v", err)
		return
	}
	defer func() { _ = p.conn.Close() }()
	start := time.Now()
	if _, err := p.ask("PING"); err != nil {
		d.fail("redis", "look at the user's rights", "%s: %v", place, redisTrouble(err, strings.HasPrefix(d.config.Cache.URL, "rediss:"), "PING is refused"))
		return
	}
	if took := time.Since(start); took > d.config.Cache.Timeout {
		d.warn("redis", "look at the way to it", "%s answers in %s, cache.timeout is %s", place, took.Round(time.Millisecond), d.config.Cache.Timeout)
	} else {
		d.ok("redis", "%s answers in %s", place, took.Round(10*time.Microsecond))
	}
	d.redisTime(p, place)
	info, err := p.ask("INFO")
	if err != nil || len(info) == 0 {
		d.warn("redis", "allow the user +info, or look by hand", "memory and persistence cannot be seen: %v", err)
		return
	}
	d.redisMemory(infoOf(info[0]))
	d.redisPersistence(p, infoOf(info[0]))
}

func (d *doctor) redisTime(p redisProbe, place string) {
	reply, err := p.ask("TIME")
	if err != nil || len(reply) != 2 {
		return // a right that is not needed otherwise
	}
	seconds, err1 := strconv.ParseInt(reply[0], 10, 64)
	micros, err2 := strconv.ParseInt(reply[1], 10, 64)
	if errors.Join(err1, err2) == nil {
		d.skew("Redis at "+place, time.Unix(seconds, micros*1000))
	}
}

// infoOf reads the answer to INFO: name:value lines.
func infoOf(text string) map[string]string {
	info := map[string]string{}
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			info[name] = value
		}
	}
	return info
}

func (d *doctor) redisMemory(info map[string]string) {
	policy, stream := info["maxmemory_policy"], d.config.Events.RedisStream != ""
	switch {
	case info["maxmemory"] == "0":
		d.warn("redis", "set maxmemory, and maxmemory-policy volatile-lru", "its memory has no limit: it can take the machine's")
	case stream && strings.HasPrefix(policy, "allkeys"):
		d.fail("redis", "maxmemory-policy volatile-lru", "with %s a full Redis throws join events of events.redis_stream away", policy)
	case policy == "noeviction":
		d.warn("redis", "maxmemory-policy volatile-lru", "with noeviction a full Redis stores nothing more: joins go through the record, slower")
	default:
		d.ok("redis", "maxmemory %s, policy %s", info["maxmemory"], policy)
	}
}

// redisPersistence: a cache needs none; a stream of events does.
func (d *doctor) redisPersistence(p redisProbe, info map[string]string) {
	appends := info["aof_enabled"] == "1"
	saves, err := p.ask("CONFIG", "GET", "save")
	snapshots := err == nil && len(saves) == 2 && saves[1] != ""
	stream := d.config.Events.RedisStream != ""
	switch {
	case stream && !appends:
		d.warn("redis", "appendonly yes", "events.redis_stream is lost when Redis restarts")
	case !stream && (appends || snapshots):
		d.warn("redis", `appendonly no and save ""`, "it writes to disk what can be rebuilt")
	default:
		d.ok("redis", "persistence is as it should be (appendonly %v)", appends)
	}
}

// openRedisProbe connects to the Redis that the URL leads to: itself, the master
// that a sentinel names, or any node of a cluster.
func openRedisProbe(ctx context.Context, c config.Cache) (redisProbe, string, error) {
	u := parseServerURL(c.URL, map[bool]string{true: "26379", false: "6379"}[strings.HasPrefix(c.URL, "redis-sentinel:")])
	user, password, err := credentialsOf(u.user, c.Username, c.PasswordFile)
	if err != nil {
		return redisProbe{}, "", err
	}
	secure := u.scheme == "rediss" || u.query.Get("tls") == "true"
	var faults []error
	for _, host := range u.hosts {
		if u.scheme == "redis-sentinel" {
			sentinelUser, sentinelPassword := "", ""
			if u.query.Get("sentinel_auth") == "true" {
				sentinelUser, sentinelPassword = user, password
			}
			if host, err = masterOf(ctx, c, secure, host, u.path, sentinelUser, sentinelPassword); err != nil {
				faults = append(faults, err)
				continue
			}
		}
		p, err := dialRedis(ctx, c, secure, host, user, password)
		if err == nil {
			return p, host, nil
		}
		faults = append(faults, fmt.Errorf("%s: %w", host, err))
	}
	return redisProbe{}, "", errors.Join(faults...)
}

func masterOf(ctx context.Context, c config.Cache, secure bool, sentinel, name, user, password string) (string, error) {
	p, err := dialRedis(ctx, c, secure, sentinel, user, password)
	if err != nil {
		return "", fmt.Errorf("sentinel %s: %w", sentinel, err)
	}
	defer func() { _ = p.conn.Close() }()
	reply, err := p.ask("SENTINEL", "get-master-addr-by-name", name)
	if err != nil || len(reply) != 2 {
		return "", fmt.Errorf("sentinel %s knows no master %q (%v)", sentinel, name, err)
	}
	return net.JoinHostPort(reply[0], reply[1]), nil
}

func dialRedis(ctx context.Context, c config.Cache, secure bool, host, user, password string) (redisProbe, error) {
	var protection *tls.Config
	if secure {
		var err error
		if protection, err = clientTLS(hostName(host), c.TLSCA, c.TLSCert, c.TLSKey); err != nil {
			return redisProbe{}, err
		}
	}
	conn, err := reach(ctx, host, protection)
	if err != nil {
		return redisProbe{}, err
	}
	p := redisProbe{conn, bufio.NewReaderSize(conn, 4096)}
	if password != "" {
		words := []string{"AUTH", password}
		if user != "" {
			words = []string{"AUTH", user, password}
		}
		if _, err := p.ask(words...); err != nil {
			_ = conn.Close()
			return redisProbe{}, redisTrouble(err, secure, "user and password of [cache] are refused")
		}
	}
	return p, nil
}

// redisTrouble tells what an answer that is none is about: refused is what it
// means when Redis has answered.
func redisTrouble(err error, secure bool, refused string) error {
	switch {
	case errors.Is(err, errRedisSays):
		return fmt.Errorf("%s: %w", refused, err)
	case secure && tlsRefused(err):
		return fmt.Errorf("it does not take our certificate, or wants one: %w: set [cache] tls_cert and tls_key, or tls-auth-clients no in Redis", err)
	case !secure:
		return fmt.Errorf("no answer: %w: if the port has TLS, write rediss://", err)
	default:
		return fmt.Errorf("no answer: %w", err)
	}
}
