package record

import (
	"database/sql"
	"strings"

	"joingate/joinserver"
)

const accountColumns = `id, name, instance_id, product_activated, features, risk_control, roaming_gateways,
    local_join_permission_limit, node_limit, gateway_limit, created_ms`

func scanAccount(scan func(...any) error) (a joinserver.Account, err error) {
	var features string
	err = scan(&a.ID, &a.Name, &a.InstanceID, &a.ProductActivated, &features, &a.RiskControl, &a.RoamingGateways,
		&a.LocalJoinPermissionLimit, &a.NodeLimit, &a.GatewayLimit, &a.CreateMillis)
	if features != "" {
		a.Features = strings.Split(features, ",")
	}
	return a, asNotFound(err)
}

// Account reads an account. ErrNotFound.
func (tx *Tx) Account(id joinserver.AccountID) (joinserver.Account, error) {
	return scanAccount(tx.row(`SELECT `+accountColumns+` FROM accounts WHERE id = $1`, int64(id)).Scan)
}

// AccountByName reads an account. ErrNotFound.
func (tx *Tx) AccountByName(name string) (joinserver.Account, error) {
	return scanAccount(tx.row(`SELECT `+accountColumns+` FROM accounts WHERE name = $1`, name).Scan)
}

// Accounts lists all accounts, oldest first.
func (tx *Tx) Accounts() (list []joinserver.Account, err error) {
	err = tx.rows(func(rows *sql.Rows) error {
		a, err := scanAccount(rows.Scan)
		list = append(list, a)
		return err
	}, `SELECT `+accountColumns+` FROM accounts ORDER BY created_ms, id`)
	return list, err
}

// InsertAccount records a new account under the ID it brings. ErrDuplicate: the
// name or the ID is taken.
func (tx *Tx) InsertAccount(a joinserver.Account) error {
	_, err := tx.exec(`INSERT INTO accounts (`+accountColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)`,
		int64(a.ID), a.Name, a.InstanceID, a.ProductActivated, strings.Join(a.Features, ","), a.RiskControl, a.RoamingGateways,
		a.LocalJoinPermissionLimit, a.NodeLimit, a.GatewayLimit, a.CreateMillis)
	return asDuplicate(err)
}

// UpdateAccount replaces all but ID and CreateMillis. The roaming switch is part of what lets
// a gateway serve, so the versions of the account's gateways move too.
// ErrNotFound, ErrDuplicate.
func (tx *Tx) UpdateAccount(a joinserver.Account) error {
	err := tx.mustChange(`
UPDATE accounts SET name = $1, instance_id = $2, product_activated = $3, features = $4, risk_control = $5, roaming_gateways = $6,
    local_join_permission_limit = $7, node_limit = $8, gateway_limit = $9
WHERE id = $10`,
		a.Name, a.InstanceID, a.ProductActivated, strings.Join(a.Features, ","), a.RiskControl, a.RoamingGateways,
		a.LocalJoinPermissionLimit, a.NodeLimit, a.GatewayLimit, int64(a.ID))
	if err != nil {
		return err
	}
	_, err = tx.exec(`UPDATE gateways SET version = $1 WHERE account_id = $2`, tx.revision, int64(a.ID))
	return err
}

// AccessKey reads an AccessKey with its secret. ErrNotFound.
func (tx *Tx) AccessKey(id string) (k joinserver.AccessKey, err error) {
	var sealed []byte
	err = tx.row(`SELECT id, account_id, user_name, sealed_secret, enabled FROM access_keys WHERE id = $1`, id).
		Scan(&k.ID, &k.Account, &k.User, &sealed, &k.Enabled)
	if err != nil {
		return k, asNotFound(err)
	}
	k.Secret, err = tx.record.sealer.OpenSecret(sealed, placeOfSecret(id))
	return k, err
}

// InsertAccessKey records a new AccessKey, its secret sealed. ErrDuplicate.
func (tx *Tx) InsertAccessKey(k joinserver.AccessKey) error {
	seal, err := tx.sealer()
	if err != nil {
		return err
	}
	_, err = tx.exec(`INSERT INTO access_keys (id, account_id, user_name, sealed_secret, enabled) VALUES ($1, $2, $3, $4, $5)`,
		k.ID, int64(k.Account), k.User, seal.SealSecret(k.Secret, placeOfSecret(k.ID)), k.Enabled)
	return asDuplicate(err)
}

// SetAccessKeyEnabled switches an AccessKey on or off. ErrNotFound.
func (tx *Tx) SetAccessKeyEnabled(id string, enabled bool) error {
	return tx.mustChange(`UPDATE access_keys SET enabled = $1 WHERE id = $2`, enabled, id)
}

func placeOfSecret(accessKeyID string) string { return "access_keys.sealed_secret " + accessKeyID }

// User reads a RAM user. ErrNotFound.
func (tx *Tx) User(account joinserver.AccountID, name string) (joinserver.User, error) {
	u := joinserver.User{Account: account, Name: name}
	err := tx.row(`SELECT policy FROM users WHERE account_id = $1 AND name = $2`, int64(account), name).Scan(&u.Policy)
	return u, asNotFound(err)
}

// InsertUser records a new RAM user. ErrDuplicate.
func (tx *Tx) InsertUser(u joinserver.User) error {
	_, err := tx.exec(`INSERT INTO users (account_id, name, policy) VALUES ($1, $2, $3)`, int64(u.Account), u.Name, u.Policy)
	return asDuplicate(err)
}
