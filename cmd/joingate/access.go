package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"joingate/config"
	"joingate/joinserver"
	"joingate/linkwan"
	"joingate/record"

	"github.com/spf13/cobra"
)

// This file holds what Link WAN's console did for accounts: activation, features,
// quotas, RAM users and AccessKeys, and who changed what.

func (p *program) accountSet() *cobra.Command {
	var wanted joinserver.Account
	var features string
	c := &cobra.Command{
		Use:   "set NAME",
		Short: "Change activation, features, risk control, roaming, quotas or instance of an account",
		Example: `  joingate account set acme --local-join-permission-limit 200
  joingate account set acme --risk-control=true
  joingate account set acme --features=` + strings.Join(linkwan.Features()[:2], ","),
		Args: cobra.ExactArgs(1),
	}
	f := c.Flags()
	f.BoolVar(&wanted.ProductActivated, "product-activated", true, "whether the account has Link WAN at all")
	f.StringVar(&features, "features", "", "`A,B`: the features it has, of "+strings.Join(linkwan.Features(), ","))
	f.BoolVar(&wanted.RiskControl, "risk-control", false, "refuse all its calls with ForbiddenByRiskControl")
	f.BoolVar(&wanted.RoamingGateways, "roaming-gateways", false, "whether ROAMING permissions may be served through its gateways")
	f.Int64Var(&wanted.LocalJoinPermissionLimit, "local-join-permission-limit", 0, "how many LOCAL join permissions it may own")
	f.Int64Var(&wanted.NodeLimit, "node-limit", 0, "how many nodes it may hold; 0: any number")
	f.Int64Var(&wanted.GatewayLimit, "gateway-limit", 0, "how many gateways it may hold; 0: any number")
	f.StringVar(&wanted.InstanceID, "instance-id", "", "`ID` that its calls must carry as IotInstanceId; empty: none")
	c.RunE = func(c *cobra.Command, args []string) (err error) {
		if wanted.Features, err = featuresOf(features); err != nil {
			return err
		}
		return p.change(c.Context(), "account set", "account "+args[0], "is changed", func(tx *record.Tx) error {
			account, err := accountNamed(tx, args[0])
			if err != nil {
				return err
			}
			if !setAccount(&account, wanted, f.Changed) {
				return errors.New("nothing to set: joingate account set --help shows what can be")
			}
			return tx.UpdateAccount(account)
		})
	}
	return p.jsonFlag(c)
}

// setAccount takes over what was given, and reports whether that was anything.
func setAccount(a *joinserver.Account, wanted joinserver.Account, given func(flag string) bool) (any bool) {
	for flag, set := range map[string]func(){
		"product-activated":           func() { a.ProductActivated = wanted.ProductActivated },
		"features":                    func() { a.Features = wanted.Features },
		"risk-control":                func() { a.RiskControl = wanted.RiskControl },
		"roaming-gateways":            func() { a.RoamingGateways = wanted.RoamingGateways },
		"local-join-permission-limit": func() { a.LocalJoinPermissionLimit = wanted.LocalJoinPermissionLimit },
		"node-limit":                  func() { a.NodeLimit = wanted.NodeLimit },
		"gateway-limit":               func() { a.GatewayLimit = wanted.GatewayLimit },
		"instance-id":                 func() { a.InstanceID = wanted.InstanceID },
	} {
		if given(flag) {
			set()
			any = true
		}
	}
	return any
}

// featuresOf reads a list of feature names.
func featuresOf(list string) (features []string, err error) {
	for _, name := range strings.FieldsFunc(list, func(c rune) bool { return c == ',' || c == ' ' }) {
		if !slices.Contains(linkwan.Features(), name) {
			return nil, fmt.Errorf("feature %q is unknown; there are %s", name, strings.Join(linkwan.Features(), ","))
		}
		features = append(features, name)
	}
	return features, nil
}

func (p *program) userCommand() *cobra.Command {
	var account, policyFile string
	create := &cobra.Command{
		Use:     "create USER",
		Short:   "Make a RAM user, who may do what a policy allows",
		Example: "  joingate user create reader --account acme --policy policy.json",
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			policy, err := os.ReadFile(policyFile)
			if err != nil {
				return err
			}
			if _, err := linkwan.ParsePolicy(string(policy)); err != nil {
				return fmt.Errorf("%s: %w", policyFile, err)
			}
			return p.change(c.Context(), "user create", "user "+args[0], "is made", func(tx *record.Tx) error {
				a, err := accountNamed(tx, account)
				if err != nil {
					return err
				}
				err = tx.InsertUser(joinserver.User{Account: a.ID, Name: args[0], Policy: string(policy)})
				if errors.Is(err, joinserver.ErrDuplicate) {
					return fmt.Errorf("account %q has a user %q: choose another name", account, args[0])
				}
				return err
			})
		},
	}
	create.Flags().StringVar(&account, "account", "", "`NAME` of the account")
	create.Flags().StringVar(&policyFile, "policy", "", "`FILE` with the policy document, JSON of Version 1")
	_ = create.MarkFlagRequired("account")
	_ = create.MarkFlagRequired("policy")
	return group("user", "Make RAM users of an account", p.jsonFlag(create))
}

func (p *program) accessKeyCommand() *cobra.Command {
	return group("accesskey", "Make and disable AccessKeys", p.accessKeyCreate(), p.accessKeyDisable())
}

