package mqtt

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/chirpstack/chirpstack/api/go/v4/gw"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"joingate/band"
	"joingate/joinserver"
)

// The messages of the ChirpStack Gateway Bridge, of major versions 3 and 4, each
// in protobuf or JSON. Seen with 3.14.6 and 4.1.1; the messages of
// testdata/captures.json are theirs.

// encoding is the form of a bridge's message. A bridge understands its own form
// only, so an answer takes the form of the uplink.
type encoding uint8

const (
	v4Protobuf encoding = iota + 1
	v4JSON
	v3Protobuf
	v3JSON
)

var encodings = [...]string{v4Protobuf: "v4 protobuf", v4JSON: "v4 JSON", v3Protobuf: "v3 protobuf", v3JSON: "v3 JSON"}

// String gives "v4 protobuf" and its like.
func (e encoding) String() string {
	if e == 0 || int(e) >= len(encodings) {
		return fmt.Sprintf("encoding(%d)", uint8(e))
	}
	return encodings[e]
}

func encodingOf(v3, json bool) encoding {
	switch {
	case v3 && json:
		return v3JSON
	case v3:
		return v3Protobuf
	case json:
		return v4JSON
	}
	return v4Protobuf
}

// Limits of what is read. The largest captured message has under 1 KiB.
const (
	maxPayload = 64 << 10 // octets of a message, looked at before anything is decoded
	maxContext = 1 << 10  // octets; bridges send 4 (UDP) or 16 (Basics Station)
)

// Specification constants, LoRaWAN TS001-1.0.4 and RP002-1.0.4.
const (
	maxPHYPayload      = 255 // octets, the range of the length octet of a LoRa frame
	minSpreadingFactor = 5
	maxSpreadingFactor = 12
)

// The narrowest and the widest bandwidth of LoRa radios in Hz (SX1276, SX1280),
// rounded to kHz. A value beyond them is not a bandwidth in Hz.
const (
	minBandwidth band.Hz = 7_000
	maxBandwidth band.Hz = 2_000_000
)

// uplink is an event/up: one gateway's copy of one frame.
type uplink struct {
	PHYPayload []byte               // at most 255 octets; may be empty
	Reception  joinserver.Reception // Gateway as the payload names it; Received is left to the caller
	Context    []byte               // opaque; to be copied into the answer; empty: no answer is possible
	Encoding   encoding
	CRC        crcStatus
}

// crcStatus is what the gateway found about the CRC of a frame. Bridges forward
// frames with a good CRC only, unless they are told otherwise.
type crcStatus gw.CRCStatus

const (
	crcNone = crcStatus(gw.CRCStatus_NO_CRC)
	crcBad  = crcStatus(gw.CRCStatus_BAD_CRC)
	crcOK   = crcStatus(gw.CRCStatus_CRC_OK)
)

// String gives the bridge's text: "CRC_OK".
func (s crcStatus) String() string { return gw.CRCStatus(s).String() }

// decodeUplink reads an event/up in any encoding. A frame that is not LoRa comes
// with a Modulation without spreading factor. An error says that the message
// makes no sense as a whole; no part of it is to be used.
func decodeUplink(payload []byte) (uplink, error) {
	if len(payload) > 0 && len(payload) <= maxPayload && payload[0] != '{' {
		if up, ok := quickUplink(payload); ok {
			return up, nil
		}
	}
	return decodeAnyUplink(payload)
}

// decodeAnyUplink reads the whole of an event/up.
func decodeAnyUplink(payload []byte) (uplink, error) {
	frame := new(gw.UplinkFrame)
	json, err := unmarshal(payload, frame, uplinkFromV3JSON)
	if err != nil {
		return uplink{}, fmt.Errorf("uplink: %w", err)
	}
	v3 := frame.RxInfo == nil && frame.RxInfoLegacy != nil
	up, err := uplinkV4(frame)
	if v3 {
		up, err = uplinkV3(frame)
	}
	if err == nil {
		err = up.check()
	}
	if err != nil {
		return uplink{}, fmt.Errorf("uplink: %w", err)
	}
	up.Encoding = encodingOf(v3, json)
	return up, nil
}

