package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"joingate/config"
	"joingate/joinserver"
	"joingate/sim"

	"github.com/spf13/cobra"
)

// stormFlags are the flags of simulate --storm.
type stormFlags struct {
	on      bool
	options sim.StormOptions
	count   int
	rates   string
	svg     string
}

func (s *stormFlags) flags(c *cobra.Command) {
	f, o := c.Flags(), &s.options
	f.BoolVar(&s.on, "storm", false, "play a storm of joins over a radio model, without a broker: see above")
	f.IntVar(&s.count, "count", 1000, "storm: how many devices there are")
	f.Float64Var(&o.Area, "area", 6, "storm: side of the square on which they stand, `KM`")
	f.DurationVar(&o.Boot, "boot", 30*time.Second, "storm: the devices come up within so long of the power's return")
	f.DurationVar(&o.Limit, "limit", 24*time.Hour, "storm: simulated time at most")
	f.StringVar(&s.rates, "rates", "link", "storm: `CHOICE` of data rates, link or step: the fastest that carries first, or DR5 first; one slower after every second failure")
	f.BoolVar(&o.Duty, "duty-cycle", false, "storm: gateways keep the duty cycles of EU868")
	f.DurationVar(&o.Backhaul, "backhaul", 40*time.Millisecond, "storm: way between gateway and server")
	f.StringVar(&s.svg, "svg", "", "storm: `FILE` for a picture of the curves")
}

// stormRun is one way to answer the storm.
type stormRun struct {
	Mode       string             `json:"mode"`
	Until      map[string]float64 `json:"seconds_until"` // share joined: 50, 95, 100 %
	Report     sim.StormReport    `json:"report"`
	Difference *float64           `json:"time_to_95_against_best_snr,omitempty"` // -0.3: 30 % sooner; nil: not known
}

// The ways to answer that a storm compares.
const (
	modeBestSNR  = "best SNR always"
	modeHandOver = "best SNR, hand-over"
	modePlanned  = "airtime planned"
)

// shares are those of which the time is shown.
var shares = []float64{0.5, 0.95, 1}

// stormGateways is how many gateways there are unless told.
const stormGateways = 3

// storm plays the same storm once for each way to answer it.
func (p *program) storm(ctx context.Context, s stormFlags, seed uint64, gateways int) error {
	switch {
	case s.count < 1:
		return fmt.Errorf("--count %d: a storm needs at least 1 device", s.count)
	case gateways < 1:
		return fmt.Errorf("--gateways %d: a storm needs at least 1 gateway", gateways)
	}
	o := s.options
	o.Seed, o.Gateways, o.Collect = cmp.Or(seed, 1), sim.GatewayEUIs(0, gateways), config.Default().Join.CollectWindow
	switch s.rates {
	case "link":
	case "step":
		o.Rates = sim.RatesStepped
	default:
		return fmt.Errorf("--rates %s is neither link nor step", s.rates)
	}
	var runs []stormRun
	for _, mode := range []string{modeBestSNR, modeHandOver, modePlanned} {
		report, err := playStorm(ctx, o, s.count, mode)
		if err != nil {
			return err
		}
		runs = append(runs, newStormRun(mode, report, runs))
	}
	err := p.print(runs, func(w io.Writer) { printStorm(w, o, s.count, runs) })
	if err == nil && s.svg != "" {
		err = os.WriteFile(s.svg, []byte(drawStorm(o, s.count, runs)), 0o644)
	}
	return err
}

// newStormRun compares a report with the first run.
func newStormRun(mode string, report sim.StormReport, before []stormRun) stormRun {
	run := stormRun{Mode: mode, Until: map[string]float64{}, Report: report}
	for _, share := range shares {
		if at, ok := report.Until(share); ok {
			run.Until[fmt.Sprintf("%g", 100*share)] = at.Seconds()
		}
	}
	at, ok := report.Until(0.95)
	if len(before) > 0 && ok {
		if first, ok := before[0].Report.Until(0.95); ok {
			difference := at.Seconds()/first.Seconds() - 1
			run.Difference = &difference
		}
	}
	return run
}

