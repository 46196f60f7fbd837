package linkwan

import (
	"fmt"

	"joingate/joinserver"
)

// submitJoinPermissionAuthOrder offers a permission to a renter. Offered to the
// owner itself it is granted at once.
func submitJoinPermissionAuthOrder(c call, tx Tx) (any, error) {
	p, err := c.ownedPermission(tx)
	if err != nil {
		return nil, err
	}
	renter, err := c.findRenter(tx)
	if err != nil {
		return nil, err
	}
	_, bound, err := boundGroup(tx, p.ID)
	if err != nil {
		return nil, err
	}
	if promised(p) || bound && renter != p.Owner {
		return nil, fail("JoinPermissionAlreadyAuthorized")
	}
	return c.offer(tx, p, renter)
}

func (c call) findRenter(tx Tx) (joinserver.AccountID, error) {
	id, ok := parseID(c.text("RenterAliyunId"))
	if !ok {
		return 0, fail("RenterDoesNotExist")
	}
	renter, err := tx.Account(joinserver.AccountID(id))
	return renter.ID, asFailure(err, joinserver.ErrNotFound, "RenterDoesNotExist")
}

func (c call) offer(tx Tx, p joinserver.Permission, renter joinserver.AccountID) (any, error) {
	order := joinserver.Order{
		PermissionID: p.ID, Owner: p.Owner, Renter: renter, State: joinserver.OrderApplying, ApplyingMillis: c.now.UnixMilli(),
	}
	p.AuthState, p.Renter = joinserver.Applying, renter
	if renter == p.Owner {
		order.State, order.AcceptedMillis = joinserver.OrderAccepted, order.ApplyingMillis
		p.AuthState = joinserver.Accepted
	}
	if err := tx.UpdatePermission(p); err != nil {
		return nil, err
	}
	id, err := tx.InsertOrder(order)
	if err != nil {
		return nil, err
	}
	order.ID = id
	if order.State == joinserver.OrderApplying {
		err = c.notice(tx, renter, joinserver.NoticeAuthApplying, order, p)
	}
	return id, err
}

// findOrder looks up an order that the caller takes part in.
func (c call) findOrder(tx Tx) (joinserver.Order, error) {
	id, ok := parseID(c.text("OrderId"))
	if !ok {
		return joinserver.Order{}, fail("NonExistent")
	}
	o, err := tx.Order(id)
	if err == nil && o.Owner != c.account.ID && o.Renter != c.account.ID {
		return o, fail("NotResourceOwner")
	}
	return o, asFailure(err, joinserver.ErrNotFound, "NonExistent")
}

// openOrder looks up an order that the caller, in its role, may still decide.
func (c call) openOrder(tx Tx, role func(joinserver.Order) joinserver.AccountID) (joinserver.Order, error) {
	o, err := c.findOrder(tx)
	switch {
	case err != nil:
		return o, err
	case role(o) != c.account.ID:
		return o, fail("NotResourceOwner")
	case o.State != joinserver.OrderApplying:
		return o, fail("IllegalOrderStateTransition")
	}
	return o, nil
}

func theRenter(o joinserver.Order) joinserver.AccountID { return o.Renter }
func theOwner(o joinserver.Order) joinserver.AccountID  { return o.Owner }

func acceptJoinPermissionAuthOrder(c call, tx Tx) (any, error) {
	o, err := c.openOrder(tx, theRenter)
	if err != nil {
		return nil, err
	}
	o.State, o.AcceptedMillis = joinserver.OrderAccepted, c.now.UnixMilli()
	return nil, c.settle(tx, o, joinserver.Accepted, o.Owner, joinserver.NoticeAuthAccepted)
}

func rejectJoinPermissionAuthOrder(c call, tx Tx) (any, error) {
	o, err := c.openOrder(tx, theRenter)
	if err != nil {
		return nil, err
	}
	o.State, o.RejectedMillis = joinserver.OrderRejected, c.now.UnixMilli()
	return nil, c.settle(tx, o, joinserver.New, o.Owner, joinserver.NoticeAuthRejected)
}

func cancelJoinPermissionAuthOrder(c call, tx Tx) (any, error) {
	o, err := c.openOrder(tx, theOwner)
	if err != nil {
		return nil, err
	}
	o.State, o.CanceledMillis = joinserver.OrderCanceled, c.now.UnixMilli()
	return nil, c.settle(tx, o, joinserver.New, o.Renter, joinserver.NoticeAuthCanceled)
}

// settle ends an order: its permission takes the state, and the other side is
// told. An offered permission cannot be deleted, so it is there.
func (c call) settle(tx Tx, o joinserver.Order, state joinserver.AuthState, other joinserver.AccountID, category string) error {
	p, err := tx.Permission(o.PermissionID)
	if err != nil {
		return fmt.Errorf("permission of order %d: %w", o.ID, err)
	}
	if p.AuthState = state; state == joinserver.New {
		p.Renter = 0
	}
	if err := tx.UpdatePermission(p); err != nil {
		return err
	}
	if err := tx.UpdateOrder(o); err != nil {
		return err
	}
	return c.notice(tx, other, category, o, p)
}

// orderWire is the wire form of an order.
type orderWire struct {
	OrderId          string
	OrderState       string
	JoinPermissionId string
	OwnerAliyunId    string
	RenterAliyunId   string
	ApplyingMillis   int64
	AcceptedMillis   int64
	RejectedMillis   int64
	CanceledMillis   int64
}

func wireOrder(o joinserver.Order) orderWire {
	return orderWire{
		OrderId:          idText(o.ID),
		OrderState:       string(o.State),
		JoinPermissionId: idText(o.PermissionID),
		OwnerAliyunId:    accountText(o.Owner),
		RenterAliyunId:   accountText(o.Renter),
		ApplyingMillis:   o.ApplyingMillis,
		AcceptedMillis:   o.AcceptedMillis,
		RejectedMillis:   o.RejectedMillis,
		CanceledMillis:   o.CanceledMillis,
	}
}

func getJoinPermissionAuthOrder(c call, tx Tx) (any, error) {
	o, err := c.findOrder(tx)
	if err != nil {
		return nil, err
	}
	return wireOrder(o), nil
}
