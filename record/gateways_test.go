package record_test

import (
	"context"
	"reflect"
	"slices"
	"testing"

	"joingate/joinserver"
	"joingate/record"
)

// roof is a gateway with all that can be told of one.
func roof() joinserver.GatewayInfo {
	return joinserver.GatewayInfo{
		Gateway:    joinserver.Gateway{EUI: devEUI(1), Owner: owner, Enabled: true, BandPlanGroup: 201},
		InstanceID: "iot-1", PinCode: "654321", Name: "Roof%1", Description: "d", City: "Köln", District: "x", Address: "y", AddressCode: 7,
		CommunicationMode: "HALF_DUPLEX", GisCoordinateSystem: "WGS_84", Longitude: 6.958_281, Latitude: -50.941_357, CreateMillis: 5,
	}
}

func (w *world) addGateways(t testing.TB, list ...joinserver.GatewayInfo) {
	t.Helper()
	for _, g := range list {
		update(t, w.r, func(tx *record.Tx) error { return tx.AddGateway(g) })
	}
}

func (w *world) setState(t testing.TB, online bool, at int64) {
	t.Helper()
	update(t, w.r, func(tx *record.Tx) error {
		return tx.SetGatewayState(joinserver.GatewayState{EUI: devEUI(1), Online: online, ChangedMillis: at})
	})
}

// readsAs compares a gateway on record, but for its version.
func (w *world) readsAs(t testing.TB, want joinserver.GatewayInfo) {
	t.Helper()
	got := view(t, w.r, func(tx *record.Tx) (joinserver.GatewayInfo, error) { return tx.Gateway(want.EUI) })
	want.Version = got.Version
	if !reflect.DeepEqual(got, want) {
		t.Errorf("gateway reads\n%+v, not\n%+v", got, want)
	}
}

func TestGatewayRoundTrip(t *testing.T) {
	onEngines(t, func(t *testing.T, w *world) {
		g := roof()
		stock := joinserver.GatewayInfo{Gateway: joinserver.Gateway{EUI: devEUI(2), Enabled: true}, PinCode: "1"}
		w.addGateways(t, g, stock)
		w.readsAs(t, g)
		w.readsAs(t, stock)
		update(t, w.r, func(tx *record.Tx) error {
			return tx.UpdateAccount(joinserver.Account{ID: owner, Name: "owner", RoamingGateways: true})
		})
		w.setState(t, true, 30)
		g.OpenToRoaming, g.Online, g.OnlineChangedMillis = true, true, 30
		w.readsAs(t, g)
		g.Name, g.Enabled, g.Longitude = "another", false, 0
		changed := g
		changed.Online, changed.OnlineChangedMillis, changed.PinCode = false, 0, "" // are not replaced
		update(t, w.r, func(tx *record.Tx) error { return tx.UpdateGateway(changed) })
		w.readsAs(t, g)
		update(t, w.r, func(tx *record.Tx) error {
			return tx.ClaimGateway(record.NewGateway{EUI: devEUI(2), Account: otherOne, BandPlanGroup: 101})
		})
		stock.Owner, stock.BandPlanGroup = otherOne, 101
		w.readsAs(t, stock)
	})
}

