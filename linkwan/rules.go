package linkwan

import (
	"time"
	"unicode"

	"joingate/band"
	"joingate/joinserver"
)

// What the documentation demands of values beyond their types.
const (
	minNameWidth = 4
	maxNameWidth = 30

	minRxDelaySeconds     = 1
	maxRxDelaySeconds     = 15
	defaultRxDelaySeconds = 1
)

// checkName holds the name of a join permission against Link WAN's rule: Chinese
// characters, Latin letters, digits and underscores; 4 to 30 wide, a Chinese
// character counting 2.
func checkName(name string) error { return checkNameFrom(minNameWidth, name) }

// checkGroupName holds the name of a node group against the same rule, but for
// the least width: the documentation gives none for it.
func checkGroupName(name string) error { return checkNameFrom(1, name) }

func checkNameFrom(minWidth int, name string) error {
	width := 0
	for _, r := range name {
		w := nameWidth(r)
		if w == 0 {
			return fail("InvalidName")
		}
		width += w
	}
	if width < minWidth || width > maxNameWidth {
		return fail("InvalidName")
	}
	return nil
}

// nameWidth is what a character counts in a name: 2 for a Chinese one, 0 for one
// that no name may have.
func nameWidth(r rune) int {
	switch {
	case unicode.Is(unicode.Han, r):
		return 2
	case r == '_' || r < unicode.MaxASCII && (unicode.IsLetter(r) || unicode.IsDigit(r)):
		return 1
	}
	return 0
}

// eui reads a parameter that must be an EUI.
func (c call) eui(name string) (joinserver.EUI64, error) {
	eui, err := joinserver.ParseEUI64(c.text(name))
	if err != nil {
		return eui, invalid(name)
	}
	return eui, nil
}

// bandPlan reads FreqBandPlanGroupId.
func (c call) bandPlan() (BandPlan, error) {
	plan, known := c.bands.find(band.GroupID(c.integer("FreqBandPlanGroupId")))
	if !known {
		return plan, fail("InvalidFreqBandPlan")
	}
	return plan, nil
}

// rxDelay reads RxDelay: seconds, an integer in some actions and a string in
// others. absent is what it is when the call leaves it out.
func (c call) rxDelay(absent time.Duration) (time.Duration, error) {
	if !c.has("RxDelay") {
		return absent, nil
	}
	seconds, ok := parseInteger(c.text("RxDelay"), 64)
	if !ok || seconds < minRxDelaySeconds || seconds > maxRxDelaySeconds {
		return 0, invalid("RxDelay")
	}
	return time.Duration(seconds) * time.Second, nil
}

// dataRate reads DataRate, an integer or a string as RxDelay is, and holds it,
// or what it was before, against the band plan group. A rate that was never set
// follows the group.
func (c call) dataRate(plan BandPlan, before *band.DataRate) (*band.DataRate, error) {
	rate := before
	if c.has("DataRate") {
		n, ok := parseInteger(c.text("DataRate"), 16)
		if !ok || n < 0 || n > 15 {
			return nil, invalid("DataRate")
		}
		given := band.DataRate(n)
		rate = &given
	}
	if rate == nil {
		return nil, nil
	}
	for _, allowed := range plan.DataRates {
		if *rate == allowed {
			return rate, nil
		}
	}
	return nil, invalid("DataRate")
}
