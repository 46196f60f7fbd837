package sim

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// A quantile is never below the true one and at most a sixty-fourth above it.
func TestHistogramQuantiles(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		micros := rapid.SliceOfN(rapid.Int64Range(0, int64(time.Hour/time.Microsecond)), 1, 200).Draw(t, "micros")
		var h Histogram
		for i, m := range micros {
			part := new(Histogram)
			part.Add(time.Duration(m) * time.Microsecond)
			if i%2 == 0 {
				h.Merge(part)
			} else {
				h.Add(time.Duration(m) * time.Microsecond)
			}
		}
		slices.Sort(micros)
		q := rapid.Float64Range(0.001, 1).Draw(t, "q")
		rank := 0
		for float64(rank+1) < q*float64(len(micros)) {
			rank++
		}
		want, got := micros[rank], h.Quantile(q).Microseconds()
		if got < want || float64(got) > float64(want)*(1+1.0/64)+1 {
			t.Errorf("quantile %v of %d is %d, want %d", q, len(micros), got, want)
		}
		if h.Count() != int64(len(micros)) || h.Quantile(1).Microseconds() != micros[len(micros)-1] {
			t.Errorf("%d, greatest %v", h.Count(), h.Quantile(1))
		}
	})
}

func TestHistogramEdges(t *testing.T) {
	var h Histogram
	if h.Quantile(0.99) != 0 || h.Quantiles() != (Quantiles{}) {
		t.Error("an empty histogram has no figures")
	}
	h.Add(-time.Second)
	h.Add(10 * 365 * 24 * time.Hour) // beyond its range: in the last bin
	if h.Quantile(0.5) != 0 || h.Count() != 2 {
		t.Errorf("median %v of %d", h.Quantile(0.5), h.Count())
	}
	if got := h.QuantilesBeyond(time.Hour); got.P50 != 0 {
		t.Errorf("%+v: nothing is shorter than nothing", got)
	}
}
