package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"

	"joingate/record"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// readyTimeout bounds each look at a part, so that /readyz tells of a lost one
// in good time.
const readyTimeout = 2 * time.Second

// operations is the endpoint for those who watch the server.
func (s *server) operations() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		if err := s.ready(r.Context()); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ready")
	})
	mux.HandleFunc("GET /rejects", s.rejects)
	mux.Handle("GET /metrics", promhttp.HandlerFor(s.registry, promhttp.HandlerOpts{}))
	return mux
}

// ready says which of the parts does not accept work.
func (s *server) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	return errors.Join(s.edge.Ready(), s.record.Ready(ctx), s.apiAccepts(ctx))
}

func (s *server) apiAccepts(ctx context.Context) error {
	target, err := url.Parse(s.apiURL)
	if err != nil {
		return err
	}
	var dial net.Dialer
	conn, err := dial.DialContext(ctx, "tcp", target.Host)
	if err != nil {
		return fmt.Errorf("admin API does not accept: %w", err)
	}
	return conn.Close()
}

// observeCommits measures the group commits.
func observeCommits(to prometheus.Registerer) (func(joins int, took time.Duration), error) {
	size := prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "joingate_commit_joins", Help: "Joins that shared one transaction.", Buckets: prometheus.ExponentialBuckets(1, 2, 9),
	})
	duration := prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "joingate_commit_seconds", Help: "Time from the begin of a transaction of joins until it was on disk.",
		Buckets: prometheus.ExponentialBuckets(0.0001, 2.5, 12),
	})
	return func(joins int, took time.Duration) {
		size.Observe(float64(joins))
		duration.Observe(took.Seconds())
	}, errors.Join(to.Register(size), to.Register(duration))
}

func registerRecord(to prometheus.Registerer, r *record.Record) error {
	return to.Register(prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "joingate_dev_addrs_shared_total", Help: "DevAddrs given while another live session had them: the NetID has too few.",
	}, func() float64 { return float64(r.SharedAddresses()) }))
}
