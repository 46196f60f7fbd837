package mqtt

import (
	"sync/atomic"
	"time"

	"joingate/band"
	"joingate/joinserver"
)

const (
	// maxFrames bounds the memory: this many join-requests may be under way or
	// remembered at a time, which is over 10,000 new ones each second.
	maxFrames = 1 << 16
	// maxCopies is how many copies of one frame are kept. More gateways than
	// that do not make the answer better.
	maxCopies = 64
)

// uplinkCopy is one gateway's copy of a join-request, with the way back to it.
type uplinkCopy struct {
	uplink
	prefix string           // of the uplink's topic
	topic  joinserver.EUI64 // gateway in the uplink's topic: its bridge listens there

	payload []byte // as the bridge published it; nil: not to be handed over, or done
}

// frame is one radio transmission of a join-request. Whatever gateway,
// frequency or topic a copy came by, the PHYPayload makes it one of the frame's:
// JoinEUI, DevEUI, DevNonce and MIC do not repeat.
type frame struct {
	phyPayload []byte
	first      time.Time    // when the first copy arrived
	copies     []uplinkCopy // once the frame was collected, only gather adds to them
	surplus    int          // copies beyond maxCopies
	collected  bool
	stranger   bool // in the name of a device that is not on record, as far as one knows

	waiting waiting // where it waits for its turn
	shed    bool    // it lost its turn in its first line; another gateway's copy may get it one

	owner   ownership
	handed  int  // copies that were handed to another owner, or could not be
	handing bool // a job is handing copies over

	met         int                  // see pipeline.meet
	attempt     *joinserver.Attempt  // nil: not prepared yet, or no longer needed
	account     joinserver.AccountID // whose device it has proved to be; 0: nobody's yet
	prepareTook time.Duration
	answerTook  time.Duration
	answeredOn  atomic.Uint32 // Hz; 0: not answered yet, or never
}

// receptions gives the copies as the join handler wants them.
func (f *frame) receptions() []joinserver.Reception {
	all := make([]joinserver.Reception, len(f.copies))
	for i, c := range f.copies {
		all[i] = c.Reception
	}
	return all
}

// rx2 is when the last window of the frame opens. From then on nothing can be
// done for it.
func (f *frame) rx2() time.Time { return f.first.Add(band.JoinAcceptDelay2) }

// reaches reports whether a command that arrives at the given time can be sent
// with this delay after the frame.
func (f *frame) reaches(arrival time.Time, delay time.Duration) bool {
	return !arrival.After(f.first.Add(delay))
}

// placement says what became of a copy that was added.
type placement uint8

const (
	firstCopy   placement = iota + 1 // it opened a frame
	furtherCopy                      // collected
	surplusCopy                      // within the window, but the frame has maxCopies
	lateCopy                         // the window has passed: swallowed
	noRoom                           // it would open a frame, but maxFrames are open
)

// collector gathers the copies of each frame. It is a state machine without a
// clock or lock of its own.
//
// A frame collects copies for the window from its first copy on. After that it
// is remembered until RX2, so that a late copy is not taken for a new frame. The
// window is the same for all, so frames leave both states in the order in which
// they came, and two queues do for timers.
type collector struct {
	window     time.Duration
	limit      int
	frames     map[string]*frame // by PHYPayload
	collecting queue[*frame]
	remembered queue[*frame]
	forgotten  int // frames that had to go before their RX2
}

func newCollector(window time.Duration, limit int) *collector {
	return &collector{window: window, limit: limit, frames: make(map[string]*frame)}
}

// add puts a copy to its frame. The frame is nil with noRoom only.
func (c *collector) add(now time.Time, copy uplinkCopy) (*frame, placement) {
	f, known := c.frames[string(copy.PHYPayload)]
	switch {
	case known && f.collected:
		return f, lateCopy
	case known && len(f.copies) == maxCopies:
		f.surplus++
		return f, surplusCopy
	case known:
		f.copies = append(f.copies, copy)
		return f, furtherCopy
	case len(c.frames) >= c.limit && !c.forgetOldest():
		return nil, noRoom
	}
	f = &frame{phyPayload: copy.PHYPayload, first: now, copies: []uplinkCopy{copy}}
	c.frames[string(copy.PHYPayload)] = f
	c.collecting.push(f)
	return f, firstCopy
}

// forgetOldest makes room for a new frame: one that is only remembered goes before
// its time. A late copy of it will cost a look-up more, and the record knows it.
func (c *collector) forgetOldest() bool {
	if c.remembered.len() == 0 || c.limit == 0 {
		return false
	}
	delete(c.frames, string(c.remembered.pop().phyPayload))
	c.forgotten++
	return true
}

// due returns the frames whose window has passed, oldest first, and forgets
// those whose RX2 has.
func (c *collector) due(now time.Time) []*frame {
	var collected []*frame
	for c.collecting.len() > 0 && !now.Before(c.collecting.front().first.Add(c.window)) {
		f := c.collecting.pop()
		f.collected = true
		c.remembered.push(f)
		collected = append(collected, f)
	}
	for c.remembered.len() > 0 && !now.Before(c.remembered.front().rx2()) {
		delete(c.frames, string(c.remembered.pop().phyPayload))
	}
	return collected
}

// next is when due has something to do again; false: never, until a copy comes.
func (c *collector) next() (time.Time, bool) {
	switch {
	case c.collecting.len() == 0 && c.remembered.len() == 0:
		return time.Time{}, false
	case c.remembered.len() == 0:
		return c.collecting.front().first.Add(c.window), true
	case c.collecting.len() == 0:
		return c.remembered.front().rx2(), true
	}
	return earlier(c.collecting.front().first.Add(c.window), c.remembered.front().rx2()), true
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}
