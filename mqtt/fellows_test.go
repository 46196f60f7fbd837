package mqtt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"joingate/joinserver"
)

// fakeCopies is what instances share, within one test.
type fakeCopies struct {
	claimed func() // called before a claim is answered; nil: nothing

	mu     sync.Mutex
	owners map[string]bool
	handed map[string][][]byte
}

func newFakeCopies() *fakeCopies {
	return &fakeCopies{owners: make(map[string]bool), handed: make(map[string][][]byte)}
}

func (c *fakeCopies) Claim(_ context.Context, frame []byte) (bool, error) {
	if c.claimed != nil {
		c.claimed()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	won := !c.owners[string(frame)]
	c.owners[string(frame)] = true
	return won, nil
}

func (c *fakeCopies) Hand(_ context.Context, frame, copy []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.handed[string(frame)] = append(c.handed[string(frame)], copy)
	return nil
}

func (c *fakeCopies) Collect(_ context.Context, frame []byte) ([][]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.handed[string(frame)]), nil
}

// brokenCopies fail, after what they were asked was done: the worst way.
type brokenCopies struct{ *fakeCopies }

var errCacheAway = errors.New("cache is away")

func (c brokenCopies) Claim(ctx context.Context, frame []byte) (bool, error) {
	_, _ = c.fakeCopies.Claim(ctx, frame)
	return false, errCacheAway
}
func (c brokenCopies) Hand(context.Context, []byte, []byte) error        { return errCacheAway }
func (c brokenCopies) Collect(context.Context, []byte) ([][]byte, error) { return nil, errCacheAway }

// fellowBenches are instances that share copies and the clock.
func fellowBenches(t *testing.T, n int, copies Copies) []*testBench {
	all := []*testBench{newBench(t, func(c *Config) { c.Copies = copies })}
	for range n - 1 {
		b := newBench(t, func(c *Config) { c.Copies, c.Now = copies, all[0].clock.now })
		b.clock = all[0].clock
		all = append(all, b)
	}
	return all
}

// overhear has a gateway's copy arrive as its bridge publishes it. The payload is only
// lent: what comes next is read into its place.
func (b *testBench) overhear(t testing.TB, c uplinkCopy) {
	t.Helper()
	payload := encodeUplink(c)
	b.receive(uplinkTopic(c.prefix, c.topic), payload, false)
	clear(payload)
}

// endWindows lets the windows of all instances pass.
func endWindows(t *testing.T, all []*testBench) {
	t.Helper()
	for _, b := range all {
		b.settle(t)
	}
	now := all[0].clock.advance(200 * time.Millisecond)
	for _, b := range all {
		b.tick(now)
		b.settle(t)
	}
}

func TestBestGatewayAnswersWhicheverInstanceHeardIt(t *testing.T) {
	all := fellowBenches(t, 2, newFakeCopies())
	owner, other := all[0], all[1]
	owner.overhear(t, copyOf(joinRequest(1), gatewayB, -3, start))
	owner.settle(t)
	owner.clock.advance(50 * time.Millisecond)
	other.overhear(t, copyOf(joinRequest(1), gatewayC, 1, start))
	other.settle(t)
	best := copyOf(joinRequest(1), gatewayA, 9, start)
	best.prefix = "eu868"
	other.overhear(t, best) // after the claim was lost
	endWindows(t, all)

	sent := owner.broker.messages()
	if len(sent) != 1 || sent[0].topic != "eu868/gateway/"+gatewayA.String()+"/command/down" {
		t.Fatalf("owner published %+v, want one command to the best gateway", sent)
	}
	if c := commandSent(t, sent[0]); c.Gateway != gatewayA || !bytes.Equal(c.Context, best.Context) {
		t.Errorf("command %+v, want one with the context of gateway A", c)
	}
	if prepared, answered := other.handler.calls(); prepared != 0 || len(answered) != 0 || len(other.broker.messages()) != 0 {
		t.Errorf("the other instance prepared %d, answered %d, published %d", prepared, len(answered), len(other.broker.messages()))
	}
	_, answered := owner.handler.calls()
	if len(answered) != 1 || len(answered[0]) != 3 {
		t.Fatalf("answered %v, want once with three copies", answered)
	}
	for _, r := range answered[0] {
		if !r.Received.Equal(start) {
			t.Errorf("copy of %s counts as received at %s, want the owner's first time", r.Gateway, r.Received)
		}
	}
	wantCount(t, "handed", other.metrics.handedCopies, 2)
	wantCount(t, "collected", owner.metrics.collectedCopies, 2)
	owner.wantJoins(t, "accepted", "", 1)
	other.wantJoins(t, "accepted", "", 0)

	owner.refuse(t)
	owner.refuse(t)
	if sent := owner.broker.messages(); len(sent) != 3 || commandSent(t, sent[2]).Gateway != gatewayC {
		t.Errorf("after two refusals: %+v, want the last command to the other instance's gateway C", sent)
	}
}