func (p *program) accessKeyCreate() *cobra.Command {
	var account, user string
	c := &cobra.Command{
		Use:     "create",
		Short:   "Make an AccessKey of an account or of its user; the secret is shown this once",
		Example: "  joingate accesskey create --account acme\n  joingate accesskey create --account acme --user reader --json",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return p.withRecord(c.Context(), func(_ config.Config, r *record.Record) error {
				var key joinserver.AccessKey
				err := r.Update(c.Context(), operator("accesskey create"), func(tx *record.Tx) (err error) {
					key, err = createAccessKey(tx, account, user)
					return err
				})
				if err != nil {
					return err
				}
				made := map[string]string{"AccessKeyId": key.ID, "AccessKeySecret": key.Secret.Reveal()}
				return p.print(made, func(w io.Writer) {
					fmt.Fprintf(w, "AccessKeyId      %s\nAccessKeySecret  %s\n\nThe secret is not shown again.\n", key.ID, key.Secret.Reveal())
				})
			})
		},
	}
	c.Flags().StringVar(&account, "account", "", "`NAME` of the account")
	c.Flags().StringVar(&user, "user", "", "`USER` whose key it is (default: the account itself)")
	_ = c.MarkFlagRequired("account")
	return p.jsonFlag(c)
}

func createAccessKey(tx *record.Tx, name, user string) (joinserver.AccessKey, error) {
	account, err := accountNamed(tx, name)
	if err != nil {
		return joinserver.AccessKey{}, err
	}
	if user != "" {
		if _, err := tx.User(account.ID, user); errors.Is(err, joinserver.ErrNotFound) {
			return joinserver.AccessKey{}, fmt.Errorf("account %q has no user %q: joingate user create makes one", name, user)
		} else if err != nil {
			return joinserver.AccessKey{}, err
		}
	}
	key := newAccessKey(account.ID)
	key.User = user
	if err := tx.InsertAccessKey(key); err != nil {
		return key, err
	}
	return key, tx.Audit(joinserver.Change{Entity: "access key", ID: key.ID, New: strconv.Quote(user)})
}

func (p *program) accessKeyDisable() *cobra.Command {
	return p.jsonFlag(&cobra.Command{
		Use:     "disable ACCESSKEYID",
		Short:   "Disable an AccessKey: its calls are refused from now on",
		Example: "  joingate accesskey disable LTAI3Z5DFGAE7Q2QOJKJGKAM",
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return p.change(c.Context(), "accesskey disable", "AccessKey "+args[0], "is disabled", func(tx *record.Tx) error {
				return tx.SetAccessKeyEnabled(args[0], false)
			})
		},
	})
}

// auditRow is a write in JSON.
type auditRow struct {
	At          time.Time
	RequestID   string `json:"RequestId,omitempty"`
	Action      string
	AccountID   string `json:"AccountId,omitempty"`
	User        string `json:",omitempty"`
	AccessKeyID string `json:"AccessKeyId,omitempty"`
	From        string
	Changes     []auditChange
}

// auditChange is one row's change; Old and New are absent where there was, or is,
// no row.
type auditChange struct {
	Entity string
	ID     string          `json:"Id,omitempty"`
	Old    json.RawMessage `json:",omitempty"`
	New    json.RawMessage `json:",omitempty"`
}

func (p *program) auditCommand() *cobra.Command {
	var account string
	var since time.Duration
	c := &cobra.Command{
		Use:     "audit",
		Short:   "Show who changed what, oldest first",
		Example: "  joingate audit --since 24h\n  joingate audit --account acme --json",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return p.withRecord(c.Context(), func(_ config.Config, r *record.Record) error {
				rows := []auditRow{}
				err := r.View(c.Context(), func(tx *record.Tx) (err error) {
					rows, err = auditRows(tx, account, since)
					return err
				})
				if err != nil {
					return err
				}
				return p.print(rows, func(w io.Writer) { printAudit(w, rows) })
			})
		},
	}
	c.Flags().StringVar(&account, "account", "", "`NAME` of the account (default: all, and operators)")
	c.Flags().DurationVar(&since, "since", 0, "how far back, such as 24h (default: all)")
	return p.jsonFlag(c)
}

func auditRows(tx *record.Tx, name string, since time.Duration) ([]auditRow, error) {
	var account joinserver.AccountID
	if name != "" {
		a, err := accountNamed(tx, name)
		if err != nil {
			return nil, err
		}
		account = a.ID
	}
	var from time.Time
	if since > 0 {
		from = time.Now().Add(-since)
	}
	rows := []auditRow{}
	err := tx.EachAudit(account, from, func(line record.AuditLine) error {
		row := auditRow{
			At: line.At.UTC(), RequestID: line.RequestID, Action: line.Action, User: line.User, AccessKeyID: line.AccessKeyID, From: line.From,
		}
		if line.Account != 0 {
			row.AccountID = line.Account.String()
		}
		for _, c := range line.Changes {
			row.Changes = append(row.Changes, auditChange{c.Entity, c.ID, asJSON(c.Old), asJSON(c.New)})
		}
		rows = append(rows, row)
		return nil
	})
	return rows, err
}

func asJSON(text string) json.RawMessage {
	if text == "" {
		return nil
	}
	if json.Valid([]byte(text)) {
		return json.RawMessage(text)
	}
	return json.RawMessage(strconv.Quote(text))
}

func printAudit(w io.Writer, rows []auditRow) {
	for _, r := range rows {
		fmt.Fprintf(w, "%s  %s  by %s from %s  %s\n", r.At.Format(time.RFC3339), r.Action, strings.TrimSpace(r.AccountID+" "+r.User), r.From, r.RequestID)
		for _, c := range r.Changes {
			fmt.Fprintf(w, "    %s %s: %s -> %s\n", c.Entity, c.ID, orNone(string(c.Old)), orNone(string(c.New)))
		}
	}
}
