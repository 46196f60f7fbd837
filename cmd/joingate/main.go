// Command joingate is the join server: it serves, and it holds all that an
// operator needs beside it.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Environ(), os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run is the whole program. Its result is the exit status: 1 on any error, which
// is told on stderr.
func run(ctx context.Context, args, environ []string, stdout, stderr io.Writer) int {
	p := &program{environ: environ, stdout: stdout, stderr: stderr}
	root := p.command()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	if err := root.ExecuteContext(ctx); err != nil {
		fmt.Fprintln(stderr, "joingate: "+err.Error())
		return 1
	}
	return 0
}

// program is what all commands share.
type program struct {
	environ        []string
	stdout, stderr io.Writer
	configFile     string
	json           bool
}

func (p *program) command() *cobra.Command {
	root := &cobra.Command{
		Use:   "joingate",
		Short: "Joingate answers the join-requests of LoRaWAN devices",
		Long: `Joingate is the join server of a LoRaWAN network: administrators set join
permissions through an API that is compatible with Alibaba Cloud Link WAN, and
devices join by them through gateways behind ChirpStack Gateway Bridges.`,
		Example: `  joingate demo                              see a device join, on this machine, in half a minute
  joingate serve                             run everything in one process, with nothing to install
  joingate account create acme               make an account and its AccessKey`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) > 0 {
				return unknownCommand(c, args[0])
			}
			return nil
		},
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	root.PersistentFlags().StringVar(&p.configFile, "config", "", "configuration `FILE` (default: $JOINGATE_CONFIG, else none)")
	root.AddCommand(p.serveCommand(), p.demoCommand(), p.simulateCommand(), p.benchCommand(), p.accountCommand(), p.userCommand(), p.accessKeyCommand(), p.auditCommand(), p.recordCommand(), p.keysCommand(), p.sessionCommand(), p.callCommand(), p.nodeCommand(),
		p.gatewayCommand(), p.bandCommand(), p.configCommand(), p.permissionCommand(), p.brokerCommand(), p.rejectsCommand(), p.doctorCommand(), p.versionCommand())
	explainArguments(root)
	return root
}

// explainArguments has every command say how it is written when its arguments are
// too few or too many.
func explainArguments(c *cobra.Command) {
	for _, below := range c.Commands() {
		explainArguments(below)
	}
	wanted := c.Args
	if wanted == nil || c.HasSubCommands() {
		return
	}
	c.Args = func(c *cobra.Command, args []string) error {
		if err := wanted(c, args); err != nil {
			return fmt.Errorf("%w: write it as %s, see %s --help", err, c.UseLine(), c.CommandPath())
		}
		return nil
	}
}

// group is a command that only holds others: without one of them it is an error.
func group(use, short string, commands ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{Use: use, Short: short, Args: func(c *cobra.Command, args []string) error {
		if len(args) > 0 {
			return unknownCommand(c, args[0])
		}
		return fmt.Errorf("%s needs one of its commands: see %s --help", c.CommandPath(), c.CommandPath())
	}, RunE: func(*cobra.Command, []string) error { return nil }}
	var examples []string
	for _, below := range commands {
		example, _, _ := strings.Cut(below.Example, "\n")
		examples = append(examples, example)
	}
	c.Example = strings.Join(examples, "\n")
	c.AddCommand(commands...)
	return c
}

// unknownCommand names the nearest command, if there is one near.
func unknownCommand(c *cobra.Command, name string) error {
	c.SuggestionsMinimumDistance = 2
	near := ""
	if known := c.SuggestionsFor(name); len(known) > 0 {
		near = fmt.Sprintf(", did you mean %q", known[0])
	}
	return fmt.Errorf("%q is no command of %q%s: see %s --help", name, c.CommandPath(), near, c.CommandPath())
}

// jsonFlag lets a command print one JSON document.
func (p *program) jsonFlag(c *cobra.Command) *cobra.Command {
	c.Flags().BoolVar(&p.json, "json", false, "print one JSON document")
	return c
}

// print writes the JSON form with --json, else what people read.
func (p *program) print(document any, people func(w io.Writer)) error {
	if !p.json {
		people(p.stdout)
		return nil
	}
	e := json.NewEncoder(p.stdout)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(document)
}
