package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"time"

	"joingate/config"

	"github.com/spf13/cobra"
	"go.uber.org/zap"
)

func (p *program) serveCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "serve",
		Short: "Run the join server: broker, joins, admin API and operations endpoint in one process",
		Long: `Run the join server: broker, joins, admin API and operations endpoint in one
process. Without a configuration it needs nothing and keeps everything under
./joingate-data. SIGTERM takes no more joins, finishes those under way and ends
with exit status 0.`,
		Example: "  joingate serve\n  joingate serve --config /etc/joingate/joingate.toml\n  JOINGATE_API__LISTEN=127.0.0.1:8081 joingate serve",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			settings, err := p.loadConfig()
			if err != nil {
				return err
			}
			log, err := p.newLog(settings.Log)
			if err != nil {
				return err
			}
			if p.variable("GOGC") == "" {
				debug.SetGCPercent(gcPercent)
			}
			s, err := startServer(c.Context(), settings, log)
			if err != nil {
				return err
			}
			s.warnOfFiles(c.Context())
			s.announce(p.stdout)
			return s.wait(c.Context())
		},
	}
}

// gcPercent trades memory for time: at 100, Go's default, a storm of joins spends a
// fifth of the processor on collecting garbage (doc/performance.md).
const gcPercent = 200

// drainTime bounds how long a stopping server finishes joins: past RX2 none of
// them can be answered any more.
const drainTime = 7 * time.Second

// wait serves until the context ends or a part fails, and closes everything in
// the order in which a join needs it.
func (s *server) wait(ctx context.Context) error {
	var failed error
	select {
	case <-ctx.Done():
		s.log.Info("stopping: no more joins are taken, those under way are finished")
	case failed = <-s.failures:
	}
	return errors.Join(failed, s.close())
}

// warnOfFiles logs what joingate doctor would find about certificates and the key
// file: a server starts with a certificate that has expired, and nobody connects.
func (s *server) warnOfFiles(ctx context.Context) {
	d := doctor{config: s.config, now: time.Now}
	d.certificates(ctx)
	d.keyFile(ctx)
	for _, f := range d.findings {
		if f.Result != checkedOK {
			s.log.Warn(f.Check+": "+f.Text, zap.String("remedy", f.Remedy))
		}
	}
}

// announce tells where everything listens and lies.
func (s *server) announce(to io.Writer) {
	fmt.Fprintf(to, "joingate %s is ready\n", thisBuild().Version)
	for _, line := range [][2]string{
		{"admin API", s.apiURL},
		{"gateways", s.brokerURL + brokerNote(s.config.MQTT)},
		{"operations", s.opsURL + " (/healthz, /readyz, /metrics)"},
		{"TS002", s.backendURL},
		{"record", recordPlace(s.config)},
		{"key file", kekPlace(s.config) + " (back it up: without it the record's keys cannot be read)"},
	} {
		if line[1] != "" {
			fmt.Fprintf(to, "  %-11s %s\n", line[0], line[1])
		}
	}
}

func brokerNote(m config.MQTT) string {
	if m.Embedded() {
		return " (embedded MQTT broker)"
	}
	return ""
}
