package record

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"joingate/band"
	"joingate/joinserver"
)

const sessionColumns = `s.dev_eui, s.join_eui, s.join_nonce, s.dev_nonce, s.net_id, s.dev_addr, s.mac_version, s.account_id, s.group_id, s.permission_id,
    s.gateway, s.class_mode, s.band_plan_group, s.rx_delay_s, s.dl_settings, s.cf_list, s.joined_ms, s.live, s.confirmed_nonce = s.join_nonce`

func scanSession(scan func(...any) error) (s joinserver.Session, err error) {
	var devEUI, joinEUI, netID, mac, gateway string
	var addr, rxDelay, joined int64
	err = scan(&devEUI, &joinEUI, &s.JoinNonce, &s.DevNonce, &netID, &addr, &mac, &s.Account, &s.GroupID, &s.PermissionID,
		&gateway, &s.ClassMode, &s.BandPlanGroup, &rxDelay, &s.DLSettings, &s.CFList, &joined, &s.Live, &s.Confirmed)
	if err != nil {
		return s, asNotFound(err)
	}
	var errs [5]error
	s.DevEUI, errs[0] = joinserver.ParseEUI64(devEUI)
	s.JoinEUI, errs[1] = joinserver.ParseEUI64(joinEUI)
	s.NetID, errs[2] = joinserver.ParseNetID(netID)
	s.MACVersion, errs[3] = band.ParseMACVersion(mac)
	s.Gateway, errs[4] = joinserver.ParseEUI64(gateway)
	s.DevAddr, s.RxDelay, s.Joined = addrOf(addr), time.Duration(rxDelay)*time.Second, time.UnixMilli(joined)
	return s, errors.Join(errs[:]...)
}

