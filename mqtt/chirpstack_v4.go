package mqtt

import (
	"errors"

	"github.com/chirpstack/chirpstack/api/go/v4/gw"
	"google.golang.org/protobuf/types/known/durationpb"

	"joingate/band"
	"joingate/joinserver"
)

// Version 4: gateway ids are hex digits, bandwidths Hz. Protobuf and JSON are
// two forms of the same message, and are read as one.

func uplinkV4(frame *gw.UplinkFrame) (uplink, error) {
	rx, tx := frame.RxInfo, frame.TxInfo
	if rx == nil || tx == nil {
		return uplink{}, errors.New("rxInfo or txInfo is missing")
	}
	gateway, err := joinserver.ParseEUI64(rx.GatewayId)
	if err != nil {
		return uplink{}, err
	}
	modulation, err := modulationV4(tx.Modulation)
	if err != nil {
		return uplink{}, err
	}
	return uplink{
		PHYPayload: frame.PhyPayload,
		Context:    rx.Context,
		CRC:        crcStatus(rx.CrcStatus),
		Reception: joinserver.Reception{
			Gateway:    gateway,
			Frequency:  band.Hz(tx.Frequency),
			Modulation: modulation,
			RSSI:       rx.Rssi,
			SNR:        rx.Snr,
		},
	}, nil
}

func modulationV4(modulation *gw.Modulation) (band.Modulation, error) {
	switch parameters := modulation.GetParameters().(type) {
	case *gw.Modulation_Lora:
		return loraModulation(parameters.Lora.GetSpreadingFactor(), uint64(parameters.Lora.GetBandwidth()))
	case nil:
		return band.Modulation{}, errors.New("modulation is missing")
	}
	return band.Modulation{}, nil // FSK or LR-FHSS
}

func downlinkV4(d downlinkCommand) *gw.DownlinkFrame {
	items := make([]*gw.DownlinkFrameItem, len(d.Windows))
	for i, w := range d.Windows {
		items[i] = &gw.DownlinkFrameItem{PhyPayload: d.PHYPayload, TxInfo: txInfoV4(w, d.Context)}
	}
	return &gw.DownlinkFrame{DownlinkId: d.ID, GatewayId: d.Gateway.String(), Items: items}
}

// txInfoV4 always inverts the polarization, as a downlink has it, and always
// names the code rate: without it a v4 bridge sends nothing and says nothing.
func txInfoV4(w band.Window, context []byte) *gw.DownlinkTxInfo {
	return &gw.DownlinkTxInfo{
		Frequency: uint32(w.Frequency),
		Power:     int32(w.Power),
		Modulation: &gw.Modulation{Parameters: &gw.Modulation_Lora{Lora: &gw.LoraModulationInfo{
			Bandwidth:             uint32(w.Modulation.Bandwidth),
			SpreadingFactor:       uint32(w.Modulation.SpreadingFactor),
			CodeRate:              gw.CodeRate_CR_4_5,
			PolarizationInversion: true,
		}}},
		Timing: &gw.Timing{Parameters: &gw.Timing_Delay{
			Delay: &gw.DelayTimingInfo{Delay: durationpb.New(w.Delay)},
		}},
		Context: context,
	}
}
