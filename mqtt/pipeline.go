package mqtt

import (
	"context"
	"encoding/binary"
	"errors"
	"sync"
	"time"

	"joingate/band"
	"joingate/joinserver"
)

// Handler decides joins: a *joinserver.Handler.
type Handler interface {
	Prepare(ctx context.Context, phyPayload []byte) (joinserver.Attempt, error)
	Answer(ctx context.Context, a joinserver.Attempt, copies []joinserver.Reception) (joinserver.Downlink, error)
}

// pipeline takes copies of join-requests in and gets each frame answered once.
//
//	copy ─► collector ─ first ─► by gateway ─► Prepare ─┐
//	            └── window passed ───────────────────────┴─► by account ─► Answer ─► send
//
// Prepare runs while further copies come in. Answer begins when both are done:
// the frame prepared and its window over. Before each of the two a frame may have
// to wait for its turn, first in the line of a gateway that heard it, then in that
// of the account whose device it has proved to be.
//
// Frames that come in the name of nobody on record, and those that have not proved
// to be of their device, have a few places of their own at each of the two. They are
// served as quickly as any while there are few of them; a flood of them takes the
// places of nobody else.
//
// Where instances share their copies, a frame is claimed before Prepare, and what
// others have handed over is gathered before Answer. A frame that another instance
// has claimed ends there: no Answer, and no word of what became of it.
type pipeline struct {
	handler     Handler
	now         func() time.Time
	lead        time.Duration // see Config.SendLead
	workers     *workers
	transmitter *transmitter
	reporter    *reporter
	metrics     *metrics
	alarm       alarm
	accountOf   func(joinserver.Attempt) joinserver.AccountID
	shared      Copies          // nil: this is the only instance
	ctx         context.Context // of the handler's calls; done when the edge stops

	known func(device joinserver.EUI64) bool // may be wrong, either way; nil: all are

	mu        sync.Mutex
	collector *collector
	byGateway *stage // before Prepare
	strangers *stage // … in the name of devices that are not on record; by gateway too
	byAccount *stage // before Answer
	doubted   *stage // … that have not proved to be of their device; by DevEUI
	draining  bool
}

// take takes one copy in. It never blocks.
func (p *pipeline) take(copy uplinkCopy) {
	p.metrics.copies.Inc()
	f, where, shed := p.collect(copy)
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
	p.shed(shed)
}

// collect puts a copy to its frame and lets a new one in. While the edge drains,
// copies of frames under way still count; new ones are left to whoever comes after
// it. The frame that is shed may be another one.
func (p *pipeline) collect(copy uplinkCopy) (f *frame, where placement, shed *frame) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f, where = p.collector.add(copy.Reception.Received, copy)
	switch {
	case where == noRoom && p.draining:
		return nil, 0, nil
	case where == furtherCopy:
		shed = p.further(f, copy.Reception)
	case where == firstCopy:
		f.stranger = p.isStranger(f.phyPayload)
		if p.collector.collecting.len() == 1 {
			p.alarm.ring()
		}
		shed = p.admit(f, copy.Reception)
	}
	return f, where, shed
}

// isStranger reports whether a frame comes in the name of a device that is not on
// record, or of none.
func (p *pipeline) isStranger(phyPayload []byte) bool {
	if p.known == nil {
		return false
	}
	request, _, err := joinserver.ParseRequest(phyPayload)
	return err != nil || !p.known(request.DevEUI)
}

// admit puts a frame into the line of a gateway that has heard it. The lock is held.
func (p *pipeline) admit(f *frame, heard joinserver.Reception) (shed *frame) {
	s := p.entrance(f)
	runs, shed := s.enter(heard.Received, party(heard.Gateway), f)
	if runs {
		p.workers.run(func() { p.serve(s, f, p.prepare) })
	}
	if shed != nil && !shed.collected {
		shed.shed = true // until its window has passed, another gateway may speak for it
		return nil
	}
	return shed
}

// entrance gives the lines that a frame waits in first.
func (p *pipeline) entrance(f *frame) *stage {
	if f.stranger {
		return p.strangers
	}
	return p.byGateway
}

// further lets the gateway of a further copy speak for the frame: a device is not to
// suffer from the one that heard it first. The lock is held.
func (p *pipeline) further(f *frame, heard joinserver.Reception) (shed *frame) {
	p.seeToCopy(f)
	switch {
	case f.shed:
		f.shed = false
		return p.admit(f, heard)
	case f.waiting.line != nil:
		p.entrance(f).offer(heard.Received, party(heard.Gateway), f)
	}
	return nil
}

// tick goes on with the frames whose window has passed and returns when to look
// again.
func (p *pipeline) tick(now time.Time) (time.Time, bool) {
	shed, next, any := p.endWindows(now)
	for _, f := range shed {
		p.shed(f)
	}
	return next, any
}

func (p *pipeline) endWindows(now time.Time) (shed []*frame, next time.Time, any bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, f := range p.collector.due(now) {
		lost := f
		if !f.shed {
			lost = p.meet(f)
		}
		if lost != nil {
			shed = append(shed, lost)
		}
	}
	next, any = p.collector.next()
	return shed, next, any
}