func (up *uplink) check() error {
	if len(up.PHYPayload) > maxPHYPayload {
		return fmt.Errorf("frame of %d octets; LoRa frames have at most %d", len(up.PHYPayload), maxPHYPayload)
	}
	if len(up.Context) > maxContext {
		return fmt.Errorf("context of %d octets; at most %d are carried", len(up.Context), maxContext)
	}
	if snr := float64(up.Reception.SNR); math.IsNaN(snr) || math.IsInf(snr, 0) {
		return errors.New("SNR is not a number")
	}
	return nil
}

// loraModulation checks what a message says of its LoRa modulation.
func loraModulation(spreadingFactor uint32, bandwidth uint64) (band.Modulation, error) {
	if spreadingFactor < minSpreadingFactor || spreadingFactor > maxSpreadingFactor {
		return band.Modulation{}, fmt.Errorf("spreading factor %d; LoRa has %d to %d", spreadingFactor, minSpreadingFactor, maxSpreadingFactor)
	}
	if bandwidth < uint64(minBandwidth) || bandwidth > uint64(maxBandwidth) {
		return band.Modulation{}, fmt.Errorf("bandwidth %d Hz; LoRa has %d to %d", bandwidth, minBandwidth, maxBandwidth)
	}
	return band.Modulation{SpreadingFactor: uint8(spreadingFactor), Bandwidth: band.Hz(bandwidth)}, nil
}

// downlinkCommand asks a gateway to send one frame in one of the windows. The
// bridge tries them in order until the gateway takes one.
type downlinkCommand struct {
	ID         uint32           // chosen by the sender, never 0; the ack repeats it
	Gateway    joinserver.EUI64 // as the payload of the uplink named it
	PHYPayload []byte
	Context    []byte // copied from the uplink of the same gateway
	Windows    []band.Window
}

// encodeDownlink writes a command/down. A command that a bridge would drop
// without a word, as one without context, is an error here.
func encodeDownlink(e encoding, d downlinkCommand) ([]byte, error) {
	if err := d.check(); err != nil {
		return nil, fmt.Errorf("downlink %d for gateway %s: %w", d.ID, d.Gateway, err)
	}
	switch e {
	case v4Protobuf:
		return quickDownlink(d), nil
	case v4JSON:
		return downlinkToV4JSON(d)
	case v3Protobuf:
		return proto.Marshal(downlinkV3(d))
	case v3JSON:
		return downlinkToV3JSON(d)
	}
	return nil, fmt.Errorf("downlink %d for gateway %s: %s is no encoding of a bridge", d.ID, d.Gateway, e)
}

func (d *downlinkCommand) check() error {
	switch {
	case d.ID == 0:
		return errors.New("id 0 is none: v3 bridges replace it by a random one")
	case len(d.PHYPayload) == 0 || len(d.PHYPayload) > maxPHYPayload:
		return fmt.Errorf("frame of %d octets; 1 to %d can be sent", len(d.PHYPayload), maxPHYPayload)
	case len(d.Context) == 0:
		return errors.New("no context: the uplink carried none, so its gateway cannot be told when to send")
	case len(d.Windows) == 0:
		return errors.New("no window to send in")
	}
	for _, w := range d.Windows {
		if _, err := loraModulation(uint32(w.Modulation.SpreadingFactor), uint64(w.Modulation.Bandwidth)); err != nil {
			return err
		}
		if w.Modulation.Bandwidth%kHz != 0 {
			return fmt.Errorf("bandwidth %d Hz; v3 bridges know whole kHz only", w.Modulation.Bandwidth)
		}
		if w.Delay <= 0 {
			return fmt.Errorf("delay %s after the uplink", w.Delay)
		}
	}
	return nil
}

