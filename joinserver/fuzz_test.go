package joinserver_test

import (
	"bytes"
	"context"
	"testing"

	"joingate/band"
	"joingate/joinserver"
)

func frames(f *testing.F) {
	for _, v := range vectors(f).JoinRequest {
		f.Add(unhex(f, v.PHY))
	}
	good := joinRequest(f, rootHex, 1)
	f.Add(good)
	f.Add(good[:22])
	f.Add(append(bytes.Clone(good), 0))
	f.Add([]byte{})
	f.Add([]byte{0x20})
	f.Add(bytes.Repeat([]byte{0xff}, 23))
}

func FuzzParseJoinRequest(f *testing.F) {
	frames(f)
	f.Fuzz(func(t *testing.T, frame []byte) {
		before := bytes.Clone(frame)
		req, err := joinserver.ParseJoinRequest(frame)
		if !bytes.Equal(before, frame) {
			t.Error("the frame was changed")
		}
		if err != nil {
			if reasonOf(err) != joinserver.Malformed || req != (joinserver.JoinRequest{}) {
				t.Errorf("refused with %v and %+v", err, req)
			}
			return
		}
		if !joinserver.IsJoinRequest(frame) || len(frame) != 23 || frame[0]&0x03 != 0 {
			t.Errorf("%x was read as a join-request", frame)
		}
		if again := encode(frame[0], req); !bytes.Equal(again, frame) {
			t.Errorf("%x was read as %x", frame, again)
		}
	})
}

// encode writes a join-request by TS001-1.0.4 section 6.2.5: EUIs and DevNonce
// with the last octet first.
func encode(mhdr byte, r joinserver.JoinRequest) []byte {
	out := []byte{mhdr}
	for i := range r.JoinEUI {
		out = append(out, r.JoinEUI[7-i])
	}
	for i := range r.DevEUI {
		out = append(out, r.DevEUI[7-i])
	}
	return append(append(out, byte(r.DevNonce), byte(r.DevNonce>>8)), r.MIC[:]...)
}

// FuzzJoin sends arbitrary frames on arbitrary channels. They must not stop the
// handler, and only the frame with the device's MIC may reach the commit.
func FuzzJoin(f *testing.F) {
	good := joinRequest(f, rootHex, 0x1234)
	f.Add(good, uint32(frequency), uint8(10), uint32(125_000), float32(5), int32(-90))
	f.Add(good[:22], uint32(frequency), uint8(10), uint32(125_000), float32(5), int32(-90))
	f.Add(joinRequest(f, otherHex, 1), uint32(frequency), uint8(10), uint32(125_000), float32(0), int32(0))
	f.Add(good, uint32(0), uint8(0), uint32(0), float32(0), int32(0))
	for _, v := range vectors(f).JoinRequest {
		f.Add(unhex(f, v.PHY), uint32(frequency), uint8(255), uint32(1<<32-1), float32(-200), int32(-1<<31))
	}
	f.Fuzz(func(t *testing.T, frame []byte, hz uint32, sf uint8, bandwidth uint32, snr float32, rssi int32) {
		w := newWorld(t)
		copy := heardBy(gatewayA, at(band.Hz(hz)), level(rssi, snr))
		copy.Modulation = band.Modulation{SpreadingFactor: sf, Bandwidth: band.Hz(bandwidth)}
		proved := provesKey(t, frame)
		for _, copies := range [][]joinserver.Reception{{copy}, {heardBy(gatewayB), copy}, {copy, copy, heardBy(nobodys)}} {
			asked := w.joins.asked
			down, err := w.handler.Join(context.Background(), joinserver.Uplink{PHYPayload: frame, Receptions: copies})
			if !proved && w.joins.asked != asked {
				t.Fatalf("%x reached the commit without the device's MIC", frame)
			}
			if (err == nil) != (down.PHYPayload != nil) {
				t.Fatalf("answer %x and error %v", down.PHYPayload, err)
			}
			if err == nil {
				decrypt(t, down.PHYPayload, rootHex, w.joins.claims[0].Request.DevNonce)
			}
		}
	})
}

// provesKey reports whether the frame is the one that the device would send.
func provesKey(t *testing.T, frame []byte) bool {
	if len(frame) != 23 {
		return false
	}
	nonce := uint16(frame[17]) | uint16(frame[18])<<8
	want := joinRequest(t, rootHex, nonce)
	return bytes.Equal(frame, want)
}
