package linkwan

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"joingate/joinserver"
)

func (w *world) order(key, id string) map[string]any {
	w.t.Helper()
	var o map[string]any
	decodeInto(w.t, w.must(key, "GetJoinPermissionAuthOrder", "OrderId="+id), &o)
	return o
}

// The way of an order: what both sides see of it, what becomes of the
// permission, and that no other way is open afterwards.
func TestOrders(t *testing.T) {
	for _, c := range []struct {
		by, action string
		state      string
		auth       string
		told       string // the account that is notified
	}{
		{"bob", "AcceptJoinPermissionAuthOrder", "ACCEPTED", "ACCEPTED", "alice"},
		{"bob", "RejectJoinPermissionAuthOrder", "REJECTED", "NEW", "alice"},
		{"alice", "CancelJoinPermissionAuthOrder", "CANCELED", "NEW", "bob"},
	} {
		t.Run(c.action, func(t *testing.T) {
			w := newWorld(t)
			permission, id := w.offer()
			order := "OrderId=" + id
			want(t, w.order("bob", id), map[string]any{
				"OrderState": "APPLYING", "OwnerAliyunId": "1", "RenterAliyunId": "2", "JoinPermissionId": permission, "OrderId": id, "AcceptedMillis": 0,
			})
			other := map[string]string{"alice": "bob", "bob": "alice"}[c.by]
			w.fails("NotResourceOwner", other, c.action, order)
			w.fails("NotResourceOwner", "corp", c.action, order)
			w.must(c.by, c.action, order)

			after := w.order("alice", id)
			want(t, after, map[string]any{"OrderState": c.state})
			millis := strings.ToUpper(c.state[:1]) + strings.ToLower(c.state[1:]) + "Millis"
			if after[millis] == float64(0) {
				t.Errorf("%s is 0 in %v", millis, after)
			}
			want(t, w.owned("alice", permission), map[string]any{"AuthState": c.auth})
			for _, again := range []string{"Accept", "Reject", "Cancel"} {
				by := map[string]string{"Cancel": "alice"}[again]
				if by == "" {
					by = "bob"
				}
				w.fails("IllegalOrderStateTransition", by, again+"JoinPermissionAuthOrder", order)
			}
			notices := w.page(c.told, "ListNotifications", "Category.1=JOIN_PERMISSION_AUTH_"+c.state)
			if notices.TotalCount != 1 {
				t.Fatalf("notifications %v", notices)
			}
			want(t, notices.List[0]["JoinPermissionAuthInfo"].(map[string]any), map[string]any{
				"OrderId": id, "OrderState": c.state, "JoinPermissionName": "shared", "OwnerAliyunId": "1", "RenterAliyunId": "2",
			})
		})
	}
}

