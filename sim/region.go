package sim

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"
)

// Modulation is what a data rate stands for on the air.
type Modulation struct {
	SpreadingFactor int // 5 to 12; 0: FSK
	Bandwidth       Hz
}

// String gives the notation of the packet forwarder: "SF10BW125".
func (m Modulation) String() string {
	return fmt.Sprintf("SF%dBW%d", m.SpreadingFactor, m.Bandwidth/1000)
}

// Airtime is how long a frame of that many octets lasts: 8 symbols of preamble,
// explicit header, coding rate 4/5, CRC on uplinks only, low data rate
// optimisation where a symbol lasts over 16 ms (Semtech SX1276 data sheet,
// section 4.1.1.7).
func (m Modulation) Airtime(octets int, uplink bool) time.Duration {
	if m.SpreadingFactor < 5 || m.SpreadingFactor > 12 || m.Bandwidth == 0 {
		return 0
	}
	sf := float64(m.SpreadingFactor)
	symbol := math.Exp2(sf) / float64(m.Bandwidth) // seconds
	bits := 8*float64(octets) - 4*sf + 28
	if uplink {
		bits += 16
	}
	perBlock := 4 * sf
	if symbol > 0.016 {
		perBlock -= 8
	}
	payload := 8 + max(0, math.Ceil(bits/perBlock)*5)
	return time.Duration((12.25 + payload) * symbol * float64(time.Second))
}

// dataRate is an entry of a region's table.
type dataRate struct {
	Modulation
	up, down bool
}

// joinChannel is one on which a device may send its join-request, with the
// frequencies it listens on afterwards.
type joinChannel struct {
	up       Hz
	low, top int // data rates a device uses for joins here
	rx1, rx2 Hz
}

// Region is what a device knows of the band it was built for.
type Region struct {
	Name string

	join    []joinChannel
	rates   map[int]dataRate
	rx1DR   map[int]int // data rate of RX1 after a join-request, where it is not the uplink's
	rx2DR   int
	offsets int // highest RX1DROffset
	cfList  cfListRule
	first   int // how many of join a device uses when it is not told which
	habit   func(r *rand.Rand, reg *Region, try int) (channel, dr int)
	// dwell bounds one downlink transmission; 0 for no bound.
	dwell    time.Duration
	codeRate string
}

// Channel is a frequency and data rate to send a join-request with.
type Channel struct {
	Frequency Hz
	DataRate  int
}

// Window is a receive window of a device that waits for its join-accept.
type Window struct {
	Number    int // 1 or 2
	Delay     time.Duration
	Frequency Hz
	Modulation
}

// The join-accept's windows open this long after the end of the join-request,
// whatever RxDelay it carries (RP002-1.0.4, JOIN_ACCEPT_DELAY1 and 2).
const (
	joinAcceptDelay1 = 5 * time.Second
	joinAcceptDelay2 = 6 * time.Second
)

// RegionByName finds a region: EU868, US915-FSB2, CN470-20A, …, and 101, 102 and
// 201 for devices built for Link WAN.
func RegionByName(name string) (*Region, error) {
	if r, ok := regionTables()[name]; ok {
		return r, nil
	}
	return nil, fmt.Errorf("no region %q; there are %v", name, RegionNames())
}

