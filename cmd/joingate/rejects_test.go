package main

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"joingate/config"
	"joingate/joinserver"
	"joingate/mqtt"
)

// refusedAt is a refusal by a device at a second.
func refusedAt(second int64, device byte, reason joinserver.Reason, gateways ...byte) mqtt.Reject {
	r := joinserver.Rejection{Reason: reason, DevEUI: joinserver.EUI64{device}, JoinEUI: joinserver.EUI64{9}}
	var copies []joinserver.Reception
	for _, g := range gateways {
		copies = append(copies, joinserver.Reception{Gateway: joinserver.EUI64{g}})
	}
	return mqtt.Reject{RejectEvent: r.Event(copies, time.Unix(second, 0))}
}

// A device that asks again and again is one row for each reason.
func TestRefusedDevices(t *testing.T) {
	rejects := []mqtt.Reject{
		refusedAt(5, 1, joinserver.UnknownDevice, 7, 8),
		refusedAt(4, 2, joinserver.BadMIC, 7),
		refusedAt(3, 1, joinserver.UnknownDevice, 8),
		refusedAt(2, 1, joinserver.WrongJoinEUI, 8),
		refusedAt(1, 1, joinserver.UnknownDevice, 6),
	}
	list := refusedDevices(rejects, "")
	if len(list) != 3 || list[0].Times != 3 || list[0].Last.Unix() != 5 || list[0].First.Unix() != 1 || len(list[0].Gateways) != 2 ||
		list[1].Reason != "bad_mic" || list[2].Reason != "wrong_join_eui" || list[2].Times != 1 {
		t.Errorf("list %+v", list)
	}
	if only := refusedDevices(rejects, "bad_mic"); len(only) != 1 || only[0].DevEUI != (joinserver.EUI64{2}) || only[0].Remedy == "" {
		t.Errorf("only %+v", only)
	}
	if none, _ := json.Marshal(refusedDevices(nil, "")); string(none) != "[]" {
		t.Errorf("no refusal is %s", none)
	}
}

func TestFit(t *testing.T) {
	group := func(id int64, account joinserver.AccountID, permission int64) joinserver.Group {
		g := joinserver.Group{Account: account, Name: "g", PermissionID: permission}
		g.ID = id
		return g
	}
	permission := func(id int64, owner joinserver.AccountID, joinEUI byte, plan int) joinserver.Permission {
		var p joinserver.Permission
		p.ID, p.Owner, p.Type, p.JoinEUI, p.Enabled = id, owner, joinserver.Local, joinserver.EUI64{joinEUI}, true
		if plan == 201 {
			p.BandPlanGroup = 201
		} else {
			p.BandPlanGroup = 101
		}
		return p
	}
	groups := []joinserver.Group{group(1, 10, 1), group(2, 10, 2), group(3, 10, 3), group(4, 20, 4), group(5, 10, 0), group(6, 10, 99)}
	permissions := []joinserver.Permission{permission(1, 10, 9, 101), permission(2, 10, 8, 101), permission(3, 10, 9, 201), permission(4, 20, 9, 101)}
	gateways := map[joinserver.EUI64]joinserver.Gateway{
		{7}: {EUI: joinserver.EUI64{7}, Owner: 10, Enabled: true, BandPlanGroup: 101},
		{8}: {EUI: joinserver.EUI64{8}, Owner: 20, Enabled: true, BandPlanGroup: 101},
	}
	for name, c := range map[string]struct {
		reject  mqtt.Reject
		account string
		fits    []int64
	}{
		"heard by a gateway of account 10":    {reject: refusedAt(1, 1, joinserver.UnknownDevice, 7), fits: []int64{1}},
		"heard by both":                       {reject: refusedAt(1, 1, joinserver.UnknownDevice, 7, 8), fits: []int64{1, 4}},
		"of account 20, heard by both":        {reject: refusedAt(1, 1, joinserver.NoPermission, 7, 8), account: "20", fits: []int64{4}},
		"heard by a stranger's gateway":       {reject: refusedAt(1, 1, joinserver.UnknownDevice, 6)},
		"refused for what no group can mend":  {reject: refusedAt(1, 1, joinserver.BadMIC, 7)},
		"with the JoinEUI of another, joined": {reject: refusedAt(1, 1, joinserver.WrongJoinEUI, 7), fits: []int64{1}},
	} {
		t.Run(name, func(t *testing.T) {
			list := refusedDevices([]mqtt.Reject{c.reject}, "")
			list[0].Account = c.account
			fit(list, groups, permissions, gateways)
			if len(list[0].Fits) != len(c.fits) {
				t.Fatalf("fits %+v, want %v", list[0].Fits, c.fits)
			}
			for i, g := range list[0].Fits {
				if g.NodeGroupID != c.fits[i] {
					t.Errorf("fits %+v, want %v", list[0].Fits, c.fits)
				}
			}
		})
	}
}

