package band_test

import (
	"encoding/hex"
	"encoding/json"
	"slices"
	"testing"

	"joingate/band"
)

// asJSON is a value as text, to compare it by.
func asJSON(t testing.TB, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// decodeCFList reads a CFList apart from the code that writes it.
func decodeCFList(t testing.TB, octets []byte, unit band.Hz) (frequencies []band.Hz, channels []int) {
	t.Helper()
	switch octets[15] {
	case 0:
		for i := 0; i < 15; i += 3 {
			if f := band.Hz(octets[i]) + band.Hz(octets[i+1])*256 + band.Hz(octets[i+2])*65536; f != 0 {
				frequencies = append(frequencies, f*unit)
			}
		}
	case 1:
		for i, octet := range octets[:15] {
			for bit := range 8 {
				if octet>>bit&1 == 1 {
					channels = append(channels, 8*i+bit)
				}
			}
		}
	default:
		t.Errorf("CFList %x of type %d", octets, octets[15])
	}
	return frequencies, channels
}

func TestCFListsDecodeToChannelsOfTheRegion(t *testing.T) {
	masks := map[string]int{"US915": 72, "AU915": 72, "CN470-RP1": 96, "CN470-20A": 64, "CN470-20B": 64, "CN470-26A": 48, "CN470-26B": 48}
	for _, g := range band.Standard().All() {
		octets := answerWithCFList(g)
		if octets == nil {
			continue
		}
		frequencies, channels := decodeCFList(t, octets, 100)
		down := downlinks[g.Region]
		for _, f := range frequencies {
			if f < down.low || f > down.high {
				t.Errorf("%s: the CFList announces %s, outside of the region", g.Name, f)
			}
		}
		size, ok := masks[g.Name]
		if !ok {
			size = masks[g.Region]
		}
		if len(channels) > 0 && channels[len(channels)-1] >= size || len(channels) > 0 != (size > 0) {
			t.Errorf("%s: the CFList announces channels %v", g.Name, channels)
		}
	}
}

// Where devices join on the channels they send data on, the mask is those of
// the group: a device told more would send where nobody listens.
func TestMasksAreTheJoinChannels(t *testing.T) {
	first := map[string]struct{ narrow, wide band.Hz }{"US915": {902_300_000, 903_000_000}, "AU915": {915_200_000, 915_900_000}, "CN470": {470_300_000, 0}}
	for _, g := range band.Standard().All() {
		at, ok := first[g.Region]
		if !ok || g.Region == "CN470" && g.ID != 1019 {
			continue
		}
		var got, want []band.Hz
		_, channels := decodeCFList(t, answerWithCFList(g), 100)
		for _, n := range channels {
			if n >= 64 && g.ID != 1019 {
				got = append(got, at.wide+band.Hz(n-64)*1_600_000)
			} else {
				got = append(got, at.narrow+band.Hz(n)*200_000)
			}
		}
		for _, c := range g.Describe().JoinChannels {
			want = append(want, c.Frequency)
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("%s: the CFList has %v on, the group %v", g.Name, got, want)
		}
	}
}

// TestCFListVectors encodes the vectors through the configuration of a group
// whose region has such a list.
func TestCFListVectors(t *testing.T) {
	var vectors []struct {
		ID          string    `json:"id"`
		Unit        band.Hz   `json:"unit_hz"`
		Type        int       `json:"type"`
		Frequencies []band.Hz `json:"frequencies_hz"`
		Channels    []int     `json:"enabled_channels"`
		Bytes       string    `json:"bytes"`
	}
	readJSON(t, "testdata/cflists.json", &vectors)
	for _, v := range vectors {
		id := band.GroupID(1019)
		switch {
		case v.Type == 0 && v.Unit == 200:
			id = 1006
		case v.Type == 0 && v.Frequencies[0] > 900_000_000:
			id = 1011
		case v.Type == 0:
			id = 1000
		case len(v.Channels) == 0:
			continue // an empty mask, which a device must not apply: we never send it
		}
		gs := with(t, band.Config{ID: id, CFList: &band.CFListConfig{Frequencies: v.Frequencies, Channels: v.Channels}})
		octets := answerWithCFList(find(t, gs, id))
		if got := hex.EncodeToString(octets); got != v.Bytes {
			t.Errorf("%s: %s, want %s", v.ID, got, v.Bytes)
			continue
		}
		frequencies, channels := decodeCFList(t, octets, v.Unit)
		if !slices.Equal(frequencies, v.Frequencies) || !slices.Equal(channels, v.Channels) {
			t.Errorf("%s decodes to %v %v", v.ID, frequencies, channels)
		}
	}
}
