package mqtt

import (
	"encoding/binary"
	"errors"

	"github.com/chirpstack/chirpstack/api/go/v4/common"
	"github.com/chirpstack/chirpstack/api/go/v4/gw"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/known/durationpb"

	"joingate/band"
	"joingate/joinserver"
)

// Version 3: gateway ids are octets, bandwidths kHz. Its protobuf messages are
// the legacy fields of the v4 API.

// kHz is v3's unit of a bandwidth.
const kHz band.Hz = 1000

const codeRateV3 = "4/5"

func uplinkV3(frame *gw.UplinkFrame) (uplink, error) {
	rx, tx := frame.RxInfoLegacy, frame.TxInfoLegacy
	if rx == nil || tx == nil {
		return uplink{}, errors.New("rxInfo or txInfo is missing")
	}
	gateway, err := gatewayFromOctets(rx.GatewayId)
	if err != nil {
		return uplink{}, err
	}
	modulation, err := modulationV3(tx)
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
			SNR:        float32(rx.LoraSnr),
		},
	}, nil
}

func modulationV3(tx *gw.UplinkTxInfoLegacy) (band.Modulation, error) {
	if tx.Modulation != common.Modulation_LORA {
		return band.Modulation{}, nil // FSK or LR-FHSS
	}
	lora := tx.GetLoraModulationInfo()
	if lora == nil {
		return band.Modulation{}, errors.New("modulation is missing")
	}
	return loraModulation(lora.SpreadingFactor, uint64(lora.Bandwidth)*uint64(kHz))
}

func downlinkV3(d downlinkCommand) *gw.DownlinkFrame {
	items := make([]*gw.DownlinkFrameItem, len(d.Windows))
	for i, w := range d.Windows {
		items[i] = &gw.DownlinkFrameItem{PhyPayload: d.PHYPayload, TxInfoLegacy: txInfoV3(w, d)}
	}
	uuid := downlinkUUID(d.ID)
	return &gw.DownlinkFrame{
		DownlinkId:       d.ID, // v3 calls it token
		DownlinkIdLegacy: uuid[:],
		GatewayIdLegacy:  d.Gateway[:],
		Items:            items,
	}
}

func txInfoV3(w band.Window, d downlinkCommand) *gw.DownlinkTxInfoLegacy {
	return &gw.DownlinkTxInfoLegacy{
		GatewayId:  d.Gateway[:],
		Frequency:  uint32(w.Frequency),
		Power:      int32(w.Power),
		Modulation: common.Modulation_LORA,
		ModulationInfo: &gw.DownlinkTxInfoLegacy_LoraModulationInfo{LoraModulationInfo: &gw.LoraModulationInfo{
			Bandwidth:             uint32(w.Modulation.Bandwidth / kHz),
			SpreadingFactor:       uint32(w.Modulation.SpreadingFactor),
			CodeRateLegacy:        codeRateV3,
			PolarizationInversion: true,
		}},
		Timing: gw.DownlinkTiming_DELAY,
		TimingInfo: &gw.DownlinkTxInfoLegacy_DelayTimingInfo{
			DelayTimingInfo: &gw.DelayTimingInfo{Delay: durationpb.New(w.Delay)},
		},
		Context: d.Context,
	}
}

// downlinkUUID makes the UUID that a v3 bridge wants beside the token. The ack
// repeats both; the token alone is looked at. It is a UUID of version 8 (RFC
// 9562): "join" and zeros, then the id.
func downlinkUUID(id uint32) [16]byte {
	uuid := [16]byte{'j', 'o', 'i', 'n', 6: 0x80, 8: 0x80}
	binary.BigEndian.PutUint32(uuid[12:], id)
	return uuid
}

// ackErrorV3 is the number of the text field in v3's ack, which the v4 API does
// not know any more.
const ackErrorV3 protowire.Number = 3

func errorOfV3(message *gw.DownlinkTxAck) string {
	unknown := message.ProtoReflect().GetUnknown()
	for len(unknown) > 0 {
		number, wire, length := protowire.ConsumeField(unknown)
		if length < 0 {
			return ""
		}
		if number == ackErrorV3 && wire == protowire.BytesType {
			text, _ := protowire.ConsumeBytes(unknown[protowire.SizeTag(number):length])
			return string(text)
		}
		unknown = unknown[length:]
	}
	return ""
}
