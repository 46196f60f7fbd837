package backend

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"

	"joingate/joinserver"
)

// NetworkServer is one that may ask, known by its TLS client certificate.
type NetworkServer struct {
	Name  string // as events, metrics and the log show it
	NetID joinserver.NetID

	// Certificates are the identities that count as this server: "sha256:" and the
	// fingerprint of the certificate, 64 hex digits with or without colons, or "cn:"
	// and the common name of its subject. Two of them serve a renewal.
	Certificates []string
	// ApplicationServers are the AS-IDs that may send AppSKeyReq under the same
	// certificates.
	ApplicationServers []string
	// Accounts are those whose devices the server may serve; empty: all accounts'.
	Accounts []joinserver.AccountID

	// KEK wraps the network session keys.
	KEK joinserver.KeyEncryption
	// KeysInClear sends keys as they are where no key encryption key is registered:
	// whoever reads the connection, or the server's log of messages, has the session.
	KeysInClear bool

	// AnswerURL takes the answers of the asynchronous mode (TS002-1.1.0, section
	// 23.1): requests are answered with an empty 200 at once, and the answer is sent
	// there. Empty: the answer is in the HTTP response.
	AnswerURL string
}

// peers finds network servers by their certificates.
type peers struct {
	byFingerprint map[[sha256.Size]byte]*NetworkServer
	byName        map[string]*NetworkServer
}

func newPeers(servers []NetworkServer) (peers, error) {
	p := peers{map[[sha256.Size]byte]*NetworkServer{}, map[string]*NetworkServer{}}
	names := map[string]bool{}
	for i := range servers {
		server := servers[i]
		if err := server.check(); err != nil {
			return p, fmt.Errorf("network server %q: %w", server.Name, err)
		}
		if names[server.Name] {
			return p, fmt.Errorf("network server %q is there twice: give each its own name", server.Name)
		}
		names[server.Name] = true
		for _, identity := range server.Certificates {
			if err := p.add(identity, &server); err != nil {
				return p, fmt.Errorf("network server %q: certificate %q: %w", server.Name, identity, err)
			}
		}
	}
	return p, nil
}

func (n *NetworkServer) check() error {
	switch {
	case n.Name == "":
		return errors.New("it needs a name")
	case len(n.Certificates) == 0:
		return errors.New("it needs a certificate to be known by")
	case (n.KEK.Label == "") != n.KEK.KEK.IsZero():
		return errors.New("a key encryption key and its label come together")
	case n.KEK.Label == "" && !n.KeysInClear:
		return errors.New("it needs a key encryption key, or the explicit permission to get keys in the clear")
	}
	if n.AnswerURL == "" {
		return nil
	}
	u, err := url.Parse(n.AnswerURL)
	if err != nil || u.Host == "" || u.Scheme != "https" && !(u.Scheme == "http" && isLoopback(u.Hostname())) {
		return errors.New("the answer URL must be https://…; http:// is for the same machine only")
	}
	return nil
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// add binds an identity to a server. One identity is one server's.
func (p peers) add(identity string, server *NetworkServer) error {
	twice := errors.New("it is bound to another network server already")
	if name, ok := strings.CutPrefix(identity, "cn:"); ok && name != "" {
		if p.byName[name] != nil {
			return twice
		}
		p.byName[name] = server
		return nil
	}
	digits, ok := strings.CutPrefix(identity, "sha256:")
	octets, err := hex.DecodeString(strings.ReplaceAll(digits, ":", ""))
	if !ok || err != nil || len(octets) != sha256.Size {
		return errors.New("it must be sha256: and 64 hex digits, or cn: and a name")
	}
	if p.byFingerprint[[sha256.Size]byte(octets)] != nil {
		return twice
	}
	p.byFingerprint[[sha256.Size]byte(octets)] = server
	return nil
}

// of finds the server of a certificate that the handshake has verified, nil for
// none. A fingerprint says more than a name.
func (p peers) of(certificate *x509.Certificate) *NetworkServer {
	if server := p.byFingerprint[sha256.Sum256(certificate.Raw)]; server != nil {
		return server
	}
	return p.byName[certificate.Subject.CommonName]
}

// mayBe reports whether the server may call itself so in a message of this kind:
// its NetID, or for AppSKeyReq the AS-ID of an application server.
func (n *NetworkServer) mayBe(sender, kind string) bool {
	if kind == appSKeyReq && slices.Contains(n.ApplicationServers, sender) {
		return true
	}
	octets, err := parseHex(sender)
	return err == nil && len(octets) == len(n.NetID) && joinserver.NetID(octets) == n.NetID
}

// serves reports whether the server may have keys of the account's devices.
func (n *NetworkServer) serves(account joinserver.AccountID) bool {
	return len(n.Accounts) == 0 || slices.Contains(n.Accounts, account)
}
