package linkwan

import (
	"joingate/joinserver"
)

// noLimit is how GetUserLicense shows that there is no limit.
const noLimit = 1<<31 - 1

func shownLimit(limit int64) int64 {
	if limit == 0 {
		return noLimit
	}
	return limit
}

// license holds the limits of an account that mean something here. Those on key
// orders, relays and Alibaba's tariffs are left out.
type license struct {
	LocalJoinPermissionLimit   int64
	LocalJoinPermissionCount   int64
	RoamingJoinPermissionLimit int64
	RoamingJoinPermissionCount int64
	NodeLimit                  int64
	NodeCount                  int64
	GatewayLimit               int64
	GatewayCount               int64
}

func getUserLicense(c call, tx Tx) (any, error) {
	_, owned, err := tx.Permissions(joinserver.PermissionFilter{Owner: c.account.ID, Type: joinserver.Local})
	if err != nil {
		return nil, err
	}
	roaming, err := roamingCount(tx, c.account.ID)
	if err != nil {
		return nil, err
	}
	_, nodes, err := tx.Devices(joinserver.DeviceFilter{Account: c.account.ID})
	if err != nil {
		return nil, err
	}
	_, gateways, err := tx.Gateways(joinserver.GatewayFilter{Owner: c.account.ID})
	if err != nil {
		return nil, err
	}
	return license{
		LocalJoinPermissionLimit: c.account.LocalJoinPermissionLimit, LocalJoinPermissionCount: owned,
		RoamingJoinPermissionLimit: maxRoamingPermissions, RoamingJoinPermissionCount: roaming,
		NodeLimit: shownLimit(c.account.NodeLimit), NodeCount: nodes,
		GatewayLimit: shownLimit(c.account.GatewayLimit), GatewayCount: gateways,
	}, nil
}

func listActivatedFeatures(c call, _ Tx) (any, error) {
	return each(c.account.Features, func(name string) string { return name }), nil
}

// serviceCode is Link WAN's among Alibaba's products; no other is open here.
const serviceCode = "linkwan"

func checkCloudProductOpenStatus(c call, _ Tx) (any, error) {
	return c.account.ProductActivated && c.text("ServiceCode") == serviceCode, nil
}

// checkUserChargeStatus is the same for all: nothing is charged here.
func checkUserChargeStatus(call, Tx) (any, error) { return chargeNormal, nil }
