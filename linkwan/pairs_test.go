package linkwan

import (
	"errors"
	"net/http"
	"testing"

	"joingate/joinserver"
)

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
