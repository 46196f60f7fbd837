package mqtt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"joingate/joinserver"
)

// Copies brings the copies of one frame together that land on several instances
// behind one broker. A frame is a PHYPayload. No call takes longer than its ctx.
type Copies interface {
	// Claim reports whether this instance is to answer the frame: nobody has claimed
	// it before. After an error the instance acts alone, as if it had got the claim.
	Claim(ctx context.Context, frame []byte) (bool, error)
	// Hand gives a copy to the owner of the frame, and keeps it: it must not change
	// any more. After an error the copy is lost.
	Hand(ctx context.Context, frame, copy []byte) error
	// Collect returns what was handed over so far. It is not to be trusted.
	Collect(ctx context.Context, frame []byte) ([][]byte, error)
}

// DownlinkIDs gives ids, 1 to 65,535, that no other instance behind the broker
// gives at about the same time. It cannot fail.
type DownlinkIDs interface {
	Next(ctx context.Context) uint16
}

const (
	// sharedTimeout bounds each call of Copies and DownlinkIDs, whatever they
	// promise of themselves. Copies are worth less than the time to answer.
	sharedTimeout = 100 * time.Millisecond
	// maxHanded is how long a handed copy may be, in octets. The largest captured
	// message has under 1 KiB; a longer copy serves only the instance that got it.
	maxHanded = 4 << 10
)

// ownership says which instance answers a frame.
type ownership uint8

const (
	notClaimed    ownership = iota
	ownedHere               // also when nobody could be asked
	ownedByFellow           // its copies go to another instance
)

// keep gives what is needed of a payload to hand it over.
func (p *pipeline) keep(payload []byte) []byte {
	if p.shared == nil || len(payload) > maxHanded {
		return nil
	}
	return bytes.Clone(payload)
}

// own reports whether this instance is to answer the frame. If another one is,
// own hands the copies that are here over to it.
func (p *pipeline) own(f *frame) bool {
	if p.shared == nil {
		return true
	}
	won := p.claim(f)
	p.mu.Lock()
	if won {
		f.owner = ownedHere
		f.forgetPayloads()
	} else {
		f.owner, f.handing = ownedByFellow, true
	}
	p.mu.Unlock()
	if !won {
		p.handOver(f)
	}
	return won
}

// claim is true after an error, too: two that act for one frame make one join,
// as the commit sees to, while two that wait for each other make none.
func (p *pipeline) claim(f *frame) bool {
	ctx, cancel := context.WithTimeout(p.ctx, sharedTimeout)
	defer cancel()
	won, err := p.shared.Claim(ctx, f.phyPayload)
	p.countFailure(err)
	return won || err != nil
}

// seeToCopy sees to the copy that was put to a frame under way. The lock is held.
func (p *pipeline) seeToCopy(f *frame) {
	switch {
	case f.owner == ownedHere:
		f.copies[len(f.copies)-1].payload = nil
	case f.owner == ownedByFellow && !f.handing:
		f.handing = true
		p.workers.run(func() { p.handOver(f) })
	}
}

// handOver gives copies to the frame's owner until there are no more. One job at
// a time does it for a frame, so these jobs are bounded as frames are.
func (p *pipeline) handOver(f *frame) {
	for message := p.nextToHand(f); message != nil; message = p.nextToHand(f) {
		p.hand(f, message)
	}
}

func (p *pipeline) hand(f *frame, message []byte) {
	ctx, cancel := context.WithTimeout(p.ctx, sharedTimeout)
	defer cancel()
	err := p.shared.Hand(ctx, f.phyPayload, message)
	p.countFailure(err)
	if err == nil {
		p.metrics.handedCopies.Inc()
	}
}

// nextToHand writes the next copy for the owner, or ends the job with nil.
func (p *pipeline) nextToHand(f *frame) []byte {
	useful := p.now().Before(f.rx2())
	p.mu.Lock()
	defer p.mu.Unlock()
	for useful && f.handed < len(f.copies) {
		c := &f.copies[f.handed]
		f.handed++
		if message := c.message(); message != nil {
			c.payload = nil
			return message
		}
	}
	f.handing = false
	return nil
}

