package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"text/tabwriter"
	"time"

	"joingate/config"
	"joingate/joinserver"
	"joingate/record"

	"github.com/spf13/cobra"
)

func (p *program) sessionCommand() *cobra.Command {
	return group("session", "Look at the sessions that joins have opened, confirm and revoke them",
		p.sessionList(), p.sessionConfirm(), p.sessionRevoke())
}

// sessionRow is a session in JSON. It holds no keys.
type sessionRow struct {
	DevEUI     joinserver.EUI64     `json:"devEui"`
	JoinEUI    joinserver.EUI64     `json:"joinEui"`
	JoinNonce  uint32               `json:"joinNonce"`
	DevNonce   uint16               `json:"devNonce"`
	DevAddr    joinserver.DevAddr   `json:"devAddr"`
	NetID      string               `json:"netId"`
	MACVersion string               `json:"macVersion"`
	Account    joinserver.AccountID `json:"accountId,string"`
	Permission int64                `json:"joinPermissionId,string"`
	ClassMode  string               `json:"classMode"`
	RxDelay    int                  `json:"rxDelay"` // seconds
	DataRate   byte                 `json:"dataRate"`
	Joined     time.Time            `json:"joined"`
	Confirmed  bool                 `json:"confirmed"`
	Live       bool                 `json:"live"`
}

func sessionRows(list []joinserver.Session) []sessionRow {
	rows := make([]sessionRow, 0, len(list))
	for _, s := range list {
		rows = append(rows, sessionRow{
			s.DevEUI, s.JoinEUI, s.JoinNonce, s.DevNonce, s.DevAddr, s.NetID.String(), s.MACVersion.String(), s.Account, s.PermissionID,
			s.ClassMode, int(s.RxDelay / time.Second), s.DLSettings & 0x0f, s.Joined.UTC(), s.Confirmed, s.Live,
		})
	}
	return rows
}

func (p *program) sessionList() *cobra.Command {
	var devEUI, devAddr, account string
	filter := record.SessionFilter{Page: joinserver.Page{Limit: 1000}}
	c := &cobra.Command{
		Use:   "list",
		Short: "List the sessions that are live",
		Long: `List the sessions that are live: of each device the newest and, until that one is
confirmed, the one before it. No keys are shown: they follow from the root keys
and are not on record.`,
		Example: "  joingate session list --account acme\n  joingate session list --dev-eui 004a770066fffe01\n  joingate session list --dev-addr 00000a1b --json",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := readSessionFilter(&filter, devEUI, devAddr); err != nil {
				return err
			}
			return p.listSessions(c.Context(), filter, account)
		},
	}
	f := c.Flags()
	f.StringVar(&devEUI, "dev-eui", "", "those of one device")
	f.StringVar(&devAddr, "dev-addr", "", "those that have this DevAddr")
	f.StringVar(&account, "account", "", "those of an account's devices")
	f.BoolVar(&filter.Ended, "ended", false, "also those that are over but still on record")
	f.Int64Var(&filter.Limit, "limit", filter.Limit, "most sessions to list")
	f.Int64Var(&filter.Offset, "offset", 0, "sessions to leave out")
	return p.jsonFlag(c)
}

func readSessionFilter(f *record.SessionFilter, devEUI, devAddr string) error {
	if devEUI != "" {
		device, err := joinserver.ParseEUI64(devEUI)
		if err != nil {
			return fmt.Errorf("--dev-eui: %w", err)
		}
		f.DevEUI = &device
	}
	if devAddr != "" {
		addr, err := joinserver.ParseDevAddr(devAddr)
		if err != nil {
			return fmt.Errorf("--dev-addr: %w", err)
		}
		f.DevAddr = &addr
	}
	return nil
}

