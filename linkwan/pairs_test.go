package linkwan

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"joingate/joinserver"
)

// samples give each action the parameters of a call by alice that succeeds.
var samples = map[string]func(w *world) []string{
	"CreateLocalJoinPermission": func(*world) []string {
		return []string{"JoinPermissionName=meters", "FreqBandPlanGroupId=101", "ClassMode=A", "UseDefaultJoinEui=true"}
	},
	"DeleteLocalJoinPermission":      func(w *world) []string { return []string{"JoinPermissionId=" + w.permission("alice", "meters")} },
	"UpdateOwnedLocalJoinPermission": func(w *world) []string { return []string{"JoinPermissionId=" + w.permission("alice", "meters")} },
	"UpdateOwnedLocalJoinPermissionEnablingState": func(w *world) []string {
		return []string{"JoinPermissionId=" + w.permission("alice", "meters"), "Enabled=false"}
	},
	"GetOwnedJoinPermission":    func(w *world) []string { return []string{"JoinPermissionId=" + w.permission("alice", "meters")} },
	"ListOwnedJoinPermissions":  func(*world) []string { return []string{"Offset=0", "Limit=10"} },
	"ListRentedJoinPermissions": func(*world) []string { return []string{"Offset=0", "Limit=10"} },
	"SubmitJoinPermissionAuthOrder": func(w *world) []string {
		return []string{"JoinPermissionId=" + w.permission("alice", "meters"), "RenterAliyunId=2"}
	},
	"CreateNodeGroup": func(*world) []string { return []string{"NodeGroupName=meters"} },
	"BindJoinPermissionToNodeGroup": func(w *world) []string {
		return []string{"NodeGroupId=" + w.group("alice", "meters"), "JoinPermissionId=" + w.permission("alice", "meters")}
	},
	"ListFreqBandPlanGroups": func(*world) []string { return nil },
	"GetFreqBandPlanGroup":   func(*world) []string { return []string{"GroupId=101"} },
	"CreateCustomLocalJoinPermission": func(*world) []string {
		return []string{"JoinPermissionName=meters", "FreqBandPlanGroupId=101", "ClassMode=A", "JoinEui=0102030405060708"}
	},
	"CountOwnedJoinPermissions":     func(*world) []string { return nil },
	"CountRentedJoinPermissions":    func(*world) []string { return nil },
	"GetRentedJoinPermission":       func(w *world) []string { return []string{"JoinPermissionId=" + w.lent()} },
	"ReturnJoinPermission":          func(w *world) []string { return []string{"JoinPermissionId=" + w.lent(), "JoinPermissionType=LOCAL"} },
	"AcceptJoinPermissionAuthOrder": offered,
	"RejectJoinPermissionAuthOrder": offered,
	"CancelJoinPermissionAuthOrder": func(w *world) []string { _, order := w.offer(); return []string{"OrderId=" + order} },
	"GetJoinPermissionAuthOrder":    offered,
	"ApplyRoamingJoinPermission": func(*world) []string {
		return []string{"JoinPermissionName=roaming", "FreqBandPlanGroupId=101", "ClassMode=D2D"}
	},
	"UpdateRoamingJoinPermission":              roam,
	"UpdateRoamingJoinPermissionEnablingState": func(w *world) []string { return append(roam(w), "Enabled=false") },
	"UnbindJoinPermissionFromNodeGroup": func(w *world) []string {
		id := w.permission("alice", "meters")
		return []string{"NodeGroupId=" + w.group("alice", "meters", "JoinPermissionId="+id), "JoinPermissionId=" + id}
	},
	"UpdateNodeGroup": func(w *world) []string {
		return []string{"NodeGroupId=" + w.group("alice", "meters"), "NodeGroupName=other"}
	},
	"DeleteNodeGroup": func(w *world) []string { return []string{"NodeGroupId=" + w.group("alice", "meters")} },
	"GetNodeGroup":    func(w *world) []string { return []string{"NodeGroupId=" + w.group("alice", "meters")} },
	"ListNodeGroups":  func(*world) []string { return []string{"Offset=0", "Limit=10"} },
	"CountNodeGroups": func(*world) []string { return nil },
	"UpdateDataDispatchConfig": func(w *world) []string {
		return []string{"NodeGroupId=" + w.group("alice", "meters"), "DataDispatchDestination=IOT"}
	},
	"UpdateDataDispatchEnablingState": func(w *world) []string {
		return []string{"NodeGroupId=" + w.group("alice", "meters"), "DataDispatchEnabled=true"}
	},
	"AddNodeToGroup": func(w *world) []string {
		return []string{"NodeGroupId=" + w.group("alice", "meters"), "DevEui=" + w.stockNode(devEUI), "PinCode=" + pin}
	},
	"RemoveNodeFromGroup": func(w *world) []string {
		group := w.group("alice", "meters")
		return []string{"NodeGroupId=" + group, "DevEui=" + w.node("alice", devEUI, group)}
	},
	"UpdateNodeEnablingState": func(w *world) []string {
		return []string{"DevEui=" + w.node("alice", devEUI, w.group("alice", "meters")), "IsEnable=false"}
	},
	"ConfirmNodeSession": joined,
	"GetNode": func(w *world) []string {
		return []string{"DevEui=" + w.node("alice", devEUI, w.group("alice", "meters"))}
	},
	"ListNodesByNodeGroupId": func(w *world) []string {
		return []string{"NodeGroupId=" + w.group("alice", "meters"), "Offset=0", "Limit=10"}
	},
	"CountNodesByNodeGroupId": func(w *world) []string { return []string{"NodeGroupId=" + w.group("alice", "meters")} },
	"ListNodesByOwnedJoinPermissionId": func(w *world) []string {
		return []string{"JoinPermissionId=" + w.permission("alice", "meters"), "Offset=0", "Limit=10"}
	},
	"CountNodesByOwnedJoinPermissionId": func(w *world) []string { return []string{"JoinPermissionId=" + w.permission("alice", "meters")} },
	"CreateGateway":                     func(*world) []string { return gatewayArgs() },
	"UpdateGateway":                     func(w *world) []string { return []string{"GwEui=" + w.gateway("alice"), "Name=cellar"} },
	"UpdateGatewayEnablingState":        func(w *world) []string { return []string{"GwEui=" + w.gateway("alice"), "Enabled=false"} },
	"DeleteGateway":                     func(w *world) []string { return []string{"GwEui=" + w.gateway("alice")} },
	"GetGateway":                        func(w *world) []string { return []string{"GwEui=" + w.gateway("alice")} },
	"ListGateways":                      func(*world) []string { return []string{"Offset=0", "Limit=10"} },
	"CountGateways":                     func(*world) []string { return nil },
	"ListGatewaysGisInfo":               func(*world) []string { return nil },
	"ListActiveGateways":                func(*world) []string { return nil },
	"GetGatewayStatusStat":              func(w *world) []string { return []string{"GwEui=" + w.gateway("alice")} },
	"ListGatewayOnlineRecords":          func(w *world) []string { return []string{"GwEui=" + w.gateway("alice"), "OffSet=0", "Limit=10"} },
	"ListNotifications":                 func(*world) []string { return []string{"Offset=0", "Limit=10"} },
	"CountNotifications":                func(*world) []string { return nil },
	"GetNotification":                   func(w *world) []string { offered(w); return []string{"NotificationId=" + w.notices("alice")[0]} },
	"UpdateNotificationsHandleState": func(w *world) []string {
		offered(w)
		return []string{"NotificationId.1=" + w.notices("alice")[0], "TargetHandleState=HANDLED"}
	},
	"GetUserLicense":              func(*world) []string { return nil },
	"ListActivatedFeatures":       func(*world) []string { return nil },
	"CheckCloudProductOpenStatus": func(*world) []string { return []string{"ServiceCode=linkwan"} },
	"CheckUserChargeStatus":       func(*world) []string { return nil },
}