// gather adds the copies that other instances have handed over. The window is
// over, so nobody else adds any.
func (p *pipeline) gather(f *frame) {
	if p.shared == nil {
		return
	}
	ctx, cancel := context.WithTimeout(p.ctx, sharedTimeout)
	defer cancel()
	messages, err := p.shared.Collect(ctx, f.phyPayload)
	p.countFailure(err)
	var handed []uplinkCopy
	for _, message := range messages[:min(len(messages), maxCopies)] {
		if c, err := readHanded(message, f); err == nil {
			handed = append(handed, c)
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range handed {
		if f.adopt(c) {
			p.metrics.collectedCopies.Inc()
		}
	}
}

func (p *pipeline) countFailure(err error) {
	if err != nil {
		p.metrics.copyFailures.Inc()
	}
}

// adopt adds a handed copy, unless the frame has it: where the broker knows no
// shared subscriptions, every instance has every copy.
func (f *frame) adopt(c uplinkCopy) bool {
	for _, own := range f.copies {
		if own.Reception.Gateway == c.Reception.Gateway && bytes.Equal(own.Context, c.Context) {
			return false
		}
	}
	if len(f.copies) >= maxCopies {
		f.surplus++
		return false
	}
	f.copies = append(f.copies, c)
	return true
}

// forgetPayloads frees what only another owner would have needed.
func (f *frame) forgetPayloads() {
	for i := range f.copies {
		f.copies[i].payload = nil
	}
}

// message writes a copy for another instance: the topic and the payload as the
// bridge published them, with a NUL between, which no topic holds (MQTT 3.1.1
// section 1.5.3). It is nil for a copy that is too long to be handed over.
func (c *uplinkCopy) message() []byte {
	topic := uplinkTopic(c.prefix, c.topic)
	if len(c.payload) == 0 || len(topic)+1+len(c.payload) > maxHanded {
		return nil
	}
	message := make([]byte, 0, len(topic)+1+len(c.payload))
	return append(append(append(message, topic...), 0), c.payload...)
}

// readHanded reads a copy of the frame that another instance wrote, or whoever
// else can. It counts as received with the frame's first copy here: another
// instance's clock says nothing here.
func readHanded(message []byte, f *frame) (uplinkCopy, error) {
	if len(message) > maxHanded {
		return uplinkCopy{}, fmt.Errorf("handed copy of %d octets; %d are allowed", len(message), maxHanded)
	}
	topic, payload, _ := bytes.Cut(message, []byte{0})
	prefix, gateway, err := parseHandedTopic(string(topic))
	if err != nil {
		return uplinkCopy{}, err
	}
	up, err := decodeUplink(payload)
	if err == nil {
		err = sameGateway(gateway, up.Reception.Gateway)
	}
	switch {
	case err != nil:
		return uplinkCopy{}, err
	case !asksForSession(kindOfUplink(up, false, nil)):
		return uplinkCopy{}, errors.New("handed copy is no join-request that can be answered")
	case !bytes.Equal(up.PHYPayload, f.phyPayload):
		return uplinkCopy{}, errors.New("handed copy is of another frame")
	}
	up.Reception.Received = f.first
	return uplinkCopy{uplink: up, prefix: prefix, topic: gateway}, nil
}

var errHandedTopic = errors.New("handed copy has no topic of a gateway's uplinks")

// parseHandedTopic is strict, as no broker has checked the topic: the answer is
// published beside it, and a topic with a wildcard or a control character in it
// would make the broker end the connection.
func parseHandedTopic(topic string) (prefix string, gateway joinserver.EUI64, err error) {
	unprintable := func(r rune) bool { return !unicode.IsPrint(r) }
	if !utf8.ValidString(topic) || strings.ContainsFunc(topic, unprintable) {
		return "", gateway, errHandedTopic
	}
	prefix, gateway, kind, ok := parseTopic(topic)
	if !ok || kind != eventUp {
		return "", gateway, errHandedTopic
	}
	if prefix != "" {
		err = checkPrefix(prefix)
	}
	return prefix, gateway, err
}
