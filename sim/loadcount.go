package sim

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"time"
)

// message is called by the reader alone.
func (l *load) message(topic, payload []byte) {
	if bytes.HasSuffix(topic, []byte("/event/reject")) {
		l.reject(payload)
		return
	}
	l.command(topic, payload)
}

// reject counts an event that tells of one refusal, or of several at once.
func (l *load) reject(payload []byte) {
	event := struct {
		Reason string
		Count  int64
	}{Count: 1}
	l.mu.Lock()
	defer l.mu.Unlock()
	if json.Unmarshal(payload, &event) != nil {
		l.report.Strange++
		return
	}
	l.report.Refused[event.Reason] += event.Count
}

// command counts what a server commands a gateway, and acknowledges it.
func (l *load) command(topic, payload []byte) {
	now := time.Since(l.begin)
	gateway, known := l.gatewayOf(topic)
	c, err := parseLoadCommand(payload)
	if err != nil || !known || c.untimely || len(c.context) != 4 {
		l.mu.Lock()
		l.report.Strange++
		l.mu.Unlock()
		return
	}
	if !l.NoAcks && !l.Echo {
		l.acks = appendLoadAck(l.acks, l.ackTopics[gateway], l.Gateways[gateway], c)
		if len(l.acks) > sendBatch {
			l.flushAcks()
		}
	}
	l.count(now, gateway, c)
}

// gatewayOf reads the gateway from a topic of command/down.
func (l *load) gatewayOf(topic []byte) (index int, known bool) {
	at := len(l.Prefix) + len("gateway/")
	if len(topic) < at+16 {
		return 0, false
	}
	eui, err := ParseEUI(string(topic[at : at+16]))
	if err != nil {
		return 0, false
	}
	index, known = l.index[eui]
	return index, known
}

func (l *load) count(now time.Duration, gateway int, c loadCommand) {
	join := binary.BigEndian.Uint32(c.context)
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case join >= forgedContext:
		l.report.ForgedAnswered++
		return
	case int64(join) >= int64(l.joins):
		l.report.Strange++
		return
	case l.seen[join]:
		l.report.Surplus++
		return
	}
	l.seen[join] = true
	l.last = now
	if l.report.Latency.Count() == 0 {
		l.first = now
	}
	sent := l.joinDue(int(join))
	if l.Open > 0 {
		sent = time.Duration(l.sentAt[join].Load()) * time.Microsecond
	}
	l.report.Latency.Add(now - sent)
	l.recent.Add(now - sent)
	l.report.PerGateway[l.Gateways[gateway]]++
	switch c.inTime(now - sent) {
	case 1:
		l.report.RX1++
	case 2:
		l.report.RX2++
	default:
		l.report.Late++
	}
	l.answered.Add(1)
}

// inTime is the first window that a packet forwarder would still take when the
// command comes so long after the join-request; 0 for none.
func (c loadCommand) inTime(after time.Duration) int {
	for _, delay := range c.delays[:min(c.items, len(c.delays))] {
		if after+leadTime*time.Microsecond > delay {
			continue
		}
		if delay < joinAcceptDelay2 {
			return 1
		}
		return 2
	}
	return 0
}

func (l *load) flushAcks() {
	if len(l.acks) > 0 {
		_ = l.receiver.write(l.acks) // a broken connection ends the reading too
		l.acks = l.acks[:0]
	}
}
