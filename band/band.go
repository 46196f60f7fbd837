// Package band gives the regional parameters a join needs: on which channels a
// join-request may arrive, when and where its join-accept is sent, and which
// channels the CFList announces.
//
// Units. Frequency: Hz. Delay: time.Duration from the end of the uplink.
// Power: dBm EIRP. A data rate is an index of its region, not a bit rate.
//
// Source: LoRaWAN RP002-1.0.4 unless a table says otherwise.
package band

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Specification constants, RP002: the join-accept's windows open this long
// after the end of the join-request, whatever RxDelay the join-accept carries.
const (
	JoinAcceptDelay1 = 5 * time.Second
	JoinAcceptDelay2 = 6 * time.Second
)

// Hz is a frequency or a bandwidth.
type Hz uint32

// String gives the frequency as people read it: "470.3 MHz".
func (f Hz) String() string {
	return strconv.FormatFloat(float64(f)/1e6, 'f', -1, 64) + " MHz"
}

// GroupID names a frequency band plan group: 101, 102 and 201 are Link WAN's,
// 1000 to 9999 ours, from 10000 on the operator's own.
type GroupID int64

// DataRate is a data-rate index of a region, 0 to 15.
type DataRate uint8

// Modulation is what a data rate stands for on the air. A LoRa modulation has a
// spreading factor; one without is FSK or LR-FHSS, on which no join is sent.
type Modulation struct {
	SpreadingFactor uint8 // 5 to 12; 0: not LoRa
	Bandwidth       Hz
}

// String gives the notation of the packet forwarder: "SF10BW125".
func (m Modulation) String() string {
	if m.SpreadingFactor == 0 {
		return "not LoRa"
	}
	return fmt.Sprintf("SF%dBW%d", m.SpreadingFactor, m.Bandwidth/1000)
}

// MACVersion is a LoRaWAN link layer version of an end-device.
type MACVersion uint8

// The versions of TS001 that devices are built to.
const (
	MAC1_0_0 MACVersion = iota + 1
	MAC1_0_1
	MAC1_0_2
	MAC1_0_3
	MAC1_0_4
	MAC1_1
)

var macVersions = [...]string{MAC1_0_0: "1.0.0", MAC1_0_1: "1.0.1", MAC1_0_2: "1.0.2", MAC1_0_3: "1.0.3", MAC1_0_4: "1.0.4", MAC1_1: "1.1"}

// String gives "1.0.3" and its like, and "" for the zero value.
func (v MACVersion) String() string {
	if int(v) >= len(macVersions) {
		return "MACVersion(" + strconv.Itoa(int(v)) + ")"
	}
	return macVersions[v]
}

// ParseMACVersion reads "1.0.0" to "1.0.4" or "1.1".
func ParseMACVersion(s string) (MACVersion, error) {
	for v := MAC1_0_0; v <= MAC1_1; v++ {
		if macVersions[v] == s {
			return v, nil
		}
	}
	return 0, fmt.Errorf("LoRaWAN version %q is none of %s", s, strings.Join(macVersions[1:], ", "))
}

// Window is one receive window of a device that waits for its join-accept. The
// zero Window is one that is not offered.
type Window struct {
	Delay      time.Duration
	Frequency  Hz
	DataRate   DataRate
	Modulation Modulation
	Power      int8 // dBm EIRP of the gateway
	Duty       DutyCycle
}

// Answer says how a join-request is answered: in which windows, and with which
// CFList (16 octets in transmission order, shared: not to be changed; nil for
// none).
type Answer struct {
	RX1, RX2 Window
	CFList   []byte
}

// Octets is the length of the join-accept.
func (a Answer) Octets() int {
	if a.CFList == nil {
		return joinAcceptOctets
	}
	return joinAcceptCFListOctets
}
