package mqtt

import (
	"strings"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"joingate/joinserver"
)

// outcome is what became of a join-accept in the end.
type outcome struct {
	status joinserver.Outcome
	window joinserver.WindowName // of what was sent; empty: not known
	why    error                 // of what was not
}

// The outcomes, as metrics name them.
const (
	outcomeSent    = "sent" // in a window that the gateway did not name
	outcomeSentRX1 = "sent_rx1"
	outcomeSentRX2 = "sent_rx2"
	outcomeRefused = "refused"
	outcomeUnknown = "unknown"
	outcomeUnsent  = "unsent"
)

// label gives the outcome's name in metrics.
func (o outcome) label() string {
	if o.window != "" {
		return string(o.status) + "_" + string(o.window)
	}
	return string(o.status)
}

// seen is what events show of an ack.
func (a ack) seen() joinserver.TxAckSeen {
	statuses := make([]string, len(a.Items))
	for i, status := range a.Items {
		statuses[i] = status.String()
	}
	return joinserver.TxAckSeen{Gateway: a.Gateway, Statuses: statuses}
}

// concluded reports what became of a join-accept: a count, an event, and a line for
// people, which is for debugging only as long as all is well.
func (r *reporter) concluded(s *sending, o outcome) {
	r.metrics.accepts.WithLabelValues(o.label()).Inc()
	d := &s.downlink
	device := d.Claim.Request.DevEUI
	r.outcomes.add(news{
		account: d.Claim.Policy.Node.Account,
		device:  device.String(),
		event:   d.Outcome(o.status, s.asked, o.window, s.acks, r.now()),
	})
	text, level, lines := "join-accept is taken by the gateway", zapcore.DebugLevel, (*summary)(nil)
	switch o.status {
	case joinserver.OutcomeUnknown:
		text, level, lines = "join-accept was not acknowledged: whether it was sent is unknown", zapcore.InfoLevel, &r.silent
	case joinserver.OutcomeRefused, joinserver.OutcomeUnsent:
		text, level, lines = "join-accept was not transmitted: the device will try again", zapcore.WarnLevel, &r.unsent
	}
	if lines != nil && !r.show(lines, shownPerSecond) {
		return
	}
	if line := r.log.Check(level, text); line != nil {
		line.Write(
			zap.Stringer("dev_eui", device),
			zap.Uint16("dev_nonce", d.Claim.Request.DevNonce),
			zap.String("outcome", o.label()),
			zap.Stringer("gateway", s.asked),
			zap.NamedError("reason", o.why),
			zap.String("refusals", strings.Join(s.notes, "; ")))
	}
}
