package mqtt

import (
	"testing"
	"time"

	"joingate/joinserver"
)

const testWindow = 200 * time.Millisecond

// wantPlaced adds a copy and checks where it went.
func wantPlaced(t *testing.T, c *collector, now time.Time, copy uplinkCopy, want placement) *frame {
	t.Helper()
	f, got := c.add(now, copy)
	if got != want {
		t.Fatalf("copy of gateway %s at %s: placement %d, want %d", copy.topic, now.Sub(start), got, want)
	}
	return f
}

func at(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }

func TestCopiesOfOnePHYPayloadAreOneFrame(t *testing.T) {
	c := newCollector(testWindow, maxFrames)
	phy := joinRequest(1)
	ghost := copyOf(phy, gatewayA, -12, at(0))
	ghost.Reception.Frequency = 471_100_000
	prefixed := copyOf(phy, gatewayC, 3, at(150))
	prefixed.prefix = "eu868"

	f := wantPlaced(t, c, at(0), ghost, firstCopy)
	wantPlaced(t, c, at(0), copyOf(phy, gatewayA, 9, at(0)), furtherCopy) // same gateway: another antenna
	wantPlaced(t, c, at(150), prefixed, furtherCopy)
	wantPlaced(t, c, at(160), copyOf(joinRequest(2), gatewayA, 9, at(160)), firstCopy)

	if due := c.due(at(199)); len(due) != 0 {
		t.Fatalf("%d frames due before the window has passed", len(due))
	}
	due := c.due(at(200))
	if len(due) != 1 || due[0] != f || len(f.copies) != 3 {
		t.Fatalf("due after the window: %v, want the first frame with 3 copies", due)
	}
}

func TestLateCopiesAreSwallowedUntilRX2(t *testing.T) {
	c := newCollector(testWindow, maxFrames)
	phy := joinRequest(1)
	f := wantPlaced(t, c, at(0), copyOf(phy, gatewayA, 1, at(0)), firstCopy)
	c.due(at(200))
	for _, ms := range []int{200, 1000, 5999} {
		c.due(at(ms))
		wantPlaced(t, c, at(ms), copyOf(phy, gatewayB, 9, at(ms)), lateCopy)
	}
	if len(f.copies) != 1 {
		t.Errorf("late copies were added to a frame that is being answered: %d copies", len(f.copies))
	}
	c.due(at(6000))
	wantPlaced(t, c, at(6000), copyOf(phy, gatewayB, 9, at(6000)), firstCopy)
}

func TestNextDeadline(t *testing.T) {
	c := newCollector(testWindow, maxFrames)
	wantNext := func(want int) {
		t.Helper()
		if next, ok := c.next(); !ok || !next.Equal(at(want)) {
			t.Fatalf("next deadline %s %t, want %d ms", next.Sub(start), ok, want)
		}
	}
	if _, ok := c.next(); ok {
		t.Fatal("an empty collector has a deadline")
	}
	c.add(at(0), copyOf(joinRequest(1), gatewayA, 1, at(0)))
	c.add(at(50), copyOf(joinRequest(2), gatewayA, 1, at(50)))
	wantNext(200)
	c.due(at(200))
	wantNext(250)
	c.due(at(250))
	wantNext(6000)
	c.add(at(5900), copyOf(joinRequest(3), gatewayA, 1, at(5900)))
	wantNext(6000)
	c.due(at(6000))
	wantNext(6050)
	c.due(at(6100))
	wantNext(11900)
	c.due(at(11900))
	if _, ok := c.next(); ok || len(c.frames) != 0 {
		t.Errorf("%d frames are remembered after their RX2", len(c.frames))
	}
}

func TestWindowOfZeroAnswersThroughTheFirstCopy(t *testing.T) {
	c := newCollector(0, maxFrames)
	f := wantPlaced(t, c, at(0), copyOf(joinRequest(1), gatewayA, 1, at(0)), firstCopy)
	if due := c.due(at(0)); len(due) != 1 || due[0] != f {
		t.Fatalf("due at once: %v", due)
	}
	wantPlaced(t, c, at(0), copyOf(joinRequest(1), gatewayB, 1, at(0)), lateCopy)
}

