package cache

// Event is what a Redis cache tells its observer, for counters. The text is
// stable.
type Event string

// The events. Hit, Miss and Garbage are counted per policy or gateway.
const (
	Hit      Event = "hit"
	Miss     Event = "miss"     // not there, or of another generation
	Garbage  Event = "garbage"  // there, but not ours or not readable: a miss too
	Bypassed Event = "bypassed" // Redis was not asked: it is away, or too much waits for it
	Failed   Event = "failed"   // a round trip failed or took too long
	Dropped  Event = "dropped"  // a value was not stored, because too much waits
	Opened   Event = "opened"   // Redis counts as away from now on
	Closed   Event = "closed"   // Redis is back
	Reused   Event = "reused"   // a downlink id was used again within 15 s, because there are no others
)
