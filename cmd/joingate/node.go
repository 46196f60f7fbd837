package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"

	"joingate/band"
	"joingate/config"
	"joingate/joinserver"
	"joingate/record"

	"github.com/spf13/cobra"
)

func (p *program) nodeCommand() *cobra.Command {
	return group("node", "Register devices and look after them", p.nodeImport(), p.nodeExport(), p.nodeResetNonces(), p.nodeNonces(), p.nodeRemove(), p.nodeSet())
}

func (p *program) nodeImport() *cobra.Command {
	var account string
	c := &cobra.Command{
		Use:   "import FILE.csv",
		Short: "Register the devices of a file with an account, or put them into stock",
		Long: `Register the devices of a file with an account, or, without --account, put them
into stock, from which AddNodeToGroup claims them by PIN.

The file has the header dev_eui,app_key[,nwk_key][,pin_code][,mac_version][,group]
in any order: 1.0.x devices have an app_key, 1.1 devices both keys; group is the
name of a node group of the account. All of it is imported or nothing; joins go
on meanwhile.`,
		Example: "  joingate node import meters.csv --account acme\n  joingate node import stock.csv",
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			list, err := readNodeFile(args[0])
			if err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
			return p.withRecord(c.Context(), func(_ config.Config, r *record.Record) error {
				if err := p.importNodes(c.Context(), r, account, list); err != nil {
					return fmt.Errorf("%s: %w", args[0], err)
				}
				return p.print(map[string]int{"imported": len(list)}, func(w io.Writer) { fmt.Fprintf(w, "%d nodes are imported\n", len(list)) })
			})
		},
	}
	c.Flags().StringVar(&account, "account", "", "`NAME` of the account that the devices belong to")
	return p.jsonFlag(c)
}

func readNodeFile(path string) ([]fileNode, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return readNodes(file)
}

// importNodes checks the whole list against the record, then imports it.
func (p *program) importNodes(ctx context.Context, r *record.Record, account string, list []fileNode) error {
	err := r.View(ctx, func(tx *record.Tx) error { return checkNodes(tx, account, list) })
	if err != nil {
		return err
	}
	nodes := make([]record.NewNode, len(list))
	lines := make(map[joinserver.EUI64]int, len(list))
	for i, n := range list {
		nodes[i], lines[n.DevEUI] = n.NewNode, n.line
	}
	err = r.ImportNodes(ctx, operator("node import"), nodes, p.progress("staged", len(nodes)))
	var known *record.KnownNodeError
	if errors.As(err, &known) {
		return fmt.Errorf("line %d, column dev_eui: %s is registered already; nothing was imported", lines[known.DevEUI], known.DevEUI)
	}
	return err
}

// checkNodes resolves account and groups and refuses known devices.
func checkNodes(tx *record.Tx, name string, list []fileNode) error {
	var account joinserver.Account
	groups := make(map[string]int64)
	if name != "" {
		var err error
		if account, err = accountNamed(tx, name); err != nil {
			return err
		}
		all, _, err := tx.Groups(joinserver.GroupFilter{Account: account.ID, Page: joinserver.Page{Limit: joinserver.NoLimit}})
		if err != nil {
			return err
		}
		for _, g := range all {
			groups[g.Name] = g.ID
		}
	}
	t := table{}
	for i := range list {
		n := &list[i]
		t.line, n.Account = n.line, account.ID
		var ok bool
		if n.GroupID, ok = groups[n.group]; !ok && n.group != "" && name == "" {
			t.mistake("group", "%s", errNoGroupWithoutAccount)
		} else if !ok && n.group != "" {
			t.mistake("group", "account %q has no node group %q", name, n.group)
		}
		known, err := tx.HasNode(n.DevEUI)
		if err != nil {
			return err
		}
		if known {
			t.mistake("dev_eui", "%s is registered already", n.DevEUI)
		}
	}
	return t.err()
}

// progress shows long work on stderr when that is a terminal.
func (p *program) progress(what string, total int) func(done int) {
	file, ok := p.stderr.(*os.File)
	if !ok {
		return func(int) {}
	}
	if info, err := file.Stat(); err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return func(int) {}
	}
	return func(done int) {
		fmt.Fprintf(file, "\r%s %d of %d", what, done, total)
		if done == total {
			fmt.Fprintln(file)
		}
	}
}

func (p *program) nodeExport() *cobra.Command {
	var account string
	var withKeys bool
	c := &cobra.Command{
		Use:   "export",
		Short: "Write the devices as a file that node import reads, without their keys",
		Example: `  joingate node export --account acme > nodes.csv
  joingate node export --with-keys > escrow.csv     root keys in clear: the audit tells who did it`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return p.withRecord(c.Context(), func(_ config.Config, r *record.Record) error {
				if withKeys {
					if err := auditExport(c.Context(), r, account); err != nil {
						return err
					}
				}
				return r.View(c.Context(), func(tx *record.Tx) error { return p.exportNodes(tx, account, withKeys) })
			})
		},
	}
	c.Flags().StringVar(&account, "account", "", "`NAME` of the account (default: all devices, also those in stock)")
	c.Flags().BoolVar(&withKeys, "with-keys", false, "write the root keys too; leaves a line in the audit")
	return p.jsonFlag(c)
}

// auditExport leaves its line before the first key is written.
func auditExport(ctx context.Context, r *record.Record, account string) error {
	return r.Update(ctx, operator("node export --with-keys"), func(tx *record.Tx) error {
		return tx.Audit(joinserver.Change{Entity: "root keys", ID: account, New: `"written in clear"`})
	})
}

