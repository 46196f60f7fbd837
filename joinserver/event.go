package joinserver

import (
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"time"

	"joingate/band"
	"joingate/keyring"
)

// JoinEventVersion is the version of JoinEvent. Fields may be added to a version;
// what is there keeps its name and meaning.
const JoinEventVersion = 1

// JoinEvent tells an account that one of its devices has joined. It holds session
// keys only wrapped, for servers that have registered a key encryption key. ID is
// the same however often the event is delivered.
type JoinEvent struct {
	Version          int               `json:"version"` // JoinEventVersion
	ID               string            `json:"id"`
	Time             time.Time         `json:"time"`
	AccountID        AccountID         `json:"accountId,string"`
	DevEUI           EUI64             `json:"devEui"`
	JoinEUI          EUI64             `json:"joinEui"`
	DevAddr          DevAddr           `json:"devAddr"`
	NetID            string            `json:"netId"`
	JoinReqType      byte              `json:"joinReqType"` // 255: join-request; 0, 1, 2: rejoin-request
	DevNonce         uint16            `json:"devNonce"`    // RJcount of a rejoin-request
	JoinNonce        uint32            `json:"joinNonce"`
	SessionKeyID     string            `json:"sessionKeyId"`
	MACVersion       string            `json:"macVersion"`
	ClassMode        string            `json:"classMode"`
	BandPlanGroup    band.GroupID      `json:"freqBandPlanGroupId"`
	RxDelay          int               `json:"rxDelay"` // seconds
	DataRate         byte              `json:"dataRate"`
	RX1DROffset      byte              `json:"rx1DrOffset"`
	DLSettings       string            `json:"dlSettings"`
	CFList           string            `json:"cfList,omitempty"`
	NodeGroupID      int64             `json:"nodeGroupId,string"`
	JoinPermissionID int64             `json:"joinPermissionId,string"`
	Versions         PolicyVersions    `json:"versions"`
	Gateway          EUI64             `json:"gateway,omitzero"`
	Gateways         []GatewayReported `json:"gateways"`
	NetworkServer    string            `json:"networkServer,omitempty"` // that sends the join-accept, in place of a gateway of ours
	Keys             *WrappedKeys      `json:"keys,omitempty"`
}

// WrappedKeys are a join's session keys, for each server under the key encryption
// key that it has registered.
type WrappedKeys struct {
	Network     *NetworkKeys     `json:"ns,omitempty"`
	Application *ApplicationKeys `json:"as,omitempty"`
}

// NetworkKeys are for the network server: three keys of LoRaWAN 1.1, or the one of
// 1.0.x. Hex of 24 octets (RFC 3394).
type NetworkKeys struct {
	KEKLabel    string `json:"kekLabel"`
	FNwkSIntKey string `json:"fNwkSIntKey,omitempty"`
	SNwkSIntKey string `json:"sNwkSIntKey,omitempty"`
	NwkSEncKey  string `json:"nwkSEncKey,omitempty"`
	NwkSKey     string `json:"nwkSKey,omitempty"`
}

// ApplicationKeys are for the application server. Hex of 24 octets (RFC 3394).
type ApplicationKeys struct {
	KEKLabel string `json:"kekLabel"`
	AppSKey  string `json:"appSKey"`
}

// PolicyVersions are the versions that the commit compared with the record.
type PolicyVersions struct {
	Node       int64 `json:"node"`
	NodeGroup  int64 `json:"nodeGroup"`
	Permission int64 `json:"joinPermission"`
	Gateway    int64 `json:"gateway"`
}

// GatewayReported is one copy of a join-request as events show it.
type GatewayReported struct {
	GwEUI      EUI64   `json:"gwEui"`
	Frequency  uint32  `json:"frequency"` // Hz
	Modulation string  `json:"modulation"`
	RSSI       int32   `json:"rssi"`   // dBm
	SNR        float32 `json:"snr"`    // dB
	LinkMargin float32 `json:"margin"` // dB
}

// Event gives the join event of a claim that was granted at the given time, with
// the session keys for those of the servers that have registered a key encryption
// key. An error is a fault: root keys are missing.
func (c Claim) Event(g Grant, at time.Time, to Recipients) (JoinEvent, error) {
	keys, err := c.wrappedKeys(g, to)
	if err != nil {
		return JoinEvent{}, fmt.Errorf("wrap the session keys of %s: %w", c.Request.DevEUI, err)
	}
	event := c.event(g, at)
	event.Keys = keys
	return event, nil
}