// with replaces or adds parameters.
func with(pairs []string, more ...string) []string {
	replaced := map[string]bool{}
	for _, pair := range more {
		name, _, _ := strings.Cut(pair, "=")
		replaced[name] = true
	}
	var all []string
	for _, pair := range pairs {
		if name, _, _ := strings.Cut(pair, "="); !replaced[name] {
			all = append(all, pair)
		}
	}
	return append(all, more...)
}

// everywhere are the codes that have the same cause in each action.
var everywhere = map[string]func(w *world, action string, sample []string) error{
	"ForbiddenByRam": func(w *world, action string, sample []string) error {
		w.user("clerk", `{"Version":"1","Statement":[{"Effect":"Allow","Action":"linkwan:Other","Resource":"*"}]}`)
		_, err := w.call("clerk", action, args(sample...))
		return err
	},
	"ForbiddenByRiskControl": func(w *world, action string, sample []string) error {
		w.account(alice, func(a *joinserver.Account) { a.RiskControl = true })
		_, err := w.call("alice", action, args(sample...))
		return err
	},
	"CloudProductNotActivated": func(w *world, action string, sample []string) error {
		w.account(alice, func(a *joinserver.Account) { a.ProductActivated = false })
		_, err := w.call("alice", action, args(sample...))
		return err
	},
	"FeatureNotActivated": func(w *world, action string, sample []string) error {
		w.account(alice, func(a *joinserver.Account) { a.Features = nil })
		_, err := w.call("alice", action, args(sample...))
		return err
	},
	"InternalError": func(w *world, action string, sample []string) error {
		w.record.fault = errors.New("the database is away")
		_, err := w.call("alice", action, args(sample...))
		w.record.fault = nil
		return err
	},
}