func TestGrantedPermissionIsTheRenters(t *testing.T) {
	w := newWorld(t)
	permission, order := w.offer()
	w.must("bob", "AcceptJoinPermissionAuthOrder", "OrderId="+order)
	id := "JoinPermissionId=" + permission
	w.fails("NotResourceOwner", "alice", "CreateNodeGroup", "NodeGroupName=cellar", id)
	group := w.group("bob", "cellar", id)

	var rented map[string]any
	decodeInto(t, w.must("bob", "GetRentedJoinPermission", id), &rented)
	want(t, rented, map[string]any{"Type": "LOCAL", "BoundNodeGroupId": group, "BoundNodeGroupName": "cellar", "FreqBandPlanGroupId": 101, "RxDelay": 1})
	want(t, w.page("bob", "ListRentedJoinPermissions").List[0], map[string]any{"OwnerAliyunId": "1", "BoundNodeGroup": true})

	// The owner counts the renter's nodes, but may not change the permission.
	w.node("bob", devEUI, group)
	want(t, w.owned("alice", permission), map[string]any{"NodesCnt": 1, "RenterAliyunId": "2"})
	w.fails("JoinPermissionAlreadyAuthorized", "alice", "UpdateOwnedLocalJoinPermission", id, "RxDelay=2")
	if nodes := w.page("alice", "ListNodesByOwnedJoinPermissionId", id); nodes.names("DevEui") != devEUI {
		t.Errorf("nodes %v", nodes)
	}

	w.fails("JoinPermissionAlreadyBoundNodeGroup", "bob", "ReturnJoinPermission", id, "JoinPermissionType=LOCAL")
	w.must("bob", "UnbindJoinPermissionFromNodeGroup", id, "NodeGroupId="+group)
	w.fails("NonExistent", "bob", "UnbindJoinPermissionFromNodeGroup", id, "NodeGroupId="+group)
	w.fails("NonExistent", "bob", "ReturnJoinPermission", id, "JoinPermissionType=ROAMING")
	w.fails("InvalidParameter", "bob", "ReturnJoinPermission", id, "JoinPermissionType=local")
	w.must("bob", "ReturnJoinPermission", id, "JoinPermissionType=LOCAL")
	w.fails("NotResourceOwner", "bob", "GetRentedJoinPermission", id)
	want(t, w.owned("alice", permission), map[string]any{"AuthState": "NEW", "RenterAliyunId": ""})
	w.must("alice", "DeleteLocalJoinPermission", id)
	w.order("alice", order) // outlives its permission
}

func TestRoaming(t *testing.T) {
	w := newWorld(t)
	id := roam(w)[0]
	row := w.page("alice", "ListRentedJoinPermissions", "Type=ROAMING", "FuzzyOwnerAliyunId=alicloud").List[0]
	want(t, row, map[string]any{"OwnerAliyunId": "AliCloud IoT", "JoinEui": defaultJoinEUI.String(), "Enabled": true, "Type": "ROAMING"})
	w.fails("NotResourceOwner", "alice", "GetOwnedJoinPermission", id)
	w.fails("NonExistent", "alice", "UpdateRoamingJoinPermission", "JoinPermissionId="+w.lent(), "RxDelay=2")
	w.fails("InvalidParameter", "alice", "UpdateRoamingJoinPermission", id, "RxDelay=1000")
	w.must("alice", "UpdateRoamingJoinPermission", id, "RxDelay=2", "DataRate=5", "JoinPermissionName=other")
	want(t, w.page("alice", "ListRentedJoinPermissions", "Type=ROAMING").List[0], map[string]any{"RxDelay": "2", "DataRate": "5", "JoinPermissionName": "other"})
	w.must("alice", "UpdateRoamingJoinPermissionEnablingState", id, "Enabled=false")
	var count int
	decodeInto(t, w.must("alice", "CountRentedJoinPermissions", "Enabled=false"), &count)
	if count != 1 {
		t.Errorf("%d disabled", count)
	}
	w.must("alice", "ReturnJoinPermission", id, "JoinPermissionType=ROAMING")
	w.fails("NonExistent", "alice", "GetRentedJoinPermission", id)
	roam(w) // its one place is free again
}

func (w *world) nodeGroup(key, id string) map[string]any {
	w.t.Helper()
	var g map[string]any
	decodeInto(w.t, w.must(key, "GetNodeGroup", "NodeGroupId="+id), &g)
	return g
}

