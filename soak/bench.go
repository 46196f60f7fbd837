package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"text/tabwriter"
	"time"
)

// How a benchmark is set up.
const (
	benchDevices = 1500 // that ask at a time, again and again
	benchCopies  = 3    // of each join-request, through as many gateways
	benchWarmUp  = 5 * time.Second
	benchTime    = 15 * time.Second
)

// figures are what a benchmark has measured.
type figures struct {
	instances int
	joins     int64
	took      time.Duration
	latencies []time.Duration // of joins, sorted; the collect window is in them
	cpu       map[string]time.Duration
	wal       int64 // octets that PostgreSQL wrote to its log
	commands  int64 // that Redis carried out
}

// components are the columns of processor time, in their order.
func components() []string {
	return []string{"joingate", "postgres", "redis", "mosquitto", "devices"}
}

// bench compares instances on one machine, and says what each component costs.
func bench(ctx context.Context, o options, out io.Writer) error {
	fmt.Fprintf(out, "%d devices that ask at a time, %d copies of each join-request, %s each\n", benchDevices, benchCopies, benchTime)
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(table, "instances\tjoins/s\tp50\tp99\t")
	for _, name := range components() {
		fmt.Fprintf(table, "%s\t", name)
	}
	fmt.Fprintln(table, "all\tprocessors busy\tWAL\tRedis commands\t")
	for instances := 1; instances <= o.instances; instances++ {
		f, err := measure(ctx, o, instances)
		if err != nil {
			return err
		}
		f.print(table)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(out, "components: milliseconds of processor time for each join; devices: gateways, devices and the proxies between all parts; WAL: octets for each join")
	return nil
}

// measure runs devices flat out against a new world.
func measure(ctx context.Context, o options, instances int) (f figures, err error) {
	o.folder = filepath.Join(o.folder, fmt.Sprintf("bench-%d", instances))
	if err := os.MkdirAll(o.folder, 0o755); err != nil {
		return f, err
	}
	w, err := newWorld(ctx, o, size{instances: instances, steady: benchDevices, gateways: benchCopies, copies: benchCopies})
	defer w.close()
	if err != nil {
		return f, err
	}
	var taken stopwatch
	w.fleet.Latencies = taken.add
	joining, stop := context.WithCancel(ctx)
	var all sync.WaitGroup
	all.Go(func() { w.fleet.JoinForEver(joining, 0, w.steady) })
	defer all.Wait()
	defer stop()
	sleep(ctx, benchWarmUp)
	before, err1 := w.cpu()
	wal, err2 := w.walWritten()
	commands, err3 := w.redisCommands()
	if err := errors.Join(err1, err2, err3); err != nil {
		return f, err
	}
	taken.sorted() // what was taken so far does not count
	began, joins := time.Now(), w.fleet.Accepted.Load()
	sleep(ctx, benchTime)
	f = figures{instances: instances, joins: w.fleet.Accepted.Load() - joins, took: time.Since(began), latencies: taken.sorted()}
	f.cpu, err1 = w.cpu()
	f.wal, err2 = w.walWritten()
	f.commands, err3 = w.redisCommands()
	f.wal, f.commands = f.wal-wal, f.commands-commands
	for name, used := range before {
		f.cpu[name] -= used
	}
	return f, errors.Join(err1, err2, err3, ctx.Err())
}

// stopwatch gathers times.
type stopwatch struct {
	mu    sync.Mutex
	times []time.Duration
}

func (s *stopwatch) add(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.times = append(s.times, d)
}

// sorted takes the times out.
func (s *stopwatch) sorted() (times []time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	times, s.times = s.times, nil
	slices.Sort(times)
	return times
}

// cpu is the processor time that the components have used so far.
func (w *world) cpu() (map[string]time.Duration, error) {
	used := map[string]time.Duration{}
	add := func(name string, of interface{ CPU() (time.Duration, error) }) error {
		d, err := of.CPU()
		used[name] += d
		return err
	}
	for _, i := range w.instances {
		if err := add("joingate", i); err != nil {
			return nil, err
		}
	}
	if err := add("postgres", w.postgres); err != nil {
		return nil, err
	}
	if err := add("redis", w.redis); err != nil {
		return nil, err
	}
	if err := add("mosquitto", w.mosquitto); err != nil {
		return nil, err
	}
	var self syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &self); err != nil {
		return nil, err
	}
	used["devices"] = time.Duration(self.Utime.Nano() + self.Stime.Nano())
	return used, nil
}

// walWritten is how far PostgreSQL's log has come, in octets.
func (w *world) walWritten() (int64, error) {
	rows, err := w.postgres.Query(`SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint`)
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(rows[0], 10, 64)
}

// redisCommands is how many Redis has carried out.
func (w *world) redisCommands() (int64, error) {
	said, err := w.redis.Do("INFO", "stats")
	if err != nil {
		return 0, err
	}
	_, after, _ := strings.Cut(said, "total_commands_processed:")
	number, _, _ := strings.Cut(after, "\n")
	return strconv.ParseInt(strings.TrimSpace(number), 10, 64)
}

func (f figures) print(to io.Writer) {
	fmt.Fprintf(to, "%d\t%.0f\t%s\t%s\t", f.instances, float64(f.joins)/f.took.Seconds(), f.percentile(50), f.percentile(99))
	var all time.Duration
	for _, name := range components() {
		all += f.cpu[name]
		fmt.Fprintf(to, "%.3f\t", f.perJoin(f.cpu[name]))
	}
	joins := float64(max(1, f.joins))
	fmt.Fprintf(to, "%.3f\t%.1f\t%.0f\t%.1f\t\n", f.perJoin(all), all.Seconds()/f.took.Seconds(), float64(f.wal)/joins, float64(f.commands)/joins)
}

// perJoin is in milliseconds.
func (f figures) perJoin(used time.Duration) float64 {
	return used.Seconds() * 1000 / float64(max(1, f.joins))
}

func (f figures) percentile(p int) time.Duration {
	if len(f.latencies) == 0 {
		return 0
	}
	return f.latencies[(len(f.latencies)-1)*p/100].Round(time.Millisecond)
}
