package record

import (
	"context"
	"strconv"
)

// LimitPages is a full disk: the record gets no more pages than this many beyond
// those it has. A negative number takes the limit away.
func (r *Record) LimitPages(ctx context.Context, more int64) error {
	conn, err := r.writer.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	const unlimited = 1 << 30
	limit := int64(unlimited)
	if more >= 0 {
		if err := conn.QueryRowContext(ctx, `PRAGMA page_count`).Scan(&limit); err != nil {
			return err
		}
		limit += more
	}
	_, err = conn.ExecContext(ctx, "PRAGMA max_page_count = "+strconv.FormatInt(limit, 10))
	return err
}
