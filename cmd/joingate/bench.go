package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"joingate/config"
	"joingate/sim"

	"github.com/spf13/cobra"
)

// bench holds the flags of bench.
type bench struct {
	*program
	load sim.LoadOptions

	broker, region, macVersion, gateway string
	gateways, devices                   int
	forged                              float64
	airtime                             string
	echo                                bool
	record, cache, metricsURL           string
	username, passwordFile              string
	instances                           int
	pids                                []int
	window                              time.Duration
	profile                             string
}

func (p *program) benchCommand() *cobra.Command {
	b := &bench{program: p}
	c := &cobra.Command{
		Use:   "bench",
		Short: "Measure how many joins a server answers, and how fast",
		Long: `Measure how many joins a server answers, and how fast: open-loop load over MQTT,
as ChirpStack Gateway Bridges of version 4 would bring it. Latency counts from
when a join-request should have been sent, so that a slow server cannot slow down
what measures it.

Without --broker, or with --broker mosquitto, bench starts the server itself in a
temporary folder, once for each mode of --airtime. With an address it loads a
server that runs; it registers an account, gateways and devices of its own in the
record of the configuration (--config), as node import does, and leaves them there.

JOINGATE_ variables reach the server that bench starts: JOINGATE_LOG__LEVEL=warn.`,
		Example: `  joingate bench --rate 1000 --duration 10s
  joingate bench --burst 20000 --airtime off --broker mosquitto --echo
  joingate bench --rate 3000 --broker mosquitto --record postgres://me@127.0.0.1/empty --cache redis://127.0.0.1:6379/0
  joingate bench --broker mqtt://127.0.0.1:1883 --metrics http://127.0.0.1:9090/metrics --pid 4711 --rate 200`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return b.run(c.Context()) },
	}
	b.flags(c)
	return p.jsonFlag(c)
}

func (b *bench) flags(c *cobra.Command) {
	f, l := c.Flags(), &b.load
	f.StringVar(&b.broker, "broker", "embedded", "`WHERE`: embedded, mosquitto (both with a server of bench's own), or the URL of the broker of a server that runs")
	f.Float64Var(&l.Rate, "rate", 200, "joins per second")
	f.DurationVar(&l.Duration, "duration", 10*time.Second, "how long the load lasts")
	f.IntVar(&l.Burst, "burst", 0, "so many joins at once instead of --rate")
	f.IntVar(&l.Open, "open", 0, "closed loop: keep so many joins open instead, --rate of them per second at most")
	f.IntVar(&l.Copies, "copies", 3, "how many gateways hear each join-request")
	f.IntVar(&b.gateways, "gateways", 3, "how many gateways there are")
	f.StringVar(&b.gateway, "first-gateway", "", "`EUI` of the first gateway; the others follow (default: drawn)")
	f.IntVar(&b.devices, "devices", 0, "how many devices are registered (default: one for each join)")
	f.StringVar(&b.region, "region", "EU868", "band plan group of devices and gateways")
	f.IntVar(&l.DataRate, "data-rate", 5, "data rate of the join-requests; -1: drawn")
	f.StringVar(&b.macVersion, "mac-version", "1.0.3", "LoRaWAN `VERSION` of the devices")
	f.Float64Var(&b.forged, "forged", 0, "share of all requests, 0 to 1, that are forged and come besides the joins")
	f.Float64Var(&l.ForgedRate, "forged-rate", 0, "the same as requests per second")
	f.IntVar(&l.Connections, "connections", 2, "MQTT connections that the gateways share")
	f.BoolVar(&l.NoAcks, "no-acks", false, "gateways acknowledge no command")
	f.StringVar(&b.airtime, "airtime", "both", "`MODE` of the server that bench starts: off, plan or both")
	f.BoolVar(&b.echo, "echo", false, "also measure the transport's limit: broker and load without a server")
	f.StringVar(&b.record, "record", "", "record `URL` of the server that bench starts; an empty database (default: SQLite)")
	f.StringVar(&b.cache, "cache", "", "cache `URL` of the server that bench starts (default: in memory)")
	f.IntVar(&b.instances, "instances", 1, "how many servers bench starts; several need --broker mosquitto, --record and --cache")
	f.DurationVar(&b.window, "window", config.Default().Join.CollectWindow, "collect window of the server")
	f.StringVar(&b.metricsURL, "metrics", "", "`URL` of the metrics of a server that runs; without, what it refused is not known")
	f.StringVar(&b.profile, "profile", "", "`FILE` for a profile of the processor time of the (first) server under load: go tool pprof -top FILE")
	f.IntSliceVar(&b.pids, "pid", nil, "process `ID`s whose CPU and memory are shown besides")
	f.StringVar(&b.username, "username", "", "broker `USER` of a server that runs")
	f.StringVar(&b.passwordFile, "password-file", "", "`FILE` with the user's password")
	f.StringVar(&l.Prefix, "prefix", "", "topic `PREFIX` before gateway/…")
}

