package linkwan

import (
	"joingate/joinserver"
)

// maxRoamingPermissions is how many ROAMING permissions an account may hold
// (help page of ApplyRoamingJoinPermission).
const maxRoamingPermissions = 1

// applyRoamingJoinPermission makes a permission of the platform and grants it to
// the caller. Its JoinEUI is the platform's.
func applyRoamingJoinPermission(c call, tx Tx) (any, error) {
	p, err := c.newPermission(joinserver.Roaming, c.DefaultJoinEUI)
	if err != nil {
		return nil, err
	}
	p.AuthState, p.Renter = joinserver.Accepted, c.account.ID
	held, err := roamingCount(tx, c.account.ID)
	if err != nil {
		return nil, err
	}
	if held >= maxRoamingPermissions {
		return nil, fail("ExceedRoamingJoinPermissionLimit")
	}
	return insertPermission(tx, p)
}

func roamingCount(tx Tx, renter joinserver.AccountID) (int64, error) {
	_, held, err := tx.Permissions(joinserver.PermissionFilter{Renter: renter, Type: joinserver.Roaming})
	return held, err
}

// roaming looks up a ROAMING permission of the caller.
func (c call) roaming(tx Tx) (joinserver.Permission, error) {
	p, err := c.rented(tx)
	if err == nil && p.Type != joinserver.Roaming {
		return p, fail("NonExistent")
	}
	return p, err
}

// updateRoamingJoinPermission takes RxDelay in seconds, as every other action
// does, whatever Alibaba's metadata says of this one.
func updateRoamingJoinPermission(c call, tx Tx) (any, error) {
	p, err := c.roaming(tx)
	if err != nil {
		return nil, err
	}
	_, bound, err := boundGroup(tx, p.ID)
	if err != nil {
		return nil, err
	}
	if bound {
		return nil, fail("JoinPermissionAlreadyBoundNodeGroup")
	}
	if err := c.change(&p); err != nil {
		return nil, err
	}
	return nil, asFailure(tx.UpdatePermission(p), joinserver.ErrDuplicate, "JoinPermissionNameDuplicated")
}

func updateRoamingEnablingState(c call, tx Tx) (any, error) {
	p, err := c.roaming(tx)
	if err != nil {
		return nil, err
	}
	p.Enabled = c.flag("Enabled")
	return nil, tx.UpdatePermission(p)
}
