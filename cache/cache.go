// Package cache keeps policies near the join handler, and what several instances
// behind one broker share for a moment: quotas of the API, copies of one frame,
// ids of downlink commands. All of it exists twice: in Redis (single, Sentinel,
// Cluster) for several instances, and in memory for one.
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
// record again costs as much. No URL names a private certificate authority: it
// has to be among the system's roots, or in Options.TLS.
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
