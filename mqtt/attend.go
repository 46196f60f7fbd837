package mqtt

import (
	"context"
	"time"

	"go.uber.org/zap"
)

const (
	// askAble is how often an instance of a share group asks whether it can answer.
	askAble = time.Second
	// unableFor is how many times in a row it cannot, until it leaves. A record that
	// is started again needs less, and what waits for it can still be answered.
	unableFor = 3
)

// attend leaves the share group while this instance cannot answer join-requests, so
// that the others get them, and comes back by itself.
func (e *Edge) attend(ctx context.Context, able func(context.Context) error, asks <-chan time.Time) {
	for failures := 0; ; {
		select {
		case <-ctx.Done():
			return
		case <-asks:
		}
		if e.pipeline.isDraining() {
			return // it has left for good
		}
		switch err := able(ctx); {
		case ctx.Err() != nil:
			return
		case err != nil:
			failures++
			if failures == unableFor {
				e.log.Warn("leaving the share group until joins can be answered again; the other instances get them", zap.Error(err))
			}
			if failures >= unableFor { // each time: a new connection has subscribed again
				e.client.leave(ctx)
			}
		case failures >= unableFor && !e.client.comeBack(ctx):
			// There is no connection; a new one subscribes by itself, or the next ask does.
		default:
			failures = 0
		}
	}
}
