package sim

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/chirpstack/chirpstack/api/go/v4/gw"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
)

// joinRequestSize is the size of a join-request in octets.
const joinRequestSize = 23

// loadFrame is a join-request that waits to be sent.
type loadFrame struct {
	phy     [joinRequestSize]byte
	channel uint8 // index in loadTemplates.channels
}

// loadTemplates are finished MQTT packets of event/up, one for each gateway and
// channel. A copy is a template with three places written over, so that a
// message costs hardly more than its octets.
type loadTemplates struct {
	channels []Channel
	packets  [][][]byte // by gateway, then channel
	layout   []upLayout // by channel: the packets of all gateways are alike
}

// upLayout tells where in a packet the places are that differ.
type upLayout struct {
	phy, context, snr int
	payload           int // where the payload begins
}

// What stands in the places of a template until a copy fills them. No other
// field looks like it.
var (
	templatePHY     = bytes.Repeat([]byte{0xb1}, joinRequestSize)
	templateContext = []byte{0xc1, 0xc2, 0xc3, 0xc4}
	templateSNR     = math.Float32frombits(0xc0d1d2d3)
)

func newLoadTemplates(region *Region, prefix string, gateways []EUI) (*loadTemplates, error) {
	t := &loadTemplates{channels: region.JoinChannels()}
	for i, eui := range gateways {
		t.packets = append(t.packets, nil)
		for n, c := range t.channels {
			packet, layout, err := upTemplate(region, prefix, eui, c)
			if err != nil {
				return nil, err
			}
			if i == 0 {
				t.layout = append(t.layout, layout)
			} else if t.layout[n] != layout {
				return nil, fmt.Errorf("event/up of gateway %s is not built like that of %s", eui, gateways[0])
			}
			t.packets[i] = append(t.packets[i], packet)
		}
	}
	return t, nil
}

func upTemplate(region *Region, prefix string, gateway EUI, c Channel) (packet []byte, l upLayout, err error) {
	payload, err := codecV4{}.up(upEvent{
		Reception: Reception{
			Uplink: Uplink{PHYPayload: templatePHY, Frequency: c.Frequency, Modulation: region.rates[c.DataRate].Modulation, CodeRate: region.codeRate},
			RSSI:   -100, SNR: float64(templateSNR), Channel: 1,
		},
		gateway: gateway, context: templateContext, id: 1,
	})
	if err != nil {
		return nil, l, fmt.Errorf("encode event/up: %w", err)
	}
	packet = appendPublish(nil, packetPublish, prefix+"gateway/"+gateway.String()+"/event/up", payload)
	l = upLayout{
		phy:     bytes.Index(packet, templatePHY),
		context: bytes.Index(packet, templateContext),
		snr:     bytes.Index(packet, binary.LittleEndian.AppendUint32(nil, math.Float32bits(templateSNR))),
		payload: len(packet) - len(payload),
	}
	if min(l.phy, l.context, l.snr) < 0 {
		return nil, l, errors.New("encode event/up: a field is missing")
	}
	return packet, l, nil
}

// channel finds the template channel of an uplink.
func (t *loadTemplates) channel(region *Region, up Uplink) int {
	return slices.IndexFunc(t.channels, func(c Channel) bool {
		return c.Frequency == up.Frequency && region.rates[c.DataRate].Modulation == up.Modulation
	})
}

// append adds the copy that a gateway makes of a frame. The context comes back
// in whatever answers it.
func (t *loadTemplates) append(to []byte, f *loadFrame, gateway int, context uint32, snr float32) []byte {
	at, l := len(to), t.layout[f.channel]
	to = append(to, t.packets[gateway][f.channel]...)
	copy(to[at+l.phy:], f.phy[:])
	binary.BigEndian.PutUint32(to[at+l.context:], context)
	binary.LittleEndian.PutUint32(to[at+l.snr:], math.Float32bits(snr))
	return to
}

// loadCommand is what load needs to know of a command/down.
type loadCommand struct {
	id       uint32
	context  []byte           // of its first item
	delays   [2]time.Duration // of its items, in their order; 0 for none
	items    int
	untimely bool // an item without a delay
}

// parseLoadCommand reads a DownlinkFrame of the v4 gateway API without building
// it: a fifth of the cost.
func parseLoadCommand(b []byte) (c loadCommand, err error) {
	err = eachField(b, func(field protowire.Number, number uint64) {
		if field == 3 { // downlink_id
			c.id = uint32(number)
		}
	}, func(field protowire.Number, inner []byte) error {
		if field == 5 { // items
			return c.item(inner)
		}
		return nil
	})
	return c, err
}

