package mqtt

import (
	"context"
	"errors"
	"sync"
	"time"

	"joingate/joinserver"
)

// Handler decides joins: a *joinserver.Handler.
type Handler interface {
	Prepare(ctx context.Context, phyPayload []byte) (joinserver.Attempt, error)
	Answer(ctx context.Context, a joinserver.Attempt, copies []joinserver.Reception) (joinserver.Downlink, error)
}

// pipeline takes copies of join-requests in and gets each frame answered once.
//
//	copy ─► collector ─ first ─► Prepare ─┐
//	            └── window passed ────────┴─► Answer ─► send
//
// Prepare runs while further copies come in. Answer begins when both are done:
// the frame prepared and its window over.
//
// Where instances share their copies, a frame is claimed before Prepare, and what
// others have handed over is gathered before Answer. A frame that another instance
// has claimed ends there: no Answer, and no word of what became of it.
type pipeline struct {
	handler     Handler
	now         func() time.Time
	workers     *workers
	transmitter *transmitter
	reporter    *reporter
	metrics     *metrics
	alarm       alarm
	shared      Copies          // nil: this is the only instance
	ctx         context.Context // of the handler's calls; done when the edge stops

	mu        sync.Mutex
	collector *collector
	draining  bool
}

// take takes one copy in. It never blocks.
func (p *pipeline) take(copy uplinkCopy) {
	if p.shared == nil || len(copy.payload) > maxHanded {
		copy.payload = nil
	}
	f, where := p.collect(copy)
	p.metrics.copies.Inc()
	switch where {
	case lateCopy:
		p.metrics.lateCopies.Inc()
		if on := f.answeredOn.Load(); on != 0 && on != uint32(copy.Reception.Frequency) {
			p.metrics.ghosts.Inc()
		}
	case noRoom:
		refusal := reject(joinserver.Overloaded, copy.PHYPayload, "no room for another join-request")
		p.reporter.refused(refusal, []joinserver.Reception{copy.Reception})
	}
}

// collect puts a copy to its frame and begins to prepare a new one. While the
// edge drains, copies of frames under way still count; new ones are left to
// whoever comes after it.
func (p *pipeline) collect(copy uplinkCopy) (*frame, placement) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f, where := p.collector.add(copy.Reception.Received, copy)
	switch {
	case where == noRoom && p.draining:
		return nil, 0
	case where == furtherCopy:
		p.further(f)
		return f, where
	case where != firstCopy:
		return f, where
	case !p.workers.begin(func() { p.prepare(f) }):
		return nil, noRoom
	}
	if p.collector.collecting.len() == 1 {
		p.alarm.ring()
	}
	return f, where
}

// tick goes on with the frames whose window has passed and returns when to look
// again.
func (p *pipeline) tick(now time.Time) (time.Time, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, f := range p.collector.due(now) {
		if f.meet() {
			p.workers.goOn(func() { p.answer(f) })
		}
	}
	return p.collector.next()
}

// meet is called once when the frame is prepared and once when its window has
// passed. It is true for the second one, who goes on with the frame.
func (f *frame) meet() bool { return f.met.Add(1) == 2 }

// prepare does what needs only the frame. Whose it is comes first: only its owner
// may say that it came too late.
func (p *pipeline) prepare(f *frame) {
	if !p.own(f) || p.expired(f) {
		return
	}
	ctx, cancel := p.until(f)
	defer cancel()
	start := p.now()
	attempt, err := p.handler.Prepare(ctx, f.phyPayload)
	if err != nil {
		p.conclude(f, err)
		return
	}
	f.attempt, f.prepareTook = attempt, p.now().Sub(start)
	if f.meet() {
		p.answer(f)
	}
}

// answer decides the join with all copies, and sends the join-accept.
func (p *pipeline) answer(f *frame) {
	if p.expired(f) {
		return
	}
	p.gather(f)
	ctx, cancel := p.until(f)
	defer cancel()
	start := p.now()
	downlink, err := p.handler.Answer(ctx, f.attempt, f.receptions())
	if err != nil {
		p.conclude(f, err)
		return
	}
	f.answerTook = p.now().Sub(start)
	p.countGhosts(f, downlink)
	sent := p.transmitter.send(&sending{frame: f, downlink: downlink}) == nil
	if sent {
		total := p.now().Sub(f.first)
		p.metrics.joinTime.Observe(total.Seconds())
		p.metrics.workTime.Observe(max(0, total-p.collector.window).Seconds())
	}
	p.reporter.accepted(f, downlink, sent)
}

// expired refuses a frame that waited for a worker until nothing could be done
// for it any more. It costs no look-up: those that can be answered go first.
func (p *pipeline) expired(f *frame) bool {
	if p.now().Before(f.rx2()) {
		return false
	}
	p.conclude(f, reject(joinserver.TooLate, f.phyPayload, "waited for its turn until RX2"))
	return true
}

// until bounds the handler's work: after RX2 the outcome is of no use.
func (p *pipeline) until(f *frame) (context.Context, context.CancelFunc) {
	return context.WithTimeout(p.ctx, f.rx2().Sub(p.now()))
}

// conclude ends a frame that is not answered.
func (p *pipeline) conclude(f *frame, err error) {
	copies := p.copiesOf(f)
	var refusal *joinserver.Rejection
	switch {
	case errors.Is(err, joinserver.ErrLateCopy):
		p.metrics.lateCopies.Add(float64(len(copies)))
	case errors.As(err, &refusal):
		p.reporter.refused(refusal, copies)
	case p.ctx.Err() == nil: // else the edge was stopped under it
		p.reporter.failed(err, copies)
	}
}

// copiesOf gives the copies that are there so far.
func (p *pipeline) copiesOf(f *frame) []joinserver.Reception {
	p.mu.Lock()
	defer p.mu.Unlock()
	return f.receptions()
}

// countGhosts counts the copies on another frequency than the answered one: a
// receiver too close to the device hears it on channels it did not use.
func (p *pipeline) countGhosts(f *frame, downlink joinserver.Downlink) {
	on := f.copies[downlink.Routes[0].Reception].Reception.Frequency
	f.answeredOn.Store(uint32(on))
	for _, c := range f.copies {
		if c.Reception.Frequency != on {
			p.metrics.ghosts.Inc()
		}
	}
}

// reject refuses a frame for the edge's own reasons. A frame that is no
// join-request is refused as that.
func reject(reason joinserver.Reason, phyPayload []byte, detail string) *joinserver.Rejection {
	request, err := joinserver.ParseJoinRequest(phyPayload)
	var malformed *joinserver.Rejection
	if errors.As(err, &malformed) {
		return malformed
	}
	return &joinserver.Rejection{Reason: reason, DevEUI: request.DevEUI, JoinEUI: request.JoinEUI, Detail: detail}
}

// drain takes no more frames in.
func (p *pipeline) drain() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.draining = true
	p.collector.limit = 0
}

// idle reports whether no frame is under way. Those that are only remembered
// are not.
func (p *pipeline) idle() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.collector.collecting.len() == 0 && p.workers.idle()
}

// open counts the frames that are collected, answered or remembered.
func (p *pipeline) open() float64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return float64(len(p.collector.frames))
}
