package record

import (
	"context"
	"database/sql"
	"fmt"
	"strings"

	"joingate/joinserver"
)

// joinStatements are the statements of a round of joins, and of the delivery of
// its events.
type joinStatements struct{ state, rejoins, keks, nonces, counts, sessions, events, sinkEvents bulk }

const (
	// The versions are looked up along the links that the policy went, so that a
	// node which left its group, or a group which lost its permission, shows as 0.
	// Every claim gives one row: column1 is its place in the round. The highest
	// DevNonce is asked for where it counts.
	sqlJoinState = `
SELECT c.column1, COALESCE(n.version, 0), COALESCE(g.version, 0), COALESCE(p.version, 0), COALESCE(w.version, 0),
       COALESCE(s0.join_nonce, 0), COALESCE(s0.dev_addr, -1), COALESCE(s0.live, FALSE), COALESCE(s0.confirmed_nonce = s0.join_nonce, FALSE),
       COALESCE(s0.joined_ms, 0),
       COALESCE(s1.join_nonce, 0), COALESCE(s1.dev_addr, -1), COALESCE(s1.live, FALSE), COALESCE(s1.confirmed_nonce = s1.join_nonce, FALSE),
       COALESCE(s1.joined_ms, 0),
       EXISTS (SELECT 1 FROM account_keks), u.mic IS NOT NULL, COALESCE(u.mic, 0), COALESCE(u.answer_until_ms, 0),
       CASE WHEN n.mac_version IN ('1.0.4', '1.1')
            THEN COALESCE((SELECT MAX(h.dev_nonce) FROM dev_nonces h WHERE h.dev_eui = c.column2 AND h.join_eui = c.column3), -1)
            ELSE -1 END
FROM ({rows}) c
LEFT JOIN nodes n ON n.dev_eui = c.column2
LEFT JOIN node_groups g ON g.id = n.group_id
LEFT JOIN join_permissions p ON p.id = g.permission_id
LEFT JOIN gateways w ON w.gw_eui = c.column5
LEFT JOIN sessions s0 ON s0.dev_eui = c.column2 AND s0.slot = 0
LEFT JOIN sessions s1 ON s1.dev_eui = c.column2 AND s1.slot = 1
LEFT JOIN dev_nonces u ON u.dev_eui = c.column2 AND u.join_eui = c.column3 AND u.dev_nonce = c.column4`

	// What a device has sent of rejoin-requests; no row: nothing.
	sqlRejoins = `
SELECT c.column1, r.session, r.rj_count, r.mic, r.answer_until_ms
FROM ({rows}) c JOIN rejoin_counts r ON r.dev_eui = c.column2 AND r.join_eui = c.column3`

	sqlRejoinCount = `
INSERT INTO rejoin_counts (dev_eui, join_eui, session, rj_count, mic, answer_until_ms) {rows}
ON CONFLICT (dev_eui, join_eui) DO UPDATE SET session = excluded.session, rj_count = excluded.rj_count, mic = excluded.mic,
    answer_until_ms = excluded.answer_until_ms`

	sqlDevNonce = `INSERT INTO dev_nonces (dev_eui, join_eui, dev_nonce, mic, answer_until_ms) {rows}`

	sqlSession = `
INSERT INTO sessions (dev_eui, slot, join_nonce, dev_addr, live, join_eui, dev_nonce, account_id, group_id, permission_id,
    gateway, mac_version, class_mode, band_plan_group, net_id, rx_delay_s, dl_settings, cf_list, joined_ms)
{rows}
ON CONFLICT (dev_eui, slot) DO UPDATE SET
    join_nonce = excluded.join_nonce, dev_addr = excluded.dev_addr, live = TRUE, join_eui = excluded.join_eui,
    dev_nonce = excluded.dev_nonce, account_id = excluded.account_id, group_id = excluded.group_id,
    permission_id = excluded.permission_id, gateway = excluded.gateway, mac_version = excluded.mac_version,
    class_mode = excluded.class_mode, band_plan_group = excluded.band_plan_group, net_id = excluded.net_id,
    rx_delay_s = excluded.rx_delay_s, dl_settings = excluded.dl_settings, cf_list = excluded.cf_list, joined_ms = excluded.joined_ms`
	sqlSessionRow = `(?, ?, ?, ?, TRUE, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`

	sqlOutbox = `INSERT INTO outbox (committed_ms, dev_eui, join_nonce, account_id, payload) {rows}`

	sqlOutboxSinks = `INSERT INTO outbox_sinks (sink, committed_ms, dev_eui, join_nonce, account_id, payload) {rows}`
)

