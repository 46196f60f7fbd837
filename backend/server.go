// Package backend serves the LoRaWAN Backend Interfaces: network servers ask this
// join server over HTTPS to decide join- and rejoin-requests, application servers
// ask it for session keys, and other networks for a device's home network.
//
// Each message is one JSON object in a POST to any path. What can be answered at
// all is answered with status 200 and a result code; other statuses mean that no
// message was understood, or that none can be taken now.
//
// Units. Lifetime: seconds. RxDelay: whole seconds. Octets are hex digits, in the
// order in which they are written; a leading 0x is taken, none is sent.
//
// Sources: LoRaWAN Backend Interfaces TS002-1.0.0 and TS002-1.1.0; RFC 3394 for
// the key envelopes.
//
// What is promised: a network server is known by its TLS client certificate, and
// its SenderID must be the NetID bound to it; keys leave wrapped, or in the clear
// only where the configuration says so; a request that an HTTP client repeats gets
// the same answer; nothing that a sender writes makes the server panic.
//
// Known to be missing: ErrorNotif of TS002-1.1.0, and the messages between network
// servers (passive and handover roaming), which are no business of a join server.
// The memory of repeated requests is this instance's own.
package backend

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"go.uber.org/zap"

	"joingate/joinserver"
)

// Specification constants, TS002-1.1.0.
const (
	version10 = "1.0"
	version11 = "1.1"
)

// Limits of the service.
const (
	maxBody     = 64 << 10        // octets of one message
	maxAtOnce   = 256             // messages in work; more are sent away with status 503
	workTimeout = 5 * time.Second // RX1 of the frame: later is useless
)

// Joiner decides what network servers forward: joinserver.Handler.
type Joiner interface {
	// JoinFor decides a join- or rejoin-request. Errors: a *joinserver.Rejection
	// for a refusal, joinserver.ErrLateCopy for a frame that was answered, anything
	// else for a fault.
	JoinFor(ctx context.Context, r joinserver.NetworkRequest) (joinserver.NetworkAnswer, error)
}

// Policies finds root keys and account of a device. It must answer from the
// record: keys that are derived from stale root keys would be given out.
type Policies interface {
	// Policy returns the policy of a device, or joinserver.ErrUnknownDevice.
	Policy(ctx context.Context, device joinserver.EUI64) (joinserver.Policy, error)
}

// Config is all that a Server needs. Those that may be left out say so.
type Config struct {
	Joins    Joiner
	Sessions joinserver.Sessions
	Policies Policies
	// Recipients gives the key encryption keys that an account has registered.
	Recipients func(ctx context.Context, account joinserver.AccountID) (joinserver.Recipients, error)
	// Confirm is told that a device uses the session of this JoinNonce. Nil: nobody
	// wants to know.
	Confirm func(ctx context.Context, device joinserver.EUI64, joinNonce uint32) error
	// CheckPeer is asked for every message whether the client's certificate is still
	// trusted: a connection may outlive it. Nil: what the handshake found holds.
	CheckPeer func(*tls.ConnectionState) error

	NetworkServers []NetworkServer
	// NetID is the home network of devices that no network server has served yet.
	NetID joinserver.NetID
	// Lifetime of session keys, as answers tell it. 0, which network servers read as
	// no end: the keys live until the next join.
	Lifetime time.Duration
	// AnswerTLS is for the connections to the AnswerURLs. Nil: the system's
	// authorities are trusted and no certificate is shown.
	AnswerTLS *tls.Config

	Now func() time.Time
	Log *zap.Logger // gets one line per message
	// Observe is told of every message. Nil: nobody counts.
	Observe func(Observation)
}

// Observation is one message as metrics count it. All texts are from small sets.
type Observation struct {
	MessageType string // a request of TS002, or "unknown"
	Result      Result // 0: not understood, or sent away
	Server      string // name of the network server; empty: not known
	Took        time.Duration
	Rejection   *joinserver.Rejection // of a refused join; else nil
}

// Server is the http.Handler of the interface. Close it after its http.Server.
type Server struct {
	Config
	peers    peers
	repeats  *repeats
	slots    chan struct{}
	log      *logger
	answers  *courier
	inFlight sync.WaitGroup // asynchronous answers
}

// New checks the configuration and makes a Server of it.
func New(c Config) (*Server, error) {
	if c.Joins == nil || c.Sessions == nil || c.Policies == nil || c.Recipients == nil || c.Now == nil || c.Log == nil {
		return nil, errors.New("backend interfaces need Joins, Sessions, Policies, Recipients, Now and Log")
	}
	peers, err := newPeers(c.NetworkServers)
	if err != nil {
		return nil, fmt.Errorf("backend interfaces: %w", err)
	}
	if c.Lifetime < 0 || c.Lifetime%time.Second != 0 {
		return nil, fmt.Errorf("backend interfaces: Lifetime %s is not whole seconds", c.Lifetime)
	}
	if c.Confirm == nil {
		c.Confirm = func(context.Context, joinserver.EUI64, uint32) error { return nil }
	}
	if c.CheckPeer == nil {
		c.CheckPeer = func(*tls.ConnectionState) error { return nil }
	}
	if c.Observe == nil {
		c.Observe = func(Observation) {}
	}
	return &Server{
		Config: c, peers: peers, repeats: newRepeats(c.Now), slots: make(chan struct{}, maxAtOnce),
		log: newLogger(c.Log, c.Now), answers: newCourier(c.AnswerTLS),
	}, nil
}

// Close waits until the answers under way are delivered, or gives them up when the
// context ends. No message may come any more.
func (s *Server) Close(ctx context.Context) error {
	delivered := make(chan struct{})
	go func() {
		s.inFlight.Wait()
		close(delivered)
	}()
	select {
	case <-delivered:
		s.answers.close()
		return nil
	case <-ctx.Done():
		s.answers.close()
		<-delivered
		return fmt.Errorf("answers to network servers were given up: %w", ctx.Err())
	}
}

// ServeHTTP answers one message.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	started := s.Now()
	body, refusal := readBody(w, r)
	if refusal == nil {
		select {
		case s.slots <- struct{}{}:
			s.serve(w, r, body, started)
			return
		default:
			w.Header().Set("Retry-After", "1")
			refusal = &httpRefusal{http.StatusServiceUnavailable, "too many messages at once: send it again"}
		}
	}
	http.Error(w, refusal.text, refusal.status)
	s.tell(message{}, outcome{refused: refusal}, started)
}

// serve answers a message for which there is a slot, and gives the slot back when
// the answer is there, which may be after the HTTP response.
func (s *Server) serve(w http.ResponseWriter, r *http.Request, body []byte, started time.Time) {
	// The decision goes on when the client hangs up: a join may be committed by then,
	// and the repeated request is to get its answer.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), workTimeout)
	finish, later := func() { cancel(); <-s.slots }, false
	defer func() {
		if !later {
			finish()
		}
	}()
	msg, err := parseMessage(body)
	if err != nil {
		writeJSON(w, http.StatusBadRequest, msg.answer("", version11, MalformedRequest, err.Error()))
		s.tell(msg, outcome{refused: &httpRefusal{http.StatusBadRequest, err.Error()}}, started)
		return
	}
	server, out := s.identify(r.TLS, msg)
	if out == nil && server.AnswerURL != "" {
		later = true
		s.inFlight.Go(func() {
			defer finish()
			s.answerLater(ctx, server, msg, started)
		})
		w.WriteHeader(http.StatusOK)
		return
	}
	if out == nil {
		out = s.handle(ctx, server, msg)
	}
	writeJSON(w, http.StatusOK, out.answer)
	s.tell(msg, *out, started)
}