// provocation makes the call that has to fail with the code.
type provocation func(w *world, code, action string, sample []string)

// asks is a provocation by alice's sample with other parameters.
func asks(more ...string) provocation {
	return func(w *world, code, action string, sample []string) {
		w.fails(code, "alice", action, with(sample, more...)...)
	}
}

// asBob is a provocation by another account than alice.
func asBob(more ...string) provocation {
	return func(w *world, code, action string, sample []string) {
		w.fails(code, "bob", action, with(sample, more...)...)
	}
}

// after prepares the world, and then calls with the sample.
func after(prepare func(w *world, sample map[string]string), more ...string) provocation {
	return func(w *world, code, action string, sample []string) {
		prepare(w, args(sample...))
		w.fails(code, "alice", action, with(sample, more...)...)
	}
}

func offeredToBob(w *world, sample map[string]string) {
	w.must("alice", "SubmitJoinPermissionAuthOrder", "JoinPermissionId="+sample["JoinPermissionId"], "RenterAliyunId=2")
}

func unknownRenters(w *world, sample map[string]string) {
	for range maxFailures {
		w.fails("RenterDoesNotExist", "alice", "SubmitJoinPermissionAuthOrder", "JoinPermissionId="+sample["JoinPermissionId"], "RenterAliyunId=77")
	}
}

func bindElsewhere(w *world, sample map[string]string) {
	w.must("alice", "BindJoinPermissionToNodeGroup", "JoinPermissionId="+sample["JoinPermissionId"], "NodeGroupId="+w.group("alice", "elsewhere"))
}

func occupyGroup(w *world, sample map[string]string) {
	w.must("alice", "BindJoinPermissionToNodeGroup", "JoinPermissionId="+w.permission("alice", "another"), "NodeGroupId="+sample["NodeGroupId"])
}

// decide ends the sample's order.
func decide(key, action string) func(*world, map[string]string) {
	return func(w *world, sample map[string]string) { w.must(key, action, "OrderId="+sample["OrderId"]) }
}