func (e *engine) prepareJoins(ctx context.Context, db *sql.DB) (*joinStatements, error) {
	s := &joinStatements{}
	for _, st := range []struct {
		to          *bulk
		text, types string // see prepareBulk
	}{
		{&s.state, sqlJoinState, "bigint text text bigint text"},
		{&s.rejoins, sqlRejoins, "bigint text text"},
		{&s.keks, sqlAccountKEKs, "bigint"},
		{&s.nonces, sqlDevNonce, "text text bigint bigint bigint"},
		{&s.counts, sqlRejoinCount, "text text bigint bigint bigint bigint"},
		{&s.sessions, sqlSession, "text bigint bigint bigint bool text bigint bigint bigint bigint text text text bigint text bigint bigint bytea bigint"},
		{&s.events, sqlOutbox, "bigint text bigint bigint bytea"},
		{&s.sinkEvents, sqlOutboxSinks, "text bigint text bigint bigint bytea"},
	} {
		var err error
		if *st.to, err = e.prepareBulk(ctx, db, st.text, strings.Fields(st.types)...); err != nil {
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
		args = append(args, int64(i), req.DevEUI.String(), req.JoinEUI.String(), int64(req.DevNonce), p.claim.Gateway.EUI.String())
	}
	found := make([]onRecord, len(claims))
	err := r.volley.query(r.statements.state, args, func(rows row) error {
		var i int
		var has onRecord
		v, even, odd, sent := &has.versions, &has.sessions[0], &has.sessions[1], &has.sent
		err := rows.Scan(&i, &v.Node, &v.NodeGroup, &v.Permission, &v.Gateway,
			&even.joinNonce, &even.devAddr, &even.live, &even.confirmed, &even.joined,
			&odd.joinNonce, &odd.devAddr, &odd.live, &odd.confirmed, &odd.joined,
			&has.keks, &sent.seen, &sent.mic, &sent.until, &sent.highest)
		found[i] = has
		return err
	})
	if err == nil {
		err = r.readRejoins(claims, found)
	}
	if err != nil {
		return nil, fmt.Errorf("read what decides the joins: %w", err)
	}
	return found, nil
}

// readRejoins puts what was sent of rejoin-requests in the place of the DevNonces
// for those that are such.
func (r *joinRound) readRejoins(claims []*pendingJoin, found []onRecord) error {
	var args []any
	for i, p := range claims {
		if p.claim.Type != joinserver.Joined {
			found[i].sent = countOnRecord{highest: -1}
			args = append(args, int64(i), p.claim.Request.DevEUI.String(), countedWith(p.claim))
		}
	}
	return r.volley.query(r.statements.rejoins, args, func(rows row) error {
		var i int
		var session uint32
		var sent countOnRecord
		if err := rows.Scan(&i, &session, &sent.highest, &sent.mic, &sent.until); err != nil {
			return err
		}
		c := claims[i].claim
		if countsInSession(c.Type) && session != c.Session {
			return nil // RJcount0 began anew
		}
		sent.seen = sent.highest == int64(c.Request.DevNonce)
		found[i].sent = sent
		return nil
	})
}

// countedWith is the join_eui of the row that a rejoin-request is counted in.
func countedWith(c joinserver.Claim) string {
	if countsInSession(c.Type) {
		return ""
	}
	return c.Request.JoinEUI.String()
}

// write records the granted claims: what their devices have sent, their sessions,
// their join events.
func (r *joinRound) write(granted []*pendingJoin) error {
	s, n := r.statements, len(granted)
	nonces := make([]any, 0, n*s.nonces.columns)
	sessions := make([]any, 0, n*s.sessions.columns)
	events := make([]any, 0, n*s.events.columns)
	var counts, sinkEvents []any
	for _, p := range granted {
		devEUI, req := any(p.claim.Request.DevEUI.String()), p.claim.Request
		sent := []any{int64(req.DevNonce), micNumber(req.MIC), p.claim.AnswerUntil().UnixMilli()}
		if p.claim.Type == joinserver.Joined {
			nonces = append(append(nonces, devEUI, req.JoinEUI.String()), sent...)
		} else {
			counts = append(append(counts, devEUI, countedWith(p.claim), int64(p.claim.Session)), sent...)
		}
		sessions = appendSession(sessions, devEUI, p)
		event := []any{p.at.UnixMilli(), devEUI, int64(p.grant.JoinNonce), int64(p.claim.Policy.Node.Account), p.event}
		events = append(events, event...)
		for _, sink := range r.record.sinks {
			sinkEvents = append(append(sinkEvents, sink), event...)
		}
	}
	for _, w := range []struct {
		what string
		bulk bulk
		args []any
	}{
		{"DevNonces", s.nonces, nonces},
		{"rejoin counts", s.counts, counts},
		{"sessions", s.sessions, sessions},
		{"join events", s.events, events},
		{"join events for sinks", s.sinkEvents, sinkEvents},
	} {
		if err := r.volley.write(w.what, w.bulk, w.args); err != nil {
			return err
		}
	}
	return r.volley.send()
}

// appendSession gives the columns of sqlSession.
func appendSession(args []any, devEUI any, p *pendingJoin) []any {
	c, g, policy := p.claim, p.grant, p.claim.Policy
	return append(args, devEUI, int64(p.slot), int64(g.JoinNonce), addrNumber(g.DevAddr), true,
		c.Request.JoinEUI.String(), int64(c.Request.DevNonce), int64(policy.Node.Account), policy.Group.ID, policy.Permission.ID,
		c.Gateway.EUI.String(), policy.Node.MACVersion.String(), policy.Permission.ClassMode, int64(policy.Permission.BandPlanGroup), c.NetID.String(),
		seconds(c.RxDelay), int64(c.DLSettings), c.CFList, p.at.UnixMilli())
}
