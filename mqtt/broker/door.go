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
// rights of the gateway that the common name is the id of.
type door struct {
	mochi.HookBase
	users     *kept[*userTable] // nil: nobody has a password
	everybody bool              // neither users nor certificates: all rights for all
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
	name      string
	certified bool
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
	if certified := c.commonName(); certified != "" {
		if name != "" && name != certified {
			return identity{}, fmt.Errorf("the certificate is that of %q", certified)
		}
		return identity{certified, true}, nil
	}
	if !d.proves(name, pk.Connect.Password) {
		return identity{}, errors.New("no such user, or another password")
	}
	return identity{name: name}, nil
}

// commonName is that of the client's verified certificate; empty: it has shown none.
func (c *conn) commonName() string {
	secured, ok := c.Conn.(*tls.Conn)
	if !ok {
		return ""
	}
	state := secured.ConnectionState()
	if len(state.VerifiedChains) == 0 {
		return ""
	}
	return state.PeerCertificates[0].Subject.CommonName
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
	if d.users != nil {
		if u, known := d.users.get().users[c.who.name]; known {
			return u.rights
		}
	}
	if c.who.certified {
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
	config := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{certificate}}
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
