package sim

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Encoding is one of the four forms in which ChirpStack Gateway Bridges speak.
type Encoding int

const (
	V4Protobuf Encoding = iota
	V4JSON
	V3Protobuf
	V3JSON
)

func encodingNames() []string { return []string{"v4-protobuf", "v4-json", "v3-protobuf", "v3-json"} }

func (e Encoding) String() string { return encodingNames()[e] }

// ParseEncoding reads the name of an encoding, for example "v4-protobuf".
func ParseEncoding(s string) (Encoding, error) {
	i := slices.Index(encodingNames(), s)
	if i < 0 {
		return 0, fmt.Errorf("encoding %q is none of %s", s, strings.Join(encodingNames(), ", "))
	}
	return Encoding(i), nil
}

// isV3 reports whether the bridge is one of version 3.
func (e Encoding) isV3() bool { return e >= V3Protobuf }

// Status is what a bridge reports of one item of a downlink: a name of the
// gateway API, or another word that a gateway may answer and no bridge knows.
type Status string

const (
	StatusIgnored   Status = "IGNORED"
	StatusOK        Status = "OK"
	StatusTooLate   Status = "TOO_LATE"
	StatusTooEarly  Status = "TOO_EARLY"
	StatusCollision Status = "COLLISION_PACKET"
	StatusTxFreq    Status = "TX_FREQ"
	StatusTxPower   Status = "TX_POWER"
	StatusDutyCycle Status = "DUTY_CYCLE_OVERFLOW" // version 4 only
)

// codec writes a bridge's events and reads the commands to it.
type codec interface {
	up(upEvent) ([]byte, error)
	stats(statsEvent) ([]byte, error)
	conn(gateway EUI, online bool) ([]byte, error)
	ack(ackEvent) ([]byte, error)
	down([]byte) (command, error)
	// knows reports whether the bridge understands the word of a gateway.
	knows(Status) bool
}

func newCodec(e Encoding) codec {
	switch e {
	case V4JSON:
		return codecV4{json: true}
	case V3Protobuf:
		return codecV3{}
	case V3JSON:
		return codecV3JSON{}
	}
	return codecV4{}
}

// Reception is a frame as one gateway heard it.
type Reception struct {
	Uplink
	RSSI    int     // dBm
	SNR     float64 // dB
	Channel int
	RFChain int
	Antenna int
}

// upEvent is an uplink with what the bridge adds.
type upEvent struct {
	Reception
	gateway EUI
	context []byte
	id      uint32
	uuid    [16]byte
	gpsTime time.Time // zero without GPS
}

type statsEvent struct {
	gateway EUI
	uuid    [16]byte
	time    time.Time
	rx, tx  uint32
}

// command is a downlink as the bridge understood it.
type command struct {
	gateway EUI
	id      uint32
	uuid    []byte // version 3
	items   []item
}

type item struct {
	phyPayload  []byte
	frequency   Hz
	power       int
	modulation  Modulation
	codeRate    string // "" when it is missing
	inverted    bool
	immediately bool
	untimed     bool // neither a delay nor immediately
	delay       time.Duration
	context     []byte
}

type ackEvent struct {
	gateway EUI
	id      uint32
	uuid    []byte
	items   []Status
}

// sinceGPSEpoch counts from the start of GPS time, which has run 18 leap seconds
// ahead of UTC since 2017. Packet forwarders give it in milliseconds.
func sinceGPSEpoch(t time.Time) time.Duration {
	epoch := time.Date(1980, 1, 6, 0, 0, 0, 0, time.UTC)
	return t.Truncate(time.Millisecond).Sub(epoch) + 18*time.Second
}

// codeRateText is the version 3 spelling of a code rate.
func codeRateText(name string) string {
	switch name {
	case "CR_LI_4_8":
		return "4/8LI"
	case "":
		return "4/5"
	}
	return strings.ReplaceAll(strings.TrimPrefix(name, "CR_"), "_", "/")
}
