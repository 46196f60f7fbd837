package record

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"joingate/joinserver"
)

// maxBatch bounds how many joins share one transaction: enough to make the
// price of a disk sync small, few enough that none waits long for the others.
const maxBatch = 1024

// undoneTries is how often a batch is tried that the database has undone for the sake
// of another session: that one may come first again.
const undoneTries = 3

// pendingJoin is a claim on its way through a group commit.
type pendingJoin struct {
	errand
	claim joinserver.Claim
	found onRecord
	grant joinserver.Grant
	slot  int       // of the session
	at    time.Time // of the join, as it is written
	event []byte    // JSON of the join event
	err   error
}

// Commit implements joinserver.Joins. Concurrent calls share a transaction; a
// single one waits for nobody.
//
// A claim that is under way is decided even if ctx ends: whoever waits for it
// learns that it is not to be sent.
func (r *Record) Commit(ctx context.Context, c joinserver.Claim) (joinserver.Grant, error) {
	p := &pendingJoin{errand: newErrand(), claim: c}
	if err := r.commits.do(ctx, p); err != nil {
		return joinserver.Grant{}, err
	}
	return p.grant, p.err
}

// commitLoop gathers the claims that wait and commits them together. When it has
// not been idle for a while, it gives way to other programs.
func (r *Record) commitLoop() {
	for idle := time.Now(); ; {
		waits := r.commits.empty()
		batch := r.commits.take(maxBatch)
		if len(batch) == 0 {
			return
		}
		if waits {
			idle = time.Now()
		}
		r.commitBatch(batch)
		r.checkpoints.committed(len(batch))
		r.checkpoints.finish(r.committer)
		if time.Since(idle) > longestHold {
			giveWay()
			idle = time.Now()
		}
	}
}

// commitBatch decides every claim of the batch in one transaction. If the
// transaction fails, or its outcome is not known, no claim was granted.
func (r *Record) commitBatch(batch []*pendingJoin) {
	start := r.now()
	err := r.tryBatch(batch)
	for tries := 1; isUndone(err) && tries < undoneTries; tries++ {
		err = r.tryBatch(batch)
	}
	granted := false
	for _, p := range batch {
		if err != nil {
			p.err = fmt.Errorf("commit of the join: %w", err)
		}
		if p.err != nil {
			p.grant = joinserver.Grant{}
		}
		granted = granted || p.err == nil
		close(p.done)
	}
	r.observe(len(batch), r.now().Sub(start))
	if granted {
		r.signalOutboxes()
	}
}

func (r *Record) tryBatch(batch []*pendingJoin) error {
	ctx, cancel := r.bound(context.Background(), r.busyTimeout+overhead)
	defer cancel()
	conn, err := r.committer.Conn(ctx)
	if err != nil {
		return explain(err)
	}
	defer conn.Close() // back to its pool
	var shared uint64
	err = r.transact(ctx, conn, func(ctx context.Context, tx *sql.Tx) (err error) {
		shared, err = r.decideBatch(r.engine.newVolley(ctx, tx, conn), batch)
		return err
	})
	if err == nil {
		r.sharedAddresses.Add(shared)
	}
	return err
}

// decideBatch decides the claims in rounds in which no device comes twice.
func (r *Record) decideBatch(v *volley, batch []*pendingJoin) (shared uint64, err error) {
	r.lock(v, batch)
	for rest := batch; len(rest) > 0; {
		var claims []*pendingJoin
		claims, rest = distinctDevices(rest)
		round := joinRound{record: r, volley: v, statements: r.joins}
		if err := round.decide(claims); err != nil {
			return 0, err
		}
		shared += round.shared
	}
	return shared, nil
}

// lock takes the locks under which nothing that decides the joins changes but by this
// transaction; that of the addresses comes later, to be held for a shorter time. It
// reads nothing: what is read after it is what was committed by those who had the
// locks before.
func (r *Record) lock(v *volley, batch []*pendingJoin) {
	locks := r.engine.locks
	if locks.devices == "" {
		return
	}
	devices := make([]string, len(batch))
	for i, p := range batch {
		devices[i] = p.claim.Request.DevEUI.String()
	}
	v.take(locks.joins)
	v.take(locks.devices, devices)
}

// commitTime reads the clock, and gives the time to write: events keep their order
// when the clock goes back.
func (r *Record) commitTime() (now, at time.Time) {
	now = r.now()
	if now.After(r.lastCommit) {
		r.lastCommit = now
	}
	return now, r.lastCommit
}

