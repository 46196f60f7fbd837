package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"strings"
	"time"

	"joingate/band"
	"joingate/config"
	"joingate/joinserver"
	"joingate/record"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// loadConfig reads the configuration that --config or JOINGATE_CONFIG names.
func (p *program) loadConfig() (config.Config, error) {
	file := p.configFile
	if file == "" {
		file = p.variable("JOINGATE_CONFIG")
	}
	return config.Load(file, p.environ)
}

// variable gives an environment variable, "" when it is not set.
func (p *program) variable(name string) string {
	for _, v := range p.environ {
		if value, ok := strings.CutPrefix(v, name+"="); ok {
			return value
		}
	}
	return ""
}

// openRecord opens the record of the configuration; the first program to do so
// makes it, and its key file.
func openRecord(ctx context.Context, c config.Config, observe func(int, time.Duration)) (*record.Record, error) {
	o, err := recordOptions(c)
	if err != nil {
		return nil, err
	}
	o.Observe = observe
	return record.Open(ctx, o)
}

// recordOptions gives database and key of the record. A key file is made only
// where there can be no record yet that another key has sealed.
func recordOptions(c config.Config) (o record.Options, err error) {
	path, embedded := c.Record.SQLitePath(c.DataDir)
	if info, err := os.Stat(path); embedded && err == nil && info.IsDir() {
		return o, fmt.Errorf("record.url %q: %s is a directory: name a file", c.Record.URL, path)
	}
	if err := makePrivate(c.DataDir); err != nil {
		return o, err
	}
	if o.Sealer, err = sealerOf(c, !embedded || !exists(path)); err != nil {
		return o, err
	}
	o.Sinks = sinksOf(c.Events)
	if embedded {
		o.SQLitePath = path
		return o, nil
	}
	o.PostgresURL, o.Username = c.Record.URL, c.Record.Username
	o.Password, err = config.Secret(c.Record.PasswordFile)
	return o, err
}

// The sinks of join events besides MQTT.
const (
	webhookSink = "webhook"
	streamSink  = "stream"
)

func sinksOf(e config.Events) (sinks []string) {
	if e.WebhookURL != "" {
		sinks = append(sinks, webhookSink)
	}
	if e.RedisStream != "" {
		sinks = append(sinks, streamSink)
	}
	return sinks
}

// recordPlace says for people where the record is.
func recordPlace(c config.Config) string {
	if path, embedded := c.Record.SQLitePath(c.DataDir); embedded {
		return path
	}
	return c.Record.URL
}

// withRecord runs one command on the record. It works beside a server that runs.
func (p *program) withRecord(ctx context.Context, fn func(config.Config, *record.Record) error) error {
	c, err := p.loadConfig()
	if err != nil {
		return err
	}
	r, err := openRecord(ctx, c, nil)
	if err != nil {
		return err
	}
	if err := fn(c, r); err != nil {
		_ = r.Close() // the command's error is the one that counts
		return err
	}
	return r.Close()
}

// operator signs the audit line of a command.
func operator(action string) joinserver.Write {
	name := "operator"
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	return joinserver.Write{User: name, From: "command line", Action: action, At: time.Now()}
}

// bandGroups gives the band plan groups in force: the built-in ones and the
// operator's own.
func bandGroups(c config.Config) (*band.Groups, error) {
	var own []band.Config
	if err := c.DecodeBandPlanGroups(&own); err != nil {
		return nil, err
	}
	return band.Standard().With(own...)
}

// newLog writes to stderr, so that standard output stays for what was asked.
func (p *program) newLog(c config.Log) (*zap.Logger, error) {
	level, err := zapcore.ParseLevel(c.Level)
	if err != nil {
		return nil, err
	}
	form := zap.NewProductionEncoderConfig()
	form.EncodeTime = zapcore.ISO8601TimeEncoder
	form.EncodeDuration = zapcore.StringDurationEncoder
	encoder := zapcore.NewJSONEncoder(form)
	if c.Format == "console" {
		encoder = zapcore.NewConsoleEncoder(form)
	}
	return zap.New(zapcore.NewCore(encoder, zapcore.Lock(zapcore.AddSync(p.stderr)), level)), nil
}

// exists reports whether a file is there.
func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// makePrivate makes a folder that only its owner can look into.
func makePrivate(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make the data folder: %w", err)
	}
	return nil
}

// closedDoors refuses to open what other machines can reach and no TLS protects,
// unless the operator has said so by name. The Backend Interfaces have TLS always.
func closedDoors(c config.Config) error {
	err1 := publicWithoutTLS("api.listen", c.API.Listen, c.API.TLSCert != "", c.API.Insecure)
	err2 := publicWithoutTLS("ops.listen", c.Ops.Listen, c.Ops.TLSCert != "", c.Ops.Insecure)
	if !c.MQTT.Embedded() {
		return errors.Join(err1, err2)
	}
	return errors.Join(err1, err2, publicWithoutTLS("mqtt.embedded_listen", c.MQTT.EmbeddedListen, c.MQTT.EmbeddedTLSCert != "", c.MQTT.EmbeddedInsecure))
}