func TestNodeGroups(t *testing.T) {
	w := newWorld(t)
	permission := w.permission("alice", "meters", "ClassMode=C", "UseDefaultJoinEui=false", "JoinEui=00000000000000AB")
	full, empty := w.group("alice", "Full_1", "JoinPermissionId="+permission), w.group("alice", "empty")
	w.node("alice", devEUI, full)
	want(t, w.nodeGroup("alice", full), map[string]any{
		"NodeGroupName": "Full_1", "JoinPermissionId": permission, "JoinPermissionName": "meters", "JoinPermissionOwnerAliyunId": "1",
		"JoinPermissionType": "LOCAL", "JoinPermissionEnabled": true, "JoinEui": "00000000000000ab", "ClassMode": "C", "FreqBandPlanGroupId": 101,
		"NodesCnt": 1, "RxDailySum": "0", "DataDispatchEnabled": false, "Locks": "[]",
	})
	want(t, w.nodeGroup("alice", empty), map[string]any{"JoinPermissionId": "", "JoinEui": "", "NodesCnt": 0, "FreqBandPlanGroupId": 0})
	for filter, names := range map[string]string{
		"": "Full_1 empty", "FuzzyName=FULL": "Full_1", "FuzzyJoinEui=AB": "Full_1", "FuzzyDevEui=D896E0FFFF": "Full_1", "FuzzyDevEui=99": "",
		"SortingField=CREATED_MILLIS Ascending=false": "empty Full_1", "Limit=0": "",
	} {
		if got := w.page("alice", "ListNodeGroups", strings.Fields(filter)...).names("NodeGroupName"); got != names {
			t.Errorf("%s: got %q, want %q", filter, got, names)
		}
	}
	var count int
	decodeInto(t, w.must("alice", "CountNodeGroups", "FuzzyDevEui=d896"), &count)
	if count != 1 {
		t.Errorf("count %d", count)
	}
	want(t, w.page("alice", "ListNodeGroups").List[0], map[string]any{"RxDailySum": 0, "NodesCnt": 1})

	w.must("alice", "UpdateNodeGroup", "NodeGroupId="+full, "NodeGroupName=renamed")
	w.fails("NodeGroupAlreadyBoundJoinPermission", "alice", "DeleteNodeGroup", "NodeGroupId="+full)
	w.must("alice", "UnbindJoinPermissionFromNodeGroup", "NodeGroupId="+full, "JoinPermissionId="+permission)
	w.must("alice", "DeleteNodeGroup", "NodeGroupId="+full)
	w.fails("NonExistent", "alice", "GetNodeGroup", "NodeGroupId="+full)
	w.must("alice", "AddNodeToGroup", "NodeGroupId="+empty, "DevEui="+devEUI, "PinCode="+pin) // its node was set free
}

func TestDataDispatch(t *testing.T) {
	w := newWorld(t)
	group := w.group("alice", "meters")
	id := "NodeGroupId=" + group
	if config := w.nodeGroup("alice", group)["DataDispatchConfig"]; config != nil {
		t.Errorf("config %v before there is one", config)
	}
	w.must("alice", "UpdateDataDispatchEnablingState", id, "DataDispatchEnabled=true")
	w.must("alice", "UpdateDataDispatchConfig", id, "DataDispatchDestination=IOT", "ProductType=IOT_SUITE", "ProductName=产品", "ProductKey=a1", "DebugSwitch=true")
	g := w.nodeGroup("alice", group)
	want(t, g, map[string]any{"DataDispatchEnabled": true})
	const iot = "map[Destination:IOT IotProduct:map[DebugSwitch:true ProductKey:a1 ProductName:产品 ProductType:IOT_SUITE]]"
	if got := fmt.Sprint(g["DataDispatchConfig"]); got != iot {
		t.Errorf("got %s", got)
	}
	permission := w.permission("alice", "meters")
	w.must("alice", "BindJoinPermissionToNodeGroup", id, "JoinPermissionId="+permission)
	want(t, w.owned("alice", permission), map[string]any{"DataDispatchDestination": "IOT", "BoundProductName": "产品"})
	if got := fmt.Sprint(w.page("alice", "ListRentedJoinPermissions").List[0]["DataDispatchConfig"]); got != iot {
		t.Errorf("got %s", got)
	}
	w.must("alice", "UpdateDataDispatchConfig", id, "DataDispatchDestination=MQ", "UplinkRegionName=cn-shanghai", "UplinkTopic=up")
	const ons = "map[Destination:ONS OnsTopics:map[DownlinkRegionName: DownlinkTopic: UplinkRegionName:cn-shanghai UplinkTopic:up]]"
	if got := fmt.Sprint(w.nodeGroup("alice", group)["DataDispatchConfig"]); got != ons {
		t.Errorf("got %s", got)
	}
	w.fails("InvalidParameter", "alice", "UpdateDataDispatchConfig", id, "DataDispatchDestination=ONS")
	w.fails("InvalidParameter", "alice", "UpdateDataDispatchConfig", id, "DataDispatchDestination=MQ", "UplinkTopic="+strings.Repeat("x", maxTextRunes+1))
}