// ack is an event/ack: what became of a downlink command.
type ack struct {
	Gateway  joinserver.EUI64
	ID       uint32     // of the command; 0: none of ours
	Items    []txStatus // in the order of the windows, but a Basics Station reports one for all: never index it by them
	Error    string     // v3 only: the refusals as text, "" if an item is OK
	Encoding encoding
}

// ok reports whether the gateway has taken the frame to send it. Bridges of v3
// that know no items say it by leaving Error empty.
func (a ack) ok() bool {
	for _, status := range a.Items {
		if status == txOK {
			return true
		}
	}
	v3 := a.Encoding == v3Protobuf || a.Encoding == v3JSON
	return v3 && len(a.Items) == 0 && a.Error == ""
}

// txStatus is a gateway's word on one window of a downlink command.
type txStatus gw.TxAckStatus

const (
	txIgnored           = txStatus(gw.TxAckStatus_IGNORED) // an earlier window was taken
	txOK                = txStatus(gw.TxAckStatus_OK)      // queued in the gateway
	txTooLate           = txStatus(gw.TxAckStatus_TOO_LATE)
	txTooEarly          = txStatus(gw.TxAckStatus_TOO_EARLY)
	txCollisionPacket   = txStatus(gw.TxAckStatus_COLLISION_PACKET)
	txCollisionBeacon   = txStatus(gw.TxAckStatus_COLLISION_BEACON)
	txFreq              = txStatus(gw.TxAckStatus_TX_FREQ)
	txPower             = txStatus(gw.TxAckStatus_TX_POWER)
	txGPSUnlocked       = txStatus(gw.TxAckStatus_GPS_UNLOCKED)
	txQueueFull         = txStatus(gw.TxAckStatus_QUEUE_FULL)
	txInternalError     = txStatus(gw.TxAckStatus_INTERNAL_ERROR)
	txDutyCycleOverflow = txStatus(gw.TxAckStatus_DUTY_CYCLE_OVERFLOW)
	txUnknown           = txStatus(-1) // a text that is none of these
)

// String gives the gateway's text: "COLLISION_PACKET".
func (s txStatus) String() string {
	if s == txUnknown {
		return "UNKNOWN"
	}
	return gw.TxAckStatus(s).String()
}

// decodeAck reads an event/ack in any encoding.
func decodeAck(payload []byte) (ack, error) {
	message := new(gw.DownlinkTxAck)
	json, err := unmarshal(payload, message, ackFromV3JSON)
	if err != nil {
		return ack{}, fmt.Errorf("ack: %w", err)
	}
	gateway, v3, err := parseGateway(message.GatewayIdLegacy, message.GatewayId)
	if err != nil {
		return ack{}, fmt.Errorf("ack: %w", err)
	}
	a := ack{Gateway: gateway, ID: message.DownlinkId, Encoding: encodingOf(v3, json)}
	if v3 {
		a.Error = errorOfV3(message)
	}
	for _, item := range message.Items {
		a.Items = append(a.Items, txStatus(item.GetStatus()))
	}
	return a, nil
}

// conn is a state/conn. Online is a hint only: after a crash of the bridge the
// broker may keep it true.
type conn struct {
	Gateway joinserver.EUI64
	Online  bool
}

// decodeConn reads a state/conn in any encoding.
func decodeConn(payload []byte) (conn, error) {
	message := new(gw.ConnState)
	if _, err := unmarshal(payload, message, connFromV3JSON); err != nil {
		return conn{}, fmt.Errorf("state of a gateway: %w", err)
	}
	gateway, _, err := parseGateway(message.GatewayIdLegacy, message.GatewayId)
	if err != nil {
		return conn{}, fmt.Errorf("state of a gateway: %w", err)
	}
	return conn{Gateway: gateway, Online: message.State == gw.ConnState_ONLINE}, nil
}

