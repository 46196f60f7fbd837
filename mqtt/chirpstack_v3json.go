package mqtt

import (
	"encoding/json"
	"strconv"
	"time"

	"github.com/chirpstack/chirpstack/api/go/v4/common"
	"github.com/chirpstack/chirpstack/api/go/v4/gw"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// Version 3 in JSON spells its keys in its own way ("gatewayID", "loRaSNR") and
// writes octets as base64, which encoding/json does for []byte. What is read
// becomes the same message as that of v3 protobuf.

// hasV3Key looks for the gateway id where an event has it. Between keys that
// differ in case only, encoding/json takes the exact one.
func hasV3Key(payload []byte) bool {
	type ids struct {
		V3 json.RawMessage `json:"gatewayID"`
		V4 json.RawMessage `json:"gatewayId"`
	}
	var message struct {
		ids
		RxInfo ids `json:"rxInfo"`
	}
	if err := json.Unmarshal(payload, &message); err != nil {
		return false
	}
	return message.V3 != nil || message.RxInfo.V3 != nil
}

type loraV3JSON struct {
	Bandwidth             uint32 `json:"bandwidth"` // kHz
	SpreadingFactor       uint32 `json:"spreadingFactor"`
	CodeRate              string `json:"codeRate"`
	PolarizationInversion bool   `json:"polarizationInversion"`
}

type uplinkV3JSON struct {
	PHYPayload []byte `json:"phyPayload"`
	TxInfo     *struct {
		Frequency          uint32      `json:"frequency"`
		Modulation         string      `json:"modulation"`
		LoRaModulationInfo *loraV3JSON `json:"loRaModulationInfo"`
	} `json:"txInfo"`
	RxInfo *struct {
		GatewayID []byte  `json:"gatewayID"`
		RSSI      int32   `json:"rssi"`
		LoRaSNR   float64 `json:"loRaSNR"`
		Context   []byte  `json:"context"`
		CRCStatus string  `json:"crcStatus"`
	} `json:"rxInfo"`
}

func uplinkFromV3JSON(payload []byte, frame *gw.UplinkFrame) error {
	var up uplinkV3JSON
	if err := json.Unmarshal(payload, &up); err != nil {
		return err
	}
	frame.PhyPayload = up.PHYPayload
	if rx := up.RxInfo; rx != nil {
		frame.RxInfoLegacy = &gw.UplinkRxInfoLegacy{
			GatewayId: rx.GatewayID,
			Rssi:      rx.RSSI,
			LoraSnr:   rx.LoRaSNR,
			Context:   rx.Context,
			CrcStatus: gw.CRCStatus(gw.CRCStatus_value[rx.CRCStatus]),
		}
	}
	if tx := up.TxInfo; tx != nil {
		frame.TxInfoLegacy = &gw.UplinkTxInfoLegacy{
			Frequency:  tx.Frequency,
			Modulation: common.Modulation(common.Modulation_value[tx.Modulation]),
		}
		if lora := tx.LoRaModulationInfo; lora != nil {
			frame.TxInfoLegacy.ModulationInfo = &gw.UplinkTxInfoLegacy_LoraModulationInfo{
				LoraModulationInfo: &gw.LoraModulationInfo{Bandwidth: lora.Bandwidth, SpreadingFactor: lora.SpreadingFactor},
			}
		}
	}
	return nil
}

type downlinkV3JSON struct {
	Token      uint32               `json:"token"`
	DownlinkID []byte               `json:"downlinkID"`
	Items      []downlinkItemV3JSON `json:"items"`
	GatewayID  []byte               `json:"gatewayID"`
}

type downlinkItemV3JSON struct {
	PHYPayload []byte       `json:"phyPayload"`
	TxInfo     txInfoV3JSON `json:"txInfo"`
}

type txInfoV3JSON struct {
	GatewayID          []byte     `json:"gatewayID"`
	Frequency          uint32     `json:"frequency"`
	Power              int8       `json:"power"`
	Modulation         string     `json:"modulation"`
	LoRaModulationInfo loraV3JSON `json:"loRaModulationInfo"`
	Timing             string     `json:"timing"`
	DelayTimingInfo    delayJSON  `json:"delayTimingInfo"`
	Context            []byte     `json:"context"`
}

func downlinkToV3JSON(d downlinkCommand) ([]byte, error) {
	items := make([]downlinkItemV3JSON, len(d.Windows))
	for i, w := range d.Windows {
		items[i] = downlinkItemV3JSON{PHYPayload: d.PHYPayload, TxInfo: txInfoV3JSON{
			GatewayID:  d.Gateway[:],
			Frequency:  uint32(w.Frequency),
			Power:      w.Power,
			Modulation: common.Modulation_LORA.String(),
			LoRaModulationInfo: loraV3JSON{
				Bandwidth:             uint32(w.Modulation.Bandwidth / kHz),
				SpreadingFactor:       uint32(w.Modulation.SpreadingFactor),
				CodeRate:              codeRateV3,
				PolarizationInversion: true,
			},
			Timing:          gw.DownlinkTiming_DELAY.String(),
			DelayTimingInfo: delayJSON{Delay: seconds(w.Delay)},
			Context:         d.Context,
		}}
	}
	uuid := downlinkUUID(d.ID)
	return json.Marshal(downlinkV3JSON{Token: d.ID, DownlinkID: uuid[:], Items: items, GatewayID: d.Gateway[:]})
}

// seconds writes a duration as protobuf's JSON does: "5s", "0.5s".
func seconds(d time.Duration) string {
	return strconv.FormatFloat(d.Seconds(), 'f', -1, 64) + "s"
}

type ackV3JSON struct {
	GatewayID []byte `json:"gatewayID"`
	Token     uint32 `json:"token"`
	Error     string `json:"error"`
	Items     []struct {
		Status string `json:"status"`
	} `json:"items"`
}

func ackFromV3JSON(payload []byte, message *gw.DownlinkTxAck) error {
	var a ackV3JSON
	if err := json.Unmarshal(payload, &a); err != nil {
		return err
	}
	message.GatewayIdLegacy = a.GatewayID
	message.DownlinkId = a.Token
	for _, item := range a.Items {
		message.Items = append(message.Items, &gw.DownlinkTxAckItem{Status: statusOfV3(item.Status)})
	}
	unknown := protowire.AppendTag(nil, ackErrorV3, protowire.BytesType)
	message.ProtoReflect().SetUnknown(protowire.AppendString(unknown, a.Error))
	return nil
}

func statusOfV3(text string) gw.TxAckStatus {
	if status, known := gw.TxAckStatus_value[text]; known {
		return gw.TxAckStatus(status)
	}
	return gw.TxAckStatus(txUnknown)
}

type connV3JSON struct {
	GatewayID []byte `json:"gatewayID"`
	State     string `json:"state"`
}

func connFromV3JSON(payload []byte, message *gw.ConnState) error {
	var c connV3JSON
	if err := json.Unmarshal(payload, &c); err != nil {
		return err
	}
	message.GatewayIdLegacy = c.GatewayID
	message.State = gw.ConnState_State(gw.ConnState_State_value[c.State])
	return nil
}

type statsV3JSON struct {
	GatewayID []byte     `json:"gatewayID"`
	Time      *time.Time `json:"time"`
	Location  *struct {
		Latitude  float64 `json:"latitude"`
		Longitude float64 `json:"longitude"`
		Altitude  float64 `json:"altitude"`
	} `json:"location"`
	RxPacketsReceived   uint32 `json:"rxPacketsReceived"`
	RxPacketsReceivedOK uint32 `json:"rxPacketsReceivedOK"`
	TxPacketsReceived   uint32 `json:"txPacketsReceived"`
	TxPacketsEmitted    uint32 `json:"txPacketsEmitted"`
}

func statsFromV3JSON(payload []byte, message *gw.GatewayStats) error {
	var s statsV3JSON
	if err := json.Unmarshal(payload, &s); err != nil {
		return err
	}
	message.GatewayIdLegacy = s.GatewayID
	message.RxPacketsReceived = s.RxPacketsReceived
	message.RxPacketsReceivedOk = s.RxPacketsReceivedOK
	message.TxPacketsReceived = s.TxPacketsReceived
	message.TxPacketsEmitted = s.TxPacketsEmitted
	if s.Time != nil {
		message.Time = timestamppb.New(*s.Time)
	}
	if l := s.Location; l != nil {
		message.Location = &common.Location{Latitude: l.Latitude, Longitude: l.Longitude, Altitude: l.Altitude}
	}
	return nil
}
