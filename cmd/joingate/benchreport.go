package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"joingate/sim"
)

// benchRun is one load in figures.
type benchRun struct {
	Airtime  string  `json:"airtime"`
	Rate     float64 `json:"rate,omitempty"` // joins per second; none of a burst
	Burst    int     `json:"burst,omitempty"`
	Open     int     `json:"open,omitempty"`
	Gateways int     `json:"gateways"`
	PerJoin  int     `json:"copies_per_join"`

	sim.LoadReport
	WindowMS float64       `json:"collect_window_ms"`
	Whole    sim.Quantiles `json:"latency"`
	Beyond   sim.Quantiles `json:"latency_beyond_window"`
	LoadLag  sim.Quantiles `json:"load_lag"`

	// What the servers say. Lost is what they neither accepted nor refused, nor
	// failed at; Uncommanded what they accepted and no command came for.
	Known         bool             `json:"server_known"`
	Accepted      int64            `json:"accepted"`
	RefusedBy     map[string]int64 `json:"refused"`
	Failed        int64            `json:"failed"`
	CopiesArrived int64            `json:"copies_arrived"`
	Lost          int64            `json:"lost"`
	Uncommanded   int64            `json:"uncommanded"`

	Processes []benchProcess `json:"processes"`
	Machine   benchMachine   `json:"machine"`
}

// fill puts together what load and servers say.
func (r *benchRun) fill(b *bench, report sim.LoadReport, c counters, known bool) {
	r.Rate, r.Burst, r.Open, r.Gateways, r.PerJoin = b.load.Rate, b.load.Burst, b.load.Open, b.gateways, b.load.Copies
	if r.Burst > 0 {
		r.Rate = 0
	}
	r.LoadReport, r.Known = report, known
	r.WindowMS = float64(b.window) / float64(time.Millisecond)
	r.Whole, r.Beyond, r.LoadLag = report.Latency.Quantiles(), report.Latency.QuantilesBeyond(b.window), report.Lag.Quantiles()
	r.RefusedBy = map[string]int64{}
	if !known {
		maps.Copy(r.RefusedBy, report.Refused)
		return
	}
	for series, n := range c {
		if reason, ok := strings.CutPrefix(series, `joingate_joins_total{reason="`); ok && n > 0 {
			reason, _, _ = strings.Cut(reason, `"`)
			r.RefusedBy[reason] += int64(n)
		}
	}
	r.Accepted, r.Failed = int64(c[seriesAccepted]), int64(c[seriesFailed])
	r.CopiesArrived = int64(c[`joingate_uplinks_total{kind="join"}`])
	r.Lost = r.Joins + r.Forged - int64(c.decided())
	r.Uncommanded = r.Accepted - r.Answered
}

// counters are the counters of all servers together, by series.
type counters map[string]float64

const (
	seriesJoins    = "joingate_joins_total{"
	seriesAccepted = `joingate_joins_total{result="accepted"}`
	seriesFailed   = `joingate_joins_total{result="failed"}`
)

// decided counts the joins with an outcome, whatever it is.
func (c counters) decided() (n float64) {
	for series, value := range c {
		if strings.HasPrefix(series, seriesJoins) {
			n += value
		}
	}
	return n
}

func (c counters) minus(before counters) counters {
	rest := counters{}
	for series, value := range c {
		rest[series] = value - before[series]
	}
	return rest
}

// readCounters asks the servers for their metrics.
func readCounters(ctx context.Context, urls []string) (counters, error) {
	all := counters{}
	for _, url := range urls {
		if err := all.read(ctx, url); err != nil {
			return nil, fmt.Errorf("read metrics: %w", err)
		}
	}
	return all, nil
}

func (c counters) read(ctx context.Context, url string) error {
	answer, err := fetch(ctx, url)
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(answer)) {
		series, number, found := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		value, err := strconv.ParseFloat(number, 64)
		if found && err == nil && !strings.HasPrefix(series, "#") {
			c[series] += value
		}
	}
	return nil
}

// benchEcho is the transport's limit: broker and load without a server.
type benchEcho struct {
	JoinsPerSecond float64 `json:"joins_per_second"`
	Sent           int64   `json:"sent"`
	Answered       int64   `json:"answered"`
	// Ratio is what the best run reached of it, 0 to 1.
	Ratio float64 `json:"ratio"`
}

func (e *benchEcho) compare(runs []benchRun) {
	for _, r := range runs {
		if e.JoinsPerSecond > 0 {
			e.Ratio = max(e.Ratio, r.AnswersPerSecond/e.JoinsPerSecond)
		}
	}
}

