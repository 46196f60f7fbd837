package linkwan

import (
	"context"
	"errors"
	"strings"
	"unicode/utf8"

	"joingate/joinserver"
)

// What the documentation of CreateGateway demands, and a limit of ours on the
// texts that it says nothing of.
const (
	minGatewayNameRunes = 4
	maxGatewayNameRunes = 30
	maxDescriptionRunes = 100
	maxTextRunes        = 256
	pinDigits           = 6

	maxListLimit   = 200
	maxRecordLimit = 1000 // of ListGatewayOnlineRecords, which documents none
)

// checkGatewayName holds a name against the rule for gateways: the characters of
// other names, but none counts double, and the first is no underscore.
func checkGatewayName(name string) error {
	runes := utf8.RuneCountInString(name)
	if runes < minGatewayNameRunes || runes > maxGatewayNameRunes || strings.HasPrefix(name, "_") {
		return fail("InvalidName")
	}
	for _, r := range name {
		if nameWidth(r) == 0 {
			return fail("InvalidName")
		}
	}
	return nil
}

// findGateway looks up a gateway of the caller.
func (c call) findGateway(tx GatewayTx) (joinserver.GatewayInfo, error) {
	eui, err := c.eui("GwEui")
	if err != nil {
		return joinserver.GatewayInfo{}, err
	}
	g, err := tx.Gateway(eui)
	switch {
	case err != nil:
		return g, asFailure(err, joinserver.ErrNotFound, "NonExistent")
	case g.Owner == 0:
		return g, fail("NonExistent")
	case g.Owner != c.account.ID:
		return g, fail("NotResourceOwner")
	case g.InstanceID != c.account.InstanceID:
		return g, fail("NonExistent")
	}
	return g, nil
}

// knownGateway looks up any gateway, whoever has it.
func knownGateway(tx GatewayTx, eui joinserver.EUI64) (g joinserver.GatewayInfo, known bool, err error) {
	g, err = tx.Gateway(eui)
	if errors.Is(err, joinserver.ErrNotFound) {
		return g, false, nil
	}
	return g, err == nil, err
}

// createGateway takes a gateway from stock by its PIN, or, if the operator lets
// it, any other that nobody has.
func createGateway(c call, tx Tx) (any, error) {
	eui, err := c.eui("GwEui")
	if err != nil {
		return nil, err
	}
	plan, err := c.bandPlan()
	if err != nil {
		return nil, err
	}
	g, known, err := knownGateway(tx, eui)
	if err != nil {
		return nil, err
	}
	if err := c.mayCreate(tx, g, known); err != nil {
		return nil, err
	}
	g.EUI, g.Owner, g.Enabled, g.BandPlanGroup = eui, c.account.ID, true, plan.ID
	g.InstanceID, g.CreateMillis = c.account.InstanceID, c.now.UnixMilli()
	if err := c.describe(&g); err != nil {
		return nil, err
	}
	if known {
		return nil, tx.UpdateGateway(g)
	}
	return nil, tx.AddGateway(g)
}

// mayCreate decides whether the caller may take the gateway.
func (c call) mayCreate(tx GatewayTx, g joinserver.GatewayInfo, known bool) error {
	switch {
	case known && g.Owner == c.account.ID:
		return fail("GwEuiDuplicated")
	case known && g.Owner != 0:
		return fail("GatewayAlreadyBoundToOthers")
	case known && !pinMatches(g.PinCode, c.text("PinCode")), !known && !isPin(c.text("PinCode")):
		return fail("InvalidPinCode")
	case !known && c.GatewaysFromStockOnly:
		return fail("IotHubTripleMissing")
	}
	_, held, err := tx.Gateways(joinserver.GatewayFilter{Owner: c.account.ID})
	if err == nil && c.account.GatewayLimit > 0 && held >= c.account.GatewayLimit {
		return fail("ExceedGatewayLimit")
	}
	return err
}

func isPin(s string) bool {
	return len(s) == pinDigits && strings.Trim(s, "0123456789") == ""
}

