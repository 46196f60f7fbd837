package cache

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// maxID: bridges tell commands apart by their id modulo 65,536, and take 0 for
	// none.
	maxID = 1<<16 - 1
	// idBlock is how many ids an instance leases at once.
	idBlock = 64
	// leaseLife is how long a block may be used. An instance that sends little
	// must not use ids that others have had since.
	leaseLife = time.Second
)

// DownlinkIDs gives downlink commands ids that do not collide between the
// instances behind one broker.
type DownlinkIDs interface {
	// Next gives an id, 1 to 65,535. It cannot fail. While leases work, no two
	// instances get one id within 15 seconds, which is how long bridges remember a
	// command, as long as all of them together use fewer than 4,095 ids a second,
	// less 64 for every instance: those of a block that was not used up in its
	// second. Without leases an instance goes on alone from a random id, and
	// collisions are as likely as they are then. Ask once per command, before it
	// is published; it takes a round trip for every 64th, and within Timeout.
	Next(ctx context.Context) uint16
}

// counter leases ids: it gives away the next n numbers and returns the first.
type counter interface {
	lease(ctx context.Context, n int64) (first int64, err error)
}

// leasedIDs are one instance's.
type leasedIDs struct {
	counter counter
	now     func() time.Time

	mu    sync.Mutex
	next  int64
	left  int
	until time.Time
	alone int64 // where to go on without leases
}

func newLeasedIDs(c counter, now func() time.Time) *leasedIDs {
	return &leasedIDs{counter: c, now: now, alone: rand.Int64N(maxID)}
}

// Next implements DownlinkIDs.
func (l *leasedIDs) Next(ctx context.Context) uint16 {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now := l.now(); l.left == 0 || !now.Before(l.until) {
		l.lease(ctx, now)
	}
	number := l.next
	l.next++
	l.left--
	return idOf(number)
}

// lease takes a block. Its time begins before the block was taken.
func (l *leasedIDs) lease(ctx context.Context, now time.Time) {
	first, err := l.counter.lease(ctx, idBlock)
	if err != nil {
		first = l.alone
		l.alone += idBlock
	}
	l.next, l.left, l.until = first, idBlock, now.Add(leaseLife)
}

// idOf maps numbers in turn to ids in turn.
func idOf(number int64) uint16 { return uint16((number%maxID+maxID)%maxID + 1) }

// MemoryIDs leases ids within one process: for one instance, and for tests of
// several.
type MemoryIDs struct {
	now  func() time.Time
	mu   sync.Mutex
	next int64
}

// NewMemoryIDs takes the clock to go by. It begins at random: another server on
// the same bridge may be using ids, or this one before it was started again.
func NewMemoryIDs(now func() time.Time) *MemoryIDs {
	return &MemoryIDs{now: now, next: rand.Int64N(maxID)}
}

// DownlinkIDs gives the ids of one instance.
func (m *MemoryIDs) DownlinkIDs() DownlinkIDs { return newLeasedIDs(m, m.now) }

func (m *MemoryIDs) lease(_ context.Context, n int64) (int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	first := m.next
	m.next += n
	return first, nil
}

// DownlinkIDs gives the ids of this instance.
func (r *Redis) DownlinkIDs() DownlinkIDs { return newLeasedIDs(redisCounter{r}, time.Now) }

type redisCounter struct{ *Redis }

// lease begins at random when Redis has forgotten the counter: some numbers near
// the start are then in use.
func (c redisCounter) lease(ctx context.Context, n int64) (int64, error) {
	var reply *redis.IntCmd
	err := c.do(ctx, func(t *trip) {
		key := c.Prefix + "downlink-ids"
		t.SetNX(context.Background(), key, rand.Int64N(maxID), 0)
		reply = t.IncrBy(context.Background(), key, n)
	})
	if err != nil {
		return 0, err
	}
	last, err := reply.Result()
	return last - n, err
}