// meet is called once when a frame is prepared and once when its window has passed.
// The second one puts it into the line of its account, or of the device that it has
// not proved to be of. The lock is held.
func (p *pipeline) meet(f *frame) (shed *frame) {
	f.met++
	if f.met < 2 {
		return nil
	}
	s, who := p.byAccount, accountParty(f.account)
	if f.account == 0 {
		s, who = p.doubted, party(f.attempt.Request.DevEUI)
	}
	runs, shed := s.enter(p.now(), who, f)
	if runs {
		p.workers.run(func() { p.serve(s, f, p.answer) })
	}
	return shed
}

func accountParty(account joinserver.AccountID) (who party) {
	binary.BigEndian.PutUint64(who[:], uint64(account))
	return who
}

// serve works on a frame, and then on those that wait for their turn.
func (p *pipeline) serve(s *stage, f *frame, work func(*frame)) {
	for f != nil {
		p.workers.guard(func() { work(f) })
		f = p.nextOf(s)
	}
}

func (p *pipeline) nextOf(s *stage) *frame {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ctx.Err() != nil {
		return nil // the edge has stopped
	}
	return s.next(p.now())
}

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
	p.shed(p.prepared(f, &attempt, p.now().Sub(start)))
}

func (p *pipeline) prepared(f *frame, attempt *joinserver.Attempt, took time.Duration) (shed *frame) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f.attempt, f.account, f.prepareTook = attempt, p.accountOf(*attempt), took
	return p.meet(f)
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
	downlink, err := p.handler.Answer(ctx, *f.attempt, f.receptions())
	if err != nil {
		p.conclude(f, err)
		return
	}
	f.answerTook = p.now().Sub(start)
	p.countGhosts(f, downlink.Routes[0].Reception)
	s := newSending(f, downlink)
	sent := p.transmitter.send(s) == nil
	if sent {
		total := p.now().Sub(f.first)
		p.metrics.joinTime.Observe(total.Seconds())
		p.metrics.workTime.Observe(max(0, total-p.collector.window).Seconds())
	}
	p.reporter.accepted(f, &s.downlink, sent)
	p.free(f)
}

// free lets go what a frame that is only remembered needs no more. Thousands of them
// are, for six seconds each.
func (p *pipeline) free(f *frame) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f.attempt, f.copies = nil, nil
}

// expired refuses a frame that waited for its turn until nothing could be done
// for it any more. It costs no look-up: those that can be answered go first.
func (p *pipeline) expired(f *frame) bool {
	if f.reaches(p.now().Add(p.lead), band.JoinAcceptDelay2) {
		return false
	}
	p.conclude(f, p.reject(f, joinserver.TooLate, "waited for its turn until RX2"))
	return true
}

// shed refuses a frame that has lost its turn to others; nil: none has.
func (p *pipeline) shed(f *frame) {
	if f != nil && !p.expired(f) {
		p.conclude(f, p.reject(f, joinserver.Overloaded, "of all that wait, most came by its gateway, or for its account"))
	}
}

// reject refuses a frame for the edge's own reasons.
func (p *pipeline) reject(f *frame, reason joinserver.Reason, detail string) *joinserver.Rejection {
	refusal := reject(reason, f.phyPayload, detail)
	refusal.Account = f.account
	return refusal
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
	p.free(f)
}

// copiesOf gives the copies that are there so far.
func (p *pipeline) copiesOf(f *frame) []joinserver.Reception {
	p.mu.Lock()
	defer p.mu.Unlock()
	return f.receptions()
}

// countGhosts counts the copies on another frequency than the answered one: a
// receiver too close to the device hears it on channels it did not use.
func (p *pipeline) countGhosts(f *frame, best int) {
	on := f.copies[best].Reception.Frequency
	f.answeredOn.Store(uint32(on))
	for _, c := range f.copies {
		if c.Reception.Frequency != on {
			p.metrics.ghosts.Inc()
		}
	}
}

// reject makes the refusal. A frame that is no join-request is refused as that.
func reject(reason joinserver.Reason, phyPayload []byte, detail string) *joinserver.Rejection {
	request, _, err := joinserver.ParseRequest(phyPayload)
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

func (p *pipeline) isDraining() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.draining
}

// idle reports whether no frame is under way. Those that are only remembered
// are not.
func (p *pipeline) idle() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.collector.collecting.len() == 0 && p.workers.idle()
}

// waitingFor counts the frames that wait for their turn.
func (p *pipeline) waitingFor(stages ...*stage) float64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	waiting := 0
	for _, s := range stages {
		waiting += s.waiting
	}
	return float64(waiting)
}

// forgotten counts the frames that had to make room before their RX2.
func (p *pipeline) forgotten() float64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return float64(p.collector.forgotten)
}

// open counts the frames that are collected, answered or remembered.
func (p *pipeline) open() float64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return float64(len(p.collector.frames))
}