func TestGatewayFilters(t *testing.T) {
	onEngines(t, func(t *testing.T, w *world) {
		switchedOff := roof()
		switchedOff.Enabled = false
		w.addGateways(t, switchedOff, joinserver.GatewayInfo{Gateway: joinserver.Gateway{EUI: devEUI(2), Enabled: true}})
		w.setState(t, true, 30)
		yes, instance := true, "iot-1"
		all := joinserver.Page{Limit: joinserver.NoLimit}
		for name, c := range map[string]struct {
			filter joinserver.GatewayFilter
			want   []joinserver.EUI64
		}{
			"all but the stock": {joinserver.GatewayFilter{Page: all}, []joinserver.EUI64{gatewayID, devEUI(1)}},
			"owner":             {joinserver.GatewayFilter{Owner: otherOne, Page: all}, nil},
			"instance":          {joinserver.GatewayFilter{InstanceID: &instance, Page: all}, []joinserver.EUI64{devEUI(1)}},
			"online":            {joinserver.GatewayFilter{Online: &yes, Page: all}, []joinserver.EUI64{devEUI(1)}},
			"enabled":           {joinserver.GatewayFilter{Enabled: &yes, Page: all}, []joinserver.EUI64{gatewayID}},
			"band plan group":   {joinserver.GatewayFilter{BandPlanGroup: 201, Page: all}, []joinserver.EUI64{devEUI(1)}},
			"active":            {joinserver.GatewayFilter{ActiveSince: 31, Page: all}, []joinserver.EUI64{devEUI(1)}},
			"EUI":               {joinserver.GatewayFilter{EUILike: "AA01", Page: all}, []joinserver.EUI64{gatewayID}},
			"city":              {joinserver.GatewayFilter{CityLike: "öLN", Page: all}, []joinserver.EUI64{devEUI(1)}},
			"name":              {joinserver.GatewayFilter{NameLike: "F%", Page: all}, []joinserver.EUI64{devEUI(1)}},
			"no wildcard":       {joinserver.GatewayFilter{NameLike: "f_", Page: all}, nil},
			"last changed":      {joinserver.GatewayFilter{Page: joinserver.Page{Limit: 9, By: joinserver.ByOnlineChanged, Descending: true}}, []joinserver.EUI64{devEUI(1), gatewayID}},
		} {
			list, total := gatewaysOf(t, w, c.filter)
			if !slices.Equal(list, c.want) || total != int64(len(c.want)) {
				t.Errorf("%s: %v of %d, not %v", name, list, total, c.want)
			}
		}
		if registered := view(t, w.r, (*record.Tx).RegisteredGateways); len(registered) != 2 || registered[1].EUI != devEUI(1) {
			t.Errorf("registered gateways: %+v", registered)
		}
		if got := must[[]joinserver.Gateway](t)(w.r.Gateways(context.Background(), []joinserver.EUI64{devEUI(2), devEUI(3)})); len(got) != 0 {
			t.Errorf("gateways in stock and unknown ones are registered: %+v", got)
		}
	})
}

// The record of a gateway's states is its owner's, and nobody's after that.
func TestGatewayStates(t *testing.T) {
	onEngines(t, func(t *testing.T, w *world) {
		w.addGateways(t, roof())
		times := func() (times []int64) {
			t.Helper()
			check(t, w.r.View(context.Background(), func(tx *record.Tx) error {
				page, total, err := tx.GatewayStates(devEUI(1), joinserver.Page{Limit: 2, Descending: true, By: joinserver.ByOnlineChanged})
				for _, s := range page {
					times = append(times, s.ChangedMillis)
				}
				times = append(times, total)
				return err
			}))
			return times
		}
		w.setState(t, true, 10)
		w.setState(t, false, 20)
		w.setState(t, true, 30)
		update(t, w.r, func(tx *record.Tx) error { return tx.UpdateGateway(roof()) })
		if got := times(); !slices.Equal(got, []int64{30, 20, 3}) {
			t.Errorf("states %v", got)
		}
		inStock := roof()
		inStock.Owner = 0
		update(t, w.r, func(tx *record.Tx) error { return tx.UpdateGateway(inStock) })
		if got := times(); !slices.Equal(got, []int64{0}) {
			t.Errorf("a gateway in stock has the states %v of its former owner", got)
		}
		w.setState(t, false, 40)
		update(t, w.r, func(tx *record.Tx) error { return tx.DeleteGateway(devEUI(1)) })
		w.addGateways(t, roof())
		if got := times(); !slices.Equal(got, []int64{0}) {
			t.Errorf("a gateway added again has the states %v", got)
		}
	})
}

func gatewaysOf(t testing.TB, w *world, f joinserver.GatewayFilter) (euis []joinserver.EUI64, total int64) {
	t.Helper()
	check(t, w.r.View(context.Background(), func(tx *record.Tx) (err error) {
		var list []joinserver.GatewayInfo
		list, total, err = tx.Gateways(f)
		for _, g := range list {
			euis = append(euis, g.EUI)
		}
		return err
	}))
	return euis, total
}
