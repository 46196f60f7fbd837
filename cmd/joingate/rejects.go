package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"time"

	"joingate/joinserver"
	"joingate/mqtt"
	"joingate/record"

	"go.uber.org/zap"
)

// refusedDevice is what a device was refused for, as GET /rejects tells it.
type refusedDevice struct {
	DevEUI   joinserver.EUI64             `json:"devEui"`
	JoinEUI  joinserver.EUI64             `json:"joinEui"`
	Account  string                       `json:"accountId,omitempty"` // of the node, if there is one
	Reason   string                       `json:"reason"`
	Detail   string                       `json:"detail,omitempty"` // of the last time
	Remedy   string                       `json:"remedy"`
	Times    int                          `json:"times"` // of those that are remembered
	First    time.Time                    `json:"first"`
	Last     time.Time                    `json:"last"`
	Gateways []joinserver.GatewayReported `json:"gateways"` // that heard it the last time
	Fits     []fittingGroup               `json:"fits,omitempty"`
}

// fittingGroup is a node group that would let the device join as it asks to.
type fittingGroup struct {
	Account     string `json:"accountId"`
	NodeGroupID int64  `json:"nodeGroupId,string"`
	Name        string `json:"name"`
}

// rejects answers GET /rejects with the refused joins that this instance
// remembers, newest first. The memory is bounded and lost at the end.
func (s *server) rejects(w http.ResponseWriter, r *http.Request) {
	list := refusedDevices(s.edge.Rejects(), r.URL.Query().Get("reason"))
	if err := s.addFitting(r.Context(), list); err != nil {
		s.log.Error("refused joins are shown without the groups they would fit", zap.Error(err))
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(list)
}

// refusedDevices gathers refusals, newest first, of the same device for the same
// reason: a device asks again and again. An empty reason is any.
func refusedDevices(rejects []mqtt.Reject, reason string) []refusedDevice {
	type key struct {
		devEUI, joinEUI joinserver.EUI64
		reason          string
	}
	list, at := []refusedDevice{}, map[key]int{}
	for _, one := range rejects {
		if reason != "" && one.Reason != reason {
			continue
		}
		k := key{one.DevEUI, one.JoinEUI, one.Reason}
		i, known := at[k]
		if !known {
			i = len(list)
			at[k] = i
			list = append(list, newRefusedDevice(one))
		}
		list[i].Times++
		list[i].First = one.Time
	}
	return list
}

func newRefusedDevice(r mqtt.Reject) refusedDevice {
	d := refusedDevice{
		DevEUI: r.DevEUI, JoinEUI: r.JoinEUI, Reason: r.Reason, Detail: r.Detail, Remedy: r.Remedy, Last: r.Time, Gateways: r.Gateways,
	}
	if r.Account != 0 {
		d.Account = r.Account.String()
	}
	return d
}

// groupless are the reasons for which another node group can be the remedy.
var groupless = []string{joinserver.UnknownDevice.String(), joinserver.NoPermission.String(), joinserver.WrongJoinEUI.String()}

// addFitting names the node groups that would let a device join: bound to an
// enabled permission with the JoinEUI that the device asks for, which a gateway
// that heard it may serve. A device that has an account fits its groups only.
func (s *server) addFitting(ctx context.Context, list []refusedDevice) error {
	if !slices.ContainsFunc(list, func(d refusedDevice) bool { return slices.Contains(groupless, d.Reason) }) {
		return nil
	}
	return s.record.View(ctx, func(tx *record.Tx) error {
		enabled, all := true, joinserver.Page{Limit: joinserver.NoLimit}
		permissions, _, err := tx.Permissions(joinserver.PermissionFilter{Enabled: &enabled, Page: all})
		if err != nil {
			return err
		}
		groups, _, err := tx.Groups(joinserver.GroupFilter{Page: all})
		if err != nil {
			return err
		}
		gateways, err := hearingGateways(tx, list)
		fit(list, groups, permissions, gateways)
		return err
	})
}

// hearingGateways reads the registered ones among the gateways that heard.
func hearingGateways(tx *record.Tx, list []refusedDevice) (map[joinserver.EUI64]joinserver.Gateway, error) {
	known, asked := map[joinserver.EUI64]joinserver.Gateway{}, map[joinserver.EUI64]bool{}
	for _, d := range list {
		for _, heard := range d.Gateways {
			if asked[heard.GwEUI] {
				continue
			}
			asked[heard.GwEUI] = true
			g, err := tx.Gateway(heard.GwEUI)
			if err == nil {
				known[heard.GwEUI] = g.Gateway
			} else if !errors.Is(err, joinserver.ErrNotFound) {
				return nil, err
			}
		}
	}
	return known, nil
}

// mostFitting bounds how many groups are named for a device.
const mostFitting = 5

func fit(list []refusedDevice, groups []joinserver.Group, permissions []joinserver.Permission, gateways map[joinserver.EUI64]joinserver.Gateway) {
	byID := make(map[int64]joinserver.Permission, len(permissions))
	for _, p := range permissions {
		byID[p.ID] = p
	}
	byJoinEUI := map[joinserver.EUI64][]joinserver.Group{}
	for _, g := range groups {
		if p, enabled := byID[g.PermissionID]; enabled {
			byJoinEUI[p.JoinEUI] = append(byJoinEUI[p.JoinEUI], g)
		}
	}
	for i, d := range list {
		if !slices.Contains(groupless, d.Reason) {
			continue
		}
		for _, g := range byJoinEUI[d.JoinEUI] {
			if len(list[i].Fits) < mostFitting && cmp.Or(d.Account, g.Account.String()) == g.Account.String() && served(d, byID[g.PermissionID], gateways) {
				list[i].Fits = append(list[i].Fits, fittingGroup{g.Account.String(), g.ID, g.Name})
			}
		}
	}
}

// served reports whether a gateway that heard the device may serve the permission.
func served(d refusedDevice, p joinserver.Permission, gateways map[joinserver.EUI64]joinserver.Gateway) bool {
	return slices.ContainsFunc(d.Gateways, func(heard joinserver.GatewayReported) bool {
		g, known := gateways[heard.GwEUI]
		return known && g.Serves(p.JoinPermission)
	})
}