// Copies that come while the claim is under way are handed over with the first.
func TestCopiesThatWaitForTheClaimAreHandedOver(t *testing.T) {
	copies := newFakeCopies()
	if won, _ := copies.Claim(context.Background(), joinRequest(1)); !won {
		t.Fatal("claim was lost")
	}
	var asked atomic.Bool
	goOn := make(chan struct{})
	copies.claimed = func() { asked.Store(true); <-goOn }
	b := newBench(t, func(c *Config) { c.Copies = copies })
	b.overhear(t, copyOf(joinRequest(1), gatewayA, 1, start))
	eventually(t, "the claim", asked.Load)
	b.overhear(t, copyOf(joinRequest(1), gatewayB, 1, start))
	close(goOn)
	b.settle(t)
	b.overhear(t, copyOf(joinRequest(1), gatewayC, 1, start))
	b.settle(t)
	wantCount(t, "handed", b.metrics.handedCopies, 3)
	b.pass(t, 200*time.Millisecond)
	b.overhear(t, copyOf(joinRequest(1), gatewayA, 1, start))
	b.pass(t, 10*time.Second)
	wantCount(t, "handed", b.metrics.handedCopies, 3)
	wantCount(t, "late copies", b.metrics.lateCopies, 1)
}

// Where the broker knows no shared subscriptions, all instances have all copies.
func TestEveryInstanceHearsEveryCopy(t *testing.T) {
	all := fellowBenches(t, 3, newFakeCopies())
	for i := range 3 {
		for _, b := range all {
			b.overhear(t, copyOf(joinRequest(1), gatewayN(i), float32(-i), start))
		}
	}
	endWindows(t, all)
	commands, collected := 0, 0.0
	for _, b := range all {
		commands += len(b.broker.messages())
		collected += testutil.ToFloat64(b.metrics.collectedCopies)
		if _, answered := b.handler.calls(); len(answered) > 0 && len(answered[0]) != 3 {
			t.Errorf("answered with %d copies, want 3", len(answered[0]))
		}
	}
	if commands != 1 || collected != 0 {
		t.Errorf("%d commands, %v copies collected; want 1, and none that the owner has itself", commands, collected)
	}
}

func TestOnlyTheOwnerReportsARefusal(t *testing.T) {
	for _, phase := range []string{"prepare", "answer"} {
		all := fellowBenches(t, 2, newFakeCopies())
		for i, b := range all {
			refusal := &joinserver.Rejection{Reason: joinserver.BadMIC, DevEUI: requestOf(joinRequest(1)).DevEUI}
			if phase == "prepare" {
				b.handler.prepare = func([]byte) error { return refusal }
			} else {
				b.handler.answer = func(joinserver.JoinRequest, []joinserver.Reception) (joinserver.Downlink, error) {
					return joinserver.Downlink{}, refusal
				}
			}
			b.overhear(t, copyOf(joinRequest(1), gatewayN(i), 1, start))
			b.settle(t)
		}
		endWindows(t, all)
		all[0].wantJoins(t, "refused", "bad_mic", 1)
		all[1].wantJoins(t, "refused", "bad_mic", 0)
		if rejects := all[1].Rejects(); len(rejects) != 0 || all[1].logs.Len() != 0 {
			t.Errorf("%s: the other instance reports %v", phase, rejects)
		}
		if rejects := all[0].Rejects(); phase == "answer" && len(rejects[0].Gateways) != 2 {
			t.Errorf("reported %+v, want the gateways of both instances", rejects[0])
		}
	}
}

