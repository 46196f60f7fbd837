package joinserver

import (
	"errors"
	"math"
	"time"

	"joingate/band"
	"joingate/keyring"
)

// This file is the vocabulary that the admin API and the record share. IDs are
// given by the record and never used again. Times are UNIX milliseconds.

var (
	// ErrNotFound says that the record has no such row.
	ErrNotFound = errors.New("no such row")
	// ErrDuplicate says that a row with the same unique name exists.
	ErrDuplicate = errors.New("a row with the same unique name exists")
	// ErrNonceUsed says that a write with this nonce was made before.
	ErrNonceUsed = errors.New("signature nonce was used before")
)

// Write says who changes the record. It becomes the audit line, and its nonce
// is kept for NonceLife in the write's own transaction.
type Write struct {
	Account     AccountID
	User        string // RAM user; empty: the account itself
	AccessKeyID string // empty: an operator's command
	From        string // the client's network address without its port
	Action      string
	RequestID   string
	Nonce       string // unique per AccessKeyID; empty: none to check
	At          time.Time
}

// NonceLife is how long a signature nonce must not come again. It covers the
// 15 minutes that a request's time may differ to either side.
const NonceLife = 30 * time.Minute

// Change is one row's change within a write, as the audit shows it.
type Change struct {
	Entity string // permission, group, order, …
	ID     string
	Old    string // JSON; empty: the row is new
	New    string // JSON; empty: the row is gone
}

// Account owns or rents join permissions.
type Account struct {
	ID               AccountID
	Name             string // unique
	InstanceID       string // IotInstanceId; empty: the account has no instance
	ProductActivated bool
	Features         []string // names of linkwan.Features
	RiskControl      bool     // every call is refused
	RoamingGateways  bool     // ROAMING permissions may be served by this account's gateways

	LocalJoinPermissionLimit int64
	NodeLimit                int64 // 0: no limit
	GatewayLimit             int64 // 0: no limit
	CreateMillis             int64
}

// AccessKey signs calls for an account or one of its RAM users.
type AccessKey struct {
	ID      string
	Account AccountID
	User    string // empty: the account itself, which may do everything
	Secret  keyring.Secret
	Enabled bool
}

// User is a RAM user of an account.
type User struct {
	Account AccountID
	Name    string // unique within the account
	Policy  string // policy document in JSON, or the name of a system policy
}

// AuthState tells whether a permission is offered or granted.
type AuthState string

// The states of Link WAN.
const (
	New      AuthState = "NEW"
	Applying AuthState = "APPLYING" // offered to the renter
	Accepted AuthState = "ACCEPTED" // granted to the renter
)

// PlatformOwner is what the API shows as the owner of ROAMING permissions.
const PlatformOwner = "AliCloud IoT"

// Permission is a join permission with what only administrators see.
//
// Its name is unique among those with the same Account().
type Permission struct {
	JoinPermission
	Name         string
	InstanceID   string
	AuthState    AuthState
	Renter       AccountID // to whom it is offered or granted; 0: nobody
	CreateMillis int64
}

// Account is the one whose names the permission's name belongs to: the owner,
// or for one issued by the platform the renter.
func (p Permission) Account() AccountID {
	if p.Owner == 0 {
		return p.Renter
	}
	return p.Owner
}

// Group is a node group with what only administrators see. Its name is unique
// within the account; a permission other than 0 is bound to one group only.
type Group struct {
	NodeGroup
	Account      AccountID
	Name         string
	InstanceID   string
	PermissionID int64 // 0: bound to none
	Dispatch     DataDispatch
	CreateMillis int64
}

// DataDispatch says where a node group's data goes. It is kept for network
// servers; joins do not depend on it.
type DataDispatch struct {
	Enabled            bool
	Destination        string // IOT, ONS or empty
	ProductName        string
	ProductKey         string
	ProductType        string // IOT_SUITE, IOT_SUITE_SENIOR or empty
	DebugSwitch        bool
	UplinkRegionName   string
	UplinkTopic        string
	DownlinkRegionName string
	DownlinkTopic      string
}

// OrderState is the state of an authorisation order.
type OrderState string

// The states of Link WAN. All but OrderApplying are final.
const (
	OrderApplying OrderState = "APPLYING"
	OrderAccepted OrderState = "ACCEPTED"
	OrderRejected OrderState = "REJECTED"
	OrderCanceled OrderState = "CANCELED"
)

// Order offers a join permission to a renter. It outlives its permission.
type Order struct {
	ID             int64
	PermissionID   int64
	Owner          AccountID
	Renter         AccountID
	State          OrderState
	ApplyingMillis int64
	AcceptedMillis int64 // this and the next two: 0 for never
	RejectedMillis int64
	CanceledMillis int64
}

// SortKey is what a list is sorted by. Rows that are equal in it come by ID,
// in the same direction.
type SortKey uint8