// distinctDevices splits off the claims of devices that were split off already,
// and puts the first ones in the order in which their rows lie on disk.
func distinctDevices(claims []*pendingJoin) (first, again []*pendingJoin) {
	seen := make(map[joinserver.EUI64]bool, len(claims))
	first = make([]*pendingJoin, 0, len(claims))
	for _, p := range claims {
		if device := p.claim.Request.DevEUI; seen[device] {
			again = append(again, p)
		} else {
			seen[device] = true
			first = append(first, p)
		}
	}
	slices.SortFunc(first, func(a, b *pendingJoin) int {
		return bytes.Compare(a.claim.Request.DevEUI[:], b.claim.Request.DevEUI[:])
	})
	return first, again
}

// joinRound decides the claims of different devices together: one read for all,
// a decision for each, one write for all.
type joinRound struct {
	record     *Record
	volley     *volley
	statements *joinStatements
	now        time.Time // decides
	at         time.Time // is written; never before that of an earlier commit
	spaces     map[joinserver.NetID]*addressSpace
	shared     uint64 // DevAddrs given that another live session has
}

// decide puts into each claim its grant, or why it has none. The error returned is a
// fault of the record and fails the batch. The clock is read with all locks held:
// getting them may have taken until after a deadline.
func (r *joinRound) decide(claims []*pendingJoin) error {
	found, err := r.read(claims)
	if err != nil {
		return err
	}
	if err := r.openSpaces(claims); err != nil {
		return err
	}
	r.now, r.at = r.record.commitTime()
	granted := make([]*pendingJoin, 0, len(claims))
	for i, p := range claims {
		if p.err = verdict(p.claim, found[i], r.now); p.err == nil {
			p.found = found[i]
			granted = append(granted, p)
		}
	}
	if err := r.grant(granted); err != nil {
		return err
	}
	if granted, err = r.events(granted); err != nil {
		return err
	}
	return r.write(granted)
}

// openSpaces takes the lock of the addresses, and with it looks at those that the
// claims may get.
func (r *joinRound) openSpaces(claims []*pendingJoin) error {
	r.volley.take(r.record.engine.locks.addresses)
	r.spaces = map[joinserver.NetID]*addressSpace{}
	for _, p := range claims {
		if id := p.claim.NetID; p.claim.DevAddr == nil && r.spaces[id] == nil {
			r.spaces[id] = newAddressSpace(r, id, len(claims))
			if err := r.spaces[id].look(); err != nil {
				return fmt.Errorf("DevAddrs of NetID %s: %w", id, err)
			}
		}
	}
	return r.volley.send()
}

// grant gives each claim its JoinNonce and its DevAddr.
func (r *joinRound) grant(claims []*pendingJoin) error {
	for _, p := range claims {
		if p.claim.DevAddr == nil {
			continue
		}
		for _, space := range r.spaces {
			space.bring(addrNumber(*p.claim.DevAddr))
		}
	}
	for _, p := range claims {
		p.grant.JoinNonce, p.slot = p.found.joinNonce()+1, p.found.slotFor(p.claim)
		if p.claim.DevAddr != nil {
			p.grant.DevAddr = *p.claim.DevAddr
			continue
		}
		addr, err := r.spaces[p.claim.NetID].allocate(p.found.lastAddress(), p.found.sessions[p.slot])
		if err != nil {
			return fmt.Errorf("DevAddr for %s: %w", p.claim.Request.DevEUI, err)
		}
		p.grant.DevAddr = addrOf(addr)
	}
	return nil
}

// lastAddress is the DevAddr that the device got last, or noAddress.
func (has onRecord) lastAddress() int64 {
	newest := has.newest()
	if addr := has.sessions[newest].devAddr; addr != noAddress {
		return addr
	}
	return has.sessions[1-newest].devAddr
}

// events makes the join events, and gives the claims that have one. One claim's
// fault must not fail the others.
func (r *joinRound) events(claims []*pendingJoin) (with []*pendingJoin, err error) {
	recipients, err := r.recipients(claims)
	if err != nil {
		return nil, err
	}
	for _, p := range claims {
		p.at = p.found.inOrder(r.at)
		p.event, p.err = eventOf(p, recipients[p.claim.Policy.Node.Account])
	}
	return slices.DeleteFunc(claims, func(p *pendingJoin) bool { return p.err != nil }), nil
}

func eventOf(p *pendingJoin, to recipients) ([]byte, error) {
	if to.fault != nil {
		return nil, to.fault
	}
	event, err := p.claim.Event(p.grant, p.at, to.Recipients)
	if err != nil {
		return nil, err
	}
	return json.Marshal(event)
}

// mostSkew is by how much the clocks of programs on one record may differ before
// the events of a device may change places.
const mostSkew = time.Minute

// inOrder gives the time to write for a join: not before that of the device's join
// before it, which another program with another clock may have committed. A time
// that is far ahead was a mistake, and is not carried on.
func (has onRecord) inOrder(at time.Time) time.Time {
	before := time.UnixMilli(has.sessions[has.newest()].joined)
	if before.After(at) && before.Sub(at) <= mostSkew {
		return before
	}
	return at
}
