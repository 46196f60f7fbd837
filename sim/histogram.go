package sim

import (
	"math"
	"math/bits"
	"time"
)

// Histogram counts durations in fixed memory: bins of 1 µs up to 128 µs, then 64
// to each doubling, so that a quantile is at most 1.6 % too high. Longest: 71
// minutes. The zero Histogram is empty; it is not safe for concurrent use.
type Histogram struct {
	bins  [histogramBins]int64
	count int64
	sum   time.Duration
	most  time.Duration
}

const (
	finestBits    = 6 // 64 bins to each doubling
	histogramBins = (32 - finestBits + 1) << finestBits
)

// Add counts one duration. Negative ones count as 0.
func (h *Histogram) Add(d time.Duration) {
	d = max(0, d)
	h.bins[bin(uint64(d.Microseconds()))]++
	h.count++
	h.sum += d
	h.most = max(h.most, d)
}

func bin(micros uint64) int {
	micros = min(micros, math.MaxUint32)
	doubling := max(0, bits.Len64(micros)-finestBits-1)
	return doubling<<finestBits + int(micros>>doubling)
}

// top is the greatest duration of a bin.
func top(bin int) time.Duration {
	doubling := max(0, bin>>finestBits-1)
	return time.Duration((bin-doubling<<finestBits+1)<<doubling-1) * time.Microsecond
}

// Merge adds the counts of another histogram.
func (h *Histogram) Merge(other *Histogram) {
	for i, n := range other.bins {
		h.bins[i] += n
	}
	h.count += other.count
	h.sum += other.sum
	h.most = max(h.most, other.most)
}

// Count is how many durations were counted.
func (h *Histogram) Count() int64 { return h.count }

// Quantile is the duration that the share q, 0 to 1, of all does not exceed; 0
// when there are none.
func (h *Histogram) Quantile(q float64) time.Duration {
	rank := max(1, int64(math.Ceil(q*float64(h.count))))
	var below int64
	for i, n := range h.bins {
		if below += n; below >= rank {
			return min(top(i), h.most)
		}
	}
	return h.most
}

// Quantiles are the usual figures of a histogram, in milliseconds.
type Quantiles struct {
	Mean float64 `json:"mean_ms"`
	P50  float64 `json:"p50_ms"`
	P90  float64 `json:"p90_ms"`
	P99  float64 `json:"p99_ms"`
	P999 float64 `json:"p999_ms"`
	Max  float64 `json:"max_ms"`
}

// Quantiles gives the usual figures.
func (h *Histogram) Quantiles() Quantiles { return h.QuantilesBeyond(0) }

// QuantilesBeyond gives the usual figures of what each duration had beyond a
// time that all of them hold.
func (h *Histogram) QuantilesBeyond(d time.Duration) Quantiles {
	if h.count == 0 {
		return Quantiles{}
	}
	beyond := func(whole time.Duration) float64 {
		return math.Round(max(0, whole-d).Seconds()*1e5) / 100
	}
	return Quantiles{
		Mean: beyond(h.sum / time.Duration(h.count)), P50: beyond(h.Quantile(0.5)), P90: beyond(h.Quantile(0.9)),
		P99: beyond(h.Quantile(0.99)), P999: beyond(h.Quantile(0.999)), Max: beyond(h.most),
	}
}
