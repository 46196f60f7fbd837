package joinserver

import (
	"time"

	"joingate/band"
)

// Reception is one gateway's copy of an uplink.
type Reception struct {
	Gateway    EUI64
	Received   time.Time // when the copy reached the server
	Frequency  band.Hz
	Modulation band.Modulation
	RSSI       int32   // dBm
	SNR        float32 // dB
}

// Uplink is one radio transmission with all the copies of it that are known.
type Uplink struct {
	PHYPayload []byte
	Receptions []Reception // at least one
}

// Downlink is a join-accept and the ways to send it, best gateway first. The
// same octets serve every window and every gateway.
type Downlink struct {
	PHYPayload []byte
	Routes     []Route
	Claim      Claim
	Grant      Grant
}

// Route is one gateway that may send the join-accept.
type Route struct {
	Reception int // index in Uplink.Receptions
	Gateway   EUI64
	RX1, RX2  band.Window // a zero Window is not offered

	// Booked is the place that the ledger holds for this route; zero: none. The first
	// route has one where airtime is planned. Where it is RX1's, RX2 stays offered for
	// the gateway to fall back on; where it is RX2's, RX1 is not offered.
	Booked Transmission
}

// lastWindow is the delay of the last window that is offered.
func (r Route) lastWindow() time.Duration { return max(r.RX1.Delay, r.RX2.Delay) }
