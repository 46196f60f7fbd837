package record

import (
	"context"
	"database/sql"
	"fmt"

	"joingate/joinserver"
)

// Exhaustion is how far a device has used up numbers that come to an end.
type Exhaustion struct {
	DevEUI  joinserver.EUI64
	JoinEUI joinserver.EUI64 // of a JoinNonce: zero
	Account joinserver.AccountID
	Counter string // DevNonce, RJcount1 or JoinNonce
	Used    int64  // of devices that count up: the last one and all below it
	Of      int64
}

// sqlExhaustion: up to 1.0.3 each DevNonce is used once, in any order; after that all
// up to the highest are gone. $1 and $2 are the least that counts, $3 is the limit.
const sqlExhaustion = `
SELECT u.dev_eui, u.join_eui, n.account_id, u.counter, u.used, u.of_all FROM (
    SELECT d.dev_eui, d.join_eui, 'DevNonce' AS counter, COUNT(*) AS used, 65536 AS of_all FROM dev_nonces d
    JOIN nodes m ON m.dev_eui = d.dev_eui AND m.mac_version NOT IN ('1.0.4', '1.1') GROUP BY d.dev_eui, d.join_eui HAVING COUNT(*) >= $1
    UNION ALL
    SELECT d.dev_eui, d.join_eui, 'DevNonce', MAX(d.dev_nonce) + 1, 65536 FROM dev_nonces d
    JOIN nodes m ON m.dev_eui = d.dev_eui AND m.mac_version IN ('1.0.4', '1.1') GROUP BY d.dev_eui, d.join_eui HAVING MAX(d.dev_nonce) + 1 >= $1
    UNION ALL
    SELECT c.dev_eui, c.join_eui, 'RJcount1', c.rj_count + 1, 65536 FROM rejoin_counts c WHERE c.join_eui <> '' AND c.rj_count + 1 >= $1
    UNION ALL
    SELECT s.dev_eui, '0000000000000000', 'JoinNonce', MAX(s.join_nonce), 16777215 FROM sessions s WHERE s.join_nonce >= $2 GROUP BY s.dev_eui
) u JOIN nodes n ON n.dev_eui = u.dev_eui WHERE ` + inForce + `
ORDER BY CAST(u.used AS DOUBLE PRECISION) / u.of_all DESC, u.dev_eui, u.join_eui LIMIT %d`

// NearExhaustion lists the devices that have used a share (0 to 1) or more of their
// DevNonces or RJcount1s with a JoinEUI, or of their JoinNonces; those that are
// closest to the end first, at most limit. It reads all DevNonces: ask for it once
// an hour, not at each look at the metrics.
func (r *Record) NearExhaustion(ctx context.Context, share float64, limit int) (list []Exhaustion, err error) {
	least := int64(share * (1 << 16))
	rows, err := r.reader.QueryContext(ctx, fmt.Sprintf(sqlExhaustion, limit), least, int64(share*joinserver.MaxJoinNonce))
	err = eachRow(rows, err, func(rows *sql.Rows) error {
		var e Exhaustion
		var devEUI, joinEUI string
		if err := rows.Scan(&devEUI, &joinEUI, &e.Account, &e.Counter, &e.Used, &e.Of); err != nil {
			return err
		}
		var err1, err2 error
		e.DevEUI, err1 = joinserver.ParseEUI64(devEUI)
		e.JoinEUI, err2 = joinserver.ParseEUI64(joinEUI)
		list = append(list, e)
		if err1 != nil {
			return err1
		}
		return err2
	})
	if err != nil {
		return nil, fmt.Errorf("look for devices near the end of their nonces: %w", explain(err))
	}
	return list, nil
}
