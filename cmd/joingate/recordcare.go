package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"text/tabwriter"

	"joingate/config"
	"joingate/record"

	"github.com/spf13/cobra"
)

func (p *program) recordBackup() *cobra.Command {
	return p.jsonFlag(&cobra.Command{
		Use:   "backup FILE",
		Short: "Write the record as it is at this moment to a new SQLite file, while joins go on",
		Long: `Write the record as it is at this moment to a new SQLite file, while joins go on,
also from PostgreSQL. Root keys in it are sealed: it is worth nothing without the
key file, and whoever has both has the fleet, so keep them apart.`,
		Example: "  joingate record backup /backup/joingate-2026-11-21.db",
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return p.withRecord(c.Context(), func(_ config.Config, r *record.Record) error {
				if err := r.Backup(c.Context(), args[0]); err != nil {
					return err
				}
				return p.print(map[string]string{"file": args[0]}, func(w io.Writer) { fmt.Fprintf(w, "%s is written and was verified\n", args[0]) })
			})
		},
	})
}

func (p *program) recordRestore() *cobra.Command {
	var jump uint32
	var events string
	c := &cobra.Command{
		Use:   "restore FILE",
		Short: "Make the record of the configuration from a backup",
		Long: `Make the record of the configuration from a backup. There must be no record yet:
nothing is overwritten. Devices have joined since the backup, so every JoinNonce is
raised by --jump beyond what can have been used: a DevNonce that somebody replays
never brings old session keys back. With --events, a file of join events (one JSON
document in each line, as they came over MQTT), DevNonces since the backup are
known too. Without it, an old join-request that was sent after the backup can be
replayed once: it costs the device a join, and no key.`,
		Example: "  joingate record restore /backup/joingate-2026-11-21.db --events joins.jsonl",
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return p.restoreRecord(c.Context(), args[0], events, jump)
		},
	}
	c.Flags().Uint32Var(&jump, "jump", record.DefaultJump, "by how much each JoinNonce is raised, 1 or more")
	c.Flags().StringVar(&events, "events", "", "`FILE` with join events since the backup")
	return p.jsonFlag(c)
}

func (p *program) restoreRecord(ctx context.Context, backup, events string, jump uint32) (err error) {
	if jump == 0 {
		return errors.New("--jump is 0: JoinNonces that were used since the backup would come again, and the session keys with them")
	}
	c, err := p.loadConfig()
	if err != nil {
		return err
	}
	o := record.Restoration{Backup: backup, Jump: jump}
	if o.To, err = recordOptions(c); err != nil {
		return err
	}
	if events != "" {
		file, err := os.Open(events)
		if err != nil {
			return fmt.Errorf("--events: %w", err)
		}
		defer file.Close()
		o.Events = file
	}
	done, err := record.Restore(ctx, o)
	if err != nil {
		return err
	}
	return p.print(done, func(w io.Writer) {
		fmt.Fprintf(w, "%s is restored: JoinNonces of %d devices are raised by %d, %d join events are taken over\n", recordPlace(c), done.Devices, jump, done.Events)
		if done.Exhausted > 0 {
			fmt.Fprintf(w, "%d devices have no JoinNonce left: give them a new DevEUI and key\n", done.Exhausted)
		}
		if done.Unreadable > 0 {
			fmt.Fprintf(w, "%d lines of %s are no join event\n", done.Unreadable, events)
		}
		printRecordFindings(w, done.Findings)
	})
}

func (p *program) recordCheck() *cobra.Command {
	return p.jsonFlag(&cobra.Command{
		Use:     "check",
		Short:   "Look through the whole record and name what should not be; exit status 1 if there is anything",
		Example: "  joingate record check --config /etc/joingate/joingate.toml",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return p.withRecord(c.Context(), func(_ config.Config, r *record.Record) error {
				findings, err := r.Check(c.Context())
				if err != nil {
					return err
				}
				if err := p.print(append([]record.Finding{}, findings...), func(w io.Writer) { printRecordFindings(w, findings) }); err != nil {
					return err
				}
				if len(findings) > 0 {
					return fmt.Errorf("%d findings", len(findings))
				}
				return nil
			})
		},
	})
}

func (p *program) recordDropSink() *cobra.Command {
	return p.jsonFlag(&cobra.Command{
		Use:     "drop-sink SINK",
		Short:   "Forget the join events that wait for a sink which is not used any more",
		Example: "  joingate record drop-sink webhook",
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return p.withRecord(c.Context(), func(_ config.Config, r *record.Record) error {
				dropped, err := r.DropSink(c.Context(), operator("record drop-sink"), args[0])
				if err != nil {
					return err
				}
				return p.print(map[string]int64{"dropped": dropped}, func(w io.Writer) { fmt.Fprintf(w, "%d join events for %s are forgotten\n", dropped, args[0]) })
			})
		},
	})
}

func printRecordFindings(w io.Writer, findings []record.Finding) {
	for _, f := range findings {
		fmt.Fprintln(w, f)
	}
	if len(findings) == 0 {
		fmt.Fprintln(w, "nothing is wrong on record")
	}
}

func (p *program) nodeNonces() *cobra.Command {
	var share float64
	var limit int
	c := &cobra.Command{
		Use:     "nonces",
		Short:   "List devices that have used up most of their DevNonces or JoinNonces",
		Example: "  joingate node nonces --share 0.8",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return p.withRecord(c.Context(), func(_ config.Config, r *record.Record) error {
				list, err := r.NearExhaustion(c.Context(), share, limit)
				if err != nil {
					return err
				}
				return p.print(append([]record.Exhaustion{}, list...), func(w io.Writer) { printExhaustion(w, list) })
			})
		},
	}
	c.Flags().Float64Var(&share, "share", nearExhaustion, "least share that is used, 0 to 1")
	c.Flags().IntVar(&limit, "limit", 1000, "most devices to list")
	return p.jsonFlag(c)
}

func printExhaustion(w io.Writer, list []record.Exhaustion) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "DEVEUI\tCOUNTER\tUSED\tOF")
	for _, e := range list {
		fmt.Fprintf(t, "%s\t%s\t%d\t%d\n", e.DevEUI, e.Counter, e.Used, e.Of)
	}
	_ = t.Flush()
}
