package record

import (
	"context"
	"errors"
	"runtime"
)

// ErrClosed says that the record was closed before a join or a lookup came to it.
var ErrClosed = errors.New("record is closed")

// hand gives a piece of work to a loop that does what waits together, and waits
// until it is done.
func hand[W any](ctx context.Context, loop chan<- W, work W, done, stop <-chan struct{}) error {
	select {
	case <-stop: // nobody is let in any more, so that those who wait come to an end
		return ErrClosed
	default:
	}
	select {
	case loop <- work:
	case <-ctx.Done():
		return ctx.Err()
	case <-stop:
		return ErrClosed
	}
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// gather takes what waits for a loop. Those whom the last batch has woken get the
// processor first: of a storm, most come again at once.
func gather[W any](loop <-chan W, first W, most int) []W {
	runtime.Gosched()
	batch := []W{first}
	for len(batch) < most {
		select {
		case w := <-loop:
			batch = append(batch, w)
		default:
			return batch
		}
	}
	return batch
}