// The sort keys. Those that an entity lacks are not asked of it.
const (
	ByID            SortKey = iota
	ByCreated               // of a Device: when it came into its group
	ByLastJoin              // of a Device
	ByOnlineChanged         // of a GatewayInfo and a GatewayState
)

// Page is the part of a list that is wanted.
type Page struct {
	Offset     int64 // rows to leave out; 0 or more
	Limit      int64 // most rows to return; 0: none, only the total is wanted
	By         SortKey
	Descending bool
}

// NoLimit as Page.Limit asks for all rows.
const NoLimit = math.MaxInt64

// PermissionFilter selects join permissions. A zero field selects all.
//
// The Like fields are substrings; ASCII letters match in either case, and no
// character is a wildcard.
type PermissionFilter struct {
	IDs        []int64   // nil: all; empty: none
	Owner      AccountID // exactly
	Renter     AccountID // exactly, whether offered or granted
	AuthState  AuthState
	Type       PermissionType
	InstanceID *string // exactly, also the empty one
	Enabled    *bool
	Bound      *bool // to a node group

	NameLike    string
	JoinEUILike string // of its 16 hex digits
	OwnerLike   string // of the owner's decimal digits, or of PlatformOwner for owner 0
	RenterLike  string // of the renter's decimal digits; renter 0 never matches
	Page
}

// GroupFilter selects node groups. A zero field selects all; Like as above.
type GroupFilter struct {
	Account       AccountID
	InstanceID    *string
	PermissionIDs []int64 // bound to one of these; nil: all, also the unbound; empty: none

	NameLike    string
	JoinEUILike string // of the bound permission's JoinEUI
	DevEUILike  string // of any of its nodes
	Page
}

// Device is a node as administrators see it. It holds no keys.
type Device struct {
	DevEUI       EUI64
	Account      AccountID // 0: in stock
	GroupID      int64     // 0: in no group
	Enabled      bool
	MACVersion   MACVersion
	PinCode      string `json:"-"` // six digits; empty: none was imported
	CreateMillis int64
	BoundMillis  int64 // when it came into its group; 0: in none

	// Of its newest session; zero and nil if it never joined.
	DevAddr        *DevAddr
	LastJoinMillis int64
}

// DeviceFilter selects devices. A zero field selects all; Like as above.
type DeviceFilter struct {
	Account    AccountID
	GroupID    int64
	DevEUILike string
	Page
}

// GatewayInfo is a gateway as administrators see it. EUI, Owner (0: in stock),
// Enabled and BandPlanGroup are those that joins go by.
type GatewayInfo struct {
	Gateway
	InstanceID          string
	PinCode             string `json:"-"` // of a gateway that came from stock; else empty
	Name                string
	Description         string
	City                string
	District            string
	Address             string
	AddressCode         int64
	CommunicationMode   string  // HALF_DUPLEX, FULL_DUPLEX or empty
	GisCoordinateSystem string  // WGS_84, GCJ_02 or empty
	Longitude           float64 // degrees
	Latitude            float64 // degrees
	CreateMillis        int64

	Online              bool
	OnlineChangedMillis int64 // 0: never seen
}

// GatewayFilter selects gateways. A zero field selects all; Like as above.
type GatewayFilter struct {
	Owner         AccountID
	InstanceID    *string
	Online        *bool
	Enabled       *bool
	BandPlanGroup band.GroupID
	ActiveSince   int64 // online, or its state changed at this time or later; 0: all

	EUILike  string
	CityLike string
	NameLike string
	Page
}

// GatewayState is one change of a gateway's online state.
type GatewayState struct {
	EUI           EUI64
	Online        bool
	ChangedMillis int64
}

// The categories of notifications.
const (
	NoticeGatewayOffline = "GATEWAY_OFFLINE"
	NoticeAuthApplying   = "JOIN_PERMISSION_AUTH_APPLYING"
	NoticeAuthAccepted   = "JOIN_PERMISSION_AUTH_ACCEPTED"
	NoticeAuthRejected   = "JOIN_PERMISSION_AUTH_REJECTED"
	NoticeAuthCanceled   = "JOIN_PERMISSION_AUTH_CANCELED"
)

// Notification tells an account of something. What it tells of is kept as it
// was then: Offline for GATEWAY_OFFLINE, Auth for the others.
type Notification struct {
	ID            int64
	Account       AccountID
	Category      string
	NoticeMillis  int64
	HandledMillis int64 // 0: unhandled
	Offline       *GatewayState
	Auth          *NoticedOrder
}

// NoticedOrder is an order as a notification tells of it.
type NoticedOrder struct {
	Order
	PermissionName string
	JoinEUI        EUI64
}

// NotificationFilter selects notifications. A zero field selects all. ByCreated
// sorts by NoticeMillis.
type NotificationFilter struct {
	Account     AccountID
	Categories  []string // nil: all; empty: none
	Handled     *bool
	BeginMillis int64 // at this time or later
	EndMillis   int64 // at this time or earlier; 0: no end
	Page
}
