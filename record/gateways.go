package record

import (
	"database/sql"

	"joingate/band"
	"joingate/joinserver"
)

// NewGateway is a gateway to register. Account 0 puts it in stock.
type NewGateway struct {
	EUI           joinserver.EUI64
	Account       joinserver.AccountID
	BandPlanGroup band.GroupID
	PinCode       string
	CreateMillis  int64
}

// GatewayAccount tells who holds a gateway; 0: it is in stock. ErrNotFound.
func (tx *Tx) GatewayAccount(eui joinserver.EUI64) (account joinserver.AccountID, err error) {
	err = tx.row(`SELECT account_id FROM gateways WHERE gw_eui = $1`, eui.String()).Scan(&account)
	return account, asNotFound(err)
}

// InsertGateway registers a gateway, enabled. ErrDuplicate: the EUI is known.
func (tx *Tx) InsertGateway(g NewGateway) error {
	return tx.AddGateway(joinserver.GatewayInfo{
		Gateway: joinserver.Gateway{EUI: g.EUI, Owner: g.Account, Enabled: true, BandPlanGroup: g.BandPlanGroup},
		PinCode: g.PinCode, CreateMillis: g.CreateMillis,
	})
}

// ClaimGateway gives a gateway in stock to an account. ErrNotFound.
func (tx *Tx) ClaimGateway(g NewGateway) error {
	return tx.mustChange(`
UPDATE gateways SET version = $1, account_id = $2, enabled = TRUE, band_plan_group = $3 WHERE gw_eui = $4 AND account_id = 0`,
		tx.revision, int64(g.Account), int64(g.BandPlanGroup), g.EUI.String())
}

// RegisteredGateways lists the gateways that accounts hold.
func (tx *Tx) RegisteredGateways() (list []joinserver.Gateway, err error) {
	all, _, err := tx.Gateways(joinserver.GatewayFilter{Page: joinserver.Page{Limit: joinserver.NoLimit}})
	for _, g := range all {
		list = append(list, g.Gateway)
	}
	return list, err
}

const (
	gatewayColumns = `w.gw_eui, w.version, w.account_id, w.enabled, w.band_plan_group, COALESCE(a.roaming_gateways, FALSE), w.pin_code, w.instance_id,
    w.name, w.description, w.city, w.district, w.address, w.address_code, w.communication_mode, w.gis_coordinate_system, w.longitude, w.latitude,
    w.online, w.online_changed_ms, w.created_ms`
	gatewayFrom = ` FROM gateways w LEFT JOIN accounts a ON a.id = w.account_id`
)

var gatewayOrder = order{joinserver.ByID: "w.gw_eui", joinserver.ByCreated: "w.created_ms", joinserver.ByOnlineChanged: "w.online_changed_ms"}

func scanGateway(scan func(...any) error) (g joinserver.GatewayInfo, err error) {
	var eui string
	err = scan(&eui, &g.Version, &g.Owner, &g.Enabled, &g.BandPlanGroup, &g.OpenToRoaming, &g.PinCode, &g.InstanceID,
		&g.Name, &g.Description, &g.City, &g.District, &g.Address, &g.AddressCode, &g.CommunicationMode, &g.GisCoordinateSystem, &g.Longitude, &g.Latitude,
		&g.Online, &g.OnlineChangedMillis, &g.CreateMillis)
	if err != nil {
		return g, asNotFound(err)
	}
	g.EUI, err = joinserver.ParseEUI64(eui)
	return g, err
}

// Gateway reads a gateway, also one in stock. ErrNotFound.
func (tx *Tx) Gateway(eui joinserver.EUI64) (joinserver.GatewayInfo, error) {
	return scanGateway(tx.row(`SELECT `+gatewayColumns+gatewayFrom+` WHERE w.gw_eui = $1`, eui.String()).Scan)
}

// Gateways lists the gateways that accounts hold, and counts all that match.
func (tx *Tx) Gateways(f joinserver.GatewayFilter) (list []joinserver.GatewayInfo, total int64, err error) {
	w := gatewayWhere(f)
	if err := tx.row(`SELECT COUNT(*) FROM gateways w`+w.where(), w.args...).Scan(&total); err != nil || f.Limit == 0 {
		return nil, total, err
	}
	err = tx.rows(func(rows *sql.Rows) error {
		g, err := scanGateway(rows.Scan)
		list = append(list, g)
		return err
	}, `SELECT `+gatewayColumns+gatewayFrom+w.where()+gatewayOrder.page(f.Page), w.args...)
	return list, total, err
}