// write prints the result for people.
func (r benchResult) write(w io.Writer) {
	for _, run := range r.Runs {
		run.write(w)
	}
	if r.Echo != nil {
		fmt.Fprintf(w, "\nechoes of broker and load alone: %.0f a second; the server reached %.1f %% of that\n", r.Echo.JoinsPerSecond, 100*r.Echo.Ratio)
	}
}

func (r benchRun) write(w io.Writer) {
	fmt.Fprintf(w, "\nairtime %s, %s, %d copies of each, %d gateways\n", r.Airtime, r.offered(), r.PerJoin, r.Gateways)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "  joins sent\t%d\t(%d copies; the load was %.1f ms late at p99, %.1f ms at most)\n", r.Joins, r.Copies, r.LoadLag.P99, r.LoadLag.Max)
	fmt.Fprintf(t, "  answered\t%d\t(%s; %.0f a second until the last)\n", r.Answered, percent(r.Answered, r.Joins), r.AnswersPerSecond)
	fmt.Fprintf(t, "  in time\t%d\t(%s; RX1 %d, RX2 %d, for neither %d)\n", r.RX1+r.RX2, percent(r.RX1+r.RX2, r.Joins), r.RX1, r.RX2, r.Late)
	r.writeRefused(t)
	if r.Forged > 0 {
		fmt.Fprintf(t, "  forged\t%d\t(answered: %d)\n", r.Forged, r.ForgedAnswered)
	}
	if r.Surplus+r.Strange > 0 {
		fmt.Fprintf(t, "  other commands\t%d\t(%d for an answered join, %d for none)\n", r.Surplus+r.Strange, r.Surplus, r.Strange)
	}
	_ = t.Flush()
	fmt.Fprintln(w)
	r.writeTables(w)
}

func (r benchRun) offered() string {
	switch {
	case r.Burst > 0:
		return fmt.Sprintf("a burst of %d joins", r.Burst)
	case r.Open > 0:
		return fmt.Sprintf("%d joins open", r.Open)
	}
	return fmt.Sprintf("%g joins/s", r.Rate)
}

func (r benchRun) writeRefused(t io.Writer) {
	var total int64
	var texts []string
	for _, reason := range slices.Sorted(maps.Keys(r.RefusedBy)) {
		total += r.RefusedBy[reason]
		texts = append(texts, fmt.Sprintf("%s %d", reason, r.RefusedBy[reason]))
	}
	fmt.Fprintf(t, "  refused\t%d\t(%s)\n", total, cmp.Or(strings.Join(texts, ", "), "none"))
	if !r.Known {
		fmt.Fprintf(t, "  lost\t?\t(give --metrics to know)\n")
		return
	}
	fmt.Fprintf(t, "  failed\t%d\t(faults of the server)\n", r.Failed)
	fmt.Fprintf(t, "  lost\t%d\t(of %d copies %d reached the server; accepted without a command: %d)\n", r.Lost, r.Copies+r.Forged, r.CopiesArrived, r.Uncommanded)
}

func (r benchRun) writeTables(w io.Writer) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "  latency, ms\tmean\tp50\tp90\tp99\tp99.9\tmax\t")
	for _, row := range []struct {
		name string
		sim.Quantiles
	}{{"whole", r.Whole}, {fmt.Sprintf("beyond %g", r.WindowMS), r.Beyond}} {
		fmt.Fprintf(t, "  %s\t%.1f\t%.1f\t%.1f\t%.1f\t%.1f\t%.1f\t\n", row.name, row.Mean, row.P50, row.P90, row.P99, row.P999, row.Max)
	}
	fmt.Fprintln(t, "\t\t\t\t\t\t\t")
	fmt.Fprintln(t, "  process\tCPU, s\tµs a join\tresident, MB\tpeak, MB\t")
	for _, p := range r.Processes {
		fmt.Fprintf(t, "  %s\t%.2f\t%.0f\t%d\t%d\t\n", p.Name, p.CPUSeconds, 1e6*p.CPUSeconds/float64(max(1, r.Joins+r.Forged)), p.RSS>>20, p.PeakRSS>>20)
	}
	fmt.Fprintln(t, "\t\t\t\t\t")
	fmt.Fprintln(t, "  processors\tin use, %\tstolen, %\t")
	fmt.Fprintf(t, "  this machine\t%.0f\t%.0f\t\n", 100*r.Machine.Used, 100*r.Machine.Stolen)
	fmt.Fprintln(t, "\t\t\t")
	fmt.Fprintln(t, "  gateway\tanswers\t")
	for _, g := range slices.Sorted(maps.Keys(r.PerGateway)) {
		fmt.Fprintf(t, "  %s\t%d\t\n", g, r.PerGateway[g])
	}
	_ = t.Flush()
}

func percent(part, whole int64) string {
	return fmt.Sprintf("%.2f %%", 100*float64(part)/float64(max(1, whole)))
}
