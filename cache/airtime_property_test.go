package cache_test

import (
	"context"
	"fmt"
	"slices"
	"time"

	"pgregory.net/rapid"

	"joingate/band"
	"joingate/cache"
	"joingate/joinserver"
)

// checkSequence makes any sequence of calls, and looks at each outcome in a
// history of its own.
func checkSequence(t *rapid.T, two [2]joinserver.Airtime, clock *clock, firstGateway int64) {
	clock.reset()
	h := history{clock: clock, memory: cache.NewAirtime(clock.now)}
	ctx := context.Background()
	transmissions := transmissionsOf(clock, firstGateway)
	t.Repeat(map[string]func(*rapid.T){
		"book": func(t *rapid.T) {
			options := rapid.SliceOfN(transmissions, 1, 4).Draw(t, "options")
			by := rapid.IntRange(0, 1).Draw(t, "instance")
			booked := two[by].Book(ctx, options)
			if same := h.memory.Book(ctx, options); same != booked {
				t.Fatalf("option %d was booked, in memory %d", booked, same)
			}
			h.booked(t, two[by], options, booked)
		},
		"sent": func(t *rapid.T) {
			one := transmissions.Draw(t, "transmission")
			two[0].Sent(ctx, one)
			h.memory.Sent(ctx, one)
			if !slices.ContainsFunc(h.entered, func(other entry) bool { return sameFrame(one, other.Transmission) }) {
				h.entered = append(h.entered, entry{one, two[0]})
			}
		},
		"release": func(t *rapid.T) {
			if len(h.entered) == 0 {
				t.Skip("nothing is booked")
			}
			i := rapid.IntRange(max(0, len(h.entered)-5), len(h.entered)-1).Draw(t, "which")
			if one := h.entered[i]; one.End().After(clock.now()) {
				one.by.Release(ctx, one.Transmission)
				h.memory.Release(ctx, one.Transmission)
				h.entered = slices.Delete(h.entered, i, i+1)
			}
		},
		"wait": func(t *rapid.T) {
			clock.turn(time.Duration(rapid.Int64Range(0, int64(2*time.Second)).Draw(t, "time")))
		},
		"wait until the hour is nearly over": func(t *rapid.T) {
			if len(h.entered) == 0 {
				t.Skip("nothing is booked")
			}
			over := rapid.SampledFrom(h.entered).Draw(t, "which").Start.Add(band.DutyWindow)
			in := time.Duration(rapid.Int64Range(-30, 0).Draw(t, "seconds")) * time.Second
			clock.turn(max(0, over.Add(in).Sub(clock.now())))
		},
	})
}

// transmissionsOf draws from few gateways, times and limits, so that they meet.
func transmissionsOf(clock *clock, firstGateway int64) *rapid.Generator[joinserver.Transmission] {
	return rapid.Custom(func(t *rapid.T) joinserver.Transmission {
		duty := rapid.SampledFrom([]band.DutyCycle{{}, {SubBand: 1, Limit: time.Second}, {SubBand: 2, Limit: 3 * time.Second}}).Draw(t, "duty")
		return joinserver.Transmission{
			Gateway: gatewayNumber(firstGateway + rapid.Int64Range(0, 1).Draw(t, "gateway")),
			Start:   clock.now().Add(time.Duration(rapid.Int64Range(0, 700).Draw(t, "in")) * 10 * time.Millisecond),
			OnAir:   rapid.SampledFrom([]time.Duration{46336 * time.Microsecond, 370 * time.Millisecond, 1810 * time.Millisecond}).Draw(t, "on air"),
			Duty:    duty,
		}
	})
}

// history knows all that was entered, and judges from that alone.
type history struct {
	clock   *clock
	memory  *cache.Airtime
	entered []entry
}

// entry is what was entered, and through which instance.
type entry struct {
	joinserver.Transmission
	by joinserver.Airtime
}

// booked checks the outcome of Book against the rules: what was booked keeps to
// them, and what comes before it would not have.
func (h *history) booked(t *rapid.T, by joinserver.Airtime, options []joinserver.Transmission, booked int) {
	if booked >= 0 {
		if why := h.breaks(options[booked], band.DutyWindow); why != "" {
			t.Fatalf("booked %v: %s", options[booked], why)
		}
	}
	for i, option := range options {
		if i == booked {
			h.entered = append(h.entered, entry{option, by})
			return
		}
		if h.breaks(option, band.DutyWindow+20*time.Second) == "" {
			t.Fatalf("passed over %v, which fits", option)
		}
	}
}

// breaks says which rule the transmission would break, with the duty cycle
// counted in windows of the length.
func (h *history) breaks(one joinserver.Transmission, window time.Duration) string {
	var same []joinserver.Transmission
	for _, other := range h.entered {
		if other.Gateway != one.Gateway {
			continue
		}
		if near(one, other.Transmission) {
			return fmt.Sprintf("too near %v", other.Transmission)
		}
		if other.Duty.Limit > 0 && other.Duty.SubBand == one.Duty.SubBand {
			same = append(same, other.Transmission)
		}
	}
	if one.Duty.Limit > 0 && mostWithin(window, one, same) > one.Duty.Limit {
		return "duty cycle"
	}
	return ""
}

func near(one, other joinserver.Transmission) bool {
	return one.Gateway == other.Gateway &&
		one.Start.Before(other.End().Add(cache.AirtimeGuard)) && other.Start.Before(one.End().Add(cache.AirtimeGuard))
}

func sameFrame(one, other joinserver.Transmission) bool {
	return one.Gateway == other.Gateway && one.Start.Equal(other.Start) && one.OnAir == other.OnAir && one.Duty == other.Duty
}

// mostWithin gives the most airtime of any window that touches the transmission.
// Such a window can be moved until it begins or ends with one of them.
func mostWithin(window time.Duration, one joinserver.Transmission, others []joinserver.Transmission) (most time.Duration) {
	all := append([]joinserver.Transmission{one}, others...)
	for _, edge := range all {
		for _, from := range []time.Time{edge.Start, edge.End().Add(-window)} {
			to := from.Add(window)
			if !one.Start.Before(to) || !one.End().After(from) {
				continue
			}
			var sum time.Duration
			for _, other := range all {
				sum += max(0, earlier(other.End(), to).Sub(later(other.Start, from)))
			}
			most = max(most, sum)
		}
	}
	return most
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

func later(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}
