package cache

import (
	"time"

	"joingate/band"
	"joingate/joinserver"
	"joingate/keyring"
)

// policyValue writes a policy. The root keys are sealed for their device.
func policyValue(s *keyring.Sealer, p joinserver.Policy, generation mark) value {
	var w writer
	n, g, j := p.Node, p.Group, p.Permission
	w.octets(n.DevEUI[:]...)
	w.int(int64(n.Account))
	w.bool(n.Enabled)
	w.octets(byte(n.MACVersion))
	w.section(s.SealKey(n.Keys.App, appKeyPlace+n.DevEUI.String()))
	w.section(s.SealKey(n.Keys.Nwk, nwkKeyPlace+n.DevEUI.String()))
	w.int(g.ID)
	w.int(j.ID)
	w.section([]byte(j.Type))
	w.int(int64(j.Owner))
	w.bool(j.Enabled)
	w.octets(j.JoinEUI[:]...)
	w.int(int64(j.BandPlanGroup))
	w.section([]byte(j.ClassMode))
	w.int(int64(j.RxDelay))
	w.int(dataRateNumber(j.DataRate))
	w.bool(j.RequireOwn)
	return value{kindPolicy, generation, policyVersions(p), w}
}

// policy reads a policy of the device.
func (v value) policy(s *keyring.Sealer, device joinserver.EUI64) (p joinserver.Policy, ok bool) {
	r := reader{rest: v.body}
	n, g, j := &p.Node, &p.Group, &p.Permission
	n.DevEUI = joinserver.EUI64(r.octets(len(n.DevEUI)))
	n.Account = joinserver.AccountID(r.int())
	n.Enabled = r.bool()
	n.MACVersion = joinserver.MACVersion(r.octets(1)[0])
	app, nwk := r.section(), r.section()
	g.ID = r.int()
	j.ID = r.int()
	j.Type = joinserver.PermissionType(r.section())
	j.Owner = joinserver.AccountID(r.int())
	j.Enabled = r.bool()
	j.JoinEUI = joinserver.EUI64(r.octets(len(j.JoinEUI)))
	j.BandPlanGroup = band.GroupID(r.int())
	j.ClassMode = string(r.section())
	j.RxDelay = time.Duration(r.int())
	rate := r.int()
	j.RequireOwn = r.bool()
	n.Version, g.Version, j.Version = v.versions[0], v.versions[1], v.versions[2]
	if v.kind != kindPolicy || !r.ended() || n.DevEUI != device || rate < 0 || rate > 16 {
		return joinserver.Policy{}, false
	}
	j.DataRate = dataRateOf(rate)
	var err1, err2 error
	n.Keys.App, err1 = s.OpenKey(app, appKeyPlace+device.String())
	n.Keys.Nwk, err2 = s.OpenKey(nwk, nwkKeyPlace+device.String())
	if err1 != nil || err2 != nil {
		return joinserver.Policy{}, false
	}
	return p, true
}

func policyVersions(p joinserver.Policy) versions {
	return versions{p.Node.Version, p.Group.Version, p.Permission.Version}
}

// A data rate is 1 to 16 in a value; 0: the region's default.
func dataRateNumber(rate *band.DataRate) int64 {
	if rate == nil {
		return 0
	}
	return int64(*rate) + 1
}

func dataRateOf(n int64) *band.DataRate {
	if n == 0 {
		return nil
	}
	rate := band.DataRate(n - 1)
	return &rate
}

// unknownValue says that a device was unknown while the moment was current.
func unknownValue(now marks) value {
	return value{kind: kindUnknown, generation: now.generation, body: []byte(now.moment)}
}

// unknown reports whether the value says that a device is unknown, and still may.
func (v value) unknown(now marks) bool {
	return v.kind == kindUnknown && now.moment != "" && string(v.body) == string(now.moment)
}

func gatewayValue(g joinserver.Gateway, generation mark) value {
	var w writer
	w.octets(g.EUI[:]...)
	w.int(int64(g.Owner))
	w.bool(g.Enabled)
	w.int(int64(g.BandPlanGroup))
	w.bool(g.OpenToRoaming)
	return value{kindGateway, generation, versions{g.Version}, w}
}

// gateway reads the gateway with the EUI.
func (v value) gateway(eui joinserver.EUI64) (g joinserver.Gateway, ok bool) {
	r := reader{rest: v.body}
	g.EUI = joinserver.EUI64(r.octets(len(g.EUI)))
	g.Owner = joinserver.AccountID(r.int())
	g.Enabled = r.bool()
	g.BandPlanGroup = band.GroupID(r.int())
	g.OpenToRoaming = r.bool()
	g.Version = v.versions[0]
	if v.kind != kindGateway || !r.ended() || g.EUI != eui {
		return joinserver.Gateway{}, false
	}
	return g, true
}