func TestNodes(t *testing.T) {
	w := newWorld(t)
	group := w.group("alice", "meters", "JoinPermissionId="+w.permission("alice", "meters"))
	w.node("alice", strings.ToUpper(devEUI), group)
	w.node("alice", "d896e0ffff010002", group)
	d := w.record.state.devices[mustEUI(devEUI)]
	d.DevAddr, d.LastJoinMillis = &joinserver.DevAddr{1, 2, 3, 4}, 1514736000000
	w.record.state.devices[d.DevEUI] = d

	var node map[string]any
	decodeInto(t, w.must("alice", "GetNode", "DevEui="+strings.ToUpper(devEUI)), &node)
	want(t, node, map[string]any{"DevEui": devEUI, "DevAddr": "01020304", "ClassMode": "A", "AuthTypes": "STANDARD", "LastJoinMillis": 1.514736e12})
	rows := w.page("alice", "ListNodesByNodeGroupId", "NodeGroupId="+group)
	want(t, rows.List[0], map[string]any{"JoinEui": defaultJoinEUI.String(), "DevAddr": "01020304"})
	want(t, rows.List[1], map[string]any{"DevAddr": "", "LastJoinMillis": 0})
	if _, shown := rows.List[0]["Appkey"]; shown {
		t.Error("Appkey is shown")
	}
	for filter, names := range map[string]string{
		"SortingField=LAST_JOIN_MILLIS Ascending=false": devEUI + " d896e0ffff010002",
		"SortingField=LAST_JOIN_MILLIS Ascending=true":  "d896e0ffff010002 " + devEUI,
		"SortingField=CREATED_MILLIS Ascending=false":   "d896e0ffff010002 " + devEUI,
		"FuzzyDevEui=0002": "d896e0ffff010002",
		"Offset=1":         "d896e0ffff010002",
	} {
		if got := w.page("alice", "ListNodesByNodeGroupId", append(strings.Fields(filter), "NodeGroupId="+group)...).names("DevEui"); got != names {
			t.Errorf("%s: got %q, want %q", filter, got, names)
		}
	}
	var count int
	decodeInto(t, w.must("alice", "CountNodesByNodeGroupId", "NodeGroupId="+group, "FuzzyDevEui=d896"), &count)
	if count != 2 {
		t.Errorf("count %d", count)
	}

	w.must("alice", "UpdateNodeEnablingState", "DevEui="+devEUI, "IsEnable=false")
	w.must("alice", "RemoveNodeFromGroup", "DevEui="+devEUI, "NodeGroupId="+group)
	d = w.record.state.devices[d.DevEUI]
	if d.Enabled || d.GroupID != 0 || d.BoundMillis != 0 || d.Account != alice {
		t.Errorf("removed node %+v", d)
	}
	decodeInto(t, w.must("alice", "GetNode", "DevEui="+devEUI), &node) // it stays with the account
	want(t, node, map[string]any{"ClassMode": ""})
	w.fails("NotResourceOwner", "bob", "AddNodeToGroup", "DevEui="+devEUI, "PinCode="+pin, "NodeGroupId="+w.group("bob", "bobs"))
	w.fails("NonExistent", "alice", "GetNode", "DevEui="+w.stockNode("00000000000000ff"))
	w.fails("InvalidParameter", "alice", "GetNode", "DevEui=xyz")
}

