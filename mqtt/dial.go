package mqtt

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"strings"

	paho "github.com/eclipse/paho.mqtt.golang"
)

// BrokerConfig says how to reach the MQTT broker.
type BrokerConfig struct {
	// URL is mqtt://HOST[:PORT] or tcp://…, mqtts://HOST[:PORT] with TLS,
	// ws://HOST[:PORT]/PATH, or wss://… with TLS. A user in it goes before Username.
	URL string
	// Username is the broker's user; empty: none.
	Username string
	// PasswordFile holds the user's password; it is read again for each
	// connection, so that it can be changed. Empty: no password.
	PasswordFile string
	// The files of TLS are read again for each connection too; while they cannot be
	// read, what was read at the start is in force.

	// CAFile is a PEM file with the authorities that may sign the broker's
	// certificate; empty: those of the system.
	CAFile string
	// CertFile and KeyFile are PEM files with the certificate that is shown to the
	// broker; both or none.
	CertFile, KeyFile string
	// Dial opens the connection in another way, such as to the broker inside the
	// program; URL is then only its name. Nil: by URL.
	Dial func() (net.Conn, error)
}

// scheme is what a URL scheme stands for.
type scheme struct {
	paho        string
	defaultPort string // empty: paho knows it
	tls         bool
}

func schemeOf(name string) (scheme, bool) {
	switch name {
	case "mqtt", "tcp":
		return scheme{paho: "tcp", defaultPort: "1883"}, true
	case "mqtts":
		return scheme{paho: "ssl", defaultPort: "8883", tls: true}, true
	case "ws":
		return scheme{paho: "ws"}, true
	case "wss":
		return scheme{paho: "wss", tls: true}, true
	}
	return scheme{}, false
}

// options turns the configuration into paho's, and into a name of the broker
// that may be shown.
func (b BrokerConfig) options() (options *paho.ClientOptions, broker string, err error) {
	address, err := url.Parse(b.URL)
	if err != nil {
		return nil, "", errors.New("[mqtt] url is no URL; write it like mqtt://broker.example:1883")
	}
	scheme, known := schemeOf(address.Scheme)
	if !known || address.Hostname() == "" {
		return nil, "", fmt.Errorf("[mqtt] url %q: write it like mqtt://broker.example:1883, or with mqtts, ws or wss", address.Redacted())
	}
	tlsConfig, err := b.tlsConfig(scheme.tls)
	if err != nil {
		return nil, "", err
	}
	credentials, err := b.credentials(address.User)
	if err != nil {
		return nil, "", err
	}

	address.User = nil // nobody is to see the password
	broker = address.String()
	if address.Port() == "" && scheme.defaultPort != "" {
		address.Host = net.JoinHostPort(address.Hostname(), scheme.defaultPort)
	}
	address.Scheme = scheme.paho

	options = paho.NewClientOptions().AddBroker(address.String()).
		SetClientID(fmt.Sprintf("joingate%014x", rand.Uint64()>>8)). // 22 letters and digits, MQTT 3.1.1 section 3.1.3.1
		SetCredentialsProvider(credentials).
		SetTLSConfig(tlsConfig).
		SetProtocolVersion(4). // else a refusal is tried again as MQTT 3.1
		SetCleanSession(true).
		SetAutoReconnect(false). // client does it
		SetOrderMatters(false).
		SetKeepAlive(keepAlive).
		SetWriteTimeout(answerTimeout).
		SetConnectTimeout(dialTimeout).
		SetDialer(&net.Dialer{Timeout: dialTimeout})
	return options, broker, nil
}

// credentials reads the password for each connection. Once it cannot be read
// any more, the last one is used.
func (b BrokerConfig) credentials(inURL *url.Userinfo) (paho.CredentialsProvider, error) {
	username := b.Username
	last, isSet := inURL.Password()
	if inURL.Username() != "" {
		username = inURL.Username()
	}
	if b.PasswordFile == "" || isSet {
		return func() (string, string) { return username, last }, nil
	}
	last, err := readPassword(b.PasswordFile)
	if err != nil {
		return nil, fmt.Errorf("[mqtt] password_file: %w", err)
	}
	return func() (string, string) {
		if password, err := readPassword(b.PasswordFile); err == nil {
			last = password
		}
		return username, last
	}, nil
}

// readPassword leaves out the line's end, which editors add.
func readPassword(file string) (string, error) {
	text, err := os.ReadFile(file)
	return strings.TrimRight(string(text), "\r\n"), err
}

func (b BrokerConfig) tlsConfig(wanted bool) (*tls.Config, error) {
	if !wanted {
		if b.CAFile+b.CertFile+b.KeyFile != "" {
			return nil, errors.New("[mqtt] tls_ca, tls_cert and tls_key need a url with TLS: mqtts:// or wss://")
		}
		return nil, nil
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if b.CAFile != "" {
		pem, err := os.ReadFile(b.CAFile)
		if err != nil {
			return nil, fmt.Errorf("[mqtt] tls_ca: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("[mqtt] tls_ca: %s holds no PEM certificate", b.CAFile)
		}
	}
	if b.CertFile+b.KeyFile != "" {
		certificate, err := tls.LoadX509KeyPair(b.CertFile, b.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("[mqtt] tls_cert and tls_key: %w", err)
		}
		config.Certificates = []tls.Certificate{certificate}
	}
	return config, nil
}

// connect opens the network connection as paho would, but for proxies: only ws and
// wss go through those of the environment.
func (b BrokerConfig) connect(address *url.URL, o paho.ClientOptions) (net.Conn, error) {
	if b.Dial != nil {
		return b.Dial()
	}
	switch address.Scheme {
	case "tcp":
		return o.Dialer.Dial("tcp", address.Host)
	case "ssl":
		return tls.DialWithDialer(o.Dialer, "tcp", address.Host, b.renewed(o.TLSConfig))
	case "ws", "wss":
		return paho.NewWebsocket(address.String(), b.renewed(o.TLSConfig), o.ConnectTimeout, o.HTTPHeaders, o.WebsocketOptions)
	}
	return nil, fmt.Errorf("unknown scheme %s", address.Scheme)
}

// renewed gives the TLS configuration as the files have it now: certificates are
// renewed while the program runs. A pair that is only half replaced counts once
// it is whole.
func (b BrokerConfig) renewed(before *tls.Config) *tls.Config {
	now, err := b.tlsConfig(before != nil)
	if err != nil {
		return before
	}
	return now
}