// provocations name what causes each code of an action.
var provocations = map[string]map[string]provocation{
	"CreateLocalJoinPermission": {
		"ExceedLocalJoinPermissionLimit": after(func(w *world, _ map[string]string) {
			w.permission("alice", "first")
			w.account(alice, func(a *joinserver.Account) { a.LocalJoinPermissionLimit = 1 })
		}),
		"JoinPermissionNameDuplicated": after(func(w *world, _ map[string]string) { w.permission("alice", "meters") }),
		"InvalidName":                  asks("JoinPermissionName=a-b-c"),
		"InvalidFreqBandPlan":          asks("FreqBandPlanGroupId=123"),
	},
	"DeleteLocalJoinPermission": {
		"NonExistent":                     asks("JoinPermissionId=99"),
		"JoinPermissionAlreadyAuthorized": after(offeredToBob),
	},
	"UpdateOwnedLocalJoinPermission": {
		"NonExistent":                     asks("JoinPermissionId=99"),
		"JoinPermissionAlreadyAuthorized": after(offeredToBob, "RxDelay=2"),
		"NotResourceOwner":                asBob("RxDelay=2"),
		"JoinPermissionNameDuplicated": after(func(w *world, _ map[string]string) { w.permission("alice", "taken") },
			"JoinPermissionName=taken"),
		"InvalidName":         asks("JoinPermissionName=no"),
		"InvalidFreqBandPlan": asks("FreqBandPlanGroupId=123"),
	},
	"UpdateOwnedLocalJoinPermissionEnablingState": {
		"NonExistent":      asks("JoinPermissionId=99"),
		"NotResourceOwner": asBob(),
	},
	"GetOwnedJoinPermission": {
		"NonExistent":      asks("JoinPermissionId=err400"),
		"NotResourceOwner": asBob(),
	},
	"SubmitJoinPermissionAuthOrder": {
		"TooManyRenterNonExistentFailures": after(unknownRenters, "RenterAliyunId=2"),
		"JoinPermissionAlreadyAuthorized":  after(offeredToBob),
		"RenterDoesNotExist":               asks("RenterAliyunId=some-user"),
	},
	"CreateNodeGroup": {
		"NodeGroupNameDuplicated":    after(func(w *world, _ map[string]string) { w.group("alice", "meters") }),
		"InvalidName":                asks("NodeGroupName=a-b"),
		"JoinPermissionDoesNotExist": asks("JoinPermissionId=99"),
		"JoinPermissionAlreadyBoundNodeGroup": func(w *world, code, action string, sample []string) {
			id := w.permission("alice", "busy")
			w.group("alice", "elsewhere", "JoinPermissionId="+id)
			w.fails(code, "alice", action, with(sample, "JoinPermissionId="+id)...)
		},
	},
	"CreateCustomLocalJoinPermission": {
		"ExceedLocalJoinPermissionLimit": after(func(w *world, _ map[string]string) {
			w.permission("alice", "first")
			w.account(alice, func(a *joinserver.Account) { a.LocalJoinPermissionLimit = 1 })
		}),
		"JoinPermissionNameDuplicated": after(func(w *world, _ map[string]string) { w.permission("alice", "meters") }),
		"InvalidName":                  asks("JoinPermissionName=a-b-c"),
		"InvalidFreqBandPlan":          asks("FreqBandPlanGroupId=123"),
	},
	"GetRentedJoinPermission": {
		"NonExistent":      asks("JoinPermissionId=99"),
		"NotResourceOwner": asBob(), // the owner is not the renter
	},
	"ReturnJoinPermission": {
		"NonExistent":                         asks("JoinPermissionId=99"),
		"JoinPermissionAlreadyBoundNodeGroup": after(bindElsewhere),
	},
	"AcceptJoinPermissionAuthOrder": {
		"NonExistent":                 asks("OrderId=99"),
		"IllegalOrderStateTransition": after(decide("alice", "RejectJoinPermissionAuthOrder")),
	},
	"RejectJoinPermissionAuthOrder": {
		"NonExistent":                 asks("OrderId=99"),
		"NotResourceOwner":            asBob(),
		"IllegalOrderStateTransition": after(decide("alice", "AcceptJoinPermissionAuthOrder")),
	},
	"CancelJoinPermissionAuthOrder": {
		"NonExistent":                 asks("OrderId=99"),
		"IllegalOrderStateTransition": after(decide("bob", "AcceptJoinPermissionAuthOrder")),
	},
	"GetJoinPermissionAuthOrder": {
		"NonExistent": asks("OrderId=99"),
		"NotResourceOwner": func(w *world, code, action string, sample []string) {
			w.fails(code, "corp", action, sample...)
		},
	},
	"ApplyRoamingJoinPermission": {
		"ExceedRoamingJoinPermissionLimit": after(func(w *world, _ map[string]string) { roam(w) }, "JoinPermissionName=second"),
		"JoinPermissionNameDuplicated":     after(func(w *world, _ map[string]string) { w.permission("alice", "roaming") }),
		"InvalidName":                      asks("JoinPermissionName=x"),
		"InvalidFreqBandPlan":              asks("FreqBandPlanGroupId=123"),
	},
	"UpdateRoamingJoinPermission": {
		"NonExistent":                         asks("JoinPermissionId=99"),
		"JoinPermissionAlreadyBoundNodeGroup": after(bindElsewhere, "RxDelay=2"),
		"JoinPermissionNameDuplicated": after(func(w *world, _ map[string]string) { w.permission("alice", "taken") },
			"JoinPermissionName=taken"),
		"InvalidName": asks("JoinPermissionName=x"),
	},
	"UpdateRoamingJoinPermissionEnablingState": {
		"NonExistent":      asks("JoinPermissionId=99"),
		"NotResourceOwner": asBob(),
	},
	"GetFreqBandPlanGroup": {"NonExistent": asks("GroupId=123")},
	"UnbindJoinPermissionFromNodeGroup": {
		"NonExistent": asks("NodeGroupId=99"),
	},
	"UpdateNodeGroup": {
		"NonExistent":             asks("NodeGroupId=99"),
		"NotResourceOwner":        asBob(),
		"NodeGroupNameDuplicated": after(func(w *world, _ map[string]string) { w.group("alice", "other") }),
		"InvalidName":             asks("NodeGroupName=a-b"),
	},
	"DeleteNodeGroup": {
		"NonExistent":                         asks("NodeGroupId=99"),
		"NotResourceOwner":                    asBob(),
		"NodeGroupAlreadyBoundJoinPermission": after(occupyGroup),
	},
	"GetNodeGroup": {
		"NonExistent":      asks("NodeGroupId=99"),
		"NotResourceOwner": asBob(),
	},
	"UpdateDataDispatchConfig": {
		"NonExistent":      asks("NodeGroupId=99"),
		"NotResourceOwner": asBob(),
	},
	"UpdateDataDispatchEnablingState": {"NonExistent": asks("NodeGroupId=99")},
	"AddNodeToGroup": {
		"ExceedNodeLimit": after(func(w *world, sample map[string]string) {
			w.node("alice", "d896e0ffff010002", sample["NodeGroupId"])
			w.account(alice, func(a *joinserver.Account) { a.NodeLimit = 1 })
		}),
		"NodeGroupDoesNotExist": asks("NodeGroupId=99"),
		"DevEuiDuplicated": after(func(w *world, sample map[string]string) {
			w.node("alice", devEUI, sample["NodeGroupId"])
		}),
		"NodeAlreadyAdded": after(func(w *world, _ map[string]string) { w.node("alice", devEUI, w.group("alice", "elsewhere")) }),
		"InvalidPinCode":   asks("PinCode=000000"),
		"NodeDoesNotExist": asks("DevEui=0000000000000001"),
	},
	"RemoveNodeFromGroup": {
		"NonExistent": func(w *world, code, action string, sample []string) {
			w.fails(code, "alice", action, with(sample, "NodeGroupId="+w.group("alice", "elsewhere"))...)
		},
		"NodeGroupDoesNotExist": asks("NodeGroupId=99"),
		"NodeDoesNotExist":      asks("DevEui=0000000000000001"),
	},
	"UpdateNodeEnablingState": {
		"NonExistent":      asks("DevEui=0000000000000001"),
		"NotResourceOwner": asBob(),
	},
	"ConfirmNodeSession": {
		"NonExistent":      asks("JoinNonce=9"),
		"NotResourceOwner": asBob(),
	},
	"GetNode": {
		"NonExistent":      asks("DevEui=0000000000000001"),
		"NotResourceOwner": asBob(),
	},
	"CreateGateway": {
		"GwEuiDuplicated":             after(func(w *world, _ map[string]string) { w.gateway("alice") }),
		"GatewayAlreadyBoundToOthers": after(func(w *world, _ map[string]string) { w.gateway("bob") }),
		"IotHubTripleMissing":         after(func(w *world, _ map[string]string) { w.server.GatewaysFromStockOnly = true }),
		"InvalidPinCode":              after(func(w *world, _ map[string]string) { w.stockGateway(gwEUI) }, "PinCode=000000"),
		"ExceedGatewayLimit": after(func(w *world, _ map[string]string) {
			w.gateway("alice", "GwEui=0000000000000001")
			w.account(alice, func(a *joinserver.Account) { a.GatewayLimit = 1 })
		}),
		"InvalidFreqBandPlan": asks("FreqBandPlanGroupId=123"),
		"InvalidName":         asks("Name=_roof"),
	},
	"UpdateGateway": {
		"NonExistent": asks("GwEui=0000000000000001"),
		"InvalidName": asks("Name=the-roof"),
	},
	"UpdateGatewayEnablingState": {"NonExistent": asks("GwEui=0000000000000001")},
	"DeleteGateway":              {"NonExistent": asks("GwEui=0000000000000001")},
	"GetGateway": {
		"NonExistent":      asks("GwEui=0000000000000001"),
		"NotResourceOwner": asBob(),
	},
	"GetGatewayStatusStat": {
		"NonExistent":      asks("GwEui=0000000000000001"),
		"NotResourceOwner": asBob(),
	},
	"ListGatewayOnlineRecords": {
		"NonExistent":      asks("GwEui=0000000000000001"),
		"NotResourceOwner": asBob(),
	},
	"GetNotification": {
		"NonExistent":      asks("NotificationId=99"),
		"NotResourceOwner": asBob(),
	},
	"UpdateNotificationsHandleState": {
		"NonExistent":      asks("NotificationId.2=99"),
		"NotResourceOwner": asBob(),
	},
	"BindJoinPermissionToNodeGroup": {
		"JoinPermissionDoesNotExist":          asks("JoinPermissionId=99"),
		"NodeGroupDoesNotExist":               asks("NodeGroupId=99"),
		"JoinPermissionAlreadyBoundNodeGroup": after(bindElsewhere),
		"NodeGroupAlreadyBoundJoinPermission": after(occupyGroup),
	},
}

