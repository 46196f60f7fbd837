package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"joingate/config"
	"joingate/courier"
	"joingate/tlsfile"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
)

// startSinks begins to deliver join events to where they go besides MQTT.
func (s *server) startSinks(context.Context) error {
	sinks, err := s.newSinks()
	if err != nil || len(sinks) == 0 {
		return err
	}
	metrics, err := newSinkMetrics(s.registry)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.stopSinks = cancel
	for name, c := range sinks {
		if c.Outbox, err = s.record.Outbox(name); err != nil {
			return err
		}
		c.Turn = s.turn(name, sinkTurn)
		c.Observe = func(r courier.Round) { s.observeSink(metrics, name, r) }
		s.tasks.Go(func() { c.Run(ctx) })
	}
	return nil
}

func (s *server) newSinks() (map[string]courier.Courier, error) {
	e, sinks := s.config.Events, map[string]courier.Courier{}
	if e.RedisStream != "" {
		stream, err := s.shared.redis.Stream(e.RedisStream, e.RedisStreamLength)
		if err != nil {
			return nil, fmt.Errorf("events.redis_stream: %w", err)
		}
		sinks[streamSink] = courier.Courier{Sink: stream}
	}
	if e.WebhookURL == "" {
		return sinks, nil
	}
	secret, err := config.Secret(e.WebhookSecretFile)
	if err != nil {
		return nil, fmt.Errorf("events.webhook_secret_file: %w", err)
	}
	o := courier.WebhookOptions{URL: e.WebhookURL, Secret: secretOf(secret)}
	if e.WebhookCA != "" {
		if o.TLS, err = tlsfile.NewClient("", "", e.WebhookCA, s.reloads("webhook")); err != nil {
			return nil, fmt.Errorf("events.webhook_ca: %w", err)
		}
	}
	webhook, err := courier.NewWebhook(o)
	if err != nil {
		return nil, fmt.Errorf("events.webhook_url: %w", err)
	}
	sinks[webhookSink] = courier.Courier{Sink: webhook, Lanes: courier.WebhookLanes}
	return sinks, nil
}

// sinkMetrics show how far each sink is behind.
type sinkMetrics struct {
	delivered, failed, refused *prometheus.CounterVec
	waiting, age, held         *prometheus.GaugeVec
}

func newSinkMetrics(to prometheus.Registerer) (*sinkMetrics, error) {
	counter := func(name, help string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{"sink"})
	}
	gauge := func(name, help string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, []string{"sink"})
	}
	m := &sinkMetrics{
		delivered: counter("joingate_sink_delivered_total", "Join events that a sink besides MQTT has taken."),
		failed:    counter("joingate_sink_failures_total", "Deliveries to a sink that failed; they are tried again."),
		refused:   counter("joingate_sink_refusals_total", "Deliveries that the sink has refused because of the event itself; they are tried again."),
		waiting:   gauge("joingate_sink_waiting", "Join events that waited for the sink at the last look, as far as it went."),
		age:       gauge("joingate_sink_age_seconds", "How long the oldest join event had waited for the sink at the last look."),
		held:      gauge("joingate_sink_held_devices", "Devices whose events are held back because the sink refuses one."),
	}
	var errs []error
	for _, c := range []prometheus.Collector{m.delivered, m.failed, m.refused, m.waiting, m.age, m.held} {
		errs = append(errs, to.Register(c))
	}
	return m, errors.Join(errs...)
}

// observeSink counts what a round has done, and logs the first fault of a row.
func (s *server) observeSink(m *sinkMetrics, sink string, r courier.Round) {
	m.delivered.WithLabelValues(sink).Add(float64(r.Delivered))
	m.failed.WithLabelValues(sink).Add(float64(r.Failed))
	m.refused.WithLabelValues(sink).Add(float64(r.Refused))
	m.waiting.WithLabelValues(sink).Set(float64(r.Waiting))
	m.held.WithLabelValues(sink).Set(float64(r.Held))
	age := 0.0
	if !r.Oldest.IsZero() {
		age = time.Since(r.Oldest).Seconds()
	}
	m.age.WithLabelValues(sink).Set(age)
	if r.Err != nil && r.Failures <= 1 {
		s.log.Warn("join events wait; delivery is tried again", zap.String("sink", sink), zap.Error(r.Err))
	}
}
