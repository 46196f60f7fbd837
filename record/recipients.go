package record

import (
	"database/sql"
	"fmt"

	"joingate/joinserver"
)

// Recipient is a server of an account that gets session keys.
type Recipient string

// The recipients.
const (
	NetworkServer     Recipient = "ns"
	ApplicationServer Recipient = "as"
)

const sqlAccountKEKs = `SELECT account_id, recipient, label, sealed_kek FROM account_keks WHERE account_id IN ({rows})`

// recipients are those of one account; fault tells why they cannot be read.
type recipients struct {
	joinserver.Recipients
	fault error
}

// recipients reads those of the accounts that the claims belong to. In a record in
// which nobody has registered a key it asks nothing.
func (r *joinRound) recipients(claims []*pendingJoin) (map[joinserver.AccountID]recipients, error) {
	found := map[joinserver.AccountID]recipients{}
	var args []any
	for _, p := range claims {
		account := p.claim.Policy.Node.Account
		if _, asked := found[account]; p.found.keks && !asked {
			found[account] = recipients{}
			args = append(args, int64(account))
		}
	}
	err := r.volley.query(r.statements.keks, args, func(rows row) error {
		account, to, err := r.record.scanRecipient(rows)
		if err != nil {
			return err
		}
		found[account] = found[account].with(to)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the accounts' keys: %w", err)
	}
	return found, nil
}

// with adds what another row tells.
func (r recipients) with(other recipients) recipients {
	if !other.Network.KEK.IsZero() {
		r.Network = other.Network
	}
	if !other.Application.KEK.IsZero() {
		r.Application = other.Application
	}
	if other.fault != nil {
		r.fault = other.fault
	}
	return r
}

// scanRecipient reads a row of account_keks.
func (r *Record) scanRecipient(rows row) (account joinserver.AccountID, to recipients, err error) {
	var which Recipient
	var key joinserver.KeyEncryption
	var sealed []byte
	if err := rows.Scan(&account, &which, &key.Label, &sealed); err != nil {
		return 0, to, err
	}
	if key.KEK, to.fault = r.sealer.OpenWrapping(sealed, placeOfKEK(account, which)); to.fault != nil {
		return account, to, nil
	}
	switch which {
	case NetworkServer:
		to.Network = key
	case ApplicationServer:
		to.Application = key
	}
	return account, to, nil
}

func placeOfKEK(account joinserver.AccountID, which Recipient) string {
	return "account_keks.sealed_kek " + account.String() + " " + string(which)
}

// Recipients reads the keys that an account has registered for its servers.
func (tx *Tx) Recipients(account joinserver.AccountID) (joinserver.Recipients, error) {
	var found recipients
	err := tx.rows(func(rows *sql.Rows) error {
		_, to, err := tx.record.scanRecipient(rows)
		found = found.with(to)
		return err
	}, `SELECT account_id, recipient, label, sealed_kek FROM account_keks WHERE account_id = $1`, int64(account))
	if err == nil {
		err = found.fault
	}
	return found.Recipients, err
}

// SetRecipient registers the key under which session keys are wrapped for a server
// of the account, from the next join on. The zero key ends that. ErrNotFound.
func (tx *Tx) SetRecipient(account joinserver.AccountID, which Recipient, key joinserver.KeyEncryption) error {
	if which != NetworkServer && which != ApplicationServer {
		return fmt.Errorf("recipient %q is neither %q nor %q", which, NetworkServer, ApplicationServer)
	}
	if _, err := tx.Account(account); err != nil {
		return err
	}
	if key.KEK.IsZero() {
		_, err := tx.exec(`DELETE FROM account_keks WHERE account_id = $1 AND recipient = $2`, int64(account), string(which))
		return err
	}
	seal, err := tx.sealer()
	if err != nil {
		return err
	}
	_, err = tx.exec(`
INSERT INTO account_keks (account_id, recipient, label, sealed_kek) VALUES ($1, $2, $3, $4)
ON CONFLICT (account_id, recipient) DO UPDATE SET label = excluded.label, sealed_kek = excluded.sealed_kek`,
		int64(account), string(which), key.Label, seal.SealWrapping(key.KEK, placeOfKEK(account, which)))
	return err
}
