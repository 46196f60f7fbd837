package linkwan

import (
	"encoding/json"
	"fmt"
	"strconv"

	"joingate/joinserver"
)

// The entities of Change.Entity.
const (
	entityPermission = "permission"
	entityGroup      = "group"
	entityOrder      = "order"
	entityNode       = "node"
	entityGateway    = "gateway"
)

// auditedTx tells the record's audit what each write changes, with the old row
// and the new one, so that no action can forget to.
type auditedTx struct {
	Tx
	changed []joinserver.Change
}

// note audits one change. A nil row is one that is not there.
func (t *auditedTx) note(entity, id string, before, after any) error {
	change := joinserver.Change{Entity: entity, ID: id}
	var err error
	if change.Old, err = rowJSON(before); err != nil {
		return err
	}
	if change.New, err = rowJSON(after); err != nil {
		return err
	}
	t.changed = append(t.changed, change)
	return t.Audit(change)
}

func rowJSON(row any) (string, error) {
	if row == nil {
		return "", nil
	}
	text, err := json.Marshal(row)
	if err != nil {
		return "", fmt.Errorf("write row for the audit: %w", err)
	}
	return string(text), nil
}

func idText(id int64) string { return strconv.FormatInt(id, 10) }

// optionalID is the wire form of an id, "" for none.
func optionalID(id int64) string {
	if id == 0 {
		return ""
	}
	return idText(id)
}

func (t *auditedTx) InsertPermission(p joinserver.Permission) (int64, error) {
	id, err := t.Tx.InsertPermission(p)
	if err != nil {
		return 0, err
	}
	p.ID = id
	return id, t.note(entityPermission, idText(id), nil, p)
}

func (t *auditedTx) UpdatePermission(p joinserver.Permission) error {
	before, err := t.Permission(p.ID)
	if err != nil {
		return err
	}
	if err := t.Tx.UpdatePermission(p); err != nil {
		return err
	}
	return t.note(entityPermission, idText(p.ID), before, p)
}

func (t *auditedTx) DeletePermission(id int64) error {
	before, err := t.Permission(id)
	if err != nil {
		return err
	}
	if err := t.Tx.DeletePermission(id); err != nil {
		return err
	}
	return t.note(entityPermission, idText(id), before, nil)
}

func (t *auditedTx) InsertGroup(g joinserver.Group) (int64, error) {
	id, err := t.Tx.InsertGroup(g)
	if err != nil {
		return 0, err
	}
	g.ID = id
	return id, t.note(entityGroup, idText(id), nil, g)
}

func (t *auditedTx) UpdateGroup(g joinserver.Group) error {
	before, err := t.Group(g.ID)
	if err != nil {
		return err
	}
	if err := t.Tx.UpdateGroup(g); err != nil {
		return err
	}
	return t.note(entityGroup, idText(g.ID), before, g)
}

func (t *auditedTx) InsertOrder(o joinserver.Order) (int64, error) {
	id, err := t.Tx.InsertOrder(o)
	if err != nil {
		return 0, err
	}
	o.ID = id
	return id, t.note(entityOrder, idText(id), nil, o)
}

func (t *auditedTx) UpdateOrder(o joinserver.Order) error {
	before, err := t.Order(o.ID)
	if err != nil {
		return err
	}
	if err := t.Tx.UpdateOrder(o); err != nil {
		return err
	}
	return t.note(entityOrder, idText(o.ID), before, o)
}

func (t *auditedTx) DeleteGroup(id int64) error {
	before, err := t.Group(id)
	if err != nil {
		return err
	}
	if err := t.Tx.DeleteGroup(id); err != nil {
		return err
	}
	return t.note(entityGroup, idText(id), before, nil)
}

func (t *auditedTx) UpdateDevice(d joinserver.Device) error {
	before, err := t.Device(d.DevEUI)
	if err != nil {
		return err
	}
	if err := t.Tx.UpdateDevice(d); err != nil {
		return err
	}
	return t.note(entityNode, d.DevEUI.String(), before, d)
}

func (t *auditedTx) AddGateway(g joinserver.GatewayInfo) error {
	if err := t.Tx.AddGateway(g); err != nil {
		return err
	}
	return t.note(entityGateway, g.EUI.String(), nil, g)
}

func (t *auditedTx) UpdateGateway(g joinserver.GatewayInfo) error {
	before, err := t.Gateway(g.EUI)
	if err != nil {
		return err
	}
	if err := t.Tx.UpdateGateway(g); err != nil {
		return err
	}
	return t.note(entityGateway, g.EUI.String(), before, g)
}

func (t *auditedTx) DeleteGateway(eui joinserver.EUI64) error {
	before, err := t.Gateway(eui)
	if err != nil {
		return err
	}
	if err := t.Tx.DeleteGateway(eui); err != nil {
		return err
	}
	return t.note(entityGateway, eui.String(), before, nil)
}