// describe sets what the given parameters say of a gateway beyond its EUI, band
// plan and state.
func (c call) describe(g *joinserver.GatewayInfo) error {
	if c.has("Name") {
		if err := checkGatewayName(c.text("Name")); err != nil {
			return err
		}
	}
	if err := c.checkLength("Description", maxDescriptionRunes); err != nil {
		return err
	}
	for name, field := range map[string]*string{
		"Name": &g.Name, "Description": &g.Description, "City": &g.City, "District": &g.District, "Address": &g.Address,
		"CommunicationMode": &g.CommunicationMode, "GisCoordinateSystem": &g.GisCoordinateSystem,
	} {
		if err := c.checkLength(name, maxTextRunes); err != nil {
			return err
		}
		if c.has(name) {
			*field = c.text(name)
		}
	}
	if c.has("AddressCode") {
		g.AddressCode = c.integer("AddressCode")
	}
	if err := c.setDegrees(&g.Longitude, "Longitude", 180); err != nil {
		return err
	}
	return c.setDegrees(&g.Latitude, "Latitude", 90)
}

// checkLength refuses a text of more characters than that.
func (c call) checkLength(name string, runes int) error {
	if utf8.RuneCountInString(c.text(name)) > runes {
		return invalid(name)
	}
	return nil
}

func (c call) setDegrees(field *float64, name string, limit float64) error {
	if !c.has(name) {
		return nil
	}
	degrees := c.number(name)
	if degrees < -limit || degrees > limit {
		return invalid(name)
	}
	*field = degrees
	return nil
}

func updateGateway(c call, tx Tx) (any, error) {
	g, err := c.findGateway(tx)
	if err != nil {
		return nil, err
	}
	if c.has("FreqBandPlanGroupId") {
		plan, err := c.bandPlan()
		if err != nil {
			return nil, invalid("FreqBandPlanGroupId") // its table lacks InvalidFreqBandPlan
		}
		g.BandPlanGroup = plan.ID
	}
	if err := c.describe(&g); err != nil {
		return nil, err
	}
	return nil, tx.UpdateGateway(g)
}

func updateGatewayEnablingState(c call, tx Tx) (any, error) {
	g, err := c.findGateway(tx)
	if err != nil {
		return nil, err
	}
	g.Enabled = c.flag("Enabled")
	return nil, tx.UpdateGateway(g)
}

// deleteGateway puts a gateway that came from stock back, so that it can be
// created again by its PIN; any other is forgotten.
func deleteGateway(c call, tx Tx) (any, error) {
	g, err := c.findGateway(tx)
	if err != nil {
		return nil, err
	}
	if g.PinCode == "" {
		return nil, tx.DeleteGateway(g.EUI)
	}
	stock := joinserver.GatewayInfo{PinCode: g.PinCode, CreateMillis: g.CreateMillis}
	stock.EUI, stock.BandPlanGroup = g.EUI, g.BandPlanGroup
	return nil, tx.UpdateGateway(stock)
}

// GatewayChanged records that a gateway came online or went offline, and tells
// its account when it went offline. A gateway that nobody holds, and a state that
// is known, change nothing and write nothing: anybody may invent gateway ids.
func (s *Server) GatewayChanged(ctx context.Context, state joinserver.GatewayState) error {
	news := false
	err := s.Record.View(ctx, func(tx Tx) (err error) {
		_, news, err = changes(tx, state)
		return err
	})
	if err != nil || !news {
		return err
	}
	write := joinserver.Write{Action: "GatewayStateChanged", At: s.Now()}
	return s.Record.Update(ctx, write, func(tx Tx) error {
		g, news, err := changes(tx, state)
		if err != nil || !news {
			return err
		}
		if err := tx.SetGatewayState(state); err != nil || state.Online {
			return err
		}
		_, err = tx.InsertNotification(joinserver.Notification{
			Account: g.Owner, Category: joinserver.NoticeGatewayOffline, NoticeMillis: s.Now().UnixMilli(), Offline: &state,
		})
		return err
	})
}

// changes reports whether the state is news of a gateway that an account holds.
func changes(tx Tx, state joinserver.GatewayState) (g joinserver.GatewayInfo, news bool, err error) {
	g, known, err := knownGateway(tx, state.EUI)
	return g, err == nil && known && g.Owner != 0 && g.Online != state.Online, err
}
