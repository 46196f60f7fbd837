package joinserver

import (
	"bytes"
	"slices"
	"testing"

	"joingate/band"

	"pgregory.net/rapid"
)

// drawCandidates draws eligible copies, antennas and ghosts among them.
func drawCandidates(t *rapid.T) []candidate {
	n := rapid.IntRange(1, 12).Draw(t, "copies")
	may := make([]candidate, n)
	for i := range may {
		gateway := EUI64{7: byte(rapid.IntRange(1, 6).Draw(t, "gateway"))}
		may[i] = candidate{reception: i, gateway: Gateway{EUI: gateway}, copy: Reception{
			Gateway:   gateway,
			Frequency: band.Hz(470_300_000 + 200_000*rapid.IntRange(0, 1).Draw(t, "channel")),
			RSSI:      int32(rapid.IntRange(-120, -20).Draw(t, "rssi")),
			SNR:       float32(rapid.IntRange(-40, 24).Draw(t, "snr")) / 2,
		}}
	}
	return may
}

func TestRankProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		may := drawCandidates(t)
		before := slices.Clone(may)
		ranked := rank(may)
		if !slices.Equal(may, before) {
			t.Fatal("the copies were changed")
		}
		if len(ranked) == 0 {
			t.Fatal("nothing is left")
		}
		byRSSI := func(a, b candidate) int { return int(a.copy.RSSI - b.copy.RSSI) }
		if slices.MaxFunc(may, byRSSI).copy.RSSI != slices.MaxFunc(onOneFrequency(may), byRSSI).copy.RSSI {
			t.Fatal("the strongest copy is called a ghost")
		}
		seen := map[EUI64]bool{}
		for i, c := range ranked {
			if seen[c.gateway.EUI] {
				t.Fatalf("gateway %s comes twice", c.gateway.EUI)
			}
			seen[c.gateway.EUI] = true
			if c.copy.Frequency != ranked[0].copy.Frequency {
				t.Fatal("one transmission has two frequencies")
			}
			if i > 0 && ranked[i-1].copy.SNR < c.copy.SNR {
				t.Fatalf("copy %d is better than the one before", i)
			}
		}
		for _, c := range may {
			if c.copy.Frequency == ranked[0].copy.Frequency && !seen[c.gateway.EUI] {
				t.Fatalf("gateway %s was lost", c.gateway.EUI)
			}
		}
	})
}

// TestTurnsProperties: whatever the tries, no gateway is lost, the first is
// within 3 dB of the best, and each of n steady gateways within 3 dB answers once
// in n tries.
func TestTurnsProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		device := EUI64{1}
		memory := newTurns(4)
		for range rapid.IntRange(1, 5).Draw(t, "tries before") {
			ranked := rank(drawCandidates(t))
			turned := memory.apply(device, ranked)
			if !slices.Equal(byEUI(ranked), byEUI(turned)) {
				t.Fatalf("%d gateways became %d", len(ranked), len(turned))
			}
			if ranked[0].copy.SNR-turned[0].copy.SNR > takeTurnsWithin {
				t.Fatal("a gateway too weak took a turn")
			}
			memory.took(device, turned[0].gateway.EUI)
		}
		steady := rank(drawCandidates(t))
		near := 0
		for _, c := range steady {
			if steady[0].copy.SNR-c.copy.SNR <= takeTurnsWithin {
				near++
			}
		}
		answered := map[EUI64]int{}
		for range near {
			first := memory.apply(device, steady)[0].gateway.EUI
			answered[first]++
			memory.took(device, first)
		}
		if len(answered) != near {
			t.Fatalf("%d of %d gateways had their turn in as many tries", len(answered), near)
		}
	})
}

func byEUI(c []candidate) []EUI64 {
	euis := make([]EUI64, len(c))
	for i := range c {
		euis[i] = c[i].gateway.EUI
	}
	slices.SortFunc(euis, func(a, b EUI64) int { return bytes.Compare(a[:], b[:]) })
	return euis
}

// TestTurnsAreBounded: the oldest devices are forgotten, the newest are not.
func TestTurnsAreBounded(t *testing.T) {
	memory := newTurns(3)
	gateway := EUI64{9}
	for i := range byte(10) {
		memory.took(EUI64{i}, gateway)
		memory.took(EUI64{i}, gateway)
		if len(memory.last.values) > 3 {
			t.Fatalf("%d devices are remembered", len(memory.last.values))
		}
	}
	for i := range byte(10) {
		if _, known := memory.last.get(EUI64{i}); known != (i >= 7) {
			t.Errorf("device %d remembered: %v", i, known)
		}
	}
}

func TestTurnsOfTwoDevices(t *testing.T) {
	memory := newTurns(8)
	ranked := []candidate{{gateway: Gateway{EUI: EUI64{1}}}, {gateway: Gateway{EUI: EUI64{2}}}}
	memory.took(EUI64{0xa}, EUI64{1})
	if first := memory.apply(EUI64{0xa}, ranked)[0].gateway.EUI; first != (EUI64{2}) {
		t.Errorf("the device that was answered through 1 gets %s", first)
	}
	if first := memory.apply(EUI64{0xb}, ranked)[0].gateway.EUI; first != (EUI64{1}) {
		t.Errorf("the device that was never answered gets %s", first)
	}
}
