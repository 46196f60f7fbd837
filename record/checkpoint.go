package record

import (
	"database/sql"
)

// checkpointEvery is after how many joins the write-ahead log of SQLite goes into the
// file. Other writes are left to SQLite itself, see openSQLite.
const checkpointEvery = 2048

// checkpoints brings the write-ahead log of SQLite into the file, beside the commits:
// SQLite itself does it within one, and all joins that come meanwhile wait.
//
// The log begins anew when all of it is in the file and nobody reads from it. While
// joins are committed without a pause that moment does not come by itself, so after
// each checkpoint the next commit sees to the little that was added since.
type checkpoints struct {
	db     *sql.DB // nil: an engine that needs none of this
	joins  int     // since the last one; of the commit loop alone
	wanted chan struct{}
	rest   chan struct{}
}

func newCheckpoints(db *sql.DB) *checkpoints {
	return &checkpoints{db: db, wanted: make(chan struct{}, 1), rest: make(chan struct{}, 1)}
}

// committed counts joins.
func (c *checkpoints) committed(joins int) {
	if c.joins += joins; c.db != nil && c.joins >= checkpointEvery {
		c.joins = 0
		wake(c.wanted)
	}
}

// run makes checkpoints until stop is closed. Nothing depends on one but the length
// of the log: what fails is done with the next.
func (c *checkpoints) run(stop <-chan struct{}) {
	for {
		select {
		case <-c.wanted:
			if _, err := c.db.Exec(`PRAGMA wal_checkpoint(PASSIVE)`); err == nil {
				wake(c.rest)
			}
		case <-stop:
			return
		}
	}
}

// finish is called between commits: nothing is added to the log meanwhile.
func (c *checkpoints) finish(committer *sql.DB) {
	select {
	case <-c.rest:
		_, _ = committer.Exec(`PRAGMA wal_checkpoint(RESTART)`) // as in run
	default:
	}
}

// wake tells a loop that there is something to do; it may know already.
func wake(loop chan<- struct{}) {
	select {
	case loop <- struct{}{}:
	default:
	}
}
