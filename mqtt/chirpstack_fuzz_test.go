package mqtt

import (
	"fmt"
	"testing"

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
