package linkwan

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"joingate/joinserver"
)

// The features of Link WAN that are built here. ListActivatedFeatures shows
// those that an account has; a new account has all.
const (
	featureGateway       = "GATEWAY"
	featureNode          = "NODE"
	featureLocal         = "LOCAL_JOIN_PERMISSION"
	featureRoaming       = "ROAMING_JOIN_PERMISSION"
	featureAuthorization = "JOIN_PERMISSION_AUTHORIZATION"
	featureNotification  = "NOTIFICATION"
)

// Features lists the names that joingate account set --features takes.
func Features() []string {
	return []string{featureGateway, featureNode, featureLocal, featureRoaming, featureAuthorization, featureNotification}
}

// DefaultLocalJoinPermissionLimit is how many LOCAL permissions a new account may own.
const DefaultLocalJoinPermissionLimit = 1000

// NewAccount gives an account as joingate account create makes it: activated,
// with all features. The record adds the ID.
func NewAccount(name, instanceID string, now time.Time) joinserver.Account {
	return joinserver.Account{
		Name: name, InstanceID: instanceID, ProductActivated: true, Features: Features(),
		LocalJoinPermissionLimit: DefaultLocalJoinPermissionLimit, CreateMillis: now.UnixMilli(),
	}
}

func hasFeature(account joinserver.Account, feature string) bool {
	return feature == "" || slices.Contains(account.Features, feature)
}

// regionID is the region part of RAM resources: Link WAN has this one only.
const regionID = "cn-shanghai"

// action is one entry of the API.
type action struct {
	actionContract
	run func(call, Tx) (any, error) // gives Data, or nil for none
	// direct stands in for run where the work has a transaction of its own: it is
	// not audited, and may be done twice.
	direct func(context.Context, call) (any, error)
	// feature must be activated, if the action's error table has FeatureNotActivated.
	feature string
	// resources are what a RAM user needs the action to be allowed on: all of them.
	resources []string
	guard     guard
	perSecond int // calls of an account; 0: callsPerSecond
}

// quota is how many calls an account may make in a second.
func (a action) quota() int {
	if a.perSecond == 0 {
		return callsPerSecond
	}
	return a.perSecond
}

// call is one call whose caller is known and whose parameters are of their
// types. Actions reach the record through their Tx only, as they may run twice.
type call struct {
	*Server
	params
	account joinserver.Account
	now     time.Time
	write   joinserver.Write // of an action that writes
}

// The resources of RAM (help.aliyun.com document 112387; those of gateway reports
// and of account checks, which it lacks, are ours). ${Name} is the parameter's
// value.
const (
	allOwned    = "owned-join-permission/*"
	oneOwned    = "owned-join-permission/${JoinPermissionId}"
	allRented   = "rented-join-permission/*"
	oneRented   = "rented-join-permission/${JoinPermissionId}"
	allOrders   = "join-permission-auth-order/*"
	oneOrder    = "join-permission-auth-order/${OrderId}"
	allGroups   = "node-group/*"
	oneGroup    = "node-group/${NodeGroupId}"
	allNodes    = "node/*"
	oneNode     = "node/${DevEui}"
	allGateways = "gateway/*"
	oneGateway  = "gateway/${GwEui}"
	allPlans    = "freq-band-plan/*"
	onePlan     = "freq-band-plan/${GroupId}"
	allEvents   = "event/*"
	oneEvent    = "event/${NotificationId}"
	theLicense  = "user-license/*"
	allFeatures = "feature/*"
)

// actions joins the table with the contract.
var actions = sync.OnceValue(func() map[string]action {
	all := table()
	for name, act := range all {
		act.actionContract = catalog().Actions[name]
		all[name] = act
	}
	return all
})

func on(resources ...string) []string { return resources }

// table lists the actions that are built. Any other is InvalidAction.NotFound.
func table() map[string]action {
	all := map[string]action{}
	for _, part := range []map[string]action{permissionActions(), orderActions(), groupActions(), nodeActions(), gatewayActions(), accountActions(), sessionActions()} {
		maps.Copy(all, part)
	}
	return all
}