func (c *loadCommand) item(b []byte) error {
	delay := time.Duration(-1)
	err := eachField(b, nil, func(field protowire.Number, inner []byte) error {
		if field != 3 { // tx_info
			return nil
		}
		return eachField(inner, nil, func(field protowire.Number, inner []byte) (err error) {
			switch field {
			case 6: // timing
				delay, err = timingDelay(inner)
			case 7: // context
				if c.items == 0 {
					c.context = inner
				}
			}
			return err
		})
	})
	if delay < 0 {
		c.untimely = true
	} else if c.items < len(c.delays) {
		c.delays[c.items] = delay
	}
	c.items++
	return err
}

// timingDelay reads Timing.delay.delay, a Duration; -1 if it is not there.
func timingDelay(b []byte) (delay time.Duration, err error) {
	delay = -1
	err = eachField(b, nil, func(field protowire.Number, inner []byte) error {
		if field != 2 {
			return nil
		}
		return eachField(inner, nil, func(field protowire.Number, inner []byte) error {
			if field != 1 {
				return nil
			}
			delay = 0
			return eachField(inner, func(field protowire.Number, number uint64) {
				switch field {
				case 1:
					delay += time.Duration(number) * time.Second
				case 2:
					delay += time.Duration(number)
				}
			}, nil)
		})
	})
	return delay, err
}

// eachField hands over the fields of a protobuf message: the numbers of varints, and
// the octets of what has a length; nil: they are passed over. A field of another type
// than the message has is none of it.
func eachField(b []byte, numbers func(protowire.Number, uint64), messages func(protowire.Number, []byte) error) error {
	for len(b) > 0 {
		field, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return protowire.ParseError(n)
		}
		b = b[n:]
		var number uint64
		var inner []byte
		switch kind {
		case protowire.VarintType:
			number, n = protowire.ConsumeVarint(b)
		case protowire.BytesType:
			inner, n = protowire.ConsumeBytes(b)
		default:
			n = protowire.ConsumeFieldValue(field, kind, b)
		}
		if n < 0 {
			return protowire.ParseError(n)
		}
		b = b[n:]
		if kind == protowire.VarintType && numbers != nil {
			numbers(field, number)
		}
		if kind == protowire.BytesType && messages != nil {
			if err := messages(field, inner); err != nil {
				return err
			}
		}
	}
	return nil
}

// appendLoadAck adds the packet of an event/ack that says OK to the first item
// and IGNORED to the others.
func appendLoadAck(to []byte, topic string, gateway EUI, c loadCommand) []byte {
	var payload [64]byte
	ack := protowire.AppendTag(payload[:0], 2, protowire.VarintType) // downlink_id
	ack = protowire.AppendVarint(ack, uint64(c.id))
	for i := range min(c.items, len(c.delays)) {
		ack = protowire.AppendTag(ack, 5, protowire.BytesType) // items
		if i > 0 {
			ack = append(ack, 0)
			continue
		}
		ack = append(ack, 2, 8, byte(gw.TxAckStatus_OK))
	}
	ack = protowire.AppendTag(ack, 6, protowire.BytesType) // gateway_id
	ack = append(ack, 16)
	ack = appendHex(ack, gateway)
	to = append(to, packetPublish)
	to = binary.AppendUvarint(to, uint64(2+len(topic)+len(ack)))
	return append(appendText(to, topic), ack...)
}

// appendHex adds the 16 digits of an EUI.
func appendHex(to []byte, e EUI) []byte {
	const digits = "0123456789abcdef"
	for shift := 60; shift >= 0; shift -= 4 {
		to = append(to, digits[e>>shift&0xf])
	}
	return to
}

// downTemplate is a command/down as a server would send it, both windows in it,
// and where its contexts are.
func downTemplate(region *Region, prefix string, gateway EUI) (packet []byte, contexts [2]int, err error) {
	rx1, rx2, err := region.windows(region.JoinChannels()[0])
	if err != nil {
		return nil, contexts, err
	}
	frame := &gw.DownlinkFrame{DownlinkId: 1, GatewayId: gateway.String()}
	for _, w := range []Window{rx1, rx2} {
		frame.Items = append(frame.Items, &gw.DownlinkFrameItem{
			PhyPayload: bytes.Repeat([]byte{0xb1}, 33),
			TxInfo: &gw.DownlinkTxInfo{
				Frequency: uint32(w.Frequency), Power: 14, Context: templateContext,
				Modulation: loraV4(Uplink{Modulation: w.Modulation}),
				Timing:     &gw.Timing{Parameters: &gw.Timing_Delay{Delay: &gw.DelayTimingInfo{Delay: durationpb.New(w.Delay)}}},
			},
		})
	}
	payload, err := proto.Marshal(frame)
	if err != nil {
		return nil, contexts, fmt.Errorf("encode command/down: %w", err)
	}
	packet = appendPublish(nil, packetPublish, prefix+"gateway/"+gateway.String()+"/command/down", payload)
	contexts = [2]int{bytes.Index(packet, templateContext), bytes.LastIndex(packet, templateContext)}
	return packet, contexts, nil
}
