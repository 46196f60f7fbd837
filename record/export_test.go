package record

import (
	"context"
	"database/sql"
	"strconv"

	"joingate/joinserver"
)

// CommitTogether commits the claims in one transaction. No other commits may be
// under way.
func (r *Record) CommitTogether(claims []joinserver.Claim) ([]joinserver.Grant, []error) {
	batch := make([]*pendingJoin, len(claims))
	for i, c := range claims {
		batch[i] = &pendingJoin{errand: newErrand(), claim: c}
	}
	r.commitBatch(batch)
	grants, errs := make([]joinserver.Grant, len(claims)), make([]error, len(claims))
	for i, p := range batch {
		grants[i], errs[i] = p.grant, p.err
	}
	return grants, errs
}

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

// WriteDurability is what the connections that write have set: how much of a
// commit is on disk when it returns.
func (r *Record) WriteDurability(ctx context.Context) (settings []string, err error) {
	ask := `PRAGMA synchronous`
	if r.engine.remote {
		ask = `SHOW synchronous_commit`
	}
	for _, db := range []*sql.DB{r.committer, r.writer} {
		var setting string
		if err := db.QueryRowContext(ctx, ask).Scan(&setting); err != nil {
			return nil, err
		}
		settings = append(settings, setting)
	}
	return settings, nil
}

// MigrateTo gives an empty database the schema of an older program.
func MigrateTo(ctx context.Context, db *sql.DB, postgres bool, version int64) error {
	e := &sqliteEngine
	if postgres {
		e = &postgresEngine
	}
	provider, err := newProvider(db, e)
	if err != nil {
		return err
	}
	_, err = provider.UpTo(ctx, version)
	return err
}

// IsJoinEvent reports whether Restore takes a line for a join event.
func IsJoinEvent(line []byte) bool {
	_, ok := readLoggedJoin(line)
	return ok
}

// PoliciesTogether reads the policies with one statement.
func (r *Record) PoliciesTogether(devices []joinserver.EUI64) ([]joinserver.Policy, []error) {
	batch := make([]*lookup, len(devices))
	for i, device := range devices {
		batch[i] = &lookup{errand: newErrand(), device: device}
	}
	r.lookUp(batch)
	policies, errs := make([]joinserver.Policy, len(batch)), make([]error, len(batch))
	for i, l := range batch {
		policies[i], errs[i] = l.policy, l.err
	}
	return policies, errs
}
