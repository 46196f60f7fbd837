package linkwan

import (
	"encoding/binary"
	"slices"

	"joingate/joinserver"
)

// rowOrder makes an order of ids out of EUIs.
func rowOrder(eui joinserver.EUI64) int64 { return int64(binary.BigEndian.Uint64(eui[:]) >> 1) }

func (t *fakeTx) Device(eui joinserver.EUI64) (joinserver.Device, error) { return find(t.devices, eui) }

func (t *fakeTx) Devices(f joinserver.DeviceFilter) ([]joinserver.Device, int64, error) {
	var rows []joinserver.Device
	for _, d := range t.devices {
		if zeroOr(f.Account, d.Account) && zeroOr(f.GroupID, d.GroupID) && like(d.DevEUI.String(), f.DevEUILike) {
			rows = append(rows, d)
		}
	}
	page, total := cut(rows, f.Page, func(d joinserver.Device) (int64, int64) {
		if f.By == joinserver.ByLastJoin {
			return d.LastJoinMillis, rowOrder(d.DevEUI)
		}
		return d.BoundMillis, rowOrder(d.DevEUI)
	})
	return page, total, nil
}

func (t *fakeTx) UpdateDevice(d joinserver.Device) error {
	if t.readOnly {
		return errReadOnly
	}
	if _, err := find(t.devices, d.DevEUI); err != nil {
		return err
	}
	t.devices[d.DevEUI] = d
	return nil
}

func (t *fakeTx) DeleteGroup(id int64) error {
	if t.readOnly {
		return errReadOnly
	}
	if _, err := find(t.groups, id); err != nil {
		return err
	}
	delete(t.groups, id)
	for eui, d := range t.devices {
		if d.GroupID == id {
			d.GroupID, d.BoundMillis = 0, 0
			t.devices[eui] = d
		}
	}
	return nil
}

func (t *fakeTx) Gateway(eui joinserver.EUI64) (joinserver.GatewayInfo, error) {
	return find(t.gateways, eui)
}

func (t *fakeTx) Gateways(f joinserver.GatewayFilter) ([]joinserver.GatewayInfo, int64, error) {
	var rows []joinserver.GatewayInfo
	for _, g := range t.gateways {
		if g.Owner != 0 && zeroOr(f.Owner, g.Owner) && nilOr(f.InstanceID, g.InstanceID) && nilOr(f.Online, g.Online) && nilOr(f.Enabled, g.Enabled) &&
			zeroOr(f.BandPlanGroup, g.BandPlanGroup) && (g.Online || g.OnlineChangedMillis >= f.ActiveSince) &&
			like(g.EUI.String(), f.EUILike) && like(g.City, f.CityLike) && like(g.Name, f.NameLike) {
			rows = append(rows, g)
		}
	}
	page, total := cut(rows, f.Page, func(g joinserver.GatewayInfo) (int64, int64) { return g.OnlineChangedMillis, rowOrder(g.EUI) })
	return page, total, nil
}

func (t *fakeTx) AddGateway(g joinserver.GatewayInfo) error {
	if t.readOnly {
		return errReadOnly
	}
	if _, known := t.gateways[g.EUI]; known {
		return joinserver.ErrDuplicate
	}
	t.gateways[g.EUI] = g
	return nil
}

func (t *fakeTx) UpdateGateway(g joinserver.GatewayInfo) error {
	if t.readOnly {
		return errReadOnly
	}
	before, err := find(t.gateways, g.EUI)
	g.PinCode, g.Online, g.OnlineChangedMillis = before.PinCode, before.Online, before.OnlineChangedMillis
	if err == nil {
		t.gateways[g.EUI] = g
	}
	return err
}

func (t *fakeTx) DeleteGateway(eui joinserver.EUI64) error {
	if t.readOnly {
		return errReadOnly
	}
	_, err := find(t.gateways, eui)
	delete(t.gateways, eui)
	return err
}

func (t *fakeTx) SetGatewayState(s joinserver.GatewayState) error {
	if t.readOnly {
		return errReadOnly
	}
	g, err := find(t.gateways, s.EUI)
	if err != nil {
		return err
	}
	g.Online, g.OnlineChangedMillis = s.Online, s.ChangedMillis
	t.gateways[s.EUI] = g
	t.states = append(t.states, s)
	return nil
}

func (t *fakeTx) GatewayStates(eui joinserver.EUI64, page joinserver.Page) ([]joinserver.GatewayState, int64, error) {
	var rows []joinserver.GatewayState
	for _, s := range t.states {
		if s.EUI == eui {
			rows = append(rows, s)
		}
	}
	states, total := cut(rows, page, func(s joinserver.GatewayState) (int64, int64) { return s.ChangedMillis, s.ChangedMillis })
	return states, total, nil
}

func (t *fakeTx) Notification(id int64) (joinserver.Notification, error) { return find(t.notices, id) }

func (t *fakeTx) Notifications(f joinserver.NotificationFilter) ([]joinserver.Notification, int64, error) {
	var rows []joinserver.Notification
	for _, n := range t.notices {
		if zeroOr(f.Account, n.Account) && (f.Categories == nil || slices.Contains(f.Categories, n.Category)) &&
			nilOr(f.Handled, n.HandledMillis != 0) && n.NoticeMillis >= f.BeginMillis && (f.EndMillis == 0 || n.NoticeMillis <= f.EndMillis) {
			rows = append(rows, n)
		}
	}
	page, total := cut(rows, f.Page, func(n joinserver.Notification) (int64, int64) { return n.NoticeMillis, n.ID })
	return page, total, nil
}

func (t *fakeTx) InsertNotification(n joinserver.Notification) (int64, error) {
	id, err := t.newID()
	if err != nil {
		return 0, err
	}
	n.ID = id
	t.notices[id] = n
	return id, nil
}

func (t *fakeTx) UpdateNotification(n joinserver.Notification) error {
	if t.readOnly {
		return errReadOnly
	}
	if _, err := find(t.notices, n.ID); err != nil {
		return err
	}
	t.notices[n.ID] = n
	return nil
}
