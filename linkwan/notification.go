package linkwan

import (
	"slices"

	"joingate/joinserver"
)

// notice tells an account what became of an order.
func (c call) notice(tx NotificationTx, to joinserver.AccountID, category string, o joinserver.Order, p joinserver.Permission) error {
	_, err := tx.InsertNotification(joinserver.Notification{
		Account: to, Category: category, NoticeMillis: c.now.UnixMilli(),
		Auth: &joinserver.NoticedOrder{Order: o, PermissionName: p.Name, JoinEUI: p.JoinEUI},
	})
	return err
}

// The categories of JOIN_PERMISSION_AUTH, which some clients ask for as one.
const authFamily = "JOIN_PERMISSION_AUTH"

var authCategories = []string{
	joinserver.NoticeAuthApplying, joinserver.NoticeAuthAccepted, joinserver.NoticeAuthRejected, joinserver.NoticeAuthCanceled,
}

// The handle states.
const (
	handled   = "HANDLED"
	unhandled = "UNHANDLED"
)

// notificationFilter selects the caller's notifications by the call's filters.
func (c call) notificationFilter() (joinserver.NotificationFilter, error) {
	f := joinserver.NotificationFilter{
		Account:     c.account.ID,
		Categories:  c.list("Category"),
		BeginMillis: c.integer("BeginMillis"),
		EndMillis:   c.integer("EndMillis"),
		Page:        c.page(map[string]joinserver.SortKey{"NOTICE_MILLIS": joinserver.ByCreated}),
	}
	if slices.Contains(f.Categories, authFamily) {
		f.Categories = append(f.Categories, authCategories...)
	}
	if state := c.text("HandleState"); state != "" {
		is := state == handled
		if !is && state != unhandled {
			return f, invalid("HandleState")
		}
		f.Handled = &is
	}
	return f, nil
}

// notificationWire is the wire form of a notification.
type notificationWire struct {
	NotificationId         string
	Category               string
	HandleState            string
	NoticeMillis           int64
	HandledMillis          int64
	GatewayOfflineInfo     *offlineInfo `json:",omitempty"`
	JoinPermissionAuthInfo *authInfo    `json:",omitempty"`
}

type offlineInfo struct {
	GwEui         string
	OfflineMillis int64
}

type authInfo struct {
	orderWire
	JoinPermissionName string
	JoinEui            string
}

func wireNotification(n joinserver.Notification) notificationWire {
	row := notificationWire{
		NotificationId: idText(n.ID), Category: n.Category, HandleState: unhandled, NoticeMillis: n.NoticeMillis, HandledMillis: n.HandledMillis,
	}
	if n.HandledMillis != 0 {
		row.HandleState = handled
	}
	if n.Offline != nil {
		row.GatewayOfflineInfo = &offlineInfo{n.Offline.EUI.String(), n.Offline.ChangedMillis}
	}
	if n.Auth != nil {
		row.JoinPermissionAuthInfo = &authInfo{wireOrder(n.Auth.Order), n.Auth.PermissionName, n.Auth.JoinEUI.String()}
	}
	return row
}

func listNotifications(c call, tx Tx) (any, error) {
	f, err := c.notificationFilter()
	if err != nil {
		return nil, err
	}
	notifications, total, err := tx.Notifications(f)
	if err != nil {
		return nil, err
	}
	return list[notificationWire]{total, each(notifications, wireNotification)}, nil
}

func countNotifications(c call, tx Tx) (any, error) {
	f, err := c.notificationFilter()
	if err != nil {
		return nil, err
	}
	_, total, err := tx.Notifications(f)
	return total, err
}

// findNotification looks up a notification of the caller.
func (c call) findNotification(tx NotificationTx, text string) (joinserver.Notification, error) {
	id, ok := parseID(text)
	if !ok {
		return joinserver.Notification{}, fail("NonExistent")
	}
	n, err := tx.Notification(id)
	if err == nil && n.Account != c.account.ID {
		return n, fail("NotResourceOwner")
	}
	return n, asFailure(err, joinserver.ErrNotFound, "NonExistent")
}

func getNotification(c call, tx Tx) (any, error) {
	n, err := c.findNotification(tx, c.text("NotificationId"))
	if err != nil {
		return nil, err
	}
	return wireNotification(n), nil
}

// updateNotificationsHandleState changes all of the notifications or none. One
// that is handled keeps the time when it was.
func updateNotificationsHandleState(c call, tx Tx) (any, error) {
	for _, id := range c.list("NotificationId") {
		n, err := c.findNotification(tx, id)
		if err != nil {
			return nil, err
		}
		switch {
		case c.text("TargetHandleState") == unhandled:
			n.HandledMillis = 0
		case n.HandledMillis == 0:
			n.HandledMillis = c.now.UnixMilli()
		}
		if err := tx.UpdateNotification(n); err != nil {
			return nil, err
		}
	}
	return nil, nil
}