// impossible says why a code of an action has no cause here.
var impossible = map[string]map[string]string{
	"CreateNodeGroup": {
		"NodeGroupAlreadyBoundJoinPermission": "a group that is being made is bound to nothing",
	},
	"BindJoinPermissionToNodeGroup": {
		"NonExistent": "JoinPermissionDoesNotExist and NodeGroupDoesNotExist say which one it is",
	},
	"AddNodeToGroup": {
		"NonExistent": "NodeDoesNotExist and NodeGroupDoesNotExist say which one it is",
	},
	"ApplyRoamingJoinPermission": {
		"NonExistent": "the call names nothing that could be missing",
	},
	"GetUserLicense": {
		"NonExistent": "every account has its limits",
	},
	"CreateGateway": {
		"GatewayTupleAlreadyAbandoned": "a gateway cannot be withdrawn from stock: the operator removes it",
		"GatewayInstanceInvalid":       "another's IotInstanceId is InvalidParameter, as in every action",
		"GatewayDistributeFail":        "nothing is distributed: the record is the only place a gateway is kept in",
	},
	"DeleteGateway": {
		"GatewayDistributeFail": "nothing is distributed: the record is the only place a gateway is kept in",
	},
}

// noLocks says why ResourceLocked has no cause in any action.
const noLocks = "only other Alibaba products lock node groups"