// ownServer reports whether bench starts the server itself.
func (b *bench) ownServer() bool { return b.broker == "embedded" || b.broker == "mosquitto" }

// benchResult is what bench prints.
type benchResult struct {
	Runs []benchRun `json:"runs"`
	Echo *benchEcho `json:"echo,omitempty"`
}

func (b *bench) run(ctx context.Context) error {
	if err := b.check(); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "joingate-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	var result benchResult
	if b.ownServer() {
		result, err = b.runOwn(ctx, dir)
	} else {
		result, err = b.runAgainst(ctx)
	}
	if err != nil {
		return err
	}
	return b.print(result, func(w io.Writer) { result.write(w) })
}

// check refuses what makes no sense together, and completes the options.
func (b *bench) check() (err error) {
	first, err1 := sim.DefaultFirstGateway+sim.EUI(rand.Uint32N(1<<20))<<8, error(nil)
	if b.gateway != "" {
		first, err1 = sim.ParseEUI(b.gateway)
	}
	b.load.Gateways = sim.GatewayEUIs(first, b.gateways)
	var err2 error
	b.load.Broker.Username = b.username
	b.load.Broker.Password, err2 = config.Secret(b.passwordFile)
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	switch {
	case !slices.Contains([]string{"off", "plan", "both"}, b.airtime):
		return fmt.Errorf("--airtime %s is none of off, plan, both", b.airtime)
	case !b.ownServer() && !strings.Contains(b.broker, "://"):
		return fmt.Errorf("--broker %s is neither embedded nor mosquitto nor a URL such as mqtt://127.0.0.1:1883", b.broker)
	case b.forged < 0 || b.forged >= 1:
		return fmt.Errorf("--forged %v is no share below 1", b.forged)
	case b.instances > 1 && (b.broker != "mosquitto" || b.record == "" || b.cache == ""):
		return errors.New("several instances share broker, record and cache: give --broker mosquitto, --record and --cache")
	case !b.ownServer() && (b.record != "" || b.cache != "" || b.instances > 1):
		return errors.New("--record, --cache and --instances are for a server that bench starts; this one runs already")
	case b.profile != "" && b.ownServer() && b.airtime == "both":
		return errors.New("--profile is of one run: give --airtime off or plan")
	case b.profile != "" && !b.ownServer() && b.metricsURL == "":
		return errors.New("--profile is asked of the operations endpoint: give --metrics, and the server [ops] profile = true")
	case b.joins() < 1:
		return errors.New("--rate and --duration make no join")
	case b.load.Copies > b.gateways:
		return fmt.Errorf("--copies %d of each join-request want as many --gateways, not %d", b.load.Copies, b.gateways)
	case b.load.Burst > 0 && b.load.Open > 0:
		return errors.New("--burst or --open, not both")
	}
	if b.forged > 0 {
		b.load.ForgedRate = b.load.Rate * b.forged / (1 - b.forged)
	}
	return nil
}

// joins is how many joins the load has at most.
func (b *bench) joins() int {
	if b.load.Burst > 0 {
		return b.load.Burst
	}
	return int(b.load.Rate * b.load.Duration.Seconds())
}

// modes are the modes of airtime, one after the other.
func (b *bench) modes() []string {
	if b.airtime == "both" {
		return []string{"off", "plan"}
	}
	return []string{b.airtime}
}

// runOwn starts broker and server, once for each mode, with one record.
func (b *bench) runOwn(ctx context.Context, dir string) (result benchResult, err error) {
	world := benchWorld{bench: b, dir: dir}
	defer func() { err = errors.Join(err, world.stopBroker()) }()
	if err := world.prepare(ctx); err != nil {
		return result, err
	}
	for _, mode := range b.modes() {
		b.say("airtime %s: starting", mode)
		run, err := world.measure(ctx, mode)
		if err != nil {
			return result, err
		}
		result.Runs = append(result.Runs, run)
	}
	if b.echo {
		result.Echo, err = world.measureEcho(ctx, result.Runs)
	}
	return result, err
}

