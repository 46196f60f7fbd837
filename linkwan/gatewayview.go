package linkwan

import (
	"time"

	"joingate/band"
	"joingate/joinserver"
)

// gatewayCore is what every answer on a gateway holds.
type gatewayCore struct {
	GwEui               string
	Name                string
	FreqBandPlanGroupId int64
	GisCoordinateSystem string
	Longitude           float64
	Latitude            float64
	OnlineState         string
	ChargeStatus        string // always NORMAL: nothing is charged here
}

func gatewayCoreWire(g joinserver.GatewayInfo) gatewayCore {
	return gatewayCore{
		GwEui:               g.EUI.String(),
		Name:                g.Name,
		FreqBandPlanGroupId: int64(g.BandPlanGroup),
		GisCoordinateSystem: g.GisCoordinateSystem,
		Longitude:           g.Longitude,
		Latitude:            g.Latitude,
		OnlineState:         onlineText(g.Online),
		ChargeStatus:        chargeNormal,
	}
}

const (
	online       = "ONLINE"
	offline      = "OFFLINE"
	chargeNormal = "NORMAL"
)

func onlineText(is bool) string {
	if is {
		return online
	}
	return offline
}

// gatewayPlace is where a gateway stands and how it sends.
type gatewayPlace struct {
	Description       string
	City              string
	District          string
	Address           string
	AddressCode       int64
	CommunicationMode string
}

func gatewayPlaceWire(g joinserver.GatewayInfo) gatewayPlace {
	return gatewayPlace{g.Description, g.City, g.District, g.Address, g.AddressCode, g.CommunicationMode}
}

// gatewayWire is the wire form of a gateway. Of class B and time correction this
// module knows nothing: false.
type gatewayWire struct {
	gatewayCore
	gatewayPlace
	Enabled                  bool
	OnlineStateChangedMillis int64
	AuthTypes                string
	ClassBSupported          bool
	ClassBWorking            bool
	TimeCorrectable          bool
}

func wireGateway(g joinserver.GatewayInfo) gatewayWire {
	return gatewayWire{
		gatewayCore: gatewayCoreWire(g), gatewayPlace: gatewayPlaceWire(g), Enabled: g.Enabled,
		OnlineStateChangedMillis: g.OnlineChangedMillis, AuthTypes: standardAuth,
	}
}

func getGateway(c call, tx Tx) (any, error) {
	g, err := c.findGateway(tx)
	if err != nil {
		return nil, err
	}
	return wireGateway(g), nil
}

// gatewayFilter selects the caller's gateways by the call's filters.
func (c call) gatewayFilter() joinserver.GatewayFilter {
	f := joinserver.GatewayFilter{
		Owner:         c.account.ID,
		InstanceID:    &c.account.InstanceID,
		Enabled:       c.optionalFlag("IsEnabled"),
		BandPlanGroup: band.GroupID(c.integer("FreqBandPlanGroupId")),
		EUILike:       c.text("FuzzyGwEui"),
		CityLike:      c.text("FuzzyCity"),
		NameLike:      c.text("FuzzyName"),
		Page:          c.page(map[string]joinserver.SortKey{"ONLINE_STATE_CHANGED_MILLIS": joinserver.ByOnlineChanged}),
	}
	if c.has("OnlineState") {
		is := c.text("OnlineState") == online
		f.Online = &is
	}
	return f
}

func listGateways(c call, tx Tx) (any, error) {
	if c.integer("Limit") > maxListLimit {
		return nil, invalid("Limit")
	}
	gateways, total, err := tx.Gateways(c.gatewayFilter())
	if err != nil {
		return nil, err
	}
	return list[gatewayWire]{total, each(gateways, wireGateway)}, nil
}

func countGateways(c call, tx Tx) (any, error) {
	_, total, err := tx.Gateways(c.gatewayFilter())
	return total, err
}

// each gives the wire forms of rows. It is never nil, which would be null.
func each[Row, Wire any](rows []Row, wire func(Row) Wire) []Wire {
	wired := make([]Wire, 0, len(rows))
	for _, row := range rows {
		wired = append(wired, wire(row))
	}
	return wired
}

// allGateways are the caller's gateways, without a page.
func (c call) allGateways() joinserver.GatewayFilter {
	return joinserver.GatewayFilter{
		Owner: c.account.ID, InstanceID: &c.account.InstanceID, Page: joinserver.Page{Limit: joinserver.NoLimit},
	}
}

// placedGateway is a gateway on a map.
type placedGateway struct {
	gatewayCore
	Enabled   bool
	AuthTypes string
}

func listGatewaysGisInfo(c call, tx Tx) (any, error) {
	gateways, _, err := tx.Gateways(c.allGateways())
	if err != nil {
		return nil, err
	}
	return each(gateways, func(g joinserver.GatewayInfo) placedGateway {
		return placedGateway{gatewayCoreWire(g), g.Enabled, standardAuth}
	}), nil
}

// activeGateway is a gateway that was online today.
type activeGateway struct {
	gatewayCore
	gatewayPlace
}

// listActiveGateways takes today as the day of the server's clock.
func listActiveGateways(c call, tx Tx) (any, error) {
	f := c.allGateways()
	year, month, day := c.now.Date()
	f.ActiveSince = time.Date(year, month, day, 0, 0, 0, 0, c.now.Location()).UnixMilli()
	gateways, _, err := tx.Gateways(f)
	if err != nil {
		return nil, err
	}
	return each(gateways, func(g joinserver.GatewayInfo) activeGateway {
		return activeGateway{gatewayCoreWire(g), gatewayPlaceWire(g)}
	}), nil
}

// getGatewayStatusStat shows how long the gateway has been online, in whole
// hours. Load of processor and memory is 0: the Gateway Bridge does not tell.
func getGatewayStatusStat(c call, tx Tx) (any, error) {
	g, err := c.findGateway(tx)
	if err != nil {
		return nil, err
	}
	received, sent := c.GatewayCounts(g.EUI)
	var hours int64
	if g.Online {
		hours = int64(c.now.Sub(time.UnixMilli(g.OnlineChangedMillis)) / time.Hour)
	}
	return struct {
		GwEui       string
		OnlineState string
		Enabled     bool
		OnlineHour  int64
		RxCount     int64
		TxCount     int64
		CpuRadio    float64
		MemoryRadio float64
	}{g.EUI.String(), onlineText(g.Online), g.Enabled, max(hours, 0), received, sent, 0, 0}, nil
}

// onlineRecord is one change of a gateway's state.
type onlineRecord struct {
	GwEui              string
	OnlineState        string
	StateChangedMillis int64
}

// listGatewayOnlineRecords has its offset spelt OffSet, unlike all others.
func listGatewayOnlineRecords(c call, tx Tx) (any, error) {
	page := c.page(map[string]joinserver.SortKey{"STATE_CHANGED_MILLIS": joinserver.ByOnlineChanged})
	if page.Offset = c.integer("OffSet"); page.Offset < 0 {
		return nil, invalid("OffSet")
	}
	if page.Limit < 1 || page.Limit > maxRecordLimit {
		return nil, invalid("Limit")
	}
	g, err := c.findGateway(tx)
	if err != nil {
		return nil, err
	}
	states, total, err := tx.GatewayStates(g.EUI, page)
	if err != nil {
		return nil, err
	}
	return list[onlineRecord]{total, each(states, func(s joinserver.GatewayState) onlineRecord {
		return onlineRecord{s.EUI.String(), onlineText(s.Online), s.ChangedMillis}
	})}, nil
}
