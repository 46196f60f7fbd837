package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"joingate/backend"
	"joingate/joinserver"
	"joingate/keyring"
	"joingate/linkwan"
	"joingate/record"
	"joingate/tlsfile"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
)

// networkServer is one [[network_servers]] table.
type networkServer struct {
	Name               string   `toml:"name"`
	NetID              string   `toml:"net_id"`
	Certificates       []string `toml:"certificates"`        // "sha256:…" or "cn:…"
	ApplicationServers []string `toml:"application_servers"` // AS-IDs
	Accounts           []string `toml:"accounts"`            // names; none: all
	KEKLabel           string   `toml:"kek_label"`
	KEKFile            string   `toml:"kek_file"`
	KeysInClear        bool     `toml:"keys_in_clear"`
	AnswerURL          string   `toml:"answer_url"`
}

// startBackend serves the Backend Interfaces, if the configuration asks for them.
func (s *server) startBackend(ctx context.Context) error {
	b := s.config.Backend
	if b.Listen == "" {
		return nil
	}
	servers, err := s.networkServers(ctx)
	if err != nil {
		return err
	}
	files, err := tlsfile.NewServer(tlsfile.Files{Cert: b.TLSCert, Key: b.TLSKey, ClientCA: b.TLSClientCA, CRL: b.TLSClientCRL}, s.reloads("backend"))
	if err != nil {
		return fmt.Errorf("backend: %w", err)
	}
	answers, err := tlsfile.NewClient(b.TLSCert, b.TLSKey, b.TLSClientCA, s.reloads("backend"))
	if err != nil {
		return fmt.Errorf("backend: %w", err)
	}
	observe, err := observeBackend(s.registry)
	if err != nil {
		return err
	}
	s.backend, err = backend.New(backend.Config{
		Joins: s.joins, Sessions: s.record, Policies: s.record, Recipients: s.recipients,
		Confirm: func(ctx context.Context, device joinserver.EUI64, joinNonce uint32) error {
			return s.record.Confirm(ctx, joinserver.Write{User: "network server", Action: "TS002", At: time.Now()}, device, joinNonce)
		},
		CheckPeer: files.Check, NetworkServers: servers, NetID: s.netID, AnswerTLS: answers,
		Now: time.Now, Log: s.log.Named("backend"), Observe: observe,
	})
	if err != nil {
		return err
	}
	listener, err := listen(ctx, "backend.listen", b.Listen)
	if err != nil {
		return err
	}
	s.backendHTTP = linkwan.NewHTTPServer(s.backend, zap.NewStdLog(s.log.Named("http")))
	s.backendHTTP.TLSConfig = files.Config()
	s.backendURL = "https://" + listener.Addr().String()
	s.serve(func() error {
		return s.backendHTTP.ServeTLS(bounded(listener, mostConnections, mostConnectionsOne), "", "")
	})
	return nil
}

// recipients gives the keys that an account's servers get session keys under.
func (s *server) recipients(ctx context.Context, account joinserver.AccountID) (to joinserver.Recipients, err error) {
	err = s.record.View(ctx, func(tx *record.Tx) (err error) {
		to, err = tx.Recipients(account)
		return err
	})
	return to, err
}

func (s *server) networkServers(ctx context.Context) (list []backend.NetworkServer, err error) {
	var tables []networkServer
	if err := s.config.DecodeNetworkServers(&tables); err != nil {
		return nil, err
	}
	err = s.record.View(ctx, func(tx *record.Tx) error {
		for _, t := range tables {
			server, err := t.read(tx)
			if err != nil {
				return fmt.Errorf("network server %q: %w", t.Name, err)
			}
			list = append(list, server)
		}
		return nil
	})
	return list, err
}

func (t networkServer) read(tx *record.Tx) (n backend.NetworkServer, err error) {
	n = backend.NetworkServer{
		Name: t.Name, Certificates: t.Certificates, ApplicationServers: t.ApplicationServers, KeysInClear: t.KeysInClear, AnswerURL: t.AnswerURL,
	}
	if n.NetID, err = joinserver.ParseNetID(t.NetID); err != nil {
		return n, fmt.Errorf("net_id: %w", err)
	}
	for _, name := range t.Accounts {
		account, err := accountNamed(tx, name)
		if err != nil {
			return n, err
		}
		n.Accounts = append(n.Accounts, account.ID)
	}
	if (t.KEKLabel == "") != (t.KEKFile == "") {
		return n, errors.New("kek_label and kek_file must be set together or not at all")
	}
	if t.KEKFile == "" {
		return n, nil
	}
	n.KEK, err = keyEncryptionFrom(t.KEKLabel, t.KEKFile)
	return n, err
}

// keyEncryptionFrom reads the file of a key encryption key that a server has registered.
func keyEncryptionFrom(label, file string) (k joinserver.KeyEncryption, err error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return k, fmt.Errorf("key encryption key: %w", err)
	}
	k.Label = label
	if k.KEK, err = keyring.ParseWrappingKey(strings.TrimSpace(string(text))); err != nil {
		return k, fmt.Errorf("key encryption key %s: %w", file, err)
	}
	return k, nil
}

// reloads tells the log of TLS files that have changed and cannot be read.
func (s *server) reloads(door string) tlsfile.Options {
	return tlsfile.Options{Report: func(err error) {
		s.log.Error("a changed TLS file cannot be read; what was read before stays in force", zap.String("door", door), zap.Error(err))
	}}
}

// observeBackend counts the messages of network servers.
func observeBackend(to prometheus.Registerer) (func(backend.Observation), error) {
	messages := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "joingate_backend_messages_total", Help: "Messages of the Backend Interfaces by their type and the result that was answered.",
	}, []string{"message", "result"})
	took := prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "joingate_backend_seconds", Help: "How long the answers of the Backend Interfaces took.", Buckets: prometheus.ExponentialBuckets(0.001, 2, 13),
	})
	return func(o backend.Observation) {
		messages.WithLabelValues(o.MessageType, o.Result.String()).Inc()
		took.Observe(o.Took.Seconds())
	}, errors.Join(to.Register(messages), to.Register(took))
}