// runAgainst loads a server that runs.
func (b *bench) runAgainst(ctx context.Context) (result benchResult, err error) {
	settings, err := b.loadConfig()
	if err != nil {
		return result, err
	}
	b.load.Broker.URL = b.broker
	if b.load.Devices, err = b.register(ctx, settings); err != nil {
		return result, err
	}
	run := benchRun{Airtime: settings.Join.Airtime + " (of the configuration)"}
	var urls []string
	if b.metricsURL != "" {
		urls = []string{b.metricsURL}
	}
	if err := b.measure(ctx, &run, urls, b.givenProcesses()); err != nil {
		return result, err
	}
	result.Runs = []benchRun{run}
	if b.echo {
		result.Echo, err = b.echoRun(ctx, result.Runs)
	}
	return result, err
}

// measure runs the load once and fills in what became of it.
func (b *bench) measure(ctx context.Context, run *benchRun, metrics []string, processes []benchProcess) error {
	before, err := readCounters(ctx, metrics)
	if err != nil {
		return err
	}
	startProcesses(processes)
	machine := machineTimes()
	counted := func() counters {
		now, err := readCounters(ctx, metrics)
		if err != nil {
			return counters{} // nothing is settled yet; the last look tells of a fault
		}
		return now.minus(before)
	}
	profiled := b.startProfile(ctx, metrics)
	o := b.load
	o.Progress = b.showLoad
	o.Settled = func() bool { return len(metrics) > 0 && counted().decided() >= b.requests() }
	report, err := sim.Load(ctx, o)
	if err != nil {
		return err
	}
	run.Processes, run.Machine = endProcesses(processes), machineTimes().since(machine)
	if err := profiled(); err != nil {
		return err
	}
	for end := time.Now().Add(settleTime); len(metrics) > 0 && counted().decided() < float64(report.Joins+report.Forged) && time.Now().Before(end); {
		time.Sleep(settleTime / 50)
	}
	after, err := readCounters(ctx, metrics)
	if err != nil {
		return err
	}
	run.fill(b, report, after.minus(before), len(metrics) > 0)
	return nil
}

// startProfile profiles the first server while the load lasts; what it returns waits
// until the profile is in its file.
func (b *bench) startProfile(ctx context.Context, metrics []string) (wait func() error) {
	if b.profile == "" {
		return func() error { return nil }
	}
	seconds := min(max(1, int(b.load.Duration.Seconds())), longestProfile)
	from := fmt.Sprintf("%s%s?seconds=%d", strings.TrimSuffix(metrics[0], "/metrics"), profilePath, seconds)
	done := make(chan error, 1)
	go func() {
		profile, err := fetch(ctx, from)
		var answered statusError
		switch {
		case err == nil:
			err = os.WriteFile(b.profile, profile, 0o600)
		case errors.As(err, &answered):
			err = fmt.Errorf("%w: is [ops] profile = true?", err)
		}
		done <- err
	}()
	return func() error { return <-done }
}

// statusError says which status an address answers in place of what it was asked for.
type statusError string

func (e statusError) Error() string { return string(e) }

// fetch gets what an address answers. The error is a statusError if it answers another
// status than 200.
func fetch(ctx context.Context, from string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, from, nil)
	if err != nil {
		return nil, err
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return nil, statusError(from + " answers " + answer.Status)
	}
	return io.ReadAll(answer.Body)
}

// settleTime bounds how long the servers may still be busy with forged requests
// once every join is answered.
const settleTime = 5 * time.Second

// requests is how many join-requests the load has, forged ones included.
func (b *bench) requests() float64 {
	return float64(b.joins() + int(b.load.ForgedRate*b.load.Duration.Seconds()))
}

func (b *bench) showLoad(p sim.LoadProgress) {
	b.say("%3.0f s: %d sent, %d answered, %d forged, p99 %d ms", p.Elapsed.Seconds(), p.Sent, p.Answered, p.Forged, p.P99.Milliseconds())
}

// say tells on stderr what goes on.
func (b *bench) say(format string, args ...any) {
	fmt.Fprintf(b.stderr, "bench: "+format+"\n", args...)
}
