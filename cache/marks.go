package cache

import (
	"context"
	"crypto/rand"
	"errors"
	"time"

	"github.com/redis/go-redis/v9"
)

// Marks tell which values in Redis still count. They are random and never come
// again, so that a value written late cannot meet its own mark once more:
//
//   - The generation is replaced by Forget. A value carries the generation that
//     was current before its record read began.
//   - The moment lives as long as an unknown device may be remembered, and no
//     longer. That a device is unknown counts while the moment is current that
//     was so before the record was read. So neither a slow reader, nor a paused
//     Redis, nor any clock can stretch that time.
//
// Both vanish with FLUSHALL, which thereby is one more way to forget.
type marks struct{ generation, moment mark }

// mark is markSize octets; empty: there is none.
type mark string

const markSize = 16

func newMark() mark {
	var octets [markSize]byte
	_, _ = rand.Read(octets[:])
	return mark(octets[:])
}

// markKeys are the keys of the marks, in one slot of a cluster.
type markKeys struct{ generation, moment string }

func newMarkKeys(prefix string) markKeys {
	return markKeys{generation: prefix + "{marks}:generation", moment: prefix + "{marks}:moment"}
}

// markReplies are the marks on their way.
type markReplies struct{ generation, moment *redis.StringCmd }

func (r *markReplies) marks() marks { return marks{markOf(r.generation), markOf(r.moment)} }

func markOf(reply *redis.StringCmd) mark {
	if text := reply.Val(); reply.Err() == nil && len(text) == markSize {
		return mark(text)
	}
	return ""
}

// broken lists the keys that hold something else than a mark.
func (r *markReplies) broken(keys markKeys) (broken []string) {
	if markOf(r.generation) == "" && !errors.Is(r.generation.Err(), redis.Nil) {
		broken = append(broken, keys.generation)
	}
	if markOf(r.moment) == "" && !errors.Is(r.moment.Err(), redis.Nil) {
		broken = append(broken, keys.moment)
	}
	return broken
}

// readMarks reads the marks, once per trip.
func (t *trip) readMarks(keys markKeys) *markReplies {
	if t.marks == nil {
		t.marks = t.getMarks(keys)
	}
	return t.marks
}

// renewMarks sets the marks that are missing and reads them, once per trip.
func (t *trip) renewMarks(keys markKeys, moment time.Duration) *markReplies {
	if t.renewed == nil {
		ctx := context.Background()
		t.SetNX(ctx, keys.generation, string(newMark()), 0)
		t.SetNX(ctx, keys.moment, string(newMark()), moment)
		t.renewed = t.getMarks(keys)
	}
	return t.renewed
}

func (t *trip) getMarks(keys markKeys) *markReplies {
	ctx := context.Background()
	return &markReplies{generation: t.Get(ctx, keys.generation), moment: t.Get(ctx, keys.moment)}
}
