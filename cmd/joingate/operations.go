package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"runtime/pprof"
	"strconv"
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
	if s.config.Ops.Profile {
		mux.HandleFunc("GET "+profilePath, profile)
	}
	mux.Handle("GET /metrics", promhttp.HandlerFor(s.registry, promhttp.HandlerOpts{}))
	return mux
}

// profilePath is where the tools of Go look for a profile.
const profilePath = "/debug/pprof/profile"

// longestProfile is in seconds; the profile comes within the time that an answer may
// take (linkwan.NewHTTPServer).
const longestProfile = 25

// profile samples what the program does for so many seconds. One at a time: a second
// caller is told that there is a first.
func profile(w http.ResponseWriter, r *http.Request) {
	seconds, err := strconv.Atoi(cmp.Or(r.FormValue("seconds"), "10"))
	if err != nil || seconds < 1 || seconds > longestProfile {
		http.Error(w, fmt.Sprintf("seconds=%s is none of 1 to %d", r.FormValue("seconds"), longestProfile), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	if err := pprof.StartCPUProfile(w); err != nil {
		http.Error(w, err.Error(), http.StatusConflict)
		return
	}
	defer pprof.StopCPUProfile()
	select {
	case <-time.After(time.Duration(seconds) * time.Second):
	case <-r.Context().Done():
	}
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