func permissionActions() map[string]action {
	return map[string]action{
		"CreateLocalJoinPermission":                   {run: createLocalJoinPermission, feature: featureLocal, resources: on(allOwned)},
		"CreateCustomLocalJoinPermission":             {run: createCustomLocalJoinPermission, feature: featureLocal, resources: on(allOwned)},
		"DeleteLocalJoinPermission":                   {run: deleteLocalJoinPermission, feature: featureLocal, resources: on(oneOwned)},
		"UpdateOwnedLocalJoinPermission":              {run: updateOwnedLocalJoinPermission, feature: featureLocal, resources: on(oneOwned)},
		"UpdateOwnedLocalJoinPermissionEnablingState": {run: updateOwnedEnablingState, feature: featureLocal, resources: on(oneOwned)},
		"GetOwnedJoinPermission":                      {run: getOwnedJoinPermission, feature: featureLocal, resources: on(oneOwned)},
		"ListOwnedJoinPermissions":                    {run: listOwnedJoinPermissions, feature: featureLocal, resources: on(allOwned)},
		"CountOwnedJoinPermissions":                   {run: countOwnedJoinPermissions, feature: featureLocal, resources: on(allOwned)},

		"GetRentedJoinPermission":    {run: getRentedJoinPermission, feature: featureAuthorization, resources: on(oneRented)},
		"ListRentedJoinPermissions":  {run: listRentedJoinPermissions, feature: featureAuthorization, resources: on(allRented)},
		"CountRentedJoinPermissions": {run: countRentedJoinPermissions, feature: featureAuthorization, resources: on(allRented)},
		"ReturnJoinPermission":       {run: returnJoinPermission, feature: featureAuthorization, resources: on(oneRented)},

		"ApplyRoamingJoinPermission":               {run: applyRoamingJoinPermission, feature: featureRoaming, resources: on(allRented)},
		"UpdateRoamingJoinPermission":              {run: updateRoamingJoinPermission, feature: featureRoaming, resources: on(oneRented)},
		"UpdateRoamingJoinPermissionEnablingState": {run: updateRoamingEnablingState, feature: featureRoaming, resources: on(oneRented)},

		"ListFreqBandPlanGroups": {run: listFreqBandPlanGroups, resources: on(allPlans)},
		"GetFreqBandPlanGroup":   {run: getFreqBandPlanGroup, resources: on(onePlan)},
	}
}

func orderActions() map[string]action {
	return map[string]action{
		"SubmitJoinPermissionAuthOrder": {
			run: submitJoinPermissionAuthOrder, feature: featureAuthorization, resources: on(allOrders, oneOwned),
			guard: renterGuard,
		},
		"AcceptJoinPermissionAuthOrder": {run: acceptJoinPermissionAuthOrder, feature: featureAuthorization, resources: on(oneOrder)},
		"RejectJoinPermissionAuthOrder": {run: rejectJoinPermissionAuthOrder, feature: featureAuthorization, resources: on(oneOrder)},
		"CancelJoinPermissionAuthOrder": {run: cancelJoinPermissionAuthOrder, feature: featureAuthorization, resources: on(oneOrder)},
		"GetJoinPermissionAuthOrder":    {run: getJoinPermissionAuthOrder, feature: featureAuthorization, resources: on(oneOrder)},
	}
}

func groupActions() map[string]action {
	return map[string]action{
		"CreateNodeGroup": {run: createNodeGroup, feature: featureNode, resources: on(allGroups)},
		"UpdateNodeGroup": {run: updateNodeGroup, feature: featureNode, resources: on(oneGroup)},
		"DeleteNodeGroup": {run: deleteNodeGroup, feature: featureNode, resources: on(oneGroup)},
		"GetNodeGroup":    {run: getNodeGroup, feature: featureNode, resources: on(oneGroup)},
		"ListNodeGroups":  {run: listNodeGroups, feature: featureNode, resources: on(allGroups)},
		"CountNodeGroups": {run: countNodeGroups, feature: featureNode, resources: on(allGroups)},

		"BindJoinPermissionToNodeGroup":     {run: bindJoinPermissionToNodeGroup, feature: featureNode, resources: on(oneGroup, oneRented)},
		"UnbindJoinPermissionFromNodeGroup": {run: unbindJoinPermissionFromNodeGroup, feature: featureNode, resources: on(oneGroup, oneRented)},

		"UpdateDataDispatchConfig":        {run: updateDataDispatchConfig, feature: featureNode, resources: on(oneGroup)},
		"UpdateDataDispatchEnablingState": {run: updateDataDispatchEnablingState, feature: featureNode, resources: on(oneGroup)},
	}
}