func gatewayWhere(f joinserver.GatewayFilter) *filter {
	w := &filter{conditions: []string{"w.account_id <> 0"}}
	if f.Owner != 0 {
		w.add("w.account_id = ?", int64(f.Owner))
	}
	if f.InstanceID != nil {
		w.add("w.instance_id = ?", *f.InstanceID)
	}
	if f.Online != nil {
		w.add("w.online = ?", *f.Online)
	}
	if f.Enabled != nil {
		w.add("w.enabled = ?", *f.Enabled)
	}
	if f.BandPlanGroup != 0 {
		w.add("w.band_plan_group = ?", int64(f.BandPlanGroup))
	}
	if f.ActiveSince != 0 {
		w.add("(w.online OR w.online_changed_ms >= ?)", f.ActiveSince)
	}
	w.like("w.gw_eui", f.EUILike)
	w.like("w.city", f.CityLike)
	w.like("w.name", f.NameLike)
	return w
}

// AddGateway registers a gateway that was never seen. ErrDuplicate: the EUI is
// known.
func (tx *Tx) AddGateway(g joinserver.GatewayInfo) error {
	_, err := tx.exec(`
INSERT INTO gateways (gw_eui, version, account_id, enabled, band_plan_group, pin_code, instance_id, name, description, city, district,
    address, address_code, communication_mode, gis_coordinate_system, longitude, latitude, online, online_changed_ms, created_ms)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, FALSE, 0, $18)`,
		g.EUI.String(), tx.revision, int64(g.Owner), g.Enabled, int64(g.BandPlanGroup), g.PinCode, g.InstanceID, g.Name, g.Description, g.City,
		g.District, g.Address, g.AddressCode, g.CommunicationMode, g.GisCoordinateSystem, g.Longitude, g.Latitude, g.CreateMillis)
	return asDuplicate(err)
}

// UpdateGateway replaces all but EUI, PIN and online state, and moves the version.
// Owner 0 puts it back into stock. With another owner the record of its online
// states ends: it was the former owner's. ErrNotFound.
func (tx *Tx) UpdateGateway(g joinserver.GatewayInfo) error {
	_, err := tx.exec(`DELETE FROM gateway_states WHERE gw_eui = $1 AND NOT EXISTS (SELECT 1 FROM gateways w WHERE w.gw_eui = $2 AND w.account_id = $3)`,
		g.EUI.String(), g.EUI.String(), int64(g.Owner))
	if err != nil {
		return err
	}
	return tx.mustChange(`
UPDATE gateways SET version = $1, account_id = $2, enabled = $3, band_plan_group = $4, instance_id = $5, name = $6, description = $7, city = $8,
    district = $9, address = $10, address_code = $11, communication_mode = $12, gis_coordinate_system = $13, longitude = $14, latitude = $15,
    created_ms = $16
WHERE gw_eui = $17`,
		tx.revision, int64(g.Owner), g.Enabled, int64(g.BandPlanGroup), g.InstanceID, g.Name, g.Description, g.City,
		g.District, g.Address, g.AddressCode, g.CommunicationMode, g.GisCoordinateSystem, g.Longitude, g.Latitude,
		g.CreateMillis, g.EUI.String())
}

// DeleteGateway forgets a gateway and the record of its online states.
// ErrNotFound.
func (tx *Tx) DeleteGateway(eui joinserver.EUI64) error {
	if _, err := tx.exec(`DELETE FROM gateway_states WHERE gw_eui = $1`, eui.String()); err != nil {
		return err
	}
	return tx.mustChange(`DELETE FROM gateways WHERE gw_eui = $1`, eui.String())
}

// SetGatewayState keeps a gateway's online state and the record of its changes.
// No version moves: joins do not depend on it. ErrNotFound.
func (tx *Tx) SetGatewayState(s joinserver.GatewayState) error {
	if err := tx.mustChange(`UPDATE gateways SET online = $1, online_changed_ms = $2 WHERE gw_eui = $3`, s.Online, s.ChangedMillis, s.EUI.String()); err != nil {
		return err
	}
	_, err := tx.exec(`
INSERT INTO gateway_states (gw_eui, changed_ms, online) VALUES ($1, $2, $3) ON CONFLICT (gw_eui, changed_ms) DO UPDATE SET online = excluded.online`,
		s.EUI.String(), s.ChangedMillis, s.Online)
	return err
}

// GatewayStates lists the changes of a gateway's online state by their time, and
// counts them.
func (tx *Tx) GatewayStates(eui joinserver.EUI64, p joinserver.Page) (list []joinserver.GatewayState, total int64, err error) {
	if err := tx.row(`SELECT COUNT(*) FROM gateway_states WHERE gw_eui = $1`, eui.String()).Scan(&total); err != nil {
		return nil, 0, err
	}
	err = tx.rows(func(rows *sql.Rows) error {
		s := joinserver.GatewayState{EUI: eui}
		err := rows.Scan(&s.Online, &s.ChangedMillis)
		list = append(list, s)
		return err
	}, `SELECT online, changed_ms FROM gateway_states WHERE gw_eui = $1`+order{joinserver.ByID: "changed_ms"}.page(p), eui.String())
	return list, total, err
}