// exportedNode is a node in JSON.
type exportedNode struct {
	DevEUI     joinserver.EUI64 `json:"dev_eui"`
	AppKey     string           `json:"app_key,omitempty"`
	NwkKey     string           `json:"nwk_key,omitempty"`
	PinCode    string           `json:"pin_code,omitempty"`
	MACVersion string           `json:"mac_version"`
	Group      string           `json:"group"`
}

func (p *program) exportNodes(tx *record.Tx, name string, withKeys bool) error {
	var id joinserver.AccountID
	if name != "" {
		account, err := accountNamed(tx, name)
		if err != nil {
			return err
		}
		id = account.ID
	}
	if p.json {
		return p.exportJSON(tx, id, withKeys)
	}
	w, err := newNodeWriter(p.stdout, withKeys)
	if err != nil {
		return err
	}
	if err := tx.EachNode(id, withKeys, w.write); err != nil {
		return err
	}
	return w.end()
}

func (p *program) exportJSON(tx *record.Tx, account joinserver.AccountID, withKeys bool) error {
	all := []exportedNode{}
	err := tx.EachNode(account, withKeys, func(n record.Node) error {
		e := exportedNode{DevEUI: n.DevEUI, MACVersion: n.MACVersion.String(), Group: n.Group}
		if withKeys {
			e.AppKey, e.NwkKey, e.PinCode = n.Keys.App.RevealHex(), n.Keys.Nwk.RevealHex(), n.PinCode
		}
		all = append(all, e)
		return nil
	})
	if err != nil {
		return err
	}
	return p.print(all, nil)
}

// forDevice is a command whose argument is a DevEUI.
func (p *program) forDevice(use, short, example string, run func(ctx context.Context, device joinserver.EUI64) error) *cobra.Command {
	return p.jsonFlag(&cobra.Command{
		Use: use, Short: short, Example: example, Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			device, err := joinserver.ParseEUI64(args[0])
			if err != nil {
				return err
			}
			return run(c.Context(), device)
		},
	})
}

func (p *program) nodeResetNonces() *cobra.Command {
	var permission int64
	c := &cobra.Command{
		Use:     "reset-nonces DEVEUI",
		Short:   "Forget DevNonces, so that devices may use them again; their JoinNonce goes on",
		Example: "  joingate node reset-nonces 004a770066fffe01\n  joingate node reset-nonces --join-permission 1003     all devices that join by it",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if (len(args) == 1) == (permission != 0) {
				return errors.New("whose DevNonces? Give a DEVEUI or --join-permission")
			}
			if permission != 0 {
				return p.resetNoncesOfPermission(c.Context(), permission)
			}
			device, err := joinserver.ParseEUI64(args[0])
			if err != nil {
				return err
			}
			return p.change(c.Context(), "node reset-nonces", "node "+device.String(), "may use its DevNonces again", func(tx *record.Tx) error {
				return tx.ResetNonces(device)
			})
		},
	}
	c.Flags().Int64Var(&permission, "join-permission", 0, "`ID` of a join permission: all devices that join by it")
	return p.jsonFlag(c)
}

func (p *program) resetNoncesOfPermission(ctx context.Context, permission int64) error {
	return p.withRecord(ctx, func(_ config.Config, r *record.Record) error {
		var devices int64
		err := r.Update(ctx, operator("node reset-nonces"), func(tx *record.Tx) (err error) {
			if devices, err = tx.ResetNoncesOfPermission(permission); err != nil {
				return err
			}
			return tx.Audit(joinserver.Change{Entity: "DevNonces of join permission", ID: strconv.FormatInt(permission, 10), New: `"forgotten"`})
		})
		if errors.Is(err, joinserver.ErrNotFound) {
			return fmt.Errorf("join permission %d does not exist", permission)
		}
		if err != nil {
			return err
		}
		return p.print(map[string]int64{"devices": devices}, func(w io.Writer) { fmt.Fprintf(w, "%d devices may use their DevNonces again\n", devices) })
	})
}

func (p *program) nodeRemove() *cobra.Command {
	return p.forDevice("remove DEVEUI", "Forget a device; its nonces are kept for when it is imported again",
		"  joingate node remove 004a770066fffe01",
		func(ctx context.Context, device joinserver.EUI64) error {
			return p.change(ctx, "node remove", "node "+device.String(), "is forgotten", func(tx *record.Tx) error {
				return tx.DeleteNode(device)
			})
		})
}

func (p *program) nodeSet() *cobra.Command {
	var mac, enabled string
	c := p.forDevice("set DEVEUI", "Change a device's LoRaWAN version or enabling state",
		"  joingate node set 004a770066fffe01 --mac-version 1.0.4\n  joingate node set 004a770066fffe01 --enabled=false",
		func(ctx context.Context, device joinserver.EUI64) error { return p.setNode(ctx, device, mac, enabled) })
	c.Flags().StringVar(&mac, "mac-version", "", "LoRaWAN `VERSION`: 1.0.0 to 1.0.4, or 1.1")
	c.Flags().StringVar(&enabled, "enabled", "", "`true` or false")
	return c
}

func (p *program) setNode(ctx context.Context, device joinserver.EUI64, mac, enabled string) error {
	var version *joinserver.MACVersion
	var on *bool
	if mac != "" {
		v, err := band.ParseMACVersion(mac)
		if err != nil {
			return err
		}
		version = &v
	}
	if enabled != "" {
		b, err := strconv.ParseBool(enabled)
		if err != nil {
			return fmt.Errorf("--enabled=%s is neither true nor false", enabled)
		}
		on = &b
	}
	if version == nil && on == nil {
		return errors.New("nothing to set: give --mac-version or --enabled")
	}
	return p.change(ctx, "node set", "node "+device.String(), "is changed", func(tx *record.Tx) error {
		return tx.SetNode(device, version, on)
	})
}
