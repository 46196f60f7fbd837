package mqtt

import (
	"encoding/hex"
	"math"
	"time"

	"github.com/chirpstack/chirpstack/api/go/v4/gw"
	"google.golang.org/protobuf/encoding/protowire"

	"joingate/band"
)

// Version 4 in protobuf is what nearly all messages are in, so the two that each
// join costs are read and written here field by field: only what is needed, without
// a message in between. It takes a fifth of the time.
//
// What is read here is what the general decoder would read. Anything unusual is left
// to it: a submessage that comes twice, a field of another type, an error. But
// what is passed over is not looked into, so a broken name in the metadata does not
// cost a device its join.

// Field numbers of gw.proto, chirpstack api v4.18.0.
const (
	uplinkPHYPayload, uplinkTxInfo, uplinkRxInfo = 1, 4, 5
	uplinkTxLegacy, uplinkRxLegacy               = 2, 3

	txFrequency, txModulation          = 1, 2
	modulationLoRa                     = 3
	loraBandwidth, loraSpreadingFactor = 1, 2
	loraPolarizationInversion          = 4
	loraCodeRate                       = 5
	rxGatewayID, rxRSSI, rxSNR         = 1, 6, 7
	rxContext, rxCRCStatus             = 13, 16
	downlinkID, downlinkItems          = 3, 5
	downlinkGatewayID                  = 7
	itemPHYPayload, itemTxInfo         = 1, 3
	downTxFrequency, downTxPower       = 1, 2
	downTxModulation, downTxTiming     = 3, 6
	downTxContext                      = 7
	timingDelay, delayDelay            = 2, 1
	durationSeconds, durationNanos     = 1, 2
)

// wireField is one field of a message: a number, or octets.
type wireField struct {
	number protowire.Number
	kind   protowire.Type
	value  uint64
	octets []byte
}

// takeField takes the first field off a message.
func takeField(message []byte) (f wireField, rest []byte, ok bool) {
	number, kind, n := protowire.ConsumeTag(message)
	if n < 0 {
		return f, nil, false
	}
	f, message = wireField{number: number, kind: kind}, message[n:]
	switch kind {
	case protowire.VarintType:
		f.value, n = protowire.ConsumeVarint(message)
	case protowire.Fixed32Type:
		var v uint32
		v, n = protowire.ConsumeFixed32(message)
		f.value = uint64(v)
	case protowire.BytesType:
		f.octets, n = protowire.ConsumeBytes(message)
	default:
		n = protowire.ConsumeFieldValue(number, kind, message)
	}
	if n < 0 {
		return f, nil, false
	}
	return f, message[n:], true
}

// once keeps the octets of a submessage, unless there was one before: then the
// general decoder has to merge the two.
func (f wireField) once(to *[]byte) bool {
	if f.kind != protowire.BytesType || *to != nil {
		return false
	}
	*to = f.octets
	return true
}

// number32 keeps a number, the last one of several.
func (f wireField) number32(to *uint32) bool {
	*to = uint32(f.value)
	return f.kind == protowire.VarintType
}

// quickUplink reads a v4 event/up with a LoRa frame; false: look at it the long way.
func quickUplink(payload []byte) (up uplink, ok bool) {
	var phy, tx, rx []byte
	for f, rest := (wireField{}), payload; len(rest) > 0; {
		if f, rest, ok = takeField(rest); !ok {
			return up, false
		}
		switch f.number {
		case uplinkPHYPayload:
			phy, ok = f.octets, f.kind == protowire.BytesType
		case uplinkTxInfo:
			ok = f.once(&tx)
		case uplinkRxInfo:
			ok = f.once(&rx)
		case uplinkTxLegacy, uplinkRxLegacy:
			ok = false
		}
		if !ok {
			return up, false
		}
	}
	var context []byte
	if !up.quickTx(tx) || !up.quickRx(rx, &context) {
		return up, false
	}
	both := append(append(make([]byte, 0, len(phy)+len(context)), phy...), context...)
	up.PHYPayload, up.Context = both[:len(phy):len(phy)], both[len(phy):]
	up.Encoding = v4Protobuf
	return up, up.check() == nil
}

func (up *uplink) quickTx(message []byte) (ok bool) {
	var frequency uint32
	var modulation, lora []byte
	for f, rest := (wireField{}), message; len(rest) > 0; {
		if f, rest, ok = takeField(rest); !ok {
			return false
		}
		switch f.number {
		case txFrequency:
			ok = f.number32(&frequency)
		case txModulation:
			ok = f.once(&modulation)
		}
		if !ok {
			return false
		}
	}
	for f, rest := (wireField{}), modulation; len(rest) > 0; {
		if f, rest, ok = takeField(rest); !ok || f.number != modulationLoRa || !f.once(&lora) {
			return false
		}
	}
	up.Reception.Frequency = band.Hz(frequency)
	return lora != nil && up.quickLoRa(lora)
}

