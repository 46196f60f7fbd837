package mqtt

import "joingate/joinserver"

// verdict is what an ack says of the air: which window was taken, and what the
// ledger of airtime has to learn.
type verdict struct {
	window joinserver.WindowName // that the gateway sends in; empty: none, or it did not say
	freed  bool                  // what was booked will not be sent
	busy   []joinserver.Transmission
}

// verdict reads an ack. Its statuses belong to the windows of the command one by
// one; a Basics Station reports one for all, and then the window that was taken is
// not known, and what was booked stays.
func (f *flight) verdict(a ack) verdict {
	if len(a.Items) != len(f.shot.windows) {
		freed := !a.ok() && len(a.Items) > 0 && !occupied(a.Items[len(a.Items)-1])
		return verdict{freed: freed && f.shot.isBooked()}
	}
	v := verdict{freed: f.shot.isBooked()}
	for i, w := range f.shot.windows {
		if a.Items[i] == txOK {
			v.window = f.sending.windowName(f.shot.route, w)
		}
		switch taken := a.Items[i] == txOK || occupied(a.Items[i]); {
		case taken && f.sending.holds(f.shot, w):
			v.freed = false
		case taken:
			v.busy = append(v.busy, f.sending.transmission(f.shot.route, w))
		}
	}
	return v
}

// occupied reports whether a refusal means that the gateway is busy in the window,
// or has used up its duty cycle: more than the ledger knows of. With any other it
// sends nothing then.
func occupied(status txStatus) bool {
	return status == txCollisionPacket || status == txCollisionBeacon || status == txDutyCycleOverflow
}
