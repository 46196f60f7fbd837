package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"joingate/config"
	"joingate/joinserver"
	"joingate/keyring"
	"joingate/record"

	"github.com/spf13/cobra"
)

// kekSource says where the key encryption keys come from: the command, else the
// file; /dev/fd/3 is what the parent process has left open there. Only a file is
// made, and only where create allows it.
func kekSource(c config.Config, create bool) (keyring.KEKSource, error) {
	if len(c.Keys.KEKCommand) > 0 {
		command := c.Keys.KEKCommand
		return keyring.KEKText("output of key command "+command[0], func() ([]byte, error) { return runKeyCommand(command) }), nil
	}
	path := c.Keys.KEKPath(c.DataDir)
	number, inherited := strings.CutPrefix(path, "/dev/fd/")
	if !inherited {
		return keyring.KEKFile(path, create), nil
	}
	fd, err := strconv.ParseUint(number, 10, 16)
	if err != nil {
		return nil, fmt.Errorf("keys.kek_file = %q names no file descriptor", path)
	}
	return keyring.KEKDescriptor(uintptr(fd)), nil
}

// keyCommandTime bounds a key command: nothing starts without its key.
const keyCommandTime = 10 * time.Second

// runKeyCommand gives what the command writes to its standard output. Its input is
// empty; what it complains of is part of the error.
func runKeyCommand(command []string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), keyCommandTime)
	defer cancel()
	var complaint bytes.Buffer
	run := exec.CommandContext(ctx, command[0], command[1:]...)
	run.Stderr, run.WaitDelay = &complaint, time.Second
	text, err := run.Output()
	if err != nil {
		if said := strings.TrimSpace(complaint.String()); said != "" {
			err = fmt.Errorf("%w: %.200s", err, said)
		}
		return nil, fmt.Errorf("key command %s: %w: look at [keys] kek_command, whose paths start where this program was started", command[0], err)
	}
	return text, nil
}

// kekPlace says for people where the key encryption keys come from.
func kekPlace(c config.Config) string {
	if len(c.Keys.KEKCommand) > 0 {
		return "from the command " + c.Keys.KEKCommand[0]
	}
	return c.Keys.KEKPath(c.DataDir)
}

func (p *program) keysCommand() *cobra.Command {
	return group("keys", "Replace the key that seals root keys and secrets on record",
		p.keysStep("rotate", "Replace the key: add, reseal and drop, one after the other", p.rotateKeys),
		p.keysStep("add", "Put a new key into the key file, before the one in use", p.addKey),
		p.keysStep("reseal", "Seal under the new key all that is sealed under an older one", p.reseal),
		p.keysStep("drop", "Take the older keys out of the key file", p.dropKeys))
}

const keysLong = `

Joins and admin calls go on meanwhile, and what was broken off goes on when the
command is started again. Where several machines have a copy of the key file,
take the steps one by one: add; bring the file to all machines; reseal; drop;
bring it to all again. With [keys] kek_command the vault holds the keys, newest
first, and reseal is the only step here.`

func (p *program) keysStep(name, short string, run func(context.Context, config.Config) error) *cobra.Command {
	return &cobra.Command{
		Use:     name,
		Short:   short,
		Long:    short + "." + keysLong,
		Example: "  joingate keys " + name + " --config /etc/joingate/joingate.toml",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := p.loadConfig()
			if err != nil {
				return err
			}
			return run(cmd.Context(), c)
		},
	}
}

func (p *program) rotateKeys(ctx context.Context, c config.Config) error {
	if err := p.addKey(ctx, c); err != nil {
		return err
	}
	return p.dropKeys(ctx, c)
}

func (p *program) addKey(_ context.Context, c config.Config) error {
	path, err := kekFileOf(c)
	if err != nil {
		return err
	}
	added, err := keyring.AddKEK(path)
	if err != nil {
		return err
	}
	if added {
		fmt.Fprintf(p.stdout, "%s has a new key; the old one still opens\n", path)
	} else {
		fmt.Fprintf(p.stdout, "%s has a new key already: a rotation goes on\n", path)
	}
	return nil
}