func TestOperationsURL(t *testing.T) {
	for _, c := range []struct {
		ops  config.Ops
		want string
	}{
		{config.Ops{Listen: "127.0.0.1:9090"}, "http://127.0.0.1:9090"},
		{config.Ops{Listen: ":9090"}, "http://127.0.0.1:9090"},
		{config.Ops{Listen: "[::]:9090", TLSCert: "cert.pem"}, "https://127.0.0.1:9090"},
		{config.Ops{Listen: "[::1]:9090"}, "http://[::1]:9090"},
		{config.Ops{Listen: "192.0.2.1:9090"}, "http://192.0.2.1:9090"},
	} {
		if got := operationsURL(c.ops); got != c.want {
			t.Errorf("%s gives %s, want %s", c.ops.Listen, got, c.want)
		}
	}
}

// Several instances are one list; what is no operations endpoint is an error
// that says so.
func TestAskForRejects(t *testing.T) {
	answer := func(status int, body string) string {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/rejects" || r.URL.Query().Get("reason") != "bad mic" {
				t.Errorf("asked for %s", r.URL)
			}
			w.WriteHeader(status)
			_, _ = w.Write([]byte(body))
		}))
		t.Cleanup(s.Close)
		return s.URL
	}
	old := answer(200, `[{"devEui":"0000000000000001","last":"2026-01-01T00:00:00Z"}]`)
	young := answer(200, `[{"devEui":"0000000000000002","last":"2026-01-02T00:00:00Z"}]`)
	list, err := askForRejects(context.Background(), []string{old + "/", young}, "bad mic", config.Ops{})
	if err != nil || len(list) != 2 || list[0].DevEUI != (joinserver.EUI64{7: 2}) {
		t.Errorf("list %+v, %v", list, err)
	}
	for _, endpoint := range []string{answer(404, "404 page not found"), answer(200, "<html>"), "http://127.0.0.1:1", "::"} {
		if _, err := askForRejects(context.Background(), []string{endpoint}, "bad mic", config.Ops{}); err == nil || !strings.Contains(err.Error(), "endpoint") {
			t.Errorf("%s: %v", endpoint, err)
		}
	}
}

// A device that nobody knows is shown with what to do and the group it would fit.
func TestRejectsOfAServer(t *testing.T) {
	t.Parallel()
	d := newMachine(t).serve()
	d.site(gatewayA)
	f := d.field(gatewayA, gatewayD)
	meter := newDevice(1, "1.0.4")
	f.ask(gatewayA, meter.switchOn(t))
	eventually(t, "the join is refused", func() bool { return d.joins("unknown_device") == 1 })
	var list []refusedDevice
	check(t, json.Unmarshal([]byte(d.run("rejects", "--endpoint", d.operations, "--reason", "unknown_device", "--json")), &list))
	if len(list) != 1 || list[0].DevEUI.String() != meter.eui.String() || list[0].Times != 1 || len(list[0].Gateways) != 1 ||
		len(list[0].Fits) != 1 || list[0].Fits[0].Name != "meters" {
		t.Errorf("list %+v", list)
	}
	text := d.run("rejects", "--endpoint", d.operations)
	for _, want := range []string{"unknown_device", meter.eui.String(), gatewayA.String(), "joingate node import", "meters"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not told by\n%s", want, text)
		}
	}
	if none := d.run("rejects", "--endpoint", d.operations, "--reason", "bad_mic"); !strings.Contains(none, "no refused joins") {
		t.Errorf("none is told as %s", none)
	}
}