func TestNodeWithoutAPin(t *testing.T) {
	w := newWorld(t)
	group := w.group("alice", "meters")
	add := []string{"DevEui=" + w.stockNode(devEUI), "NodeGroupId=" + group, "PinCode=000000"}
	d := w.record.state.devices[mustEUI(devEUI)]
	d.PinCode = ""
	w.record.state.devices[d.DevEUI] = d
	w.fails("InvalidPinCode", "alice", "AddNodeToGroup", add...) // nobody can claim it from stock
	d.Account = alice
	w.record.state.devices[d.DevEUI] = d
	w.must("alice", "AddNodeToGroup", add...) // it was imported for alice
}

// Ten wrong PINs shut out the node, the account and the address they came from,
// for ten minutes.
func TestWrongPins(t *testing.T) {
	w := newWorld(t)
	group := w.group("alice", "meters")
	w.stockNode(devEUI)
	add := []string{"DevEui=" + devEUI, "NodeGroupId=" + group, "PinCode=" + pin}
	for range maxFailures {
		w.fails("InvalidPinCode", "alice", "AddNodeToGroup", with(add, "PinCode=000000")...)
	}
	w.fails("TooManyPinCodeVerificationFailures", "alice", "AddNodeToGroup", add...)
	w.fails("TooManyPinCodeVerificationFailures", "alice", "AddNodeToGroup", with(add, "DevEui="+w.stockNode("d896e0ffff010002"))...)
	w.fails("TooManyPinCodeVerificationFailures", "alice", "CreateGateway", gatewayArgs()...)
	w.fails("TooManyPinCodeVerificationFailures", "bob", "AddNodeToGroup", "DevEui="+devEUI, "NodeGroupId="+w.group("bob", "bobs"), "PinCode="+pin)
	w.clock.move(failureWindow)
	w.must("alice", "AddNodeToGroup", add...)
}

func TestGateways(t *testing.T) {
	w := newWorld(t)
	w.gateway("alice")
	w.gateway("alice", "GwEui=AABBCCDDEEFF0011", "Name=厂房屋顶", "City=Berlin", "FreqBandPlanGroupId=201", "Description=second")
	w.gateway("bob", "GwEui=0000000000000001")
	var g map[string]any
	decodeInto(t, w.must("alice", "GetGateway", "GwEui="+gwEUI), &g)
	want(t, g, map[string]any{
		"GwEui": gwEUI, "Name": "roof", "FreqBandPlanGroupId": 101, "City": "杭州", "District": "滨江区", "Address": "1 Main St", "AddressCode": 330108,
		"CommunicationMode": "HALF_DUPLEX", "GisCoordinateSystem": "WGS_84", "Longitude": 120.125, "Latitude": 30.25, "Enabled": true,
		"OnlineState": "OFFLINE", "OnlineStateChangedMillis": 0, "ChargeStatus": "NORMAL", "Description": "",
	})
	for _, c := range []struct{ filter, euis string }{
		{"", gwEUI + " aabbccddeeff0011"},
		{"FuzzyGwEui=EEFF", "aabbccddeeff0011"},
		{"FuzzyCity=BERLIN", "aabbccddeeff0011"},
		{"FuzzyName=屋顶", "aabbccddeeff0011"},
		{"FreqBandPlanGroupId=101", gwEUI},
		{"IsEnabled=false", ""},
		{"OnlineState=ONLINE", ""},
		{"OnlineState=OFFLINE Limit=1", gwEUI},
	} {
		filter := strings.Fields(c.filter)
		got := w.page("alice", "ListGateways", filter...)
		sorted := strings.Fields(got.names("GwEui"))
		slices.Sort(sorted)
		if strings.Join(sorted, " ") != c.euis {
			t.Errorf("%s: got %q", c.filter, sorted)
		}
		var count int
		if !strings.Contains(c.filter, "Limit") {
			decodeInto(t, w.must("alice", "CountGateways", filter...), &count)
			if count != got.TotalCount {
				t.Errorf("%s: count %d, total %d", c.filter, count, got.TotalCount)
			}
		}
	}
	w.must("alice", "UpdateGateway", "GwEui="+gwEUI, "Longitude=-180", "FreqBandPlanGroupId=102")
	decodeInto(t, w.must("alice", "GetGateway", "GwEui="+gwEUI), &g)
	want(t, g, map[string]any{"Longitude": -180, "Latitude": 30.25, "FreqBandPlanGroupId": 102, "Name": "roof"})
	w.must("alice", "UpdateGatewayEnablingState", "GwEui="+gwEUI, "Enabled=false")
	if w.record.state.gateways[mustEUI(gwEUI)].Enabled {
		t.Error("enabled")
	}
	var placed []map[string]any
	decodeInto(t, w.must("alice", "ListGatewaysGisInfo"), &placed)
	if len(placed) != 2 {
		t.Errorf("placed %v", placed)
	}
	w.must("alice", "DeleteGateway", "GwEui="+gwEUI)
	w.fails("NonExistent", "alice", "GetGateway", "GwEui="+gwEUI)
	w.gateway("bob") // free for anybody
}

