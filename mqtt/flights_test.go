package mqtt

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"joingate/joinserver"
)

// sendingTo is a join-accept with a number of gateways to try.
func sendingTo(first time.Time, routes int) *sending {
	request := joinRequest(1)
	f := &frame{phyPayload: request, first: first}
	for i := range routes {
		f.copies = append(f.copies, copyOf(request, gatewayN(i), float32(10-i), first))
	}
	downlink, _ := acceptThroughAll(requestOf(request), f.receptions())
	return newSending(f, downlink)
}

// launchNext launches a flight under the next id. An id that is in use is reported.
func (fs *flights) launchNext(now time.Time, gateway joinserver.EUI64) (f *flight, reused bool) {
	f, lost := fs.launch(now, fs.nextID(), gateway, anySending, shot{})
	return f, len(lost) > 0
}

// anySending is what flights carry that are not looked into.
var anySending = &sending{frame: new(frame)}

func TestAckSettlesItsFlightOnce(t *testing.T) {
	fs := newFlights(100)
	f, _ := fs.launchNext(at(0), gatewayA)
	if f.id != 100 {
		t.Fatalf("first id %d, want the one it was told", f.id)
	}
	refusal := ack{Gateway: gatewayA, ID: 100, Items: []txStatus{txTooLate, txCollisionPacket}, Encoding: v4Protobuf}
	for _, step := range []struct {
		about string
		ack   ack
		want  landing
	}{
		{"an id that was never given", ack{Gateway: gatewayA, ID: 101, Items: []txStatus{txOK}}, landedUnknown},
		{"the id modulo 65,536 of another server", ack{Gateway: gatewayA, ID: 100 + 1<<16, Items: []txStatus{txOK}}, landedUnknown},
		{"the id of a command to another gateway", ack{Gateway: gatewayB, ID: 100, Items: []txStatus{txOK}}, landedElsewhere},
		{"the refusal", refusal, landedRefused},
		{"the refusal again", refusal, landedAgain},
		{"a word against it", ack{Gateway: gatewayA, ID: 100, Items: []txStatus{txOK}}, landedAgain},
	} {
		flight, got := fs.land(step.ack)
		if got != step.want {
			t.Errorf("%s: landing %d, want %d", step.about, got, step.want)
		}
		if got == landedRefused && (flight.settle() == nil || flight.settle() != nil) {
			t.Errorf("%s: settled not once", step.about)
		}
	}
}

func TestAnyWindowThatIsOKIsAccepted(t *testing.T) {
	for _, test := range []struct {
		items []txStatus
		want  landing
	}{
		{[]txStatus{txOK, txIgnored}, landedAccepted},
		{[]txStatus{txTooLate, txOK}, landedAccepted},
		{[]txStatus{txOK}, landedAccepted}, // Basics Station
		{[]txStatus{txTooLate, txTooLate}, landedRefused},
		{[]txStatus{txFreq, txPower}, landedRefused},
		{nil, landedRefused},
	} {
		fs := newFlights(1)
		fs.launchNext(at(0), gatewayA)
		if _, got := fs.land(ack{Gateway: gatewayA, ID: 1, Items: test.items, Encoding: v4JSON}); got != test.want {
			t.Errorf("%v: landing %d, want %d", test.items, got, test.want)
		}
	}
}

func TestSilenceIsCountedWhenNoAckCanCome(t *testing.T) {
	fs := newFlights(1)
	f, _ := fs.launchNext(at(0), gatewayA)
	fs.launchNext(at(10), gatewayA)
	f.settle()
	if silent := fs.due(at(15_009)); len(silent) != 0 {
		t.Errorf("%d flights counted as silent while an ack may come, or after it came", len(silent))
	}
	if next, ok := fs.nextDue(); !ok || !next.Equal(at(15_010)) {
		t.Errorf("next look at %s %t", next, ok)
	}
	if silent := fs.due(at(15_010)); len(silent) != 1 || silent[0].id != 2 {
		t.Errorf("silent flights: %v, want number 2", silent)
	}
	if _, got := fs.land(ack{Gateway: gatewayA, ID: 2, Items: []txStatus{txOK}}); got != landedUnknown {
		t.Errorf("ack of a forgotten flight: landing %d", got)
	}
}

