package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"joingate/config"
)

// reach opens a connection, with TLS if there is a configuration for it, that
// lives no longer than the context.
func reach(ctx context.Context, address string, secure *tls.Config) (net.Conn, error) {
	var dial net.Dialer
	conn, err := dial.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	deadline, bounded := ctx.Deadline()
	if !bounded {
		deadline = time.Now().Add(examineTimeout)
	}
	if err := conn.SetDeadline(deadline); err != nil || secure == nil {
		return conn, err
	}
	protected := tls.Client(conn, secure)
	if err := protected.HandshakeContext(ctx); err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("TLS: %w", err)
	}
	return protected, nil
}

// clientTLS makes the TLS configuration of a client from PEM files, any of which
// may be left out.
func clientTLS(host, caFile, certFile, keyFile string) (*tls.Config, error) {
	c := &tls.Config{ServerName: host, MinVersion: tls.VersionTLS12}
	if caFile != "" {
		text, err := os.ReadFile(caFile)
		if err != nil {
			return nil, err
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("%s holds no certificate in PEM form", caFile)
		}
	}
	if certFile != "" {
		pair, err := tls.LoadX509KeyPair(certFile, keyFile)
		if err != nil {
			return nil, err
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}

// serverURL takes a URL with several hosts apart, which net/url refuses.
type serverURL struct {
	scheme, user string
	hosts        []string // with ports
	path         string   // without its first slash
	query        url.Values
}

func parseServerURL(text, defaultPort string) (u serverURL) {
	scheme, rest, _ := strings.Cut(text, "://")
	rest, query, _ := strings.Cut(rest, "?")
	u.scheme = scheme
	u.query, _ = url.ParseQuery(query)
	authority, path, _ := strings.Cut(rest, "/")
	u.path = path
	if at := strings.LastIndexByte(authority, '@'); at >= 0 {
		u.user, _, _ = strings.Cut(authority[:at], ":")
		if name, err := url.PathUnescape(u.user); err == nil {
			u.user = name
		}
		authority = authority[at+1:]
	}
	for host := range strings.SplitSeq(authority, ",") {
		if _, _, err := net.SplitHostPort(host); err != nil {
			host = net.JoinHostPort(strings.Trim(host, "[]"), defaultPort)
		}
		u.hosts = append(u.hosts, host)
	}
	return u
}

func hostName(address string) string {
	host, _, _ := net.SplitHostPort(address)
	return host
}

func getText(ctx context.Context, client *http.Client, target string) (status int, text string, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return 0, "", err
	}
	response, err := client.Do(request)
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(response.Body, 64<<10))
	return response.StatusCode, string(body), err
}

// sslRequest asks a PostgreSQL server whether it has TLS: "SSLRequest" in the
// documentation's message formats. The answer is S or N.
var sslRequest = []byte{0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f}

// postgres checks that a PostgreSQL server answers at each host, and has TLS if
// it is on another machine.
func (d *doctor) postgres(ctx context.Context) {
	u := parseServerURL(d.config.Record.URL, "5432")
	for _, host := range u.hosts {
		secure, err := postgresTLS(ctx, host)
		switch {
		case err != nil:
			d.fail("record", "look at PostgreSQL and at the way to it", "%s: %v", host, err)
		case !secure && !isLoopback(host):
			d.warn("record", "set up TLS in PostgreSQL, and sslmode=verify-full in record.url", "%s has no TLS", host)
		case !isLoopback(host) && u.query.Get("sslmode") != "verify-full":
			d.warn("record", "sslmode=verify-full in record.url", "the certificate of %s is not checked", host)
		default:
			d.ok("record", "a PostgreSQL server answers at %s%s", host, d.rowsLeftOut())
		}
	}
}

func postgresTLS(ctx context.Context, host string) (secure bool, err error) {
	conn, err := reach(ctx, host, nil)
	if err != nil {
		return false, err
	}
	defer func() { _ = conn.Close() }()
	answer := make([]byte, 1)
	if _, err := conn.Write(sslRequest); err != nil {
		return false, err
	}
	if _, err := io.ReadFull(conn, answer); err != nil {
		return false, err
	}
	if answer[0] != 'S' && answer[0] != 'N' {
		return false, fmt.Errorf("what answers there is no PostgreSQL server")
	}
	return answer[0] == 'S', nil
}

// credentialsOf gives user and password: the URL's user goes before the other.
func credentialsOf(inURL, username, passwordFile string) (user, password string, err error) {
	password, err = config.Secret(passwordFile)
	return first(inURL, username), password, err
}
