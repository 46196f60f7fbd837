package mqtt

import (
	"errors"
	"time"
)

// publisher is the connection to the broker as those see it who speak on it.
type publisher interface {
	// publish hands a message over and does not wait for the broker.
	publish(topic string, qos byte, payload []byte) receipt
	// ready is nil while there is a connection; else it says why there is none.
	ready() error
}

// receipt tells when a message has left (QoS 0) or the broker has it (QoS 1).
type receipt interface {
	// WaitTimeout reports whether the message got that far within the time, or
	// failed to.
	WaitTimeout(time.Duration) bool
	// Error is the reason of the failure; nil: there is none so far, and there will be
	// none once WaitTimeout has reported true.
	Error() error
}

var errNoReceipt = errors.New("the broker did not take the message in time")

// wait gives the outcome of a publish.
func wait(r receipt, atMost time.Duration) error {
	if !r.WaitTimeout(atMost) {
		return errNoReceipt
	}
	return r.Error()
}