// stats is an event/stats: counters since the last one.
type stats struct {
	Gateway      joinserver.EUI64
	Time         time.Time // by the gateway's clock; zero: unknown
	RxReceived   uint32
	RxReceivedOK uint32 // counted by the bridge; may exceed RxReceived
	TxReceived   uint32
	TxEmitted    uint32
	Location     *location // nil: unknown
}

// location is where a gateway stands: degrees north and east (WGS 84), metres.
type location struct{ Latitude, Longitude, Altitude float64 }

// decodeStats reads an event/stats in any encoding.
func decodeStats(payload []byte) (stats, error) {
	message := new(gw.GatewayStats)
	if _, err := unmarshal(payload, message, statsFromV3JSON); err != nil {
		return stats{}, fmt.Errorf("stats of a gateway: %w", err)
	}
	gateway, _, err := parseGateway(message.GatewayIdLegacy, message.GatewayId)
	if err != nil {
		return stats{}, fmt.Errorf("stats of a gateway: %w", err)
	}
	s := stats{
		Gateway:      gateway,
		RxReceived:   message.RxPacketsReceived,
		RxReceivedOK: message.RxPacketsReceivedOk,
		TxReceived:   message.TxPacketsReceived,
		TxEmitted:    message.TxPacketsEmitted,
	}
	if message.Time.IsValid() {
		s.Time = message.Time.AsTime()
	}
	if l := message.Location; l != nil {
		s.Location = locationOf(l.Latitude, l.Longitude, l.Altitude)
	}
	return s, nil
}

// locationOf gives nil for what is no place on Earth: a gateway without a fix
// still proves by its stats that it lives.
func locationOf(latitude, longitude, altitude float64) *location {
	onEarth := math.Abs(latitude) <= 90 && math.Abs(longitude) <= 180 && math.Abs(altitude) < 1e5
	if !onEarth {
		return nil
	}
	return &location{Latitude: latitude, Longitude: longitude, Altitude: altitude}
}

// unmarshal reads a payload of any encoding into the message of the v4 API. Its
// legacy fields are those of v3, so only v3 JSON needs a reader of its own. It
// reports whether the payload was JSON; which version it was, the fields tell.
func unmarshal[M proto.Message](payload []byte, message M, fromV3JSON func([]byte, M) error) (json bool, err error) {
	switch {
	case len(payload) > maxPayload:
		return false, fmt.Errorf("%d octets; a bridge's message has at most %d", len(payload), maxPayload)
	case len(payload) == 0:
		return false, errors.New("empty")
	case payload[0] != '{': // as a protobuf tag it would open field 15 as a group, which no message has
		return false, proto.Unmarshal(payload, message)
	case isV3JSON(payload):
		return true, fromV3JSON(payload, message)
	}
	return true, protojson.UnmarshalOptions{DiscardUnknown: true}.Unmarshal(payload, message)
}

// isV3JSON tells the versions by the key of the gateway id. Quoted like this a
// text can only be a whole string of the JSON: inside another one the quotes
// would be escaped.
func isV3JSON(payload []byte) bool {
	if !bytes.Contains(payload, []byte(`"gatewayID"`)) {
		return false
	}
	if !bytes.Contains(payload, []byte(`"gatewayId"`)) {
		return true
	}
	return hasV3Key(payload) // one of them is a name in somebody's metadata
}

// parseGateway reads the gateway id of a message that has it at its top: v3
// writes 8 octets, v4 16 hex digits.
func parseGateway(octets []byte, digits string) (gateway joinserver.EUI64, v3 bool, err error) {
	if digits != "" || len(octets) == 0 {
		gateway, err = joinserver.ParseEUI64(digits)
		return gateway, false, err
	}
	gateway, err = gatewayFromOctets(octets)
	return gateway, true, err
}

func gatewayFromOctets(octets []byte) (gateway joinserver.EUI64, err error) {
	if len(octets) != len(gateway) {
		return gateway, errors.New("gateway id of " + strconv.Itoa(len(octets)) + " octets, not 8")
	}
	copy(gateway[:], octets)
	return gateway, nil
}