// RegionNames lists the regions in alphabetical order.
func RegionNames() []string {
	names := make([]string, 0, len(regionTables()))
	for name := range regionTables() {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// JoinChannels lists every channel and data rate that a join-request may use.
func (reg *Region) JoinChannels() []Channel {
	var all []Channel
	for _, c := range reg.join {
		for dr := c.low; dr <= c.top; dr++ {
			all = append(all, Channel{c.up, dr})
		}
	}
	return all
}

// pick chooses a channel as devices of the region do.
func (reg *Region) pick(r *rand.Rand, try int) Channel {
	i, dr := reg.habit(r, reg, try)
	return Channel{reg.join[i].up, dr}
}

// windows says when and where a device listens after a join-request.
func (reg *Region) windows(sent Channel) (rx1, rx2 Window, err error) {
	for _, c := range reg.join {
		if c.up != sent.Frequency || sent.DataRate < c.low || sent.DataRate > c.top {
			continue
		}
		dr, ok := reg.rx1DR[sent.DataRate]
		if !ok {
			dr = sent.DataRate
		}
		rx1 = Window{1, joinAcceptDelay1, c.rx1, reg.rates[dr].Modulation}
		rx2 = Window{2, joinAcceptDelay2, c.rx2, reg.rates[reg.rx2DR].Modulation}
		return rx1, rx2, nil
	}
	return rx1, rx2, fmt.Errorf("%s with data rate %d is no join channel of %s", sent.Frequency, sent.DataRate, reg.Name)
}

// uplinkChannels says which channels a device uses after the join. A device for
// Link WAN stays in the band of 8 in which it joined.
func (reg *Region) uplinkChannels(list []byte, v version, sent Channel) ([]Hz, error) {
	used, err := reg.cfList.apply(list, v)
	if err != nil || reg.cfList.kind != cfListNone {
		return used, err
	}
	at := slices.IndexFunc(reg.join, func(c joinChannel) bool { return c.up == sent.Frequency })
	for _, c := range reg.join[at/8*8:][:8] {
		used = append(used, c.up)
	}
	return used, nil
}

// cfListType says what a region's CFList holds.
type cfListType int

const (
	cfListNone cfListType = iota
	cfListFrequencies
	cfListMask
)

// cfListRule says which CFList a device of a region understands.
type cfListRule struct {
	kind      cfListType
	unit      Hz   // of a frequency
	low, high Hz   // where a frequency may lie
	defaults  []Hz // channels that a list of frequencies adds to
	channels  []Hz // channels in the order of the mask
}

var errCFList = errors.New("CFList")

// apply gives the uplink channels in use after a join-accept with this CFList
// (16 octets, or none). Type 0 came with 1.0.0, type 1 with 1.0.3 (Regional
// Parameters 1.0.3).
func (c cfListRule) apply(list []byte, v version) ([]Hz, error) {
	if len(list) == 0 {
		if c.kind == cfListFrequencies {
			return slices.Clone(c.defaults), nil
		}
		return slices.Clone(c.channels), nil
	}
	switch {
	case c.kind == cfListNone:
		return nil, fmt.Errorf("%w: devices of this region take none", errCFList)
	case list[15] > 1:
		return nil, fmt.Errorf("%w: type %d is unknown", errCFList, list[15])
	case list[15] == 1 && v < version103:
		return nil, fmt.Errorf("%w: type 1 is known from LoRaWAN 1.0.3 on, this device is %s", errCFList, v)
	case list[15] == 1 && c.kind != cfListMask:
		return nil, fmt.Errorf("%w: type 1 (channel mask) in a region that takes frequencies", errCFList)
	case list[15] == 0 && c.kind != cfListFrequencies:
		return nil, fmt.Errorf("%w: type 0 (frequencies) in a region that takes a channel mask", errCFList)
	case list[15] == 0:
		return c.addFrequencies(list)
	}
	return c.mask(list)
}

// addFrequencies reads five frequencies of three octets; 0 is a place unused.
func (c cfListRule) addFrequencies(list []byte) ([]Hz, error) {
	used := slices.Clone(c.defaults)
	for at := 0; at < 15; at += 3 {
		steps := uint64(uint24(list[at:]))
		if steps == 0 {
			continue
		}
		f := steps * uint64(c.unit)
		if f < uint64(c.low) || f > uint64(c.high) {
			return nil, fmt.Errorf("%w: %s is outside %s to %s", errCFList, Hz(min(f, math.MaxUint32)), c.low, c.high)
		}
		used = append(used, Hz(f))
	}
	return used, nil
}

// mask reads 14 octets of little-endian channel masks and one octet RFU.
func (c cfListRule) mask(list []byte) ([]Hz, error) {
	var used []Hz
	for i := range 8 * 14 {
		if list[i/8]>>(i%8)&1 == 0 {
			continue
		}
		if i >= len(c.channels) {
			return nil, fmt.Errorf("%w: the mask enables channel %d, the region has %d", errCFList, i, len(c.channels))
		}
		used = append(used, c.channels[i])
	}
	if len(used) == 0 {
		return nil, fmt.Errorf("%w: the mask enables no channel", errCFList)
	}
	return used, nil
}
