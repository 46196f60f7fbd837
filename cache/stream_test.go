package cache_test

import (
	"fmt"
	"testing"
	"time"

	"joingate/cache"
	"joingate/courier"
	"joingate/joinserver"
)

var _ courier.Sink = (*cache.Stream)(nil)

func outboxEvents(from, to int) (events []joinserver.OutboxEvent) {
	for n := from; n < to; n++ {
		events = append(events, joinserver.OutboxEvent{
			DevEUI: device, JoinNonce: uint32(n), Account: 1 << 60, Payload: fmt.Appendf(nil, `{"n":%d,"bytes":"\xff\r\n"}`, n),
		})
	}
	return events
}

func openStream(t *testing.T, s string, length int64, change ...func(*cache.Options)) (*cache.Redis, *cache.Stream) {
	t.Helper()
	r := openRedis(t, s, change...)
	stream, err := r.Stream("joins", length)
	if err != nil {
		t.Fatal(err)
	}
	return r, stream
}

func TestStream(t *testing.T) {
	for name, url := range map[string]string{"redis": startServer(t).url(), "cluster": clusterURL(startCluster(t))} {
		t.Run(name, func(t *testing.T) {
			r, stream := openStream(t, url, 0)
			events := outboxEvents(0, 200)
			if n, err := stream.Deliver(t.Context(), events); n != len(events) || err != nil {
				t.Fatal(n, err)
			}
			entries := r.Client().XRange(t.Context(), "joins", "-", "+").Val()
			if len(entries) != len(events) {
				t.Fatalf("%d entries of %d", len(entries), len(events))
			}
			for i, entry := range entries {
				want := map[string]any{
					"id": fmt.Sprintf("%s-%d", device, i), "account": "1152921504606846976", "devEui": device.String(), "event": string(events[i].Payload),
				}
				if fmt.Sprint(entry.Values) != fmt.Sprint(want) {
					t.Errorf("entry %d: %v", i, entry.Values)
				}
			}
			if n, err := stream.Deliver(t.Context(), nil); n != 0 || err != nil {
				t.Error(n, err)
			}
		})
	}
}

func TestStreamIsCut(t *testing.T) {
	s := startServer(t)
	r, stream := openStream(t, s.url(), 100)
	if n, err := stream.Deliver(t.Context(), outboxEvents(0, 2000)); n != 2000 || err != nil {
		t.Fatal(n, err)
	}
	if length := r.Client().XLen(t.Context(), "joins").Val(); length < 100 || length > 400 {
		t.Errorf("%d entries are kept", length)
	}
	if _, err := r.Stream("", 1); err == nil {
		t.Error("a stream without a name was opened")
	}
}

// What Redis does not take is not delivered, nor what comes after it.
func TestStreamFaults(t *testing.T) {
	s := startServer(t)
	var seen watch
	r, stream := openStream(t, s.url(), 0, impatient(&seen))
	deliver := func(what string, want int) {
		t.Helper()
		if n, err := stream.Deliver(t.Context(), outboxEvents(0, 10)); n != want || (err == nil) != (want == 10) {
			t.Errorf("%s: %d delivered, %v", what, n, err)
		}
	}
	s.do("SET", "joins", "no stream")
	deliver("another type", 0)
	s.do("DEL", "joins")
	s.do("CONFIG", "SET", "maxmemory", "1mb", "maxmemory-policy", "noeviction")
	deliver("memory full", 0)
	s.do("CONFIG", "SET", "maxmemory", "0")
	s.do("XADD", "joins", "18446744073709551615-18446744073709551610", "five", "ids are left")
	deliver("the stream can take five", 5)
	deliver("the stream is full", 0)
	s.do("DEL", "joins")
	s.do("SCRIPT", "FLUSH")
	deliver("fine", 10)
	s.kill()
	deliver("away", 0)
	s.start()
	eventually(t, r.Up)
	deliver("back", 10)
}

func TestTurn(t *testing.T) {
	s := startServer(t)
	a, b := openRedis(t, s.url(), impatient(new(watch))), openRedis(t, s.url(), impatient(new(watch)))
	turnA, turnB := a.Turn("webhook", time.Minute), b.Turn("webhook", time.Minute)
	eventually(t, func() bool { return turnA(t.Context()) })
	for range 3 {
		if !turnA(t.Context()) || turnB(t.Context()) {
			t.Fatal("the turn does not stay where it is")
		}
	}
	if !b.Turn("stream", time.Minute)(t.Context()) {
		t.Error("one turn for two works")
	}
	if ttl := a.Client().TTL(t.Context(), a.Key("turn:webhook")).Val(); ttl <= 0 || ttl > time.Minute {
		t.Errorf("the turn of a dead instance ends in %s", ttl)
	}
	if err := a.Close(); err != nil {
		t.Error(err)
	}
	if !turnB(t.Context()) {
		t.Error("the turn of a closed instance lasts on")
	}
	s.kill()
	if !turnB(t.Context()) {
		t.Error("without Redis it is nobody's turn")
	}
}
