package mqtt

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"testing"
	"time"

	"github.com/chirpstack/chirpstack/api/go/v4/gw"
	"google.golang.org/protobuf/proto"

	"joingate/band"
)

// seed adds the captured messages of a kind in all encodings.
func seed(f *testing.F, topicEnd string) {
	f.Helper()
	steps := map[string]bool{}
	loadCaptures(f).each(topicEnd, func(run captureRun, r captureRecord) {
		if key := fmt.Sprint(run.encoding(), r.Step); !steps[key] {
			steps[key] = true
			f.Add(r.payload(f))
		}
	})
}

// Whatever can be read of an uplink with a context can also be answered.
func FuzzDecodeUplink(f *testing.F) {
	seed(f, "/event/up")
	f.Fuzz(func(t *testing.T, payload []byte) {
		up, err := decodeUplink(payload)
		if err != nil {
			return
		}
		m := up.Reception.Modulation
		if lora := m.SpreadingFactor >= 5 && m.SpreadingFactor <= 12 && m.Bandwidth > 0; !lora && m != (band.Modulation{}) {
			t.Errorf("modulation %+v", m)
		}
		if up.Reception.SNR != up.Reception.SNR || len(up.PHYPayload) > 255 {
			t.Errorf("SNR %v, frame of %d octets", up.Reception.SNR, len(up.PHYPayload))
		}
		command := aCommand()
		command.Gateway, command.Context = up.Reception.Gateway, up.Context
		if _, err := encodeDownlink(up.Encoding, command); (err == nil) != (len(up.Context) > 0) {
			t.Errorf("answer in %v with context %x: %v", up.Encoding, up.Context, err)
		}
	})
}

// What the quick reader reads is what the general decoder reads, unless that one
// stumbles over what is not needed.
func FuzzQuickUplink(f *testing.F) {
	seed(f, "/event/up")
	f.Fuzz(func(t *testing.T, payload []byte) {
		quick, ok := quickUplink(payload)
		if !ok || len(payload) > maxPayload || len(payload) == 0 || payload[0] == '{' {
			return
		}
		if slow, err := decodeAnyUplink(payload); err == nil && !sameUplink(quick, slow) {
			t.Errorf("read %+v, want %+v", quick, slow)
		}
	})
}

func sameUplink(a, b uplink) bool {
	return bytes.Equal(a.PHYPayload, b.PHYPayload) && bytes.Equal(a.Context, b.Context) &&
		a.Reception == b.Reception && a.CRC == b.CRC && a.Encoding == b.Encoding
}

// What is written quickly is what the general encoder writes.
func FuzzQuickDownlink(f *testing.F) {
	f.Add(uint32(1), uint64(1), []byte{0x20}, []byte{1, 2, 3, 4}, int64(5*time.Second), uint32(868_100_000), int8(14), uint8(7), uint32(125))
	f.Fuzz(func(t *testing.T, id uint32, gateway uint64, phy, context []byte, delay int64, frequency uint32, power int8, sf uint8, kHz uint32) {
		d := downlinkCommand{ID: id, PHYPayload: phy, Context: context, Windows: []band.Window{testRX1, {
			Delay: time.Duration(delay), Frequency: band.Hz(frequency), Power: power,
			Modulation: band.Modulation{SpreadingFactor: sf, Bandwidth: band.Hz(kHz) * 1000},
		}}}
		binary.BigEndian.PutUint64(d.Gateway[:], gateway)
		payload, err := encodeDownlink(v4Protobuf, d)
		if err != nil {
			return
		}
		var read gw.DownlinkFrame
		if err := proto.Unmarshal(payload, &read); err != nil || !proto.Equal(&read, downlinkV4(d)) {
			t.Errorf("%v: wrote %v, want %v", err, &read, downlinkV4(d))
		}
	})
}

func FuzzDecodeAck(f *testing.F) {
	seed(f, "/event/ack")
	f.Fuzz(func(t *testing.T, payload []byte) {
		a, err := decodeAck(payload)
		if err == nil && a.Encoding == 0 {
			t.Errorf("%+v has no encoding", a)
		}
		for _, status := range a.Items {
			_ = status.String()
		}
	})
}

func FuzzDecodeConn(f *testing.F) {
	seed(f, "/state/conn")
	f.Fuzz(func(t *testing.T, payload []byte) {
		if c, err := decodeConn(payload); err != nil && c != (conn{}) {
			t.Errorf("error %v with %+v", err, c)
		}
	})
}

func FuzzDecodeStats(f *testing.F) {
	seed(f, "/event/stats")
	f.Fuzz(func(t *testing.T, payload []byte) {
		s, err := decodeStats(payload)
		if err == nil && s.Location != nil && !(s.Location.Latitude >= -90 && s.Location.Latitude <= 90) {
			t.Errorf("latitude %v", s.Location.Latitude)
		}
	})
}