// Without the cache both instances act, and the commit makes it one join.
func TestInstancesActAloneWhenNothingCanBeShared(t *testing.T) {
	all := fellowBenches(t, 2, brokenCopies{newFakeCopies()})
	var commits atomic.Int32
	for i, b := range all {
		b.handler.answer = func(r joinserver.JoinRequest, copies []joinserver.Reception) (joinserver.Downlink, error) {
			if commits.Add(1) > 1 {
				return joinserver.Downlink{}, fmt.Errorf("commit: %w", joinserver.ErrLateCopy)
			}
			return acceptThroughAll(r, copies)
		}
		b.overhear(t, copyOf(joinRequest(1), gatewayN(i), 1, start))
	}
	endWindows(t, all)
	if commits.Load() != 2 || len(all[0].broker.messages()) != 1 || len(all[1].broker.messages()) != 0 {
		t.Errorf("%d tries to commit, %v and %v published", commits.Load(), all[0].broker.messages(), all[1].broker.messages())
	}
	all[0].wantJoins(t, "accepted", "", 1)
	wantCount(t, "late copies", all[1].metrics.lateCopies, 1)
	wantCount(t, "failures", all[0].metrics.copyFailures, 2)
	if len(all[1].Rejects()) != 0 || all[1].logs.Len() != 0 {
		t.Errorf("the late copy was reported: %v", all[1].logs.All())
	}
}

// handedCopy is how an instance writes the copy.
func handedCopy(c uplinkCopy) []byte {
	c.payload = encodeUplink(c)
	return c.message()
}

func TestGarbageThatWasHandedOverIsLeftOut(t *testing.T) {
	good := copyOf(joinRequest(1), gatewayB, 9, start)
	payload := encodeUplink(good)
	on := func(topic string) []byte { return append([]byte(topic+"\x00"), payload...) }
	altered := func(alter func(*uplinkCopy)) []byte {
		c := good
		alter(&c)
		return handedCopy(c)
	}
	id := gatewayB.String()
	garbage := map[string][]byte{
		"nothing":            nil,
		"no payload":         []byte("gateway/" + id + "/event/up"),
		"a topic alone":      []byte("gateway/" + id + "/event/up\x00"),
		"no topic":           payload,
		"an ack":             on("gateway/" + id + "/event/ack"),
		"a wildcard":         on("+/gateway/" + id + "/event/up"),
		"all topics":         on("a/#/gateway/" + id + "/event/up"),
		"a system topic":     on("$SYS/gateway/" + id + "/event/up"),
		"an empty level":     on("a//gateway/" + id + "/event/up"),
		"a control code":     on("a\n/gateway/" + id + "/event/up"),
		"broken UTF-8":       on("a\xff/gateway/" + id + "/event/up"),
		"a broken message":   on("gateway/" + id + "/event/up")[:60],
		"a huge message":     append(on("gateway/"+id+"/event/up"), make([]byte, maxHanded)...),
		"another frame":      altered(func(c *uplinkCopy) { c.PHYPayload = joinRequest(2) }),
		"a bad CRC":          altered(func(c *uplinkCopy) { c.CRC = crcBad }),
		"the owner's own":    handedCopy(copyOf(joinRequest(1), gatewayA, 1, start)),
		"a prefix too long":  on(strings.Repeat("a", maxHanded) + "/gateway/" + id + "/event/up"),
		"JSON of who knows":  []byte(`{"topic":"gateway/` + id + `/event/up"}`),
		"what a bridge says": payload[:len(payload)/2],
	}
	for name, message := range garbage {
		copies := newFakeCopies()
		b := newBench(t, func(c *Config) { c.Copies = copies })
		b.overhear(t, copyOf(joinRequest(1), gatewayA, 1, start))
		_ = copies.Hand(context.Background(), joinRequest(1), message)
		b.pass(t, time.Second)
		if sent := b.broker.messages(); len(sent) != 1 || commandSent(t, sent[0]).Gateway != gatewayA {
			t.Errorf("%s: published %+v, want one command to the owner's own gateway", name, sent)
		}
		wantCount(t, "collected with "+name, b.metrics.collectedCopies, 0)
		wantCount(t, "panics with "+name, b.metrics.panics, 0)
	}
	if _, err := readHanded(on("gateway/"+id+"/event/up"), &frame{phyPayload: joinRequest(1)}); err != nil {
		t.Errorf("without the garbage: %v", err) // or the table proves nothing
	}
}

