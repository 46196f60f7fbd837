package mqtt

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/chirpstack/chirpstack/api/go/v4/gw"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"joingate/band"
	"joingate/joinserver"
)

// This file plays the bridge's side of the four encodings: it reads commands and
// writes acks. It shares no code with what it tests.

// decodeDownlink reads a command in any encoding. The data rate of a window is
// not on the wire.
func decodeDownlink(payload []byte) (downlinkCommand, error) {
	if len(payload) == 0 {
		return downlinkCommand{}, errors.New("empty command")
	}
	if payload[0] != '{' {
		var frame gw.DownlinkFrame
		if err := proto.Unmarshal(payload, &frame); err != nil {
			return downlinkCommand{}, err
		}
		return commandFromProtobuf(&frame)
	}
	var v3 commandV3JSON
	if err := json.Unmarshal(payload, &v3); err == nil && len(v3.GatewayID) == 8 {
		return v3.command()
	}
	var frame gw.DownlinkFrame
	if err := protojson.Unmarshal(payload, &frame); err != nil {
		return downlinkCommand{}, err
	}
	return commandFromProtobuf(&frame)
}

// encodingOfCommand tells which bridge would understand a command.
func encodingOfCommand(payload []byte) encoding {
	if payload[0] == '{' {
		return encodingOf(bytes.Contains(payload, []byte(`"gatewayID"`)), true)
	}
	var frame gw.DownlinkFrame
	if proto.Unmarshal(payload, &frame) != nil {
		return 0
	}
	return encodingOf(len(frame.GatewayIdLegacy) > 0, false)
}

func commandFromProtobuf(frame *gw.DownlinkFrame) (c downlinkCommand, err error) {
	c.ID = frame.DownlinkId
	if frame.GatewayId != "" {
		c.Gateway, err = joinserver.ParseEUI64(frame.GatewayId)
	} else {
		copy(c.Gateway[:], frame.GatewayIdLegacy)
	}
	for _, item := range frame.Items {
		c.PHYPayload = item.PhyPayload
		var w band.Window
		if tx := item.TxInfo; tx != nil {
			lora := tx.Modulation.GetLora()
			if !lora.GetPolarizationInversion() || lora.GetCodeRate() != gw.CodeRate_CR_4_5 {
				return c, errors.New("v4 item that a bridge or a device does not take")
			}
			c.Context = tx.Context
			w = window(tx.Frequency, tx.Power, lora.SpreadingFactor, lora.Bandwidth, tx.Timing.GetDelay().GetDelay().AsDuration())
		} else {
			tx := item.TxInfoLegacy
			lora := tx.GetLoraModulationInfo()
			if !lora.GetPolarizationInversion() || lora.GetCodeRateLegacy() != "4/5" {
				return c, errors.New("v3 item that a bridge or a device does not take")
			}
			c.Context = tx.Context
			w = window(tx.Frequency, tx.Power, lora.SpreadingFactor, lora.Bandwidth*1000, tx.GetDelayTimingInfo().GetDelay().AsDuration())
		}
		c.Windows = append(c.Windows, w)
	}
	return c, err
}

func window(frequency uint32, power int32, spreadingFactor, bandwidth uint32, delay time.Duration) band.Window {
	return band.Window{
		Delay: delay, Frequency: band.Hz(frequency), Power: int8(power),
		Modulation: band.Modulation{SpreadingFactor: uint8(spreadingFactor), Bandwidth: band.Hz(bandwidth)},
	}
}

// withoutRate is a window as it is read from a command.
func withoutRate(w band.Window) band.Window {
	w.DataRate = 0
	return w
}

