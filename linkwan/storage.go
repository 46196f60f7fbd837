package linkwan

import (
	"context"

	"joingate/joinserver"
)

// Record keeps what the API reads and writes.
type Record interface {
	// View runs fn over one consistent snapshot. fn's error is returned as it is.
	View(ctx context.Context, fn func(Tx) error) error
	// Update runs fn in one transaction. fn's error rolls everything back and is
	// returned as it is. When Update returns nil, the change, the audit line and
	// the nonce are durable, and the change is in force for the next join.
	// ErrNonceUsed says that w.Nonce is not new: nothing was changed.
	// fn may run more than once.
	Update(ctx context.Context, w joinserver.Write, fn func(Tx) error) error
}

// Tx is a transaction. It works under the context that it was begun with and
// ends when the function that got it returns.
//
// Errors: joinserver.ErrNotFound and ErrDuplicate where a method names them;
// any other error is a fault of the record. In a View, the methods that write
// are not called.
type Tx interface {
	AccountTx
	PermissionTx
	GroupTx
	OrderTx
	NodeTx
	GatewayTx
	NotificationTx
	AuditTx
}

// AccountTx finds callers and renters.
type AccountTx interface {
	Account(id joinserver.AccountID) (joinserver.Account, error)             // ErrNotFound
	AccessKey(id string) (joinserver.AccessKey, error)                       // ErrNotFound
	User(account joinserver.AccountID, name string) (joinserver.User, error) // ErrNotFound
}

// PermissionTx keeps join permissions.
type PermissionTx interface {
	Permission(id int64) (joinserver.Permission, error) // ErrNotFound
	// Permissions returns the page asked for and the number of all that match.
	Permissions(f joinserver.PermissionFilter) (page []joinserver.Permission, total int64, err error)
	// InsertPermission ignores ID and Version and returns the ID it gave. ErrDuplicate: the name is taken.
	InsertPermission(p joinserver.Permission) (id int64, err error)
	// UpdatePermission replaces all but ID and Version, and moves the version. ErrNotFound, ErrDuplicate.
	UpdatePermission(p joinserver.Permission) error
	DeletePermission(id int64) error // ErrNotFound
}

// GroupTx keeps node groups.
type GroupTx interface {
	Group(id int64) (joinserver.Group, error) // ErrNotFound
	Groups(f joinserver.GroupFilter) (page []joinserver.Group, total int64, err error)
	InsertGroup(g joinserver.Group) (id int64, err error) // ErrDuplicate: the name is taken
	UpdateGroup(g joinserver.Group) error                 // ErrNotFound, ErrDuplicate
	// NodeCounts returns how many nodes each of the groups has. Groups without nodes may be left out.
	NodeCounts(groups []int64) (map[int64]int64, error)
}

// OrderTx keeps authorisation orders.
type OrderTx interface {
	Order(id int64) (joinserver.Order, error) // ErrNotFound
	InsertOrder(o joinserver.Order) (id int64, err error)
	UpdateOrder(o joinserver.Order) error // ErrNotFound
}

// AuditTx adds to the audit line of the running Update.
type AuditTx interface {
	// Audit tells of one row's change. The API calls it beside every insert, update and delete.
	Audit(c joinserver.Change) error
}

// NodeTx keeps nodes. A node whose import is not yet in force is not there.
type NodeTx interface {
	Device(eui joinserver.EUI64) (joinserver.Device, error) // ErrNotFound
	Devices(f joinserver.DeviceFilter) (page []joinserver.Device, total int64, err error)
	// UpdateDevice sets Account, GroupID, Enabled and BoundMillis, and moves the version. ErrNotFound.
	UpdateDevice(d joinserver.Device) error
	// DeleteGroup also takes the group's nodes out of it and moves their versions. ErrNotFound.
	DeleteGroup(id int64) error
}

// GatewayTx keeps gateways.
type GatewayTx interface {
	Gateway(eui joinserver.EUI64) (joinserver.GatewayInfo, error) // ErrNotFound
	// Gateways leaves out those in stock.
	Gateways(f joinserver.GatewayFilter) (page []joinserver.GatewayInfo, total int64, err error)
	// AddGateway ignores OpenToRoaming, Version and the online state. ErrDuplicate: the EUI is known.
	AddGateway(g joinserver.GatewayInfo) error
	// UpdateGateway replaces all but EUI, PinCode, OpenToRoaming and the online state, and moves the version.
	// Owner 0 puts it back into stock. ErrNotFound.
	UpdateGateway(g joinserver.GatewayInfo) error
	DeleteGateway(eui joinserver.EUI64) error // ErrNotFound
	// SetGatewayState keeps the gateway's online state and the record of its changes. It moves no version: joins do
	// not depend on it. ErrNotFound.
	SetGatewayState(s joinserver.GatewayState) error
	GatewayStates(eui joinserver.EUI64, page joinserver.Page) (states []joinserver.GatewayState, total int64, err error)
}

// NotificationTx keeps notifications.
type NotificationTx interface {
	Notification(id int64) (joinserver.Notification, error) // ErrNotFound
	Notifications(f joinserver.NotificationFilter) (page []joinserver.Notification, total int64, err error)
	InsertNotification(n joinserver.Notification) (id int64, err error)
	UpdateNotification(n joinserver.Notification) error // sets HandledMillis. ErrNotFound.
}
