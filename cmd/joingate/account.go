package main

import (
	"crypto/rand"
	"encoding/base32"
	"errors"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"strings"
	"text/tabwriter"
	"time"

	"joingate/config"
	"joingate/joinserver"
	"joingate/keyring"
	"joingate/linkwan"
	"joingate/record"

	"github.com/spf13/cobra"
)

func (p *program) accountCommand() *cobra.Command {
	return group("account", "Make, list and change the accounts of the admin API", p.accountCreate(), p.accountList(), p.accountSet(), p.accountKEK())
}

// credentials is what account create shows, once.
type credentials struct {
	AccountID       string `json:"AccountId"`
	AccessKeyID     string `json:"AccessKeyId"`
	AccessKeySecret string
}

func (p *program) accountCreate() *cobra.Command {
	var instanceID string
	c := &cobra.Command{
		Use:     "create NAME",
		Short:   "Make an account and its AccessKey; the secret is shown this once",
		Example: "  joingate account create acme\n  joingate account create acme --instance-id iot-0aba1 --json",
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return p.withRecord(c.Context(), func(_ config.Config, r *record.Record) error {
				var made credentials
				err := r.Update(c.Context(), operator("account create"), func(tx *record.Tx) (err error) {
					made, err = createAccount(tx, args[0], instanceID)
					return err
				})
				if err != nil {
					return err
				}
				return p.print(made, func(w io.Writer) {
					fmt.Fprintf(w, "AccountId        %s\nAccessKeyId      %s\nAccessKeySecret  %s\n\nThe secret is not shown again.\n",
						made.AccountID, made.AccessKeyID, made.AccessKeySecret)
				})
			})
		},
	}
	c.Flags().StringVar(&instanceID, "instance-id", "", "IotInstanceId `ID` that the account's calls must carry")
	return p.jsonFlag(c)
}

// createAccount makes an account with all features and one AccessKey of its own.
func createAccount(tx *record.Tx, name, instanceID string) (credentials, error) {
	if strings.TrimSpace(name) == "" {
		return credentials{}, errors.New("an account needs a name")
	}
	if _, err := tx.AccountByName(name); err == nil {
		return credentials{}, fmt.Errorf("account %q exists: choose another name", name)
	} else if !errors.Is(err, joinserver.ErrNotFound) {
		return credentials{}, err
	}
	account := linkwan.NewAccount(name, instanceID, time.Now())
	account.ID = joinserver.AccountID(1_000_000_000_000_000 + mathrand.Int64N(9_000_000_000_000_000)) // 16 digits, as Alibaba's
	if err := tx.InsertAccount(account); err != nil {
		return credentials{}, fmt.Errorf("make account %q: %w", name, err)
	}
	key := newAccessKey(account.ID)
	if err := tx.InsertAccessKey(key); err != nil {
		return credentials{}, fmt.Errorf("make AccessKey of %q: %w", name, err)
	}
	err := tx.Audit(joinserver.Change{Entity: "account", ID: account.ID.String(), New: fmt.Sprintf("%q", name)})
	return credentials{account.ID.String(), key.ID, key.Secret.Reveal()}, err
}

// newAccessKey draws an AccessKey of the form that Alibaba's have.
func newAccessKey(account joinserver.AccountID) joinserver.AccessKey {
	return joinserver.AccessKey{ID: "LTAI" + randomText(20), Account: account, Secret: keyring.NewSecret(randomText(30)), Enabled: true}
}

// randomText draws n letters and digits, five random bits each.
func randomText(n int) string {
	octets := make([]byte, (n*5+7)/8)
	_, _ = rand.Read(octets) // never fails
	return base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(octets)[:n]
}

func (p *program) accountList() *cobra.Command {
	return p.jsonFlag(&cobra.Command{
		Use:     "list",
		Short:   "List the accounts",
		Example: "  joingate account list --json",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return p.withRecord(c.Context(), func(_ config.Config, r *record.Record) error {
				var list []joinserver.Account
				err := r.View(c.Context(), func(tx *record.Tx) (err error) {
					list, err = tx.Accounts()
					return err
				})
				if err != nil {
					return err
				}
				return p.print(accountRows(list), func(w io.Writer) { printAccounts(w, list) })
			})
		},
	})
}

// accountRow is an account in JSON.
type accountRow struct {
	AccountID  string `json:"AccountId"`
	Name       string
	InstanceID string `json:"InstanceId"`
}

func accountRows(list []joinserver.Account) []accountRow {
	rows := make([]accountRow, 0, len(list))
	for _, a := range list {
		rows = append(rows, accountRow{a.ID.String(), a.Name, a.InstanceID})
	}
	return rows
}

func printAccounts(w io.Writer, list []joinserver.Account) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "ACCOUNT ID\tNAME\tINSTANCE")
	for _, a := range list {
		fmt.Fprintf(t, "%s\t%s\t%s\n", a.ID, a.Name, a.InstanceID)
	}
	_ = t.Flush()
}

// accountNamed finds the account that a command's --account names.
func accountNamed(tx *record.Tx, name string) (joinserver.Account, error) {
	a, err := tx.AccountByName(name)
	if errors.Is(err, joinserver.ErrNotFound) {
		return a, fmt.Errorf("account %q does not exist: joingate account list shows them all", name)
	}
	return a, err
}