func TestEveryErrorCodeHasItsCause(t *testing.T) {
	for _, name := range sortedKeys(actions()) {
		act := actions()[name]
		codes := act.Errors
		if len(codes) == 0 { // ListNotifications is published without a table
			codes = []string{"ForbiddenByRam", "ForbiddenByRiskControl", "InternalError"}
		}
		for _, code := range codes {
			t.Run(name+"/"+code, func(t *testing.T) { provoke(t, name, code) })
		}
		for code := range provocations[name] {
			if !act.mayFail(code) {
				t.Errorf("%s is provoked to %s, which its table lacks", name, code)
			}
		}
	}
}

func provoke(t *testing.T, name, code string) {
	if impossible[name][code] != "" || code == "ResourceLocked" && noLocks != "" {
		return
	}
	w := newWorld(t)
	sample := samples[name](w)
	if cause, ok := provocations[name][code]; ok {
		cause(w, code, name, sample)
		return
	}
	cause, ok := everywhere[code]
	if !ok {
		t.Fatal("neither a cause nor a reason why there is none")
	}
	before := w.record.state.revision
	var refusal *APIError
	if err := cause(w, name, sample); !errors.As(err, &refusal) || refusal.Code != code {
		t.Fatalf("got %v", err)
	}
	if w.record.state.revision != before {
		t.Error("the refused call changed the record")
	}
	status := http.StatusBadRequest
	if code == "InternalError" {
		status = http.StatusInternalServerError
	}
	if refusal.HTTPStatus != status {
		t.Errorf("HTTP status %d, want %d", refusal.HTTPStatus, status)
	}
	if refusal.Message != catalog().ErrorMessages[code] {
		t.Errorf("message %q", refusal.Message)
	}
}