func (c Claim) event(g Grant, at time.Time) JoinEvent {
	p := c.Policy
	return JoinEvent{
		Version:          JoinEventVersion,
		ID:               eventID(c.Request.DevEUI, g),
		Time:             at.UTC(),
		AccountID:        p.Node.Account,
		DevEUI:           c.Request.DevEUI,
		JoinEUI:          c.Request.JoinEUI,
		DevAddr:          g.DevAddr,
		NetID:            c.NetID.String(),
		JoinReqType:      c.Type.JoinReqType(),
		DevNonce:         c.Request.DevNonce,
		JoinNonce:        g.JoinNonce,
		SessionKeyID:     hex.EncodeToString(SessionKeyID(c.Request.DevEUI, g.JoinNonce)),
		MACVersion:       p.Node.MACVersion.String(),
		ClassMode:        p.Permission.ClassMode,
		BandPlanGroup:    p.Permission.BandPlanGroup,
		RxDelay:          int(c.RxDelay / time.Second),
		DataRate:         c.DLSettings & 0x0f,
		RX1DROffset:      c.DLSettings >> 4 & 0x07,
		DLSettings:       hex.EncodeToString([]byte{c.DLSettings}),
		CFList:           hex.EncodeToString(c.CFList),
		NodeGroupID:      p.Group.ID,
		JoinPermissionID: p.Permission.ID,
		Versions:         c.Versions(),
		Gateway:          c.Gateway.EUI,
		Gateways:         reported(c.Receptions),
		NetworkServer:    c.Server,
	}
}

// eventID names a join, for ever: no JoinNonce comes twice.
func eventID(device EUI64, g Grant) string { return fmt.Sprintf("%s-%d", device, g.JoinNonce) }

// wrappedKeys gives nil where nobody is to have keys.
func (c Claim) wrappedKeys(g Grant, to Recipients) (*WrappedKeys, error) {
	if to.Network.none() && to.Application.none() {
		return nil, nil
	}
	keys, err := c.SessionKeys(g)
	if err != nil {
		return nil, err
	}
	wrapped := new(WrappedKeys)
	var forNetwork, forApplication error
	if !to.Network.none() {
		wrapped.Network, forNetwork = to.Network.networkKeys(keys, c.OptNeg())
	}
	if !to.Application.none() {
		wrapped.Application = &ApplicationKeys{KEKLabel: to.Application.Label}
		wrapped.Application.AppSKey, forApplication = to.Application.wrap(keys.AppSKey)
	}
	return wrapped, errors.Join(forNetwork, forApplication)
}

// none reports whether the server has registered no key.
func (k KeyEncryption) none() bool { return k.KEK.IsZero() }

func (k KeyEncryption) wrap(key keyring.Key) (string, error) {
	octets, err := key.WrapUnder(k.KEK)
	return hex.EncodeToString(octets), err
}

func (k KeyEncryption) networkKeys(keys keyring.SessionKeys, optNeg bool) (*NetworkKeys, error) {
	out := &NetworkKeys{KEKLabel: k.Label}
	if !optNeg {
		var err error
		out.NwkSKey, err = k.wrap(keys.FNwkSIntKey)
		return out, err
	}
	var errs [3]error
	out.FNwkSIntKey, errs[0] = k.wrap(keys.FNwkSIntKey)
	out.SNwkSIntKey, errs[1] = k.wrap(keys.SNwkSIntKey)
	out.NwkSEncKey, errs[2] = k.wrap(keys.NwkSEncKey)
	return out, errors.Join(errs[:]...)
}

// RejectEvent tells an account that a join of one of its devices was refused.
type RejectEvent struct {
	Time     time.Time         `json:"time"`
	Reason   string            `json:"reason"`
	Detail   string            `json:"detail,omitempty"`
	Remedy   string            `json:"remedy"`
	DevEUI   EUI64             `json:"devEui"`
	JoinEUI  EUI64             `json:"joinEui"`
	Gateways []GatewayReported `json:"gateways"`
}

// Event gives the reject event of a refusal.
func (r *Rejection) Event(copies []Reception, at time.Time) RejectEvent {
	return RejectEvent{
		Time:     at.UTC(),
		Reason:   r.Reason.String(),
		Detail:   r.Detail,
		Remedy:   r.Reason.Remedy(),
		DevEUI:   r.DevEUI,
		JoinEUI:  r.JoinEUI,
		Gateways: reported(copies),
	}
}

func reported(copies []Reception) []GatewayReported {
	out := make([]GatewayReported, 0, len(copies))
	for _, c := range copies {
		out = append(out, GatewayReported{c.Gateway, uint32(c.Frequency), c.Modulation.String(), c.RSSI, finite(c.SNR), finite(c.LinkMargin())})
	}
	return out
}

// finite gives 0 for what JSON cannot write: anybody can send a copy with an SNR
// that is no number, and it must not cost the device its event.
func finite(dB float32) float32 {
	if math.IsNaN(float64(dB)) || math.IsInf(float64(dB), 0) {
		return 0
	}
	return dB
}

// OutboxEvent is a join event that waits for delivery.
type OutboxEvent struct {
	DevEUI    EUI64
	JoinNonce uint32
	Account   AccountID
	Payload   []byte // JSON of a JoinEvent

	CommittedMillis int64 // place in the order of delivery
}
