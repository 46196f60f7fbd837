package broker

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"sync"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
	"go.uber.org/zap"
)

// door lets clients in and holds them to their rights.
//
// A client is known by its certificate, whose common name is the user, or by name
// and password. The rights are those of the user's line in the file of users, at the
// moment when they are used: who is taken out of the file can do nothing any more,
// also on a connection that is open. Who has a certificate and no line has the
// rights of the gateway that the common name is the id of. A certificate that has
// ended, or whose authority is taken out of its file, gives no rights any more.
type door struct {
	mochi.HookBase
	users     *kept[*userTable]  // nil: nobody has a password
	tls       *kept[*tls.Config] // nil: no TLS
	everybody bool               // neither users nor certificates: all rights for all
	log       *zap.Logger
	server    *mochi.Server
	// guessing is held while a password is compared, which is slow on purpose: who
	// guesses has one processor at most, and those who were let in before wait for
	// nobody.
	guessing sync.Mutex
}

// userTable is one reading of the file of users.
type userTable struct {
	users  map[string]user
	secret []byte   // makes tokens, new with each reading
	proved sync.Map // user name → token of the password that was right
}

func readUsers(file string) (*userTable, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	users, err := parseUsers(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	table := &userTable{users: users, secret: make([]byte, sha256.Size)}
	_, err = rand.Read(table.secret)
	return table, err
}

// token stands for a password in memory.
func (t *userTable) token(password []byte) [sha256.Size]byte {
	mac := hmac.New(sha256.New, t.secret)
	mac.Write(password)
	return [sha256.Size]byte(mac.Sum(nil))
}

// localName is the name of the program's own connection. No user can have it, as a
// line of the file cannot be without a name.
const localName = ""

// identity is who a client has proved to be.
type identity struct {
	name         string
	certificates []*x509.Certificate // that prove it, the client's own first; none: a password did
}

// ID names the hook.
func (d *door) ID() string { return "door" }

// Provides names what the hook decides.
func (d *door) Provides(event byte) bool {
	return event == mochi.OnConnectAuthenticate || event == mochi.OnACLCheck
}

// OnConnectAuthenticate decides who may come in.
func (d *door) OnConnectAuthenticate(cl *mochi.Client, pk packets.Packet) bool {
	c, ours := cl.Net.Conn.(*conn)
	if !ours {
		return false
	}
	if err := d.enter(c, cl.ID, pk); err != nil {
		d.log.Warn("embedded broker refused a client", zap.Stringer("client", c.RemoteAddr()),
			zap.ByteString("user", clip(pk.Connect.Username)), zap.Error(err))
		return false
	}
	return true
}

// clip keeps what strangers wrote short.
func clip(text []byte) []byte { return text[:min(len(text), 64)] }

func (d *door) enter(c *conn, clientID string, pk packets.Packet) error {
	who, err := d.identify(c, pk)
	if err != nil {
		return err
	}
	if !d.mayUse(clientID, who) {
		return errors.New("the client id is that of another user's session")
	}
	c.who = who
	if will := pk.Connect.WillTopic; pk.Connect.WillFlag && !d.rightsOf(c).mayPublish(will) {
		return errors.New("the will's topic is not one that this user may publish on")
	}
	return nil
}

func (d *door) identify(c *conn, pk packets.Packet) (identity, error) {
	if c.local || d.everybody {
		return identity{name: localName}, nil
	}
	name := string(pk.Connect.Username)
	certificates, certified := c.certificates()
	if certified != "" {
		if name != "" && name != certified {
			return identity{}, fmt.Errorf("the certificate is that of %q", certified)
		}
		return identity{certified, certificates}, nil
	}
	if !d.proves(name, pk.Connect.Password) {
		return identity{}, errors.New("no such user, or another password")
	}
	return identity{name: name}, nil
}

// certificates are those that the client has shown and that were verified, with the
// common name of its own; empty: it has shown none.
func (c *conn) certificates() (shown []*x509.Certificate, name string) {
	secured, ok := c.Conn.(*tls.Conn)
	if !ok {
		return nil, ""
	}
	state := secured.ConnectionState()
	if len(state.VerifiedChains) == 0 {
		return nil, ""
	}
	return state.PeerCertificates, state.PeerCertificates[0].Subject.CommonName
}

// trust is what became of a client's certificate under one reading of the files.
type trust struct {
	config *tls.Config
	given  bool
}

// trusts reports whether a certificate still lets its client in: a connection may
// outlive it.
func (d *door) trusts(c *conn) bool {
	own := c.who.certificates[0]
	if d.tls.time().After(own.NotAfter) {
		return false
	}
	config := d.tls.get()
	if last := c.trust.Load(); last != nil && last.config == config {
		return last.given
	}
	between := x509.NewCertPool()
	for _, certificate := range c.who.certificates[1:] {
		between.AddCert(certificate)
	}
	_, err := own.Verify(x509.VerifyOptions{
		Roots: config.ClientCAs, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	c.trust.Store(&trust{config, err == nil})
	return err == nil
}

// proves reports whether the password is the user's.
func (d *door) proves(name string, password []byte) bool {
	if d.users == nil {
		return false
	}
	table := d.users.get()
	u, known := table.users[name]
	if !known {
		return false
	}
	token := table.token(password)
	if proved, ok := table.proved.Load(name); ok {
		right := proved.([sha256.Size]byte)
		if hmac.Equal(right[:], token[:]) {
			return true
		}
	}
	d.guessing.Lock()
	defer d.guessing.Unlock()
	if !u.hash.matches(password) {
		return false
	}
	table.proved.Store(name, token)
	return true
}

// mayUse reports whether a client may use an id. Who takes the id of a session takes
// its subscriptions over, so it must be the same user's.
func (d *door) mayUse(clientID string, who identity) bool {
	existing, ok := d.server.Clients.Get(clientID)
	if !ok {
		return true
	}
	c, ours := existing.Net.Conn.(*conn)
	return !ours || c.who.name == who.name
}

// OnACLCheck decides about each topic that a client publishes on, subscribes to, or
// is to get a message of.
func (d *door) OnACLCheck(cl *mochi.Client, topic string, write bool) bool {
	c, ours := cl.Net.Conn.(*conn)
	if !ours {
		return false
	}
	if c.local || d.everybody {
		return true
	}
	if r := d.rightsOf(c); write {
		return r.mayPublish(topic)
	} else {
		return r.mayRead(topic)
	}
}

func (d *door) rightsOf(c *conn) rights {
	if c.local || d.everybody {
		return rights{all: true}
	}
	certified := len(c.who.certificates) > 0
	if certified && !d.trusts(c) {
		return rights{}
	}
	if d.users != nil {
		if u, known := d.users.get().users[c.who.name]; known {
			return u.rights
		}
	}
	if certified {
		return rightsByName(c.who.name)
	}
	return rights{}
}

// readTLS reads the files that TLS needs.
func (o Options) readTLS() (*tls.Config, error) {
	certificate, err := tls.LoadX509KeyPair(o.TLSCert, o.TLSKey)
	if err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	config := &tls.Config{
		MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{certificate},
		SessionTicketsDisabled: true, // so that every connection shows its certificate
	}
	if o.TLSClientCA == "" {
		return config, nil
	}
	pem, err := os.ReadFile(o.TLSClientCA)
	if err != nil {
		return nil, fmt.Errorf("authorities of client certificates: %w", err)
	}
	config.ClientCAs = x509.NewCertPool()
	if !config.ClientCAs.AppendCertsFromPEM(bytes.TrimSpace(pem)) {
		return nil, fmt.Errorf("%s holds no PEM certificate", o.TLSClientCA)
	}
	config.ClientAuth = tls.RequireAndVerifyClientCert
	if o.UsersFile != "" {
		config.ClientAuth = tls.VerifyClientCertIfGiven // or a password
	}
	return config, nil
}