func (p *program) reseal(ctx context.Context, c config.Config) error {
	r, err := openRecord(ctx, c, nil)
	if err != nil {
		return err
	}
	rows := 0
	err = r.Rotate(ctx, operator("keys reseal"), func(done, total int) {
		rows = total
		fmt.Fprintf(p.stderr, "\r%d of %d rows", done, total)
	})
	if err := errors.Join(err, r.Close()); err != nil {
		return err
	}
	fmt.Fprintln(p.stderr)
	fmt.Fprintf(p.stdout, "%d rows are sealed under the first key; nothing needs an older one\n", rows)
	return nil
}

// dropKeys takes the older keys out, once nothing needs them: it reseals first. A key
// that is no more the first never becomes it again, so that the one which is the
// first before and after is the one that all was sealed under.
func (p *program) dropKeys(ctx context.Context, c config.Config) error {
	path, err := kekFileOf(c)
	if err != nil {
		return err
	}
	sealing, err := keyring.LoadKEK(path, false)
	if err != nil {
		return err
	}
	if err := p.reseal(ctx, c); err != nil {
		return err
	}
	dropped, err := keyring.DropOldKEKs(path, sealing)
	if err == nil {
		fmt.Fprintf(p.stdout, "%d older keys are taken out of %s\n", dropped, path)
	}
	return err
}

func kekFileOf(c config.Config) (string, error) {
	if path := kekPlace(c); len(c.Keys.KEKCommand) == 0 && !strings.HasPrefix(path, "/dev/fd/") {
		return path, nil
	}
	return "", errors.New("the keys are not in a file: put a new one before the old one where they are kept, then joingate keys reseal")
}

// accountKEK registers what session keys are wrapped under in join events.
func (p *program) accountKEK() *cobra.Command {
	var label, file string
	var remove bool
	c := &cobra.Command{
		Use:   "kek NAME ns|as",
		Short: "Register the key that session keys are wrapped under for an account's server",
		Long: `Register the key encryption key of an account's network server (ns: it gets the
network session keys) or application server (as: it gets the AppSKey). From the
next join on, join events and TS002 answers carry these keys, wrapped under it as
RFC 3394 says. Without it they carry none. FILE holds 32, 48 or 64 hex digits.`,
		Example: "  joingate account kek acme ns --label ns-2026 --kek-file ns.kek\n  joingate account kek acme as --remove",
		Args:    cobra.ExactArgs(2),
	}
	c.Flags().StringVar(&label, "label", "", "name that the server knows the key by")
	c.Flags().StringVar(&file, "kek-file", "", "`FILE` with the key")
	c.Flags().BoolVar(&remove, "remove", false, "register none any more")
	c.RunE = func(c *cobra.Command, args []string) error {
		which := record.Recipient(args[1])
		if which != record.NetworkServer && which != record.ApplicationServer {
			return fmt.Errorf("%q is neither ns (network server) nor as (application server)", args[1])
		}
		key, err := keyEncryption(label, file, remove)
		if err != nil {
			return err
		}
		return p.change(c.Context(), "account kek", "key of "+args[1]+" of account "+args[0], "is set", func(tx *record.Tx) error {
			account, err := accountNamed(tx, args[0])
			if err != nil {
				return err
			}
			return tx.SetRecipient(account.ID, which, key)
		})
	}
	return p.jsonFlag(c)
}

func keyEncryption(label, file string, remove bool) (k joinserver.KeyEncryption, err error) {
	if remove {
		return k, nil
	}
	if label == "" || file == "" {
		return k, errors.New("--label and --kek-file are needed, or --remove")
	}
	return keyEncryptionFrom(label, file)
}

// sealerOf gives what seals and opens on record and in the cache.
func sealerOf(c config.Config, create bool) (*keyring.Sealer, error) {
	source, err := kekSource(c, create)
	if err != nil {
		return nil, err
	}
	return keyring.OpenSealer(source)
}
