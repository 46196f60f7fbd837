package joinserver

import (
	"encoding/hex"
	"fmt"
	"math"
	"time"

	"joingate/band"
)

// JoinEvent tells an account that one of its devices has joined. It holds no
// keys. ID is the same however often the event is delivered.
type JoinEvent struct {
	ID               string            `json:"id"`
	Time             time.Time         `json:"time"`
	AccountID        AccountID         `json:"accountId,string"`
	DevEUI           EUI64             `json:"devEui"`
	JoinEUI          EUI64             `json:"joinEui"`
	DevAddr          DevAddr           `json:"devAddr"`
	NetID            string            `json:"netId"`
	DevNonce         uint16            `json:"devNonce"`
	JoinNonce        uint32            `json:"joinNonce"`
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
	Gateway          EUI64             `json:"gateway"`
	Gateways         []GatewayReported `json:"gateways"`
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

// Event gives the join event of a claim that was granted at the given time.
func (c Claim) Event(g Grant, at time.Time) JoinEvent {
	p := c.Policy
	return JoinEvent{
		ID:               fmt.Sprintf("%s-%d", c.Request.DevEUI, g.JoinNonce),
		Time:             at.UTC(),
		AccountID:        p.Node.Account,
		DevEUI:           c.Request.DevEUI,
		JoinEUI:          c.Request.JoinEUI,
		DevAddr:          g.DevAddr,
		NetID:            c.NetID.String(),
		DevNonce:         c.Request.DevNonce,
		JoinNonce:        g.JoinNonce,
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
	}
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