func drawStorm(o sim.StormOptions, devices int, runs []stormRun) string {
	c := sim.Chart{
		Title:  fmt.Sprintf("%d devices join through %d gateways after a power cut", devices, len(o.Gateways)),
		Detail: fmt.Sprintf("%g km × %g km, EU868, simulated; seed %d", o.Area, o.Area, o.Seed),
	}
	for _, r := range runs {
		c.Curves = append(c.Curves, sim.Curve{Name: r.Mode, Joined: r.Report.Joined, Of: r.Report.Devices})
	}
	return c.SVG()
}

func printStorm(w io.Writer, o sim.StormOptions, devices int, runs []stormRun) {
	first := runs[0].Report
	fmt.Fprintf(w, "%d devices, %d gateways, %g km × %g km, EU868, seed %d\n", devices, len(o.Gateways), o.Area, o.Area, o.Seed)
	var mix []string
	for _, sf := range slices.Sorted(maps.Keys(first.SpreadingFactors)) {
		mix = append(mix, fmt.Sprintf("SF%d %d", sf, first.SpreadingFactors[sf]))
	}
	fmt.Fprintf(w, "devices by spreading factor: %s\n", strings.Join(mix, ", "))
	fmt.Fprintf(w, "airtime bound: %.1f join-accepts/s in RX1 if the gateways only sent; within the duty cycles %.2f/s\n\n", first.Bound, first.DutyBound)
	t := tabwriter.NewWriter(w, 0, 0, 3, ' ', tabwriter.AlignRight)
	for _, row := range stormRows() {
		fmt.Fprintf(t, "%s\t", row.name)
		for _, r := range runs {
			fmt.Fprintf(t, "%v\t", row.value(r))
		}
		fmt.Fprintln(t)
	}
	_ = t.Flush()
}

// stormRow is a line of the table, with one value for each run.
type stormRow struct {
	name  string
	value func(stormRun) any
}

func stormRows() []stormRow {
	return []stormRow{
		{"", func(r stormRun) any { return r.Mode }},
		{"50 % have joined after", func(r stormRun) any { return untilText(r, 0.5) }},
		{"95 % have joined after", func(r stormRun) any { return untilText(r, 0.95) }},
		{"100 % have joined after", func(r stormRun) any { return untilText(r, 1) }},
		{"95 % against best SNR", differenceText},
		{"join-requests", func(r stormRun) any { return r.Report.Requests }},
		{"heard", func(r stormRun) any { return r.Report.Heard }},
		{"copies lost: collision", func(r stormRun) any { return r.Report.Collided }},
		{"copies lost: gateway sending", func(r stormRun) any { return r.Report.Deafened }},
		{"copies lost: no demodulator", func(r stormRun) any { return r.Report.Overbooked }},
		{"accepted", func(r stormRun) any { return r.Report.Accepted }},
		{"refused: no_airtime", func(r stormRun) any { return r.Report.Silent[joinserver.NoAirtime.String()] }},
		{"commands refused by gateways", func(r stormRun) any { return r.Report.GatewayRefused }},
		{"accepted, not sent", func(r stormRun) any { return r.Report.Unsent }},
		{"sent in RX1", func(r stormRun) any { return r.Report.RX1 }},
		{"sent in RX2", func(r stormRun) any { return r.Report.RX2 }},
		{"  of them RX1 was taken", func(r stormRun) any { return r.Report.Moved }},
		{"sent, not received", func(r stormRun) any { return r.Report.Missed }},
		{"gateways sending", func(r stormRun) any { return fmt.Sprintf("%.0f %%", 100*r.Report.Busy) }},
	}
}

func untilText(r stormRun, share float64) string {
	if at, ok := r.Report.Until(share); ok {
		return at.Round(time.Second).String()
	}
	return "never"
}

func differenceText(r stormRun) any {
	if r.Difference == nil {
		return ""
	}
	return fmt.Sprintf("%+.0f %%", 100**r.Difference)
}
