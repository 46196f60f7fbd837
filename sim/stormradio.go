package sim

import (
	"math"
	"math/rand/v2"
)

// The radio of a storm. Path loss and shadowing are the measurements of Oulu at
// 868 MHz, which are the usual model of LoRa in a town with its surroundings
// (Petäjäjärvi et al., "On the Coverage of LPWANs", ITST 2015). In dB, dBm, km.
const (
	lossAt1km  = 128.95
	lossFactor = 23.2 // to each tenfold distance: exponent 2.32
	shadowing  = 7.8  // standard deviation, between one device and one gateway, for good
	fading     = 1.5  // standard deviation, from frame to frame

	devicePower = 14   // EU868 limit of the join channels
	stormNoise  = -117 // thermal noise of 125 kHz and a noise figure of 6 dB

	// captureAt is by how much a frame must be stronger than another on the same
	// channel with the same spreading factor, to be received in spite of it. Other
	// spreading factors do not disturb.
	captureAt = 6
	// linkReserve is what a device keeps when it chooses its data rate.
	linkReserve = 3

	// demodulators is how many frames a gateway receives at a time (Semtech SX1301
	// and SX1302: eight of 125 kHz).
	demodulators = 8
)

// requiredSNR is the SNR in dB below which a receiver loses a spreading factor
// (Semtech SX1276 data sheet, table 13).
func requiredSNR(sf int) float64 { return -2.5 * float64(sf-4) }

// fastest is the least spreading factor that an SNR in dB carries; 0 for none.
func fastest(snr float64) int {
	for sf := 7; sf <= 12; sf++ {
		if snr >= requiredSNR(sf) {
			return sf
		}
	}
	return 0
}

// pathLoss in dB over a distance in km. Nearer than 10 m the model says nothing.
func pathLoss(km float64) float64 { return lossAt1km + lossFactor*math.Log10(max(km, 0.01)) }

// point is a place on the map, in km.
type point struct{ x, y float64 }

func (p point) distance(q point) float64 { return math.Hypot(p.x-q.x, p.y-q.y) }

// spread places gateways as a planner would: each in the middle of what is nearest
// to it (Lloyd's algorithm over random places).
func spread(draw *rand.Rand, n int, area float64) []point {
	const samples, rounds = 400, 20
	all := make([]point, samples+n)
	for i := range all {
		all[i] = point{draw.Float64() * area, draw.Float64() * area}
	}
	centres := append([]point(nil), all[:n]...)
	for range rounds {
		sums, counts := make([]point, n), make([]float64, n)
		for _, p := range all {
			near := 0
			for i, c := range centres {
				if p.distance(c) < p.distance(centres[near]) {
					near = i
				}
			}
			sums[near].x, sums[near].y = sums[near].x+p.x, sums[near].y+p.y
			counts[near]++
		}
		for i := range centres {
			if counts[i] > 0 {
				centres[i] = point{sums[i].x / counts[i], sums[i].y / counts[i]}
			}
		}
	}
	return centres
}

// fade is what one frame has more or less than its link has on average, in dB. It
// depends on nothing but who, whom and which try, so that the same storm under
// another server has the same luck.
func (s *storm) fade(device, gateway, try int) float64 {
	h := mix(mix(mix(s.Seed^uint64(device))^uint64(gateway)) ^ uint64(try))
	u1, u2 := float64(h>>40+1)/(1<<24+1), float64(h&(1<<24-1))/(1<<24)
	return fading * math.Sqrt(-2*math.Log(u1)) * math.Cos(2*math.Pi*u2) // Box-Muller
}
