package linkwan

import (
	"strings"
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
