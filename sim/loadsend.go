package sim

import (
	"context"
	"encoding/binary"
	"fmt"
	"time"
)

// sender sends over one connection what the gateways behind it hear.
type sender struct {
	*load
	wire   *wire
	number int // of the connection: gateway g is behind the one with g modulo their number
	lag    *Histogram

	join, fake int // next to send
	out        []byte
}

const (
	// sendBatch is how many octets are written at once at most.
	sendBatch = 64 << 10
	// sendPause is how long a sender sleeps when nothing is due. A frame is at most
	// so much late, which counts as latency of the server.
	sendPause = time.Millisecond
	// longestPause bounds how late a sender notices that it shall end.
	longestPause = 100 * time.Millisecond
	// The SNR of the best copy, and what each further one has less, in dB.
	bestSNR, snrStep = 8, 3
)

// run sends each frame when it is due. In a closed loop it ends after Duration.
func (s *sender) run(ctx context.Context) error {
	for s.join < s.joins || s.fake < s.forged {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		elapsed := time.Since(s.begin)
		if s.Open > 0 && elapsed > s.Duration {
			return nil
		}
		joins := s.takeJoins(elapsed)
		fakes := s.takeForged(elapsed)
		if joins+fakes == 0 {
			time.Sleep(s.pause(elapsed))
			continue
		}
		if err := s.wire.write(s.out); err != nil {
			return fmt.Errorf("load: publish: %w", err)
		}
		s.out = s.out[:0]
	}
	return nil
}

// pause is how long nothing is due, and a little more, so that what comes close
// together goes out together.
func (s *sender) pause(elapsed time.Duration) time.Duration {
	next := elapsed + longestPause
	if s.join < s.joins && s.Open == 0 {
		next = min(next, s.joinDue(s.join))
	}
	if s.fake < s.forged {
		next = min(next, due(s.fake, s.ForgedRate))
	}
	if s.Open > 0 {
		return sendPause
	}
	return max(sendPause, next-elapsed)
}

// takeJoins gathers copies of the joins that are due, one batch of them.
func (s *sender) takeJoins(elapsed time.Duration) (taken int) {
	limit := s.joins
	if s.Open > 0 {
		limit = min(limit, int(s.answered.Load())+s.Open)
	}
	copies := 0
	for ; s.join < limit && len(s.out) < sendBatch; s.join++ {
		at := s.joinDue(s.join)
		if at > elapsed {
			break
		}
		if taken == 0 {
			s.lag.Add(elapsed - at)
		}
		copies += s.copiesOf(s.join, elapsed)
		taken++
	}
	s.copies.Add(int64(copies))
	if s.number == 0 {
		s.sent.Add(int64(taken))
	}
	return taken
}

// copiesOf adds the copies of a join that this connection carries.
func (s *sender) copiesOf(join int, elapsed time.Duration) (copies int) {
	if s.Open > 0 && s.number == 0 {
		s.sentAt[join].Store(uint32(elapsed.Microseconds()))
	}
	f := &s.frames[join%len(s.frames)]
	for k := range s.Copies {
		gateway := (join + k) % len(s.Gateways)
		if gateway%len(s.senders) != s.number {
			continue
		}
		s.out = s.templates.append(s.out, f, gateway, uint32(join), bestSNR-snrStep*float32(k))
		copies++
	}
	return copies
}

// takeForged gathers forged requests that are due, one batch of them.
func (s *sender) takeForged(elapsed time.Duration) (taken int) {
	full := len(s.out) + sendBatch
	own := 0
	for ; s.fake < s.forged && len(s.out) < full; s.fake++ {
		if due(s.fake, s.ForgedRate) > elapsed {
			break
		}
		taken++
		gateway := s.fake % len(s.Gateways)
		if gateway%len(s.senders) != s.number {
			continue
		}
		f := s.forge(s.fake)
		s.out = s.templates.append(s.out, &f, gateway, uint32(forgedContext|s.fake), bestSNR)
		own++
	}
	s.fakes.Add(int64(own))
	return taken
}

// forge makes a join-request that nobody signed. Each has another DevEUI than
// those shortly before: an unknown one, or one of the devices'.
func (s *sender) forge(i int) loadFrame {
	f := loadFrame{channel: s.frames[i%len(s.frames)].channel}
	mixed := mix(uint64(i))
	devEUI := mixed
	if i%2 == 0 {
		devEUI = uint64(s.Devices[mixed%uint64(len(s.Devices))].DevEUI())
	}
	f.phy[0] = mhdrJoinRequest
	binary.LittleEndian.PutUint64(f.phy[1:], uint64(s.Devices[0].JoinEUI()))
	binary.LittleEndian.PutUint64(f.phy[9:], devEUI)
	binary.LittleEndian.PutUint32(f.phy[17:], uint32(mixed>>16)) // DevNonce and half of the MIC
	binary.LittleEndian.PutUint16(f.phy[21:], uint16(mixed))
	return f
}

// mix spreads consecutive numbers over all of 64 bits (the finaliser of
// SplitMix64).
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
