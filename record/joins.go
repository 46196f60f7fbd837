package record

import (
	"context"
	"database/sql"
	"fmt"

	"joingate/joinserver"
)

// joinStatements are the statements of a round of joins, and of the delivery of
// its events.
type joinStatements struct{ state, nonces, sessions, events bulk }

const (
	// The versions are looked up along the links that the policy went, so that a
	// node which left its group, or a group which lost its permission, shows as 0.
	// Every claim gives one row: column1 is its place in the round. The highest
	// DevNonce is asked for where it counts.
	sqlJoinState = `
SELECT c.column1, COALESCE(n.version, 0), COALESCE(g.version, 0), COALESCE(p.version, 0), COALESCE(w.version, 0),
       COALESCE(s0.join_nonce, 0), COALESCE(s0.dev_addr, -1), COALESCE(s1.join_nonce, 0), COALESCE(s1.dev_addr, -1),
       u.mic IS NOT NULL, COALESCE(u.mic, 0), COALESCE(u.answer_until_ms, 0),
       CASE WHEN n.mac_version IN ('1.0.4', '1.1')
            THEN COALESCE((SELECT MAX(h.dev_nonce) FROM dev_nonces h WHERE h.dev_eui = c.column2 AND h.join_eui = c.column3), -1)
            ELSE -1 END
FROM (VALUES {rows}) c
LEFT JOIN nodes n ON n.dev_eui = c.column2
LEFT JOIN node_groups g ON g.id = n.group_id
LEFT JOIN join_permissions p ON p.id = g.permission_id
LEFT JOIN gateways w ON w.gw_eui = c.column5
LEFT JOIN sessions s0 ON s0.dev_eui = c.column2 AND s0.slot = 0
LEFT JOIN sessions s1 ON s1.dev_eui = c.column2 AND s1.slot = 1
LEFT JOIN dev_nonces u ON u.dev_eui = c.column2 AND u.join_eui = c.column3 AND u.dev_nonce = c.column4`
	sqlJoinStateRow = `(CAST(? AS BIGINT), ?, ?, CAST(? AS BIGINT), ?)`

	sqlDevNonce    = `INSERT INTO dev_nonces (dev_eui, join_eui, dev_nonce, mic, answer_until_ms) VALUES {rows}`
	sqlDevNonceRow = `(?, ?, ?, ?, ?)`

	sqlSession = `
INSERT INTO sessions (dev_eui, slot, join_nonce, dev_addr, live, join_eui, dev_nonce, account_id, group_id, permission_id,
    gateway, mac_version, class_mode, band_plan_group, net_id, rx_delay_s, dl_settings, cf_list, joined_ms)
VALUES {rows}
ON CONFLICT (dev_eui, slot) DO UPDATE SET
    join_nonce = excluded.join_nonce, dev_addr = excluded.dev_addr, live = TRUE, join_eui = excluded.join_eui,
    dev_nonce = excluded.dev_nonce, account_id = excluded.account_id, group_id = excluded.group_id,
    permission_id = excluded.permission_id, gateway = excluded.gateway, mac_version = excluded.mac_version,
    class_mode = excluded.class_mode, band_plan_group = excluded.band_plan_group, net_id = excluded.net_id,
    rx_delay_s = excluded.rx_delay_s, dl_settings = excluded.dl_settings, cf_list = excluded.cf_list, joined_ms = excluded.joined_ms`
	sqlSessionRow = `(?, ?, ?, ?, TRUE, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`

	sqlOutbox    = `INSERT INTO outbox (committed_ms, dev_eui, join_nonce, account_id, payload) VALUES {rows}`
	sqlOutboxRow = `(?, ?, ?, ?, ?)`
)

func (e *engine) prepareJoins(ctx context.Context, db *sql.DB) (*joinStatements, error) {
	s := &joinStatements{}
	for _, st := range []struct {
		to        *bulk
		text, row string
	}{
		{&s.state, sqlJoinState, sqlJoinStateRow},
		{&s.nonces, sqlDevNonce, sqlDevNonceRow},
		{&s.sessions, sqlSession, sqlSessionRow},
		{&s.events, sqlOutbox, sqlOutboxRow},
	} {
		var err error
		if *st.to, err = e.prepareBulk(ctx, db, st.text, st.row); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// read gets what decides each of the claims.
func (r *joinRound) read(claims []*pendingJoin) ([]onRecord, error) {
	args := make([]any, 0, len(claims)*r.statements.state.columns)
	for i, p := range claims {
		req := p.claim.Request
		args = append(args, i, req.DevEUI.String(), req.JoinEUI.String(), int64(req.DevNonce), p.claim.Gateway.EUI.String())
	}
	found := make([]onRecord, len(claims))
	err := r.statements.state.query(r.ctx, r.tx, args, func(rows *sql.Rows) error {
		var i int
		var has onRecord
		var even, odd sessionOnRecord
		v := &has.versions
		err := rows.Scan(&i, &v.Node, &v.NodeGroup, &v.Permission, &v.Gateway,
			&even.joinNonce, &even.devAddr, &odd.joinNonce, &odd.devAddr, &has.seen, &has.mic, &has.until, &has.highest)
		if has.newest, has.before = even, odd; odd.joinNonce > even.joinNonce {
			has.newest, has.before = odd, even
		}
		found[i] = has
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read what decides the joins: %w", err)
	}
	return found, nil
}

// write records the granted claims: their DevNonces, their sessions, their join
// events.
func (r *joinRound) write(granted []*pendingJoin) error {
	s, n := r.statements, len(granted)
	nonces := make([]any, 0, n*s.nonces.columns)
	sessions := make([]any, 0, n*s.sessions.columns)
	events := make([]any, 0, n*s.events.columns)
	for _, p := range granted {
		devEUI := any(p.claim.Request.DevEUI.String())
		nonces = append(nonces, devEUI, p.claim.Request.JoinEUI.String(), int64(p.claim.Request.DevNonce),
			micNumber(p.claim.Request.MIC), p.claim.AnswerUntil().UnixMilli())
		sessions = r.appendSession(sessions, devEUI, p.claim, p.grant)
		events = append(events, r.at.UnixMilli(), devEUI, int64(p.grant.JoinNonce), int64(p.claim.Policy.Node.Account), p.event)
	}
	if err := s.nonces.exec(r.ctx, r.tx, nonces); err != nil {
		return fmt.Errorf("write DevNonces: %w", err)
	}
	if err := s.sessions.exec(r.ctx, r.tx, sessions); err != nil {
		return fmt.Errorf("write sessions: %w", err)
	}
	if err := s.events.exec(r.ctx, r.tx, events); err != nil {
		return fmt.Errorf("write join events: %w", err)
	}
	return nil
}

// appendSession gives the columns of sqlSessionRow.
func (r *joinRound) appendSession(args []any, devEUI any, c joinserver.Claim, g joinserver.Grant) []any {
	p := c.Policy
	return append(args, devEUI, int64(g.JoinNonce%2), int64(g.JoinNonce), addrNumber(g.DevAddr),
		c.Request.JoinEUI.String(), int64(c.Request.DevNonce), int64(p.Node.Account), p.Group.ID, p.Permission.ID,
		c.Gateway.EUI.String(), p.Node.MACVersion.String(), p.Permission.ClassMode, int64(p.Permission.BandPlanGroup), c.NetID.String(),
		seconds(c.RxDelay), int64(c.DLSettings), c.CFList, r.at.UnixMilli())
}