func TestMemoryOfCollectorIsBounded(t *testing.T) {
	c := newCollector(testWindow, 2)
	wantPlaced(t, c, at(0), copyOf(joinRequest(1), gatewayA, 1, at(0)), firstCopy)
	wantPlaced(t, c, at(0), copyOf(joinRequest(2), gatewayA, 1, at(0)), firstCopy)
	wantPlaced(t, c, at(0), copyOf(joinRequest(3), gatewayA, 1, at(0)), noRoom)
	wantPlaced(t, c, at(0), copyOf(joinRequest(2), gatewayB, 1, at(0)), furtherCopy)
	c.due(at(6000))
	wantPlaced(t, c, at(6000), copyOf(joinRequest(3), gatewayA, 1, at(6000)), firstCopy)
}

// Frames whose window has passed make room for new ones: a flood is not to lock out
// those that come after it.
func TestRememberedFramesMakeRoom(t *testing.T) {
	c := newCollector(testWindow, 2)
	for i, ms := range []int{0, 10} {
		wantPlaced(t, c, at(ms), copyOf(joinRequest(i), gatewayA, 1, at(ms)), firstCopy)
	}
	c.due(at(205))
	wantPlaced(t, c, at(205), copyOf(joinRequest(2), gatewayA, 1, at(205)), firstCopy)
	wantPlaced(t, c, at(206), copyOf(joinRequest(3), gatewayA, 1, at(206)), noRoom)
	wantPlaced(t, c, at(206), copyOf(joinRequest(1), gatewayB, 1, at(206)), furtherCopy)
	if c.forgotten != 1 || len(c.frames) != 2 {
		t.Errorf("%d forgotten, %d kept", c.forgotten, len(c.frames))
	}
	c.due(at(10_000))
	if len(c.frames) != 0 {
		t.Errorf("%d frames are kept after RX2", len(c.frames))
	}
}

func TestCopiesOfOneFrameAreBounded(t *testing.T) {
	c := newCollector(testWindow, maxFrames)
	f := wantPlaced(t, c, at(0), copyOf(joinRequest(1), gatewayA, 1, at(0)), firstCopy)
	for i := 1; i < maxCopies; i++ {
		wantPlaced(t, c, at(1), copyOf(joinRequest(1), joinserver.EUI64{byte(i)}, 1, at(1)), furtherCopy)
	}
	wantPlaced(t, c, at(2), copyOf(joinRequest(1), gatewayB, 1, at(2)), surplusCopy)
	if len(f.copies) != maxCopies || f.surplus != 1 {
		t.Errorf("%d copies and %d surplus", len(f.copies), f.surplus)
	}
}

func TestQueueKeepsOrder(t *testing.T) {
	var q queue[int]
	in, out := 0, 0
	for round := range 1000 {
		for range round % 7 {
			q.push(in)
			in++
		}
		for range round % 5 {
			if q.len() == 0 {
				break
			}
			if front, got := q.front(), q.pop(); got != out || front != out {
				t.Fatalf("popped %d, front %d, want %d", got, front, out)
			}
			out++
		}
		if q.len() != in-out {
			t.Fatalf("length %d, want %d", q.len(), in-out)
		}
	}
	if limit := 4*(in-out) + 128; len(q.items) > limit {
		t.Errorf("%d places for %d items", len(q.items), in-out)
	}
}

func BenchmarkCollectorAdd(b *testing.B) {
	const gateways = 3
	c := newCollector(testWindow, maxFrames)
	now := start
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if i%gateways == 0 {
			now = now.Add(200 * time.Microsecond) // 5,000 frames a second
			c.due(now)
		}
		c.add(now, copyOf(joinRequest(i/gateways), joinserver.EUI64{byte(i % gateways)}, 1, now))
	}
}
