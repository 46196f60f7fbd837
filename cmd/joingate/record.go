package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"joingate/config"
	"joingate/record"

	"github.com/spf13/cobra"
)

func (p *program) recordCommand() *cobra.Command {
	copying := p.jsonFlag(&cobra.Command{
		Use:   "copy FROM TO",
		Short: "Move an installation to another database, and compare every row",
		Long: `Move an installation to another database, and compare every row. FROM and TO are
written as in [record] url: sqlite:FILE or postgres://USER@HOST/DATABASE; user,
password and key file come from the configuration. Stop joingate first. A copy
that was broken off goes on where it was when it is started again.`,
		Example: "  joingate record copy sqlite:joingate.db postgres://joingate@db.example/joingate --config joingate.toml",
		Args:    cobra.ExactArgs(2),
		RunE:    func(c *cobra.Command, args []string) error { return p.copyRecord(c.Context(), args[0], args[1]) },
	})
	return group("record", "Look after the database", p.recordBackup(), p.recordRestore(), p.recordCheck(), p.recordDropSink(), copying)
}

func (p *program) copyRecord(ctx context.Context, fromURL, toURL string) error {
	if fromURL == toURL {
		return errors.New("FROM and TO are the same database")
	}
	c, err := p.loadConfig()
	if err != nil {
		return err
	}
	from, err := openRecordAt(ctx, c, fromURL)
	if err != nil {
		return fmt.Errorf("FROM: %w", err)
	}
	to, err := openRecordAt(ctx, c, toURL)
	if err != nil {
		return errors.Join(fmt.Errorf("TO: %w", err), from.Close())
	}
	rows := make(map[string]int64)
	err = record.Copy(ctx, from, to, func(table string, n int64) { rows[table] = n })
	if err := errors.Join(err, to.Close(), from.Close()); err != nil {
		return err
	}
	return p.print(rows, func(w io.Writer) {
		total := int64(0)
		for _, n := range rows {
			total += n
		}
		fmt.Fprintf(w, "%d rows are equal in both\n", total)
	})
}

// openRecordAt opens the record at a URL, with the rest of the configuration.
func openRecordAt(ctx context.Context, c config.Config, url string) (*record.Record, error) {
	c.Record.URL = url
	if err := c.Validate(); err != nil {
		return nil, err
	}
	return openRecord(ctx, c, nil)
}
