package cache

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Bounds of copies.
const (
	// FrameLife is how long a frame keeps its owner: past RX2, when nothing can be
	// done for it any more, and two seconds for clocks and queues.
	FrameLife = 8 * time.Second
	// MaxCopies is how many copies of a frame are kept for its owner. More
	// gateways than that do not make the answer better.
	MaxCopies = 64
	// MaxCopySize is how long a copy may be, in octets. One takes some hundreds.
	MaxCopySize = 4 << 10
	// maxFrames bounds the frames of MemoryCopies.
	maxFrames = 1 << 16
)

// Copies brings the copies of one frame together that land on several instances,
// so that the best gateway overall answers, once. A frame is a PHYPayload.
//
// An instance that receives the first copy it knows of claims the frame, while it
// prepares the join:
//
//   - It got the claim: it is the owner. At the end of its collection window it
//     collects what others have handed over, adds its own copies, and answers.
//   - Another one has it: this instance hands over the copy, and every further one
//     that it receives, and does not answer. A copy that comes after the owner has
//     collected is late and lost, as it should be.
//   - An error: it acts alone, as if it had got the claim. A claim that is tried
//     again after an error may be refused because of the first try.
//
// When two act for one frame, the commit makes it one join, and the other a late
// copy. When the owner dies, nobody answers; the device tries again.
//
// What comes back from Collect was written by another instance, perhaps of
// another version, or by whoever can write to Redis: decode it with care, leave
// out what cannot be read, and do not go by its clock.
type Copies interface {
	// Claim makes this instance the owner of the frame and reports true, unless the
	// frame was claimed within the last FrameLife, also by this instance.
	Claim(ctx context.Context, frame []byte) (bool, error)
	// Hand gives a copy to the owner of the frame, and keeps it: it must not be
	// changed any more. From MaxCopies on they are lost without an error.
	Hand(ctx context.Context, frame, copy []byte) error
	// Collect returns the copies that were handed over so far, oldest first.
	Collect(ctx context.Context, frame []byte) ([][]byte, error)
}

// MemoryCopies is Copies within one process: for one instance, and for tests of
// several, which share it.
type MemoryCopies struct {
	now func() time.Time

	mu     sync.Mutex
	frames map[string]*sharedFrame
	order  []*sharedFrame // by first mention: that is also the order in which they end
}

type sharedFrame struct {
	frame   string
	ends    time.Time
	claimed bool
	copies  [][]byte
}

// NewMemoryCopies takes the clock to go by.
func NewMemoryCopies(now func() time.Time) *MemoryCopies {
	return &MemoryCopies{now: now, frames: make(map[string]*sharedFrame)}
}

// Claim implements Copies.
func (m *MemoryCopies) Claim(_ context.Context, frame []byte) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f, err := m.open(frame)
	if err != nil || f.claimed {
		return false, err
	}
	f.claimed = true
	return true, nil
}

// Hand implements Copies.
func (m *MemoryCopies) Hand(_ context.Context, frame, copy []byte) error {
	if err := checkCopy(copy); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	f, err := m.open(frame)
	if err == nil && len(f.copies) < MaxCopies {
		f.copies = append(f.copies, copy)
	}
	return err
}

// Collect implements Copies.
func (m *MemoryCopies) Collect(_ context.Context, frame []byte) ([][]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f, err := m.open(frame)
	if err != nil {
		return nil, err
	}
	return f.copies[:len(f.copies):len(f.copies)], nil
}

var errManyFrames = errors.New("too many frames are under way")

// open finds a frame or begins one, and forgets those that have ended.
func (m *MemoryCopies) open(frame []byte) (*sharedFrame, error) {
	now := m.now()
	for len(m.order) > 0 && !now.Before(m.order[0].ends) {
		delete(m.frames, m.order[0].frame)
		m.order = m.order[1:]
	}
	if f, known := m.frames[string(frame)]; known {
		return f, nil
	}
	if len(m.frames) >= maxFrames {
		return nil, errManyFrames
	}
	f := &sharedFrame{frame: string(frame), ends: now.Add(FrameLife)}
	m.frames[f.frame] = f
	m.order = append(m.order, f)
	return f, nil
}

func checkCopy(copy []byte) error {
	if len(copy) > MaxCopySize {
		return fmt.Errorf("copy of a frame has %d octets; %d are allowed", len(copy), MaxCopySize)
	}
	return nil
}
