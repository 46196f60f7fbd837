package mqtt

import (
	"encoding/json"

	"github.com/chirpstack/chirpstack/api/go/v4/gw"
)

// Version 4 in JSON is protobuf's own mapping. The general encoder takes six
// times as long as these types, and a downlink has no field but theirs.

type downlinkV4JSON struct {
	DownlinkID uint32               `json:"downlinkId"`
	Items      []downlinkItemV4JSON `json:"items"`
	GatewayID  string               `json:"gatewayId"`
}

type downlinkItemV4JSON struct {
	PHYPayload []byte     `json:"phyPayload"`
	TxInfo     txInfoJSON `json:"txInfo"`
}

type txInfoJSON struct {
	Frequency  uint32         `json:"frequency"`
	Power      int8           `json:"power"`
	Modulation modulationJSON `json:"modulation"`
	Timing     timingJSON     `json:"timing"`
	Context    []byte         `json:"context"`
}

type modulationJSON struct {
	LoRa loraV4JSON `json:"lora"`
}

type loraV4JSON struct {
	Bandwidth             uint32 `json:"bandwidth"` // Hz
	SpreadingFactor       uint32 `json:"spreadingFactor"`
	CodeRate              string `json:"codeRate"`
	PolarizationInversion bool   `json:"polarizationInversion"`
}

type timingJSON struct {
	Delay delayJSON `json:"delay"`
}

type delayJSON struct {
	Delay string `json:"delay"`
}

func downlinkToV4JSON(d downlinkCommand) ([]byte, error) {
	items := make([]downlinkItemV4JSON, len(d.Windows))
	for i, w := range d.Windows {
		items[i] = downlinkItemV4JSON{PHYPayload: d.PHYPayload, TxInfo: txInfoJSON{
			Frequency: uint32(w.Frequency),
			Power:     w.Power,
			Modulation: modulationJSON{LoRa: loraV4JSON{
				Bandwidth:             uint32(w.Modulation.Bandwidth),
				SpreadingFactor:       uint32(w.Modulation.SpreadingFactor),
				CodeRate:              gw.CodeRate_CR_4_5.String(),
				PolarizationInversion: true,
			}},
			Timing:  timingJSON{Delay: delayJSON{Delay: seconds(w.Delay)}},
			Context: d.Context,
		}}
	}
	return json.Marshal(downlinkV4JSON{DownlinkID: d.ID, Items: items, GatewayID: d.Gateway.String()})
}
