package joinserver

import (
	"context"
	"errors"
	"fmt"
	"time"

	"joingate/band"
	"joingate/keyring"
)

// Policies finds what decides the joins of a device. Implementations may
// answer from a cache: the commit checks what they said.
type Policies interface {
	// Policy returns the policy of a device, or ErrUnknownDevice when nobody
	// registered it. Any other error is a fault, not a refusal.
	Policy(ctx context.Context, device EUI64) (Policy, error)
	// Gateways returns those of the gateways that are registered, in any order.
	Gateways(ctx context.Context, euis []EUI64) ([]Gateway, error)
}

// ErrUnknownDevice says that a DevEUI is not registered.
var ErrUnknownDevice = errors.New("device is not registered")

// Policy is all that decides a join of one device, but for its gateway. Each
// part carries the version that the commit compares with the record.
type Policy struct {
	Node       Node
	Group      NodeGroup      // ID 0: the node is in no group
	Permission JoinPermission // ID 0: the group is bound to none
}

// Node is a device.
type Node struct {
	DevEUI     EUI64
	Account    AccountID // 0: in stock, not claimed yet
	Enabled    bool
	MACVersion MACVersion
	Keys       keyring.RootKeys
	Version    int64
}

// NodeGroup joins nodes to the join permission that their account holds.
type NodeGroup struct {
	ID      int64
	Version int64
}

// PermissionType tells whose gateways may serve a join permission.
type PermissionType string

// The types of Link WAN.
const (
	Local   PermissionType = "LOCAL"   // the owner's gateways
	Roaming PermissionType = "ROAMING" // gateways of accounts that are open to roaming
)

// JoinPermission is the rule that an administrator sets.
type JoinPermission struct {
	ID            int64
	Type          PermissionType
	Owner         AccountID // 0: issued by the platform (ROAMING)
	Enabled       bool
	JoinEUI       EUI64
	BandPlanGroup band.GroupID
	ClassMode     string         // A, B, C or D2D
	RxDelay       time.Duration  // whole seconds up to 15; 0 means 1 s on the air
	DataRate      *band.DataRate // RX2 data rate after the join; nil: the region's default
	// RequireOwn refuses a network server that asks for another RxDelay or RX2 data
	// rate than these two (see JoinFor).
	RequireOwn bool
	Version    int64
}

// admits refuses a request that the policy, without regard to radio and keys,
// does not let in.
func (p Policy) admits(req JoinRequest) error {
	account := p.Node.Account
	switch {
	case !p.Node.Enabled:
		return req.reject(DeviceDisabled, account, "")
	case p.Group.ID == 0:
		return req.reject(NoPermission, account, "the node is in no group")
	case p.Permission.ID == 0:
		return req.reject(NoPermission, account, fmt.Sprintf("node group %d is bound to no join permission", p.Group.ID))
	case !p.Permission.Enabled:
		return req.reject(PermissionDisabled, account, fmt.Sprintf("join permission %d", p.Permission.ID))
	case p.Permission.JoinEUI != req.JoinEUI:
		return req.reject(WrongJoinEUI, account, fmt.Sprintf("join permission %d has %s", p.Permission.ID, p.Permission.JoinEUI))
	}
	return nil
}

// differs reports whether the other is not the same version of the policy.
func (p Policy) differs(other Policy) bool {
	return p.Node.Version != other.Node.Version || p.Group.Version != other.Group.Version || p.Permission.Version != other.Permission.Version
}

// encodable reports why a join-accept cannot carry what the permission sets. That
// is a fault of what keeps permissions, and has to be seen before the commit: a
// join that cannot be encoded after it has burnt its nonces.
func (p JoinPermission) encodable() error {
	if p.RxDelay < 0 || p.RxDelay > 15*time.Second || p.RxDelay%time.Second != 0 {
		return fmt.Errorf("join permission %d has RxDelay %s, not 0 to 15 whole seconds", p.ID, p.RxDelay)
	}
	if p.DataRate != nil && *p.DataRate > 15 {
		return fmt.Errorf("join permission %d has DataRate %d, not 0 to 15", p.ID, *p.DataRate)
	}
	return nil
}

// Gateway is a registered gateway.
type Gateway struct {
	EUI           EUI64
	Owner         AccountID
	Enabled       bool
	BandPlanGroup band.GroupID
	OpenToRoaming bool // the owner's switch
	Version       int64
}

// Serves reports whether the gateway may serve the permission.
func (g Gateway) Serves(p JoinPermission) bool {
	if !g.Enabled || g.BandPlanGroup != p.BandPlanGroup {
		return false
	}
	if p.Type == Roaming {
		return g.OpenToRoaming
	}
	return g.Owner == p.Owner
}
