package mqtt

import (
	"errors"

	"github.com/chirpstack/chirpstack/api/go/v4/gw"

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