func TestOldestIDIsReusedWhenAllAreTaken(t *testing.T) {
	fs := newFlights(65_000)
	for i := range maxDownlinkID {
		if _, reused := fs.launchNext(at(i/10), gatewayA); reused {
			t.Fatalf("id reused after %d launches", i)
		}
	}
	f, reused := fs.launchNext(at(9000), gatewayB)
	if !reused || f.id != 65_000 {
		t.Errorf("launch with all ids in use: id %d, reused %t; want the oldest, 65000", f.id, reused)
	}
	if _, got := fs.land(ack{Gateway: gatewayB, ID: 65_000, Items: []txStatus{txOK}}); got != landedAccepted {
		t.Errorf("ack of the new use: landing %d", got)
	}
}

// Property: whatever is launched, acknowledged and forgotten in whatever order,
// an id is 1 to 65535 and, unless it is reported as reused, none that was given
// in the last 15 s.
func TestIDsAreUniqueWithinTheirLife(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		fs := newFlights(rapid.Uint16().Draw(t, "first id"))
		now := start
		given := make(map[uint32]time.Time)
		for range rapid.IntRange(1, 40).Draw(t, "bursts") {
			now = now.Add(time.Duration(rapid.IntRange(0, 8000).Draw(t, "pause in ms")) * time.Millisecond)
			fs.due(now)
			for range rapid.IntRange(0, 12_000).Draw(t, "launches") {
				f, reused := fs.launchNext(now, gatewayA)
				if f.id == 0 || f.id > maxDownlinkID {
					t.Fatalf("id %d", f.id)
				}
				last, known := given[f.id]
				if inUse := known && now.Sub(last) < ackLife; inUse != reused {
					t.Fatalf("id %d was given %s ago; reported as reused: %t", f.id, now.Sub(last), reused)
				}
				given[f.id] = now
			}
		}
		if len(fs.byID) != fs.order.len() || len(fs.byID) > maxDownlinkID {
			t.Fatalf("%d ids, %d in order", len(fs.byID), fs.order.len())
		}
	})
}

// At 5,000 commands a second the 65,535 ids last for 13 s, less than bridges remember
// them. Then the one that was used longest ago comes again, what was sent with it is
// given up, and each such use is seen. Below 4,369 a second none is used again.
func TestIDsOfManyCommands(t *testing.T) {
	for _, test := range []struct{ perSecond, seconds, wantReused int }{
		{4369, 16, 0},
		{5000, 16, 16*5000 - maxDownlinkID},
	} {
		fs := newFlights(40_000)
		last, reused := make(map[uint32]int), 0
		for i := range test.perSecond * test.seconds {
			now := start.Add(time.Duration(i) * time.Second / time.Duration(test.perSecond))
			fs.due(now)
			f, lost := fs.launch(now, fs.nextID(), gatewayA, anySending, shot{})
			if before, used := last[f.id]; used && i-before != maxDownlinkID {
				t.Fatalf("id %d came again after %d others", f.id, i-before)
			}
			last[f.id] = i
			reused += len(lost)
			for _, old := range lost {
				if old.id != f.id || old.settle() == nil {
					t.Fatalf("flight of id %d was given up for id %d", old.id, f.id)
				}
			}
		}
		if reused != test.wantReused {
			t.Errorf("at %d a second %d ids were used again, want %d", test.perSecond, reused, test.wantReused)
		}
	}
}

// Every captured ack settles the flight of its command as the bridge meant it.
func TestCapturedAcks(t *testing.T) {
	seen := make(map[landing]int)
	loadCaptures(t).each("event/ack", func(_ captureRun, record captureRecord) {
		a, err := decodeAck(record.payload(t))
		if err != nil {
			t.Fatalf("%s: %v", record.ID, err)
		}
		decoded := decodedAs[decodedAck](t, record)
		want := landedRefused
		if slices.Contains(decoded.Items, "OK") {
			want = landedAccepted
		}
		if decoded.DownlinkID > maxDownlinkID {
			want = landedUnknown // never one of ours
		}
		fs := newFlights(uint16(decoded.DownlinkID))
		fs.launchNext(start, decoded.GatewayID)
		_, got := fs.land(a)
		if got != want {
			t.Errorf("%s: landing %d, want %d for %v", record.ID, got, want, decoded.Items)
		}
		seen[got]++
	})
	if seen[landedAccepted] == 0 || seen[landedRefused] == 0 || seen[landedUnknown] == 0 {
		t.Errorf("landings seen: %v, want some of each", seen)
	}
}