func nodeActions() map[string]action {
	return map[string]action{
		"AddNodeToGroup":                    {run: addNodeToGroup, feature: featureNode, resources: on(oneGroup), guard: pinGuard("DevEui")},
		"RemoveNodeFromGroup":               {run: removeNodeFromGroup, feature: featureNode, resources: on(oneGroup)},
		"UpdateNodeEnablingState":           {run: updateNodeEnablingState, feature: featureNode, resources: on(oneNode)},
		"GetNode":                           {run: getNode, feature: featureNode, resources: on(oneNode)},
		"ListNodesByNodeGroupId":            {run: listNodesByNodeGroupId, feature: featureNode, resources: on(allNodes, oneGroup)},
		"CountNodesByNodeGroupId":           {run: countNodesByNodeGroupId, feature: featureNode, resources: on(allNodes, oneGroup)},
		"ListNodesByOwnedJoinPermissionId":  {run: listNodesByOwnedJoinPermissionId, feature: featureNode, resources: on(allNodes, oneOwned)},
		"CountNodesByOwnedJoinPermissionId": {run: countNodesByOwnedJoinPermissionId, feature: featureNode, resources: on(allNodes, oneOwned)},
	}
}

func gatewayActions() map[string]action {
	return map[string]action{
		"CreateGateway":              {run: createGateway, feature: featureGateway, resources: on(allGateways), guard: pinGuard("GwEui")},
		"UpdateGateway":              {run: updateGateway, feature: featureGateway, resources: on(oneGateway)},
		"UpdateGatewayEnablingState": {run: updateGatewayEnablingState, feature: featureGateway, resources: on(oneGateway)},
		"DeleteGateway":              {run: deleteGateway, feature: featureGateway, resources: on(oneGateway)},
		"GetGateway":                 {run: getGateway, feature: featureGateway, resources: on(oneGateway)},
		"ListGateways":               {run: listGateways, feature: featureGateway, resources: on(allGateways)},
		"CountGateways":              {run: countGateways, feature: featureGateway, resources: on(allGateways)},
		"ListGatewaysGisInfo":        {run: listGatewaysGisInfo, feature: featureGateway, resources: on(allGateways)},
		"ListActiveGateways":         {run: listActiveGateways, feature: featureGateway, resources: on(allGateways)},
		"GetGatewayStatusStat":       {run: getGatewayStatusStat, feature: featureGateway, resources: on(oneGateway)},
		"ListGatewayOnlineRecords":   {run: listGatewayOnlineRecords, feature: featureGateway, resources: on(oneGateway)},
	}
}

func accountActions() map[string]action {
	return map[string]action{
		"ListNotifications":              {run: listNotifications, feature: featureNotification, resources: on(allEvents)},
		"CountNotifications":             {run: countNotifications, feature: featureNotification, resources: on(allEvents)},
		"GetNotification":                {run: getNotification, feature: featureNotification, resources: on(oneEvent)},
		"UpdateNotificationsHandleState": {run: updateNotificationsHandleState, feature: featureNotification, resources: on(oneEvent)},

		"GetUserLicense":              {run: getUserLicense, resources: on(theLicense)},
		"ListActivatedFeatures":       {run: listActivatedFeatures, resources: on(allFeatures)},
		"CheckCloudProductOpenStatus": {run: checkCloudProductOpenStatus, resources: on(allFeatures)},
		"CheckUserChargeStatus":       {run: checkUserChargeStatus, resources: on(theLicense)},
	}
}
