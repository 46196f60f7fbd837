package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"joingate/band"
	"joingate/config"
	"joingate/joinserver"
	"joingate/record"

	"github.com/spf13/cobra"
)

func (p *program) gatewayCommand() *cobra.Command {
	return group("gateway", "Register gateways", p.gatewayAdd(), p.gatewayImport(), p.gatewayRemove())
}

func (p *program) gatewayAdd() *cobra.Command {
	var account, plan string
	c := &cobra.Command{
		Use:     "add GWEUI",
		Short:   "Register a gateway with an account",
		Example: "  joingate gateway add 0016c001f1500a01 --account acme --band-plan-group 101",
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			eui, err := joinserver.ParseEUI64(args[0])
			if err != nil {
				return err
			}
			return p.withRecord(c.Context(), func(settings config.Config, r *record.Record) error {
				groups, err := bandGroups(settings)
				if err != nil {
					return err
				}
				g, err := findGroup(groups, plan)
				if err != nil {
					return err
				}
				err = r.Update(c.Context(), operator("gateway add"), func(tx *record.Tx) error {
					return addGateway(tx, eui, account, g.ID)
				})
				if err != nil {
					return err
				}
				done := map[string]any{"GwEui": eui, "Account": account, "FreqBandPlanGroupId": g.ID}
				return p.print(done, func(w io.Writer) { fmt.Fprintf(w, "gateway %s serves %q in %d %s\n", eui, account, g.ID, g.Name) })
			})
		},
	}
	c.Flags().StringVar(&account, "account", "", "`NAME` of the account that owns the gateway")
	c.Flags().StringVar(&plan, "band-plan-group", "", "`GROUP` of frequencies the gateway listens on, by number or name")
	_ = c.MarkFlagRequired("account")
	_ = c.MarkFlagRequired("band-plan-group")
	return p.jsonFlag(c)
}

// addGateway registers a gateway, or takes it out of the stock.
func addGateway(tx *record.Tx, eui joinserver.EUI64, name string, plan band.GroupID) error {
	account, err := accountNamed(tx, name)
	if err != nil {
		return err
	}
	g := record.NewGateway{EUI: eui, Account: account.ID, BandPlanGroup: plan, CreateMillis: time.Now().UnixMilli()}
	holder, err := tx.GatewayAccount(eui)
	switch {
	case errors.Is(err, joinserver.ErrNotFound):
		err = tx.InsertGateway(g)
	case err != nil:
	case holder == 0:
		err = tx.ClaimGateway(g)
	case holder == account.ID:
		err = fmt.Errorf("gateway %s is registered with %q already: joingate gateway remove %s first", eui, name, eui)
	default:
		err = fmt.Errorf("gateway %s belongs to another account (%s)", eui, holder)
	}
	if err != nil {
		return err
	}
	return tx.Audit(joinserver.Change{Entity: "gateway", ID: eui.String(), New: fmt.Sprintf(`{"account":%q,"band_plan_group":%d}`, name, plan)})
}

func (p *program) gatewayImport() *cobra.Command {
	return p.jsonFlag(&cobra.Command{
		Use:   "import FILE.csv",
		Short: "Put gateways with their PINs into stock, from which CreateGateway takes them",
		Long: `Put gateways with their PINs into stock, from which CreateGateway takes them.

The file has the header gw_eui,pin_code. All of it is imported or nothing.`,
		Example: "  joingate gateway import gateways.csv",
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			file, err := os.Open(args[0])
			if err != nil {
				return err
			}
			defer file.Close()
			list, err := readGateways(file)
			if err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
			return p.withRecord(c.Context(), func(_ config.Config, r *record.Record) error {
				if err := importGateways(c.Context(), r, list); err != nil {
					return fmt.Errorf("%s: %w", args[0], err)
				}
				return p.print(map[string]int{"imported": len(list)}, func(w io.Writer) { fmt.Fprintf(w, "%d gateways are in stock\n", len(list)) })
			})
		},
	})
}

// stockGateway is a line of a gateway file.
type stockGateway struct {
	line int
	record.NewGateway
}

func readGateways(from io.Reader) (list []stockGateway, err error) {
	t, err := newTable(from, []string{"gw_eui", "pin_code"}, nil)
	if err != nil {
		return nil, err
	}
	seen := make(map[joinserver.EUI64]int)
	for t.next() {
		g := stockGateway{line: t.line}
		g.EUI = cell(t, "gw_eui", joinserver.ParseEUI64)
		g.PinCode = cell(t, "pin_code", pinCode)
		t.unique(seen, "gw_eui", g.EUI)
		list = append(list, g)
	}
	return list, t.err()
}

func importGateways(ctx context.Context, r *record.Record, list []stockGateway) error {
	return r.Update(ctx, operator("gateway import"), func(tx *record.Tx) error {
		for _, g := range list {
			g.CreateMillis = time.Now().UnixMilli()
			err := tx.InsertGateway(g.NewGateway)
			if errors.Is(err, joinserver.ErrDuplicate) {
				return fmt.Errorf("line %d, column gw_eui: gateway %s is known already; nothing was imported", g.line, g.EUI)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

func (p *program) gatewayRemove() *cobra.Command {
	return p.jsonFlag(&cobra.Command{
		Use:     "remove GWEUI",
		Short:   "Forget a gateway",
		Example: "  joingate gateway remove 0016c001f1500a01",
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			eui, err := joinserver.ParseEUI64(args[0])
			if err != nil {
				return err
			}
			return p.change(c.Context(), "gateway remove", "gateway "+eui.String(), "is forgotten", func(tx *record.Tx) error {
				return tx.DeleteGateway(eui)
			})
		},
	})
}

// change runs an operator's change of one thing and says what it did.
func (p *program) change(ctx context.Context, action, thing, done string, fn func(*record.Tx) error) error {
	return p.withRecord(ctx, func(_ config.Config, r *record.Record) error {
		err := r.Update(ctx, operator(action), func(tx *record.Tx) error {
			if err := fn(tx); err != nil {
				return err
			}
			return tx.Audit(joinserver.Change{Entity: thing, New: fmt.Sprintf("%q", done)})
		})
		if errors.Is(err, joinserver.ErrNotFound) {
			return fmt.Errorf("%s is not registered", thing)
		}
		if err != nil {
			return err
		}
		return p.print(map[string]string{"done": thing + " " + done}, func(w io.Writer) { fmt.Fprintln(w, thing, done) })
	})
}