func TestWrongGatewayValues(t *testing.T) {
	w := newWorld(t)
	for _, c := range []struct{ change, code, name string }{
		{"GwEui=01", "InvalidParameter", "GwEui"},
		{"Longitude=180.5", "InvalidParameter", "Longitude"},
		{"Longitude=NaN", "InvalidParameter", "Longitude"},
		{"Latitude=-90.1", "InvalidParameter", "Latitude"},
		{"Latitude=", "MissingParameter", "Latitude"},
		{"Description=" + strings.Repeat("证", maxDescriptionRunes+1), "InvalidParameter", "Description"},
		{"City=" + strings.Repeat("c", maxTextRunes+1), "InvalidParameter", "City"},
		{"GisCoordinateSystem=GCJ-02", "InvalidParameter", "GisCoordinateSystem"},
		{"AddressCode=x", "InvalidParameter", "AddressCode"},
		{"PinCode=12345", "InvalidPinCode", ""},
		{"PinCode=12345a", "InvalidPinCode", ""},
		{"Name=abc", "InvalidName", ""},
		{"Name=" + strings.Repeat("证", 31), "InvalidName", ""},
	} {
		if refusal := w.fails(c.code, "alice", "CreateGateway", gatewayArgs(c.change)...); !strings.Contains(refusal.Message, c.name) {
			t.Errorf("%s: message %q", c.change, refusal.Message)
		}
	}
	w.gateway("alice", "Name="+strings.Repeat("证", 30), "Description="+strings.Repeat("证", maxDescriptionRunes))
	w.fails("InvalidParameter", "alice", "UpdateGateway", "GwEui="+gwEUI, "FreqBandPlanGroupId=123")
	w.fails("InvalidParameter", "alice", "ListGateways", "Offset=0", "Limit=201")
	w.fails("InvalidParameter", "alice", "ListGateways", "Offset=0", "Limit=0")
	w.fails("InvalidParameter", "alice", "ListGatewayOnlineRecords", "GwEui="+gwEUI, "OffSet=-1", "Limit=1")
	w.fails("InvalidParameter", "alice", "ListGatewayOnlineRecords", "GwEui="+gwEUI, "OffSet=0", "Limit=0")
}

func TestGatewayFromStockGoesBackIntoIt(t *testing.T) {
	w := newWorld(t)
	w.server.GatewaysFromStockOnly = true
	w.stockGateway(gwEUI)
	w.fails("NonExistent", "alice", "GetGateway", "GwEui="+gwEUI)
	w.gateway("alice")
	w.must("alice", "DeleteGateway", "GwEui="+gwEUI)
	w.fails("InvalidPinCode", "bob", "CreateGateway", gatewayArgs("PinCode=000000")...)
	w.gateway("bob")
}