func (up *uplink) quickLoRa(message []byte) (ok bool) {
	var bandwidth, spreadingFactor uint32
	for f, rest := (wireField{}), message; len(rest) > 0; {
		if f, rest, ok = takeField(rest); !ok {
			return false
		}
		switch f.number {
		case loraBandwidth:
			ok = f.number32(&bandwidth)
		case loraSpreadingFactor:
			ok = f.number32(&spreadingFactor)
		}
		if !ok {
			return false
		}
	}
	modulation, err := loraModulation(spreadingFactor, uint64(bandwidth))
	up.Reception.Modulation = modulation
	return err == nil
}

func (up *uplink) quickRx(message []byte, context *[]byte) (ok bool) {
	var gateway []byte
	var rssi, crc uint32
	for f, rest := (wireField{}), message; len(rest) > 0; {
		if f, rest, ok = takeField(rest); !ok {
			return false
		}
		switch f.number {
		case rxGatewayID:
			gateway, ok = f.octets, f.kind == protowire.BytesType
		case rxRSSI:
			ok = f.number32(&rssi)
		case rxSNR:
			up.Reception.SNR, ok = math.Float32frombits(uint32(f.value)), f.kind == protowire.Fixed32Type
		case rxContext:
			*context, ok = f.octets, f.kind == protowire.BytesType
		case rxCRCStatus:
			ok = f.number32(&crc)
		}
		if !ok {
			return false
		}
	}
	up.Reception.RSSI, up.CRC = int32(rssi), crcStatus(int32(crc))
	if len(gateway) != 2*len(up.Reception.Gateway) {
		return false
	}
	_, err := hex.Decode(up.Reception.Gateway[:], gateway)
	return err == nil
}

// quickDownlink writes a v4 command/down that was checked.
func quickDownlink(d downlinkCommand) []byte {
	perItem := 64 + len(d.PHYPayload) + len(d.Context)
	command := appendNumber(make([]byte, 0, 64+len(d.Windows)*perItem), downlinkID, uint64(d.ID))
	// On the heap: arrays as long as they may get would make a worker's stack grow.
	item, tx := make([]byte, 0, perItem), make([]byte, 0, perItem)
	for _, w := range d.Windows {
		tx = appendTxInfo(tx[:0], w, d.Context)
		item = appendOctets(item[:0], itemPHYPayload, d.PHYPayload)
		item = appendOctets(item, itemTxInfo, tx)
		command = appendOctets(command, downlinkItems, item)
	}
	var gateway [16]byte
	hex.Encode(gateway[:], d.Gateway[:])
	return appendOctets(command, downlinkGatewayID, gateway[:])
}

// appendTxInfo always inverts the polarization, as a downlink has it, and always
// names the code rate: without it a v4 bridge sends nothing and says nothing.
func appendTxInfo(to []byte, w band.Window, context []byte) []byte {
	var lora, modulation, duration, delay, timing [32]byte
	l := appendNumber(lora[:0], loraBandwidth, uint64(w.Modulation.Bandwidth))
	l = appendNumber(l, loraSpreadingFactor, uint64(w.Modulation.SpreadingFactor))
	l = appendNumber(l, loraPolarizationInversion, 1)
	l = appendNumber(l, loraCodeRate, uint64(gw.CodeRate_CR_4_5))
	d := appendNumber(duration[:0], durationSeconds, uint64(w.Delay/time.Second))
	d = appendNumber(d, durationNanos, uint64(w.Delay%time.Second))
	d = appendOctets(delay[:0], delayDelay, d)

	to = appendNumber(to, downTxFrequency, uint64(w.Frequency))
	to = appendNumber(to, downTxPower, uint64(w.Power))
	to = appendOctets(to, downTxModulation, appendOctets(modulation[:0], modulationLoRa, l))
	to = appendOctets(to, downTxTiming, appendOctets(timing[:0], timingDelay, d))
	return appendOctets(to, downTxContext, context)
}

// appendNumber leaves out 0, as proto3 does.
func appendNumber(to []byte, number protowire.Number, value uint64) []byte {
	if value == 0 {
		return to
	}
	return protowire.AppendVarint(protowire.AppendTag(to, number, protowire.VarintType), value)
}

func appendOctets(to []byte, number protowire.Number, octets []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(to, number, protowire.BytesType), octets)
}