// Sessions implements joinserver.Sessions from the truth.
func (r *Record) Sessions(ctx context.Context, device joinserver.EUI64) (list []joinserver.Session, err error) {
	ctx, cancel := r.bound(ctx, r.busyTimeout)
	defer cancel()
	rows, err := r.policies.sessions.QueryContext(ctx, device.String())
	err = eachRow(rows, err, func(rows *sql.Rows) error {
		s, err := scanSession(rows.Scan)
		list = append(list, s)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read sessions of %s: %w", device, explain(err))
	}
	return list, nil
}

const sqlSessions = `SELECT ` + sessionColumns + ` FROM sessions s WHERE s.dev_eui = $1 AND s.live ORDER BY s.join_nonce DESC`

// SessionFilter selects sessions. A zero field selects all.
type SessionFilter struct {
	DevEUI  *joinserver.EUI64
	DevAddr *joinserver.DevAddr
	Account joinserver.AccountID // in which the device joined, and still is
	Ended   bool                 // those too that are not live but on record still
	joinserver.Page
}

// SessionsOf lists sessions in the order of their DevEUIs, of each device the
// newest first, and counts all that match.
func (tx *Tx) SessionsOf(f SessionFilter) (list []joinserver.Session, total int64, err error) {
	w := &filter{conditions: []string{"s.dev_addr <> -1"}} // else it is no session
	from := ` FROM sessions s`
	if !f.Ended {
		w.add("s.live")
	}
	if f.DevEUI != nil {
		w.add("s.dev_eui = ?", f.DevEUI.String())
	}
	if f.DevAddr != nil {
		w.add("s.dev_addr = ?", addrNumber(*f.DevAddr))
	}
	if f.Account != 0 { // nodes have an index by account, sessions have none: joins would pay for it
		from += ` JOIN nodes n ON n.dev_eui = s.dev_eui`
		w.add("n.account_id = ?", int64(f.Account))
		w.add("s.account_id = ?", int64(f.Account))
	}
	if err := tx.row(`SELECT COUNT(*)`+from+w.where(), w.args...).Scan(&total); err != nil || f.Limit == 0 {
		return nil, total, err
	}
	err = tx.rows(func(rows *sql.Rows) error {
		s, err := scanSession(rows.Scan)
		list = append(list, s)
		return err
	}, `SELECT `+sessionColumns+from+w.where()+fmt.Sprintf(` ORDER BY s.dev_eui, s.join_nonce DESC LIMIT %d OFFSET %d`, f.Limit, f.Offset), w.args...)
	return list, total, err
}

// NotNewestError says that a session cannot be confirmed: the device has joined
// again since. Both sessions stay live until the newest is confirmed.
type NotNewestError struct {
	DevEUI         joinserver.EUI64
	Session, Newer uint32 // JoinNonces
}

func (e *NotNewestError) Error() string {
	return fmt.Sprintf("session %d of %s is not its newest: it has joined again (session %d), and both stay live until that one is confirmed", e.Session, e.DevEUI, e.Newer)
}

// Confirm records that the device uses the session that it opened with the
// JoinNonce, so that the one before it ends and its DevAddr is free again. Once
// more it does nothing.
//
// Errors: joinserver.ErrNotFound (there is no such session, or it is not live);
// *NotNewestError.
func (tx *Tx) Confirm(device joinserver.EUI64, joinNonce uint32) error {
	live, _, err := tx.SessionsOf(SessionFilter{DevEUI: &device, Page: joinserver.Page{Limit: 2}})
	if err != nil {
		return err
	}
	for i, s := range live {
		switch {
		case s.JoinNonce != joinNonce:
		case s.Confirmed:
			return nil
		case i > 0:
			return &NotNewestError{device, joinNonce, live[0].JoinNonce}
		default:
			return tx.confirm(device, joinNonce)
		}
	}
	return joinserver.ErrNotFound
}

func (tx *Tx) confirm(device joinserver.EUI64, joinNonce uint32) error {
	err := tx.mustChange(`UPDATE sessions SET confirmed_nonce = $1 WHERE dev_eui = $2 AND join_nonce = $3`, int64(joinNonce), device.String(), int64(joinNonce))
	if err != nil {
		return err
	}
	_, err = tx.exec(`UPDATE sessions SET live = FALSE WHERE dev_eui = $1 AND join_nonce < $2`, device.String(), int64(joinNonce))
	if err != nil {
		return err
	}
	return tx.Audit(joinserver.Change{Entity: "session", ID: sessionName(device, joinNonce), New: `"confirmed"`})
}

// Revoke ends the session that the device opened with the JoinNonce, or with 0 all
// of its sessions. JoinNonce goes on counting. ErrNotFound: there is none that is
// live.
func (tx *Tx) Revoke(device joinserver.EUI64, joinNonce uint32) error {
	live, _, err := tx.SessionsOf(SessionFilter{DevEUI: &device, Page: joinserver.Page{Limit: 2}})
	if err != nil {
		return err
	}
	var revoked []string
	for _, s := range live {
		if joinNonce != 0 && s.JoinNonce != joinNonce {
			continue
		}
		err := tx.mustChange(`UPDATE sessions SET live = FALSE WHERE dev_eui = $1 AND join_nonce = $2`, device.String(), int64(s.JoinNonce))
		if err != nil {
			return err
		}
		revoked = append(revoked, sessionName(device, s.JoinNonce))
	}
	if len(revoked) == 0 {
		return joinserver.ErrNotFound
	}
	return tx.Audit(joinserver.Change{Entity: "session", ID: strings.Join(revoked, " "), New: `"revoked"`})
}

// sessionName names a session as its join event does.
func sessionName(device joinserver.EUI64, joinNonce uint32) string {
	return device.String() + "-" + strconv.FormatUint(uint64(joinNonce), 10)
}

// Confirm is Tx.Confirm in a write of its own, which keeps out the joins of this
// device only: after a storm of joins come as many confirmations. A session that is
// confirmed already costs no write, so it may be called for every frame that tells of
// it.
func (r *Record) Confirm(ctx context.Context, w joinserver.Write, device joinserver.EUI64, joinNonce uint32) error {
	live, err := r.Sessions(ctx, device)
	if err != nil {
		return err
	}
	for _, s := range live {
		if s.JoinNonce == joinNonce && s.Confirmed {
			return nil
		}
	}
	confirm := func(tx *Tx) error { return tx.Confirm(device, joinNonce) }
	return r.write(ctx, w, confirm, r.engine.locks.devices, []string{device.String()})
}

// Revoke is Tx.Revoke in a write of its own.
func (r *Record) Revoke(ctx context.Context, w joinserver.Write, device joinserver.EUI64, joinNonce uint32) error {
	return r.Update(ctx, w, func(tx *Tx) error { return tx.Revoke(device, joinNonce) })
}
