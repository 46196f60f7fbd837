package record

import (
	"database/sql"
	"encoding/json"

	"joingate/joinserver"
)

// noticed is what a notification tells of, as it was then.
type noticed struct {
	Offline *joinserver.GatewayState `json:",omitempty"`
	Auth    *joinserver.NoticedOrder `json:",omitempty"`
}

const notificationColumns = `id, account_id, category, notice_ms, handled_ms, content`

var notificationOrder = order{joinserver.ByID: "id", joinserver.ByCreated: "notice_ms"}

func scanNotification(scan func(...any) error) (n joinserver.Notification, err error) {
	var content string
	if err := scan(&n.ID, &n.Account, &n.Category, &n.NoticeMillis, &n.HandledMillis, &content); err != nil {
		return n, asNotFound(err)
	}
	var of noticed
	err = json.Unmarshal([]byte(content), &of)
	n.Offline, n.Auth = of.Offline, of.Auth
	return n, err
}

// Notification reads a notification. ErrNotFound.
func (tx *Tx) Notification(id int64) (joinserver.Notification, error) {
	return scanNotification(tx.row(`SELECT `+notificationColumns+` FROM notifications WHERE id = $1`, id).Scan)
}

// Notifications lists notifications, and counts all that match.
func (tx *Tx) Notifications(f joinserver.NotificationFilter) (list []joinserver.Notification, total int64, err error) {
	w := notificationWhere(f)
	from := ` FROM notifications` + w.where()
	if err := tx.row(`SELECT COUNT(*)`+from, w.args...).Scan(&total); err != nil {
		return nil, 0, err
	}
	err = tx.rows(func(rows *sql.Rows) error {
		n, err := scanNotification(rows.Scan)
		list = append(list, n)
		return err
	}, `SELECT `+notificationColumns+from+notificationOrder.page(f.Page), w.args...)
	return list, total, err
}

func notificationWhere(f joinserver.NotificationFilter) *filter {
	w := &filter{}
	if f.Account != 0 {
		w.add("account_id = ?", int64(f.Account))
	}
	if f.Handled != nil {
		w.add("(handled_ms <> 0) = ?", *f.Handled)
	}
	if f.BeginMillis != 0 {
		w.add("notice_ms >= ?", f.BeginMillis)
	}
	if f.EndMillis != 0 {
		w.add("notice_ms <= ?", f.EndMillis)
	}
	in(w, "category", f.Categories)
	return w
}

// InsertNotification records a new notification and returns the id it got.
func (tx *Tx) InsertNotification(n joinserver.Notification) (int64, error) {
	id, err := tx.nextRevision()
	if err != nil {
		return 0, err
	}
	content, err := json.Marshal(noticed{n.Offline, n.Auth})
	if err != nil {
		return 0, err
	}
	_, err = tx.exec(`INSERT INTO notifications (`+notificationColumns+`) VALUES ($1, $2, $3, $4, $5, $6)`,
		id, int64(n.Account), n.Category, n.NoticeMillis, n.HandledMillis, string(content))
	return id, err
}

// UpdateNotification sets HandledMillis. ErrNotFound.
func (tx *Tx) UpdateNotification(n joinserver.Notification) error {
	return tx.mustChange(`UPDATE notifications SET handled_ms = $1 WHERE id = $2`, n.HandledMillis, n.ID)
}
