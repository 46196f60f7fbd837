package sim

import (
	"encoding/binary"
	"fmt"

	"github.com/chirpstack/chirpstack/api/go/v4/gw"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// codecV3 speaks as bridges of version 3 do in protobuf: the version 4 API calls
// those fields legacy. Bandwidth is in kHz, code rate is text, ids are octets.
type codecV3 struct{}

// errorField is `error` of DownlinkTXAck, which the version 4 API has dropped.
const errorField = 3

func octets(e EUI) []byte { return binary.BigEndian.AppendUint64(nil, uint64(e)) }

// euiOf reads the 8 octets of a gateway id.
func euiOf(b []byte) (EUI, error) {
	if len(b) != 8 {
		return 0, fmt.Errorf("command/down, gateway id: %d octets, want 8", len(b))
	}
	return EUI(binary.BigEndian.Uint64(b)), nil
}

func (codecV3) up(e upEvent) ([]byte, error) {
	rx := &gw.UplinkRxInfoLegacy{
		GatewayId: octets(e.gateway),
		Rssi:      int32(e.RSSI),
		LoraSnr:   e.SNR,
		Channel:   uint32(e.Channel),
		RfChain:   uint32(e.RFChain),
		Antenna:   uint32(e.Antenna),
		Context:   e.context,
		UplinkId:  e.uuid[:],
		CrcStatus: gw.CRCStatus_CRC_OK,
	}
	if !e.gpsTime.IsZero() {
		rx.Time = timestamppb.New(e.gpsTime)
		rx.TimeSinceGpsEpoch = durationpb.New(sinceGPSEpoch(e.gpsTime))
	}
	return proto.Marshal(&gw.UplinkFrame{
		PhyPayload: e.PHYPayload,
		TxInfoLegacy: &gw.UplinkTxInfoLegacy{
			Frequency: uint32(e.Frequency),
			ModulationInfo: &gw.UplinkTxInfoLegacy_LoraModulationInfo{LoraModulationInfo: &gw.LoraModulationInfo{
				Bandwidth:       uint32(e.Bandwidth / 1000),
				SpreadingFactor: uint32(e.SpreadingFactor),
				CodeRateLegacy:  codeRateText(e.CodeRate),
			}},
		},
		RxInfoLegacy: rx,
	})
}

func (codecV3) stats(e statsEvent) ([]byte, error) {
	return proto.Marshal(&gw.GatewayStats{
		GatewayIdLegacy:     octets(e.gateway),
		Time:                timestamppb.New(e.time),
		RxPacketsReceived:   e.rx,
		RxPacketsReceivedOk: e.rx,
		TxPacketsReceived:   e.tx,
		TxPacketsEmitted:    e.tx,
	})
}

func (codecV3) conn(gateway EUI, online bool) ([]byte, error) {
	m := &gw.ConnState{GatewayIdLegacy: octets(gateway)}
	if online {
		m.State = gw.ConnState_ONLINE
	}
	return proto.Marshal(m)
}

func (codecV3) ack(e ackEvent) ([]byte, error) {
	m := &gw.DownlinkTxAck{GatewayIdLegacy: octets(e.gateway), DownlinkId: e.id, DownlinkIdLegacy: e.uuid}
	for _, s := range e.items {
		m.Items = append(m.Items, &gw.DownlinkTxAckItem{Status: gw.TxAckStatus(gw.TxAckStatus_value[string(s)])})
	}
	if text := ackError(e.items); text != "" {
		field := protowire.AppendTag(nil, errorField, protowire.BytesType)
		m.ProtoReflect().SetUnknown(protowire.AppendString(field, text))
	}
	return proto.Marshal(m)
}

// ackError is empty if any item is OK, else the last refusal. The space at the
// end is the bridge's own.
func ackError(items []Status) string {
	text := ""
	for _, s := range items {
		if s == StatusOK {
			return ""
		}
		text = "status:" + string(s) + " "
	}
	return text
}

func (codecV3) knows(s Status) bool { return s != StatusDutyCycle && codecV4{}.knows(s) }

func (codecV3) down(b []byte) (command, error) {
	var m gw.DownlinkFrame
	if err := proto.Unmarshal(b, &m); err != nil {
		return command{}, fmt.Errorf("decode command/down: %w", err)
	}
	gateway, err := euiOf(m.GetGatewayIdLegacy())
	if err != nil {
		return command{}, err
	}
	cmd := command{gateway: gateway, id: m.GetDownlinkId(), uuid: m.GetDownlinkIdLegacy()}
	for _, it := range m.GetItems() {
		cmd.items = append(cmd.items, itemV3(it))
	}
	return cmd, nil
}

func itemV3(it *gw.DownlinkFrameItem) item {
	tx := it.GetTxInfoLegacy()
	lora := tx.GetLoraModulationInfo()
	return item{
		phyPayload:  it.GetPhyPayload(),
		frequency:   Hz(tx.GetFrequency()),
		power:       int(tx.GetPower()),
		modulation:  Modulation{int(lora.GetSpreadingFactor()), Hz(lora.GetBandwidth() * 1000)},
		codeRate:    lora.GetCodeRateLegacy(),
		inverted:    lora.GetPolarizationInversion(),
		immediately: tx.GetTiming() == gw.DownlinkTiming_IMMEDIATELY,
		untimed:     tx.GetTiming() == gw.DownlinkTiming_GPS_EPOCH,
		delay:       tx.GetDelayTimingInfo().GetDelay().AsDuration(),
		context:     tx.GetContext(),
	}
}