type commandV3JSON struct {
	GatewayID []byte `json:"gatewayID"`
	Token     uint32 `json:"token"`
	Items     []struct {
		PHYPayload []byte `json:"phyPayload"`
		TxInfo     struct {
			Frequency          uint32 `json:"frequency"`
			Power              int32  `json:"power"`
			LoRaModulationInfo struct {
				Bandwidth             uint32 `json:"bandwidth"`
				SpreadingFactor       uint32 `json:"spreadingFactor"`
				CodeRate              string `json:"codeRate"`
				PolarizationInversion bool   `json:"polarizationInversion"`
			} `json:"loRaModulationInfo"`
			Timing          string `json:"timing"`
			DelayTimingInfo struct {
				Delay string `json:"delay"`
			} `json:"delayTimingInfo"`
			Context []byte `json:"context"`
		} `json:"txInfo"`
	} `json:"items"`
}

func (v3 commandV3JSON) command() (downlinkCommand, error) {
	c := downlinkCommand{ID: v3.Token, Gateway: joinserver.EUI64(v3.GatewayID)}
	for _, item := range v3.Items {
		tx, lora := item.TxInfo, item.TxInfo.LoRaModulationInfo
		delay, err := time.ParseDuration(tx.DelayTimingInfo.Delay)
		if err != nil || tx.Timing != "DELAY" || !lora.PolarizationInversion || lora.CodeRate != "4/5" {
			return c, fmt.Errorf("v3 item that a bridge or a device does not take: %+v", tx)
		}
		c.PHYPayload, c.Context = item.PHYPayload, tx.Context
		c.Windows = append(c.Windows, window(tx.Frequency, tx.Power, lora.SpreadingFactor, lora.Bandwidth*1000, delay))
	}
	return c, nil
}

// encodeAck writes the ack of a command with the same status for each item.
func encodeAck(e encoding, gateway joinserver.EUI64, id uint32, status ...gw.TxAckStatus) []byte {
	message := &gw.DownlinkTxAck{DownlinkId: id}
	var names []map[string]string
	for _, s := range status {
		message.Items = append(message.Items, &gw.DownlinkTxAckItem{Status: s})
		names = append(names, map[string]string{"status": s.String()})
	}
	var payload []byte
	var err error
	switch e {
	case v4Protobuf:
		message.GatewayId = gateway.String()
		payload, err = proto.Marshal(message)
	case v4JSON:
		message.GatewayId = gateway.String()
		payload, err = protojson.Marshal(message)
	case v3Protobuf:
		message.GatewayIdLegacy = gateway[:]
		payload, err = proto.Marshal(message)
	case v3JSON:
		payload, err = json.Marshal(map[string]any{"gatewayID": gateway[:], "token": id, "error": "", "downlinkID": nil, "items": names})
	}
	if err != nil {
		panic(err)
	}
	return payload
}

// encodeUplink writes a v4 protobuf event/up.
func encodeUplink(c uplinkCopy) []byte {
	payload, err := proto.Marshal(&gw.UplinkFrame{
		PhyPayload: c.PHYPayload,
		TxInfo: &gw.UplinkTxInfo{
			Frequency: uint32(c.Reception.Frequency),
			Modulation: &gw.Modulation{Parameters: &gw.Modulation_Lora{Lora: &gw.LoraModulationInfo{
				Bandwidth: uint32(c.Reception.Modulation.Bandwidth), SpreadingFactor: uint32(c.Reception.Modulation.SpreadingFactor),
				CodeRate: gw.CodeRate_CR_4_5,
			}}},
		},
		RxInfo: &gw.UplinkRxInfo{
			GatewayId: c.Reception.Gateway.String(), Rssi: c.Reception.RSSI, Snr: c.Reception.SNR,
			Context: c.Context, CrcStatus: gw.CRCStatus(c.CRC),
		},
	})
	if err != nil {
		panic(err)
	}
	return payload
}

// downlinkV4 is a v4 command as the general encoder takes it.
func downlinkV4(d downlinkCommand) *gw.DownlinkFrame {
	items := make([]*gw.DownlinkFrameItem, len(d.Windows))
	for i, w := range d.Windows {
		items[i] = &gw.DownlinkFrameItem{PhyPayload: d.PHYPayload, TxInfo: txInfoV4(w, d.Context)}
	}
	return &gw.DownlinkFrame{DownlinkId: d.ID, GatewayId: d.Gateway.String(), Items: items}
}

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