func TestGatewayState(t *testing.T) {
	w := newWorld(t)
	w.server.GatewayCounts = func(joinserver.EUI64) (int64, int64) { return 7, 3 }
	w.gateway("alice")
	var active []map[string]any
	decodeInto(t, w.must("alice", "ListActiveGateways"), &active)
	if len(active) != 0 {
		t.Errorf("active before it was seen: %v", active)
	}
	w.goes(gwEUI, true)
	w.goes(gwEUI, true) // says nothing new
	w.clock.move(2*time.Hour + 30*time.Minute)
	var stat map[string]any
	decodeInto(t, w.must("alice", "GetGatewayStatusStat", "GwEui="+gwEUI), &stat)
	want(t, stat, map[string]any{"OnlineState": "ONLINE", "OnlineHour": 2, "RxCount": 7, "TxCount": 3, "CpuRadio": 0, "Enabled": true})
	version := w.record.state.gateways[mustEUI(gwEUI)].Version
	w.goes(gwEUI, false)
	if w.record.state.gateways[mustEUI(gwEUI)].Version != version {
		t.Error("the state moved the version")
	}
	decodeInto(t, w.must("alice", "ListActiveGateways"), &active)
	if len(active) != 1 || active[0]["OnlineState"] != "OFFLINE" {
		t.Errorf("active %v", active)
	}
	var records page
	decodeInto(t, w.must("alice", "ListGatewayOnlineRecords", "OffSet=0", "Limit=10", "GwEui="+gwEUI, "SortingField=STATE_CHANGED_MILLIS", "Ascending=false"), &records)
	if records.TotalCount != 2 || records.names("OnlineState") != "OFFLINE ONLINE" {
		t.Errorf("records %v", records)
	}
	notices := w.page("alice", "ListNotifications")
	if notices.names("Category") != "GATEWAY_OFFLINE" || notices.List[0]["GatewayOfflineInfo"].(map[string]any)["GwEui"] != gwEUI {
		t.Errorf("notifications %v", notices)
	}
	w.goes("00000000000000ff", false) // nobody's
	w.goes(w.stockGateway("00000000000000fe"), false)
	w.clock.move(24 * time.Hour)
	decodeInto(t, w.must("alice", "ListActiveGateways"), &active)
	if len(active) != 0 {
		t.Errorf("active the next day: %v", active)
	}
}

func TestNotifications(t *testing.T) {
	w := newWorld(t)
	_, order := w.offer()
	begin := w.clock.now().UnixMilli()
	w.must("bob", "RejectJoinPermissionAuthOrder", "OrderId="+order)
	w.gateway("alice")
	w.goes(gwEUI, true)
	w.goes(gwEUI, false)
	ids := w.notices("alice")
	if len(ids) != 2 || len(w.notices("bob")) != 1 {
		t.Fatalf("alice has %v", ids)
	}
	w.must("alice", "UpdateNotificationsHandleState", "NotificationId.1="+ids[0], "NotificationId.2="+ids[0], "TargetHandleState=HANDLED")
	for filter, categories := range map[string]string{
		"": "JOIN_PERMISSION_AUTH_REJECTED GATEWAY_OFFLINE", "HandleState=HANDLED": "JOIN_PERMISSION_AUTH_REJECTED",
		"HandleState=UNHANDLED": "GATEWAY_OFFLINE", "Category.1=JOIN_PERMISSION_AUTH": "JOIN_PERMISSION_AUTH_REJECTED",
		"Category.1=GATEWAY_OFFLINE Category.2=B": "GATEWAY_OFFLINE", "Category.1=B": "", "EndMillis=1": "",
		fmt.Sprint("EndMillis=", begin):                      "",
		fmt.Sprint("BeginMillis=", begin+1):                  "JOIN_PERMISSION_AUTH_REJECTED GATEWAY_OFFLINE",
		"SortingField=NOTICE_MILLIS Ascending=false Limit=1": "GATEWAY_OFFLINE",
	} {
		p := w.page("alice", "ListNotifications", strings.Fields(filter)...)
		if got := p.names("Category"); got != categories {
			t.Errorf("%s: got %q, want %q", filter, got, categories)
		}
	}
	var one map[string]any
	decodeInto(t, w.must("alice", "GetNotification", "NotificationId="+ids[0]), &one)
	want(t, one, map[string]any{"HandleState": "HANDLED", "NotificationId": ids[0]})
	if one["HandledMillis"] == float64(0) {
		t.Error("HandledMillis is 0")
	}
	w.must("alice", "UpdateNotificationsHandleState", "NotificationId.1="+ids[0], "TargetHandleState=UNHANDLED")
	decodeInto(t, w.must("alice", "GetNotification", "NotificationId="+ids[0]), &one)
	want(t, one, map[string]any{"HandleState": "UNHANDLED", "HandledMillis": 0})
	w.fails("InvalidParameter", "alice", "CountNotifications", "HandleState=DONE")
	w.fails("InvalidParameter", "alice", "UpdateNotificationsHandleState", "NotificationId.2="+ids[0], "TargetHandleState=HANDLED") // a gap
	w.fails("MissingParameter", "alice", "UpdateNotificationsHandleState", "TargetHandleState=HANDLED")
}

