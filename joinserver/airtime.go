package joinserver

import (
	"context"
	"time"

	"joingate/band"
)

// Airtime is the ledger of what gateways are planned to send. A gateway sends one
// frame at a time, hears nothing meanwhile, and may be bound to a duty cycle, so
// the ledger decides who can send a join-accept at all.
//
// No call fails: a ledger that is shared by several instances falls back to what
// this one knows when the others cannot be asked.
type Airtime interface {
	// Book enters the first of the transmissions that fits what its gateway is
	// planned to send, and returns its index; -1 if none fits, and then nothing is
	// entered.
	Book(ctx context.Context, options []Transmission) int
	// Release takes out what was booked and will not be sent.
	Release(ctx context.Context, t Transmission)
	// Sent enters, without asking whether it fits, what a gateway has said to send
	// or to be busy with.
	Sent(ctx context.Context, t Transmission)
}

// Transmission is one frame on the air of a gateway.
type Transmission struct {
	Gateway EUI64
	Start   time.Time
	OnAir   time.Duration
	Duty    band.DutyCycle // of the sub-band; zero: not limited
}

// End is when the gateway is free again.
func (t Transmission) End() time.Time { return t.Start.Add(t.OnAir) }
