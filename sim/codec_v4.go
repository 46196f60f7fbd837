package sim

import (
	"fmt"

	"github.com/chirpstack/chirpstack/api/go/v4/gw"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// codecV4 speaks as bridges of version 4 do, in protobuf or JSON.
type codecV4 struct{ json bool }

func (c codecV4) encode(m proto.Message) ([]byte, error) {
	if c.json {
		return protojson.Marshal(m)
	}
	return proto.Marshal(m)
}

// decode leaves out fields it does not know, as the bridge does.
func (c codecV4) decode(b []byte, m proto.Message) error {
	if c.json {
		return protojson.UnmarshalOptions{DiscardUnknown: true}.Unmarshal(b, m)
	}
	return proto.Unmarshal(b, m)
}

func (c codecV4) up(e upEvent) ([]byte, error) {
	rx := &gw.UplinkRxInfo{
		GatewayId: e.gateway.String(),
		UplinkId:  e.id,
		Rssi:      int32(e.RSSI),
		Snr:       float32(e.SNR),
		Channel:   uint32(e.Channel),
		RfChain:   uint32(e.RFChain),
		Antenna:   uint32(e.Antenna),
		Context:   e.context,
		CrcStatus: gw.CRCStatus_CRC_OK,
	}
	if !e.gpsTime.IsZero() {
		rx.GwTime = timestamppb.New(e.gpsTime)
		rx.TimeSinceGpsEpoch = durationpb.New(sinceGPSEpoch(e.gpsTime))
	}
	return c.encode(&gw.UplinkFrame{
		PhyPayload: e.PHYPayload,
		TxInfo:     &gw.UplinkTxInfo{Frequency: uint32(e.Frequency), Modulation: loraV4(e.Uplink)},
		RxInfo:     rx,
	})
}

func loraV4(u Uplink) *gw.Modulation {
	rate := gw.CodeRate_CR_4_5
	if v, ok := gw.CodeRate_value[u.CodeRate]; ok {
		rate = gw.CodeRate(v)
	}
	return &gw.Modulation{Parameters: &gw.Modulation_Lora{Lora: &gw.LoraModulationInfo{
		Bandwidth:       uint32(u.Bandwidth),
		SpreadingFactor: uint32(u.SpreadingFactor),
		CodeRate:        rate,
	}}}
}

func (c codecV4) stats(e statsEvent) ([]byte, error) {
	return c.encode(&gw.GatewayStats{
		GatewayId:           e.gateway.String(),
		Time:                timestamppb.New(e.time),
		RxPacketsReceived:   e.rx,
		RxPacketsReceivedOk: e.rx,
		TxPacketsReceived:   e.tx,
		TxPacketsEmitted:    e.tx,
	})
}

func (c codecV4) conn(gateway EUI, online bool) ([]byte, error) {
	m := &gw.ConnState{GatewayId: gateway.String()}
	if online {
		m.State = gw.ConnState_ONLINE
	}
	return c.encode(m)
}

func (c codecV4) ack(e ackEvent) ([]byte, error) {
	m := &gw.DownlinkTxAck{GatewayId: e.gateway.String(), DownlinkId: e.id}
	for _, s := range e.items {
		m.Items = append(m.Items, &gw.DownlinkTxAckItem{Status: gw.TxAckStatus(gw.TxAckStatus_value[string(s)])})
	}
	return c.encode(m)
}

func (codecV4) knows(s Status) bool {
	_, ok := gw.TxAckStatus_value[string(s)]
	return ok
}

func (c codecV4) down(b []byte) (command, error) {
	var m gw.DownlinkFrame
	if err := c.decode(b, &m); err != nil {
		return command{}, fmt.Errorf("decode command/down: %w", err)
	}
	gateway, err := ParseEUI(m.GetGatewayId())
	if err != nil {
		return command{}, fmt.Errorf("command/down, gateway id: %w", err)
	}
	cmd := command{gateway: gateway, id: m.GetDownlinkId()}
	for _, it := range m.GetItems() {
		cmd.items = append(cmd.items, itemV4(it))
	}
	return cmd, nil
}

func itemV4(it *gw.DownlinkFrameItem) item {
	tx := it.GetTxInfo()
	lora := tx.GetModulation().GetLora()
	out := item{
		phyPayload: it.GetPhyPayload(),
		frequency:  Hz(tx.GetFrequency()),
		power:      int(tx.GetPower()),
		modulation: Modulation{int(lora.GetSpreadingFactor()), Hz(lora.GetBandwidth())},
		inverted:   lora.GetPolarizationInversion(),
		context:    tx.GetContext(),
	}
	if rate := lora.GetCodeRate(); rate != gw.CodeRate_CR_UNDEFINED {
		out.codeRate = rate.String()
	}
	switch timing := tx.GetTiming().GetParameters().(type) {
	case *gw.Timing_Delay:
		out.delay = timing.Delay.GetDelay().AsDuration()
	case *gw.Timing_Immediately:
		out.immediately = true
	default:
		out.untimed = true
	}
	return out
}
