package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"joingate/config"

	"github.com/spf13/cobra"
)

// The results of a check.
const (
	checkedOK   = "ok"
	checkedWarn = "warn" // it works, and will not always
	checkedFail = "fail" // joingate cannot run like this, or breaks a promise
)

// finding is what one check found out.
type finding struct {
	Check  string `json:"check"`
	Result string `json:"result"`
	Text   string `json:"text"`
	Remedy string `json:"remedy,omitempty"`
}

// doctor looks at an installation. It changes nothing that lasts: a file that it
// writes and a message that it keeps at the broker are taken away again.
type doctor struct {
	config   config.Config
	rowsToo  bool // the record will be opened as well
	now      func() time.Time
	findings []finding
}

// examineTimeout bounds a look at one part.
const examineTimeout = 10 * time.Second

func (p *program) doctorCommand() *cobra.Command {
	var rows bool
	c := &cobra.Command{
		Use:   "doctor",
		Short: "Look at this installation and say what is wrong with it",
		Long: `Look at this installation and say what is wrong with it: configuration, clock,
disk, key file, certificates, ports, record, Redis, broker and webhook, as far as
they can be seen from here. It works beside a server that runs, and changes nothing; only
--record brings the schema of an older record up to date, as every other command
does. Exit status 1 when something fails.`,
		Example: "  joingate doctor\n  joingate doctor --record --config /etc/joingate/joingate.toml --json",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			d := doctor{now: time.Now}
			settings, err := p.loadConfig()
			if err != nil {
				d.fail("configuration", "correct the file or the variables", "%v", err)
			} else {
				d.config, d.rowsToo = settings, rows
				d.examine(c.Context())
			}
			if rows && err == nil {
				d.rows(c.Context())
			}
			return errors.Join(p.print(d.findings, func(w io.Writer) { printFindings(w, d.findings) }), d.verdict())
		},
	}
	c.Flags().BoolVar(&rows, "record", false, "also open the record and look through its rows")
	return p.jsonFlag(c)
}

// examine makes all checks. One part that hangs costs the others nothing.
func (d *doctor) examine(ctx context.Context) {
	d.ok("configuration", "it loads")
	if _, err := bandGroups(d.config); err != nil {
		d.fail("configuration", "correct [[band_plan_groups]]", "%v", err)
	}
	for _, look := range []func(context.Context){
		d.doors, d.clock, d.limits, d.disk, d.keyFile, d.secretFiles, d.certificates, d.database, d.redis, d.broker, d.webhook, d.ports,
	} {
		each, cancel := context.WithTimeout(ctx, examineTimeout)
		look(each)
		cancel()
	}
}

func (d *doctor) add(check, result, remedy, format string, args ...any) {
	d.findings = append(d.findings, finding{check, result, fmt.Sprintf(format, args...), remedy})
}

func (d *doctor) ok(check, format string, args ...any) { d.add(check, checkedOK, "", format, args...) }

func (d *doctor) warn(check, remedy, format string, args ...any) {
	d.add(check, checkedWarn, remedy, format, args...)
}

func (d *doctor) fail(check, remedy, format string, args ...any) {
	d.add(check, checkedFail, remedy, format, args...)
}

// verdict is the error of an installation with failures.
func (d *doctor) verdict() error {
	failed := 0
	for _, f := range d.findings {
		if f.Result == checkedFail {
			failed++
		}
	}
	if failed == 0 {
		return nil
	}
	return fmt.Errorf("%d of %d checks failed", failed, len(d.findings))
}

func printFindings(w io.Writer, findings []finding) {
	for _, f := range findings {
		fmt.Fprintf(w, "%-4s  %s: %s\n", f.Result, f.Check, f.Text)
		if f.Remedy != "" {
			fmt.Fprintf(w, "      → %s\n", f.Remedy)
		}
	}
}