func (p *program) listSessions(ctx context.Context, filter record.SessionFilter, account string) error {
	var list []joinserver.Session
	var total int64
	err := p.withRecord(ctx, func(_ config.Config, r *record.Record) error {
		return r.View(ctx, func(tx *record.Tx) (err error) {
			if account != "" {
				a, err := accountNamed(tx, account)
				if err != nil {
					return err
				}
				filter.Account = a.ID
			}
			list, total, err = tx.SessionsOf(filter)
			return err
		})
	})
	if err != nil {
		return err
	}
	return p.print(sessionRows(list), func(w io.Writer) { printSessions(w, list, total) })
}

func printSessions(w io.Writer, list []joinserver.Session, total int64) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "DEVEUI\tDEVADDR\tJOINNONCE\tJOINED\tVERSION\tSTATE")
	for _, s := range list {
		fmt.Fprintf(t, "%s\t%s\t%d\t%s\t%s\t%s\n", s.DevEUI, s.DevAddr, s.JoinNonce, s.Joined.UTC().Format(time.RFC3339), s.MACVersion, sessionState(s))
	}
	_ = t.Flush()
	if int64(len(list)) < total {
		fmt.Fprintf(w, "%d of %d: --limit and --offset show more\n", len(list), total)
	}
}

func sessionState(s joinserver.Session) string {
	switch {
	case !s.Live:
		return "ended"
	case s.Confirmed:
		return "confirmed"
	}
	return "live"
}

func (p *program) sessionConfirm() *cobra.Command {
	return p.jsonFlag(&cobra.Command{
		Use:   "confirm DEVEUI JOINNONCE",
		Short: "Say that a device uses its newest session, so that the one before it ends",
		Long: `Say that a device uses its newest session, so that the one before it ends and its
DevAddr is free again. Network servers say so themselves: with the API action
ConfirmNodeSession, or by asking for the session's keys (TS002).`,
		Example: "  joingate session confirm 004a770066fffe01 12",
		Args:    cobra.ExactArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			device, joinNonce, err := sessionNamed(args)
			if err != nil {
				return err
			}
			return p.change(c.Context(), "session confirm", "session "+args[1]+" of "+args[0], "is confirmed", func(tx *record.Tx) error {
				return noSuchSession(tx.Confirm(device, joinNonce), args)
			})
		},
	})
}

func (p *program) sessionRevoke() *cobra.Command {
	return p.jsonFlag(&cobra.Command{
		Use:   "revoke DEVEUI [JOINNONCE]",
		Short: "End a session, or all sessions of a device",
		Long: `End a session, or all sessions of a device. Its DevAddr is free again and its keys
are given to nobody any more; the network server has to be told to forget it. The
device may join again: disable it with joingate node set if it may not.`,
		Example: "  joingate session revoke 004a770066fffe01",
		Args:    cobra.RangeArgs(1, 2),
		RunE: func(c *cobra.Command, args []string) error {
			device, joinNonce, err := sessionNamed(args)
			if err != nil {
				return err
			}
			return p.change(c.Context(), "session revoke", "session of "+args[0], "is revoked", func(tx *record.Tx) error {
				return noSuchSession(tx.Revoke(device, joinNonce), args)
			})
		},
	})
}

// sessionNamed reads DEVEUI and JOINNONCE; 0 where that is not given.
func sessionNamed(args []string) (device joinserver.EUI64, joinNonce uint32, err error) {
	if device, err = joinserver.ParseEUI64(args[0]); err != nil || len(args) == 1 {
		return device, 0, err
	}
	n, err := strconv.ParseUint(args[1], 10, 24)
	if err != nil || n == 0 {
		return device, 0, fmt.Errorf("JoinNonce %q is not 1 to %d", args[1], joinserver.MaxJoinNonce)
	}
	return device, uint32(n), nil
}

func noSuchSession(err error, args []string) error {
	if errors.Is(err, joinserver.ErrNotFound) {
		return fmt.Errorf("there is no such live session: joingate session list --dev-eui %s shows those there are", args[0])
	}
	return err
}
