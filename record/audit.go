package record

import (
	"database/sql"
	"encoding/json"
	"time"

	"joingate/joinserver"
)

// AuditLine is one write as it was recorded.
type AuditLine struct {
	Revision int64
	joinserver.Write
	Changes []joinserver.Change
}

// EachAudit hands the writes from a time on to fn, oldest first. account 0: those
// of all accounts and of operators.
func (tx *Tx) EachAudit(account joinserver.AccountID, since time.Time, fn func(AuditLine) error) error {
	return tx.rows(func(rows *sql.Rows) error {
		var line AuditLine
		var atMillis int64
		var changes []byte
		w := &line.Write
		err := rows.Scan(&line.Revision, &atMillis, &w.Account, &w.User, &w.AccessKeyID, &w.From, &w.Action, &w.RequestID, &changes)
		if err != nil {
			return err
		}
		w.At = time.UnixMilli(atMillis)
		if err := json.Unmarshal(changes, &line.Changes); err != nil {
			return err
		}
		return fn(line)
	}, `
SELECT revision, at_ms, account_id, user_name, access_key_id, from_address, action, request_id, changes
FROM audit WHERE (CAST($1 AS BIGINT) = 0 OR account_id = $1) AND at_ms >= $2 ORDER BY revision`, int64(account), since.UnixMilli())
}