func TestAccountActions(t *testing.T) {
	w := newWorld(t)
	roam(w)
	w.node("alice", devEUI, w.group("alice", "meters"))
	w.gateway("alice")
	w.permission("alice", "meters")
	w.account(alice, func(a *joinserver.Account) { a.NodeLimit = 5 })
	var license map[string]any
	decodeInto(t, w.must("alice", "GetUserLicense"), &license)
	want(t, license, map[string]any{
		"LocalJoinPermissionLimit": 1000, "LocalJoinPermissionCount": 1, "RoamingJoinPermissionLimit": 1, "RoamingJoinPermissionCount": 1,
		"NodeLimit": 5, "NodeCount": 1, "GatewayLimit": 2.147483647e9, "GatewayCount": 1,
	})
	if got := string(w.must("alice", "ListActivatedFeatures")); got !=
		`["GATEWAY","NODE","LOCAL_JOIN_PERMISSION","ROAMING_JOIN_PERMISSION","JOIN_PERMISSION_AUTHORIZATION","NOTIFICATION"]` {
		t.Error(got)
	}
	for code, open := range map[string]string{"linkwan": "true", "iot": "false"} {
		if got := string(w.must("alice", "CheckCloudProductOpenStatus", "ServiceCode="+code)); got != open {
			t.Errorf("%s: %s", code, got)
		}
	}
	w.account(alice, func(a *joinserver.Account) { a.ProductActivated, a.Features = false, nil })
	if got := string(w.must("alice", "CheckCloudProductOpenStatus", "ServiceCode=linkwan")); got != "false" {
		t.Error(got)
	}
	if got := string(w.must("alice", "ListActivatedFeatures")); got != "[]" {
		t.Error(got)
	}
	if got := string(w.must("alice", "CheckUserChargeStatus")); got != `"NORMAL"` {
		t.Error(got)
	}
}

// A Deny on one gateway, one node or one event cannot be dodged.
func TestRAMResourcesOfEUIsAndLists(t *testing.T) {
	w := newWorld(t)
	w.gateway("alice", "GwEui=aabbccddeeff0011")
	offered(w)
	event := w.notices("alice")[0]
	w.user("clerk", `{"Version":"1","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"},{"Effect":"Deny","Action":"*","Resource":`+
		`["acs:linkwan:*:*:gateway/aabbccddeeff0011","acs:linkwan:*:*:event/`+event+`"]}]}`)
	w.fails("ForbiddenByRam", "clerk", "GetGateway", "GwEui=AABBccddeeff0011")
	w.fails("ForbiddenByRam", "clerk", "UpdateNotificationsHandleState", "NotificationId.1=1", "NotificationId.2="+event, "TargetHandleState=HANDLED")
}
