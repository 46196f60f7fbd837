// Package cache keeps policies near the join handler, and what several instances
// behind one broker share for a moment: quotas of the API, copies of one frame,
// ids of downlink commands, the airtime of gateways. All of it exists twice: in
// Redis (single, Sentinel, Cluster) for several instances, and in memory for one.
// Beside it stand a Redis stream for join events, and turns for work that one
// instance does for all.
//
// What a cache says may be old: the commit compares versions with the record,
// and a refusal is confirmed there. Losing it costs time, never a wrong answer.
//
// Redis is trusted with no secret and with no answer. Every policy in it is
// authenticated under the key encryption key, for its device and key; what does
// not open counts as not there. Only root keys are encrypted: who reads Redis
// learns which devices may join where.
//
// Known to be missing: Memory remembers no unknown devices, as asking an embedded
// record again costs as much. What instances book on a gateway while Redis is away
// stays unknown to the others also afterwards: until it is past, seconds later, a
// gateway may refuse a frame as a collision.
package cache

import "joingate/joinserver"

// Policies is a policy cache: Memory within one process, Redis.Policies for
// several.
type Policies interface {
	// The cached policies: what they say may be old.
	joinserver.Policies
	// Fresh gives the policies of the record, and mends the cache with them.
	Fresh() joinserver.Policies
	// Forget drops everything, for all who share the cache: after an
	// administrative write has committed, and before it is answered. It is quick
	// and cannot fail: what cannot be dropped is not read any more.
	Forget()
}

var _ Policies = (*Memory)(nil)