func TestHandedCopiesAreBounded(t *testing.T) {
	copies := newFakeCopies()
	b := newBench(t, func(c *Config) { c.Copies = copies })
	for i := range 3 * maxCopies {
		_ = copies.Hand(context.Background(), joinRequest(1), handedCopy(copyOf(joinRequest(1), joinserver.EUI64{1, byte(i)}, 1, start)))
	}
	b.overhear(t, copyOf(joinRequest(1), gatewayA, 1, start))
	b.pass(t, time.Second)
	if _, answered := b.handler.calls(); len(answered) != 1 || len(answered[0]) != maxCopies {
		t.Errorf("answered with %d copies, want %d", len(answered[0]), maxCopies)
	}
}

// Whatever is handed over, what is read of it can be answered on a topic that a
// broker takes.
func FuzzReadHanded(f *testing.F) {
	own := &frame{phyPayload: joinRequest(1), first: start}
	good := copyOf(joinRequest(1), gatewayB, 9, start)
	f.Add(handedCopy(good))
	good.prefix = "a/b"
	f.Add(handedCopy(good))
	f.Add([]byte("+/gateway/0016c001f1500b02/event/up\x00{}"))
	f.Fuzz(func(t *testing.T, message []byte) {
		c, err := readHanded(message, own)
		if err != nil {
			return
		}
		if !bytes.Equal(c.PHYPayload, own.phyPayload) || !c.Reception.Received.Equal(start) {
			t.Errorf("read %+v", c)
		}
		if topic := commandTopic(c.prefix, c.topic); strings.ContainsAny(topic, "+#\x00") || topic[0] == '/' || topic[0] == '$' {
			t.Errorf("would answer on %q", topic)
		}
	})
}

// fakeIDs counts up from what it holds.
type fakeIDs struct{ last atomic.Uint32 }

func (f *fakeIDs) Next(context.Context) uint16 { return uint16(f.last.Add(1)) }

func TestSharedIDsAreUsed(t *testing.T) {
	ids := new(fakeIDs)
	ids.last.Store(41_000)
	b := newBench(t, func(c *Config) { c.IDs = ids })
	if err := b.transmitter.send(sendingTo(start, 3)); err != nil {
		t.Fatal(err)
	}
	b.refuse(t)
	for i, m := range b.broker.messages() {
		if c := commandSent(t, m); c.ID != uint32(41_001+i) {
			t.Errorf("command %d has id %d, want %d", i, c.ID, 41_001+i)
		}
	}
	wantCount(t, "handovers", b.metrics.handovers, 1)
	wantCount(t, "reused ids", b.metrics.reusedIDs, 0)
	b.transmitter.acknowledged(ack{Gateway: gatewayA, ID: 9, Items: []txStatus{txOK}, Encoding: v4Protobuf})
	wantCount(t, "acks of others' ids", b.metrics.strangeAcks.WithLabelValues(ackOfFellow), 1)
	b.transmitter.acknowledged(ack{Gateway: gatewayA, ID: 41_002, Items: []txStatus{txOK}, Encoding: v4Protobuf})
	wantCount(t, "acks of another gateway", b.metrics.strangeAcks.WithLabelValues(ackUnknown), 1)
}

// An id that is given again too early belongs to its last command, also when the
// first one's time is over.
func TestIDGivenAgainBelongsToTheLastCommand(t *testing.T) {
	fs := newFlights(1)
	first, _ := fs.launch(at(0), 7, gatewayA, sendingTo(at(0), 1), shot{})
	second, lost := fs.launch(at(10_000), 7, gatewayA, sendingTo(at(10_000), 1), shot{})
	if len(lost) != 1 || lost[0] != first {
		t.Error("an id in use was not reported as reused")
	}
	first.settle()
	if silent := fs.due(at(15_000)); len(silent) != 0 {
		t.Errorf("%d silent flights, want none: nobody can tell what became of the first", len(silent))
	}
	if f, got := fs.land(ack{Gateway: gatewayA, ID: 7, Items: []txStatus{txOK}}); got != landedAccepted || f != second {
		t.Errorf("landing %d, want the second command accepted", got)
	}
}
