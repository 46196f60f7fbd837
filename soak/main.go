// Command soak runs three instances of Joingate on real servers with a network that
// can be disturbed between any two of them, lets devices join for ever while an
// administrator changes what they join by, disturbs something every few seconds, and
// in the end checks that every promise was kept.
//
//	go run ./soak                      ten minutes of faults
//	go run ./soak --time 1m --seed 7   a minute, with the faults of an earlier run
//	go run ./soak --bench              one, two and three instances, without faults
//	go run ./soak --check FILE         check a history again
//
// It needs Debian's postgresql, redis-server and mosquitto. The exit status is 1
// when a promise was broken.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"joingate/soak/history"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "soak: "+err.Error())
		os.Exit(1)
	}
}

// options are the flags.
type options struct {
	time      time.Duration
	seed      uint64
	rate      int
	instances int
	program   string
	folder    string
	check     string
	only      string
	bench     bool
}

func run(ctx context.Context, args []string, out io.Writer) error {
	var o options
	f := flag.NewFlagSet("soak", flag.ContinueOnError)
	f.DurationVar(&o.time, "time", 10*time.Minute, "how long faults go on")
	f.Uint64Var(&o.seed, "seed", rand.Uint64(), "seed of the order of the faults")
	f.IntVar(&o.rate, "rate", 60, "join-requests per second by which the return to full rate is measured")
	f.IntVar(&o.instances, "instances", 3, "how many instances of Joingate there are")
	f.StringVar(&o.program, "program", "", "`FILE` of the joingate program; default: it is built")
	f.StringVar(&o.folder, "folder", "", "`FOLDER` for everything, kept in the end; default: a temporary one, kept only when a promise was broken")
	f.StringVar(&o.check, "check", "", "check the history in `FILE`, and do nothing else")
	f.StringVar(&o.only, "only", "", "faults whose name has this `TEXT` in it")
	f.BoolVar(&o.bench, "bench", false, "compare one, two and three instances, without faults")
	if err := f.Parse(args); err != nil {
		return err
	}
	if o.check != "" {
		return checkFile(o.check, out)
	}
	keep := o.folder != ""
	if err := o.prepare(ctx); err != nil {
		return err
	}
	work := soak
	if o.bench {
		work = bench
	}
	err := work(ctx, o, out)
	if keep || err != nil {
		fmt.Fprintf(out, "everything is kept in %s\n", o.folder)
		return err
	}
	return os.RemoveAll(o.folder)
}

// prepare makes the folder and builds the program.
func (o *options) prepare(ctx context.Context) (err error) {
	if o.folder == "" {
		o.folder, err = os.MkdirTemp("", "joingate-soak")
	} else {
		err = os.MkdirAll(o.folder, 0o755)
	}
	if err != nil {
		return err
	}
	// PostgreSQL, which does not run as root, has to find its folder in there.
	if err := os.Chmod(o.folder, 0o755); err != nil {
		return err
	}
	if o.folder, err = filepath.Abs(o.folder); err != nil || o.program != "" {
		return err
	}
	o.program = filepath.Join(o.folder, "joingate")
	if said, err := exec.CommandContext(ctx, "go", "build", "-o", o.program, "joingate/cmd/joingate").CombinedOutput(); err != nil {
		return fmt.Errorf("build joingate: %w: %s", err, said)
	}
	return nil
}

func checkFile(name string, out io.Writer) error {
	file, err := os.Open(name)
	if err != nil {
		return err
	}
	defer file.Close()
	lines, err := history.Read(file)
	if err != nil {
		return err
	}
	return verdict(lines, out)
}

// verdict prints what the checker says.
func verdict(lines []history.Line, out io.Writer) error {
	violations, counts := history.Check(lines)
	fmt.Fprintf(out, "history: %s\n", counts)
	const shown = 50
	for i, v := range violations {
		if i == shown {
			fmt.Fprintf(out, "… and %d more\n", len(violations)-shown)
			break
		}
		fmt.Fprintf(out, "VIOLATION %s\n", v)
	}
	if len(violations) > 0 {
		return fmt.Errorf("%d violations: a promise was broken", len(violations))
	}
	fmt.Fprintln(out, "verdict: every promise was kept")
	return nil
}
