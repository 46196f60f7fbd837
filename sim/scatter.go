package sim

import (
	"math"
	"math/rand/v2"
	"time"
)

// Scatter describes a random propagation. The zero value: one gateway, chosen
// for the device once and for all, hears every frame of it well.
type Scatter struct {
	Seed uint64
	// Copies is how many gateways hear each frame. 0: one.
	Copies int
	// SNR is that of the best copy, in dB; each further one is 3 dB weaker, all
	// scatter by 2 dB.
	SNR float64
	// Delay is the longest way from a gateway to its broker; the delays are
	// spread evenly from 0.
	Delay time.Duration
	// The share of copies, 0 to 1, that are lost, come twice, or have a ghost on
	// the channel beside, and of gateways that the device does not hear.
	Loss, Duplicates, Ghosts, Deaf float64
}

// In dBm: the noise floor of a 125 kHz channel with a usual receiver, and a
// device so near that its frame spills over into the next channel, which in many
// regions is 200 kHz away and a join channel too.
const (
	noiseFloor     = -117
	tooClose       = -22
	channelSpacing = 200_000 // Hz
)

// Over gives the propagation over these gateways. The same seed, device and try
// give the same links.
func (s Scatter) Over(gateways []*Gateway) Propagation {
	copies := min(max(1, s.Copies), len(gateways))
	return func(d *Device, try int) []Link {
		// Where a device stands does not change; what happens to a frame does.
		place := rand.New(rand.NewPCG(s.Seed, uint64(d.DevEUI())))
		luck := rand.New(rand.NewPCG(s.Seed^uint64(d.DevEUI()), uint64(try)))
		links := make([]Link, 0, copies)
		for rank, i := range distinct(place, copies, len(gateways)) {
			links = append(links, s.link(gateways[i], rank, place, luck))
		}
		return links
	}
}

// distinct draws n of the numbers below limit.
func distinct(r *rand.Rand, n, limit int) []int {
	seen := make(map[int]bool, n)
	drawn := make([]int, 0, n)
	for len(drawn) < n {
		if i := r.IntN(limit); !seen[i] {
			seen[i] = true
			drawn = append(drawn, i)
		}
	}
	return drawn
}

func (s Scatter) link(g *Gateway, rank int, place, luck *rand.Rand) Link {
	snr := s.SNR - 3*float64(rank) + 4*luck.Float64() - 2
	l := Link{
		Gateway: g,
		SNR:     math.Round(snr*10) / 10,
		RSSI:    int(math.Round(noiseFloor + snr)),
		Channel: luck.IntN(8),
		Deaf:    place.Float64() < s.Deaf,
		Lost:    luck.Float64() < s.Loss,
	}
	if luck.Float64() < s.Duplicates {
		l.Duplicates = 1
	}
	if luck.Float64() < s.Ghosts {
		l.Ghost, l.RSSI, l.SNR = channelSpacing, tooClose, 9.8
	}
	if s.Delay > 0 {
		l.Delay = time.Duration(luck.Int64N(int64(s.Delay)))
	}
	return l
}
