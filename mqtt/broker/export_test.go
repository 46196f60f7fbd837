package broker

import (
	"crypto/tls"
	"sync/atomic"
	"time"
)

// Limits that tests go to.
const (
	MaxSessions      = maxSessions
	MaxSubscriptions = maxSubscriptions
	MaxRetained      = maxRetained
	MaxRetainedSize  = maxRetainedSize
)

// Kept is how many sessions and subscriptions there are.
func Kept(b *Broker) (sessions, subscriptions int) {
	return b.server.Clients.Len(), int(atomic.LoadInt64(&b.server.Info.Subscriptions))
}

// LookAgain makes the broker look at its files at once, instead of after lookEvery.
func LookAgain(b *Broker) {
	for _, k := range b.watched {
		k.lookAgain()
	}
}

// SetNow replaces the clock that certificates are held against.
func SetNow(b *Broker, now func() time.Time) {
	for _, k := range b.watched {
		if files, ok := k.(*kept[*tls.Config]); ok {
			files.mu.Lock()
			files.now = now
			files.mu.Unlock()
		}
	}
}

// RetainedUntil is when a retained message is forgotten, in seconds since 1970; 0:
// never. Minus one: there is none.
func RetainedUntil(b *Broker, topic string) int64 {
	m, known := b.server.Topics.Retained.Get(topic)
	if !known {
		return -1
	}
	return m.Expiry
}
