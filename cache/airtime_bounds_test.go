package cache

import (
	"encoding/binary"
	"testing"
	"time"

	"joingate/band"
	"joingate/joinserver"
)

func frameOf(gateway uint64, start time.Time) joinserver.Transmission {
	t := joinserver.Transmission{Start: start, OnAir: 50 * time.Millisecond, Duty: band.DutyCycle{SubBand: 1, Limit: time.Minute}}
	binary.BigEndian.PutUint64(t.Gateway[:], gateway)
	return t
}

func (a *Airtime) gatewaysKnown() (n int) {
	for i := range a.shards {
		n += len(a.shards[i].gateways)
	}
	return n
}

func TestAirtimeForgetsGateways(t *testing.T) {
	now := time.Unix(1e9, 0)
	a := NewAirtime(func() time.Time { return now })
	for i := range uint64(10_000) {
		a.Sent(t.Context(), frameOf(i, now.Add(time.Second)))
	}
	if n := a.gatewaysKnown(); n != 10_000 {
		t.Fatalf("%d gateways are known", n)
	}
	now = now.Add(band.DutyWindow + 2*time.Minute)
	for i := range uint64(airtimeShards * 50) { // enough to come by every shard
		a.Book(t.Context(), []joinserver.Transmission{frameOf(1<<40+i, now.Add(time.Second))})
	}
	if n := a.gatewaysKnown(); n != airtimeShards*50 {
		t.Errorf("%d gateways are known, of which %d have sent within the hour", n, airtimeShards*50)
	}
}

func TestAirtimeIsBounded(t *testing.T) {
	now := time.Unix(1e9, 0)
	a := NewAirtime(func() time.Time { return now })
	for i := range uint64(airtimeShards * gatewaysPerShard * 5 / 4) {
		now = now.Add(time.Microsecond)
		a.Sent(t.Context(), frameOf(i, now.Add(time.Second)))
	}
	if n := a.gatewaysKnown(); n > airtimeShards*gatewaysPerShard {
		t.Errorf("%d gateways are known", n)
	}
	for i := range 10 * maxSpans {
		a.Sent(t.Context(), frameOf(7, now.Add(time.Duration(i)*time.Millisecond)))
	}
	l := a.shard(frameOf(7, now).Gateway).gateways[frameOf(7, now).Gateway]
	if len(l.spans) != maxSpans {
		t.Errorf("%d transmissions are planned", len(l.spans))
	}
	for range 3 * dutyBuckets {
		now = now.Add(dutyBucket)
		a.Sent(t.Context(), frameOf(7, now))
	}
	if spans, buckets := len(l.spans), int64(len(l.duties[0].buckets)); spans > 3 || buckets > dutyBuckets+3 {
		t.Errorf("%d transmissions and %d buckets are remembered", spans, buckets)
	}
}