// Each sample must succeed, or the refusals above prove nothing.
func TestSamplesSucceed(t *testing.T) {
	for name := range actions() {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			if samples[name] == nil {
				t.Fatal("no sample")
			}
			w.must("alice", name, samples[name](w)...)
		})
	}
}

// What is another account's is told from what is not there, in every action
// that names one thing.
func TestOthersThingsAreNotResourceOwner(t *testing.T) {
	named := []string{"JoinPermissionId", "NodeGroupId", "DevEui", "GwEui", "OrderId", "NotificationId"}
	exempt := map[string]bool{"CreateGateway": true} // GatewayAlreadyBoundToOthers
	for name, act := range actions() {
		for _, param := range named {
			if !act.Params[param].Required || exempt[name] {
				continue
			}
			w := newWorld(t)
			sample := samples[name](w)
			if name == "AddNodeToGroup" {
				w.must("alice", name, sample...)
			}
			if param != "NodeGroupId" && act.Params["NodeGroupId"].Required {
				sample = with(sample, "NodeGroupId="+w.group("corp", "corps"))
			}
			w.account(corp, func(a *joinserver.Account) { a.InstanceID = "" })
			for id, g := range w.record.state.groups {
				if g.Account == corp {
					g.InstanceID = ""
					w.record.state.groups[id] = g
				}
			}
			w.fails("NotResourceOwner", "corp", name, sample...)
		}
	}
}
