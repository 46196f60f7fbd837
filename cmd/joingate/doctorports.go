package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"net"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"time"
)

// sorted gives a map's entries in the order of their keys.
func sorted[K cmp.Ordered, V any](m map[K]V) iter.Seq2[K, V] {
	return func(yield func(K, V) bool) {
		for _, key := range slices.Sorted(maps.Keys(m)) {
			if !yield(key, m[key]) {
				return
			}
		}
	}
}

// doors checks the rule of public addresses before the server refuses to start.
func (d *doctor) doors(context.Context) {
	if err := closedDoors(d.config); err != nil {
		d.fail("doors", "the server does not start like this", "%v", err)
	} else {
		d.ok("doors", "what is open to other machines has TLS, or is insecure by name")
	}
	if !isLoopback(d.config.Ops.Listen) {
		d.warn("doors", "let only the monitoring reach it", "ops.listen = %q asks for no password, and tells of devices and gateways", d.config.Ops.Listen)
	}
}

// The clock may differ by this much from others'. Signed calls bear 15 minutes;
// the order of events across instances bears less.
const (
	clockWarning = time.Second
	clockFailure = time.Minute
)

// clock looks for signs that the clock is wrong: it is not synchronised, or is
// before this program was built. Redis is asked for its time by redis.
func (d *doctor) clock(context.Context) {
	now := d.now()
	if built := buildTime(); !built.IsZero() && now.Before(built.Add(-24*time.Hour)) {
		d.fail("clock", "set the clock: NTP", "it is %s, before this program was built", now.UTC().Format(time.DateTime))
		return
	}
	synchronised, known := clockSynchronised()
	switch {
	case !known:
		d.ok("clock", "it is %s; whether NTP keeps it cannot be told here", now.UTC().Format(time.DateTime))
	case !synchronised:
		d.warn("clock", "run an NTP client, such as chrony, on every machine", "the kernel says that nothing synchronises it")
	default:
		d.ok("clock", "the kernel says that it is synchronised")
	}
}

// buildTime is the time of the commit that the program was built from; zero when
// it is not known.
func buildTime() time.Time {
	info, _ := debug.ReadBuildInfo()
	if info == nil {
		return time.Time{}
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.time" {
			at, _ := time.Parse(time.RFC3339, s.Value)
			return at
		}
	}
	return time.Time{}
}

// skew compares this clock with another machine's.
func (d *doctor) skew(whose string, theirs time.Time) {
	off := d.now().Sub(theirs).Round(time.Millisecond)
	switch {
	case off.Abs() > clockFailure:
		d.fail("clock", "NTP on every machine", "it is %s off that of %s", off, whose)
	case off.Abs() > clockWarning:
		d.warn("clock", "NTP on every machine", "it is %s off that of %s", off, whose)
	default:
		d.ok("clock", "it is within %s of that of %s", clockWarning, whose)
	}
}

// fewFiles is less than gateways, devices' administrators and the record can
// need at once.
const fewFiles = 4096

func (d *doctor) limits(context.Context) {
	most, known := mostOpenFiles()
	if known && most < fewFiles {
		d.warn("limits", "LimitNOFILE=65536 in the unit, or ulimit -n 65536", "%d files may be open at once: each connection is one", most)
	} else if known {
		d.ok("limits", "%d files may be open at once", most)
	}
}

// ports checks that each port is free, or that a joingate has it.
func (d *doctor) ports(ctx context.Context) {
	c := d.config
	listens := map[string]string{"api.listen": c.API.Listen, "ops.listen": c.Ops.Listen}
	if c.MQTT.Embedded() {
		listens["mqtt.embedded_listen"] = c.MQTT.EmbeddedListen
	}
	if c.Backend.Listen != "" {
		listens["backend.listen"] = c.Backend.Listen
	}
	running := d.running(ctx)
	for key, address := range sorted(listens) {
		if strings.HasSuffix(address, ":0") {
			d.ok("ports", "%s takes any free port", key)
			continue
		}
		err := tryListen(ctx, address)
		switch {
		case err == nil && running:
			d.warn("ports", "", "%s %s is free, although a joingate runs here: it has another configuration", key, address)
		case err == nil:
			d.ok("ports", "%s %s is free", key, address)
		case errors.Is(err, syscall.EADDRINUSE) && running:
			d.ok("ports", "%s %s is in use, and a joingate runs here", key, address)
		case errors.Is(err, syscall.EADDRINUSE):
			d.fail("ports", "stop the program that has it (ss -ltnp), or set another "+key, "%s %s is in use, and not by a joingate that answers", key, address)
		default:
			d.fail("ports", "set another "+key+"; ports below 1024 need CAP_NET_BIND_SERVICE", "%s %s cannot be opened: %v", key, address, err)
		}
	}
}

func tryListen(ctx context.Context, address string) error {
	var open net.ListenConfig
	listener, err := open.Listen(ctx, "tcp", address)
	if err != nil {
		return err
	}
	return listener.Close()
}

// running reports whether a joingate answers at the operations endpoint, and
// tells what it says of itself.
func (d *doctor) running(ctx context.Context) bool {
	client := operationsClient(d.config.Ops)
	status, text, err := getText(ctx, client, operationsURL(d.config.Ops)+"/healthz")
	if err != nil || status != 200 || strings.TrimSpace(text) != "ok" {
		return false
	}
	status, text, err = getText(ctx, client, operationsURL(d.config.Ops)+"/readyz")
	switch {
	case err != nil:
		d.warn("server", "", "a joingate runs here, but does not say whether it is ready: %v", err)
	case status != 200:
		d.fail("server", "doc/operations.md has a table of what fails", "the joingate that runs here is not ready: %s", strings.TrimSpace(text))
	default:
		d.ok("server", "the joingate that runs here is ready")
	}
	return true
}

// hostOf is this machine's name, for what is left at a broker by mistake.
func hostOf() string {
	name, err := os.Hostname()
	if err != nil {
		return "unknown"
	}
	return fmt.Sprintf("%s-%d", name, os.Getpid())
}
