package record

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"time"

	"joingate/joinserver"
)

// maxBatch bounds how many joins share one transaction: enough to make the
// price of a disk sync small, few enough that none waits long for the others.
const maxBatch = 1024

// pendingJoin is a claim on its way through a group commit.
type pendingJoin struct {
	claim joinserver.Claim
	grant joinserver.Grant
	event []byte // JSON of the join event
	err   error
	done  chan struct{}
}

// Commit implements joinserver.Joins. Concurrent calls share a transaction; a
// single one waits for nobody.
//
// A claim that is under way is decided even if ctx ends: whoever waits for it
// learns that it is not to be sent.
func (r *Record) Commit(ctx context.Context, c joinserver.Claim) (joinserver.Grant, error) {
	select {
	case <-r.stop: // nobody is let in any more, so that those who wait come to an end
		return joinserver.Grant{}, ErrClosed
	default:
	}
	p := &pendingJoin{claim: c, done: make(chan struct{})}
	select {
	case r.commits <- p:
	case <-ctx.Done():
		return joinserver.Grant{}, ctx.Err()
	case <-r.stop:
		return joinserver.Grant{}, ErrClosed
	}
	select {
	case <-p.done:
		return p.grant, p.err
	case <-ctx.Done():
		return joinserver.Grant{}, ctx.Err()
	}
}

// ErrClosed says that the record was closed before the join came to it.
var ErrClosed = errors.New("record is closed")

// commitLoop gathers the claims that wait and commits them together. When it has
// not been idle for a while, it gives way to other programs.
func (r *Record) commitLoop() {
	for idle := time.Now(); ; {
		var p *pendingJoin
		select {
		case p = <-r.commits:
		default:
			select {
			case p = <-r.commits:
			case <-r.stop:
				return
			}
			idle = time.Now()
		}
		r.commitBatch(r.gather(p))
		if time.Since(idle) > longestHold {
			giveWay()
			idle = time.Now()
		}
	}
}

// gather takes the claims that wait. Those which the last commit has woken get the
// processor first: of a storm, most come again at once.
func (r *Record) gather(first *pendingJoin) []*pendingJoin {
	runtime.Gosched()
	batch := []*pendingJoin{first}
	for len(batch) < maxBatch {
		select {
		case p := <-r.commits:
			batch = append(batch, p)
		default:
			return batch
		}
	}
	return batch
}

// commitBatch decides every claim of the batch in one transaction. If the
// transaction fails, or its outcome is not known, no claim was granted.
func (r *Record) commitBatch(batch []*pendingJoin) {
	start := r.now()
	err := r.tryBatch(batch)
	if isUndone(err) {
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
		r.signalOutbox()
	}
}

func (r *Record) tryBatch(batch []*pendingJoin) error {
	ctx, cancel := r.bound(context.Background(), r.busyTimeout+overhead)
	defer cancel()
	var shared uint64
	err := r.transact(ctx, r.committer, func(ctx context.Context, tx *sql.Tx) (err error) {
		shared, err = r.decideBatch(ctx, tx, batch)
		return err
	})
	if err == nil {
		r.sharedAddresses.Add(shared)
	}
	return err
}

// decideBatch decides the claims in rounds in which no device comes twice.
func (r *Record) decideBatch(ctx context.Context, tx *sql.Tx, batch []*pendingJoin) (shared uint64, err error) {
	if err := r.lockDevices(ctx, tx, batch); err != nil {
		return 0, err
	}
	for rest := batch; len(rest) > 0; {
		var claims []*pendingJoin
		claims, rest = distinctDevices(rest)
		round := joinRound{ctx: ctx, tx: tx, statements: r.joins, addresses: r.engine.locks.addresses, clock: r.commitTime, cursor: &r.addrCursor}
		if err := round.decide(claims); err != nil {
			return 0, err
		}
		shared += round.shared
	}
	return shared, nil
}

// lockDevices takes the locks under which nothing that decides the joins changes
// but by this transaction. It reads nothing: what is read after it is what was
// committed by those who had the locks before.
func (r *Record) lockDevices(ctx context.Context, tx *sql.Tx, batch []*pendingJoin) error {
	if r.engine.locks.devices == "" {
		return nil
	}
	devices := make([]string, len(batch))
	for i, p := range batch {
		devices[i] = p.claim.Request.DevEUI.String()
	}
	if err := take(ctx, tx, r.engine.locks.joins); err != nil {
		return err
	}
	return take(ctx, tx, r.engine.locks.devices, devices)
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
	ctx        context.Context
	tx         *sql.Tx
	statements *joinStatements
	addresses  string // the lock of the DevAddrs
	clock      func() (now, at time.Time)
	now        time.Time // decides
	at         time.Time // is written; never before that of an earlier commit
	cursor     *int64
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
	if err := take(r.ctx, r.tx, r.addresses); err != nil {
		return err
	}
	r.now, r.at = r.clock()
	r.spaces = map[joinserver.NetID]*addressSpace{}
	granted := make([]*pendingJoin, 0, len(claims))
	for i, p := range claims {
		if p.err = verdict(p.claim, found[i], r.now); p.err != nil {
			continue
		}
		if p.grant, err = r.grant(p.claim, found[i], len(claims)); err != nil {
			return fmt.Errorf("DevAddr for %s: %w", p.claim.Request.DevEUI, err)
		}
		// What a gateway measured may not go into JSON (NaN); it must not fail the others.
		if p.event, p.err = json.Marshal(p.claim.Event(p.grant, r.at)); p.err == nil {
			granted = append(granted, p)
		}
	}
	return r.write(granted)
}

func (r *joinRound) grant(c joinserver.Claim, has onRecord, roundSize int) (joinserver.Grant, error) {
	space := r.spaces[c.NetID]
	if space == nil {
		space = newAddressSpace(r, c.NetID, roundSize)
		r.spaces[c.NetID] = space
	}
	addr, err := space.allocate(has.newest, has.before)
	return joinserver.Grant{JoinNonce: has.newest.joinNonce + 1, DevAddr: addrOf(addr)}, err
}

// onRecord is what the record holds that decides a claim.
type onRecord struct {
	versions joinserver.PolicyVersions // 0 where a row is gone, or not linked any more
	newest   sessionOnRecord
	before   sessionOnRecord // the one before it: the new session takes its place
	seen     bool            // this DevNonce was used with this JoinEUI
	mic      int64           // of the frame that used it
	until    int64           // RX2 of that frame
	highest  int64           // DevNonce used with this JoinEUI; -1: none
}

// sessionOnRecord is a session of a device; its zero value is none.
type sessionOnRecord struct {
	joinNonce uint32
	devAddr   int64 // noAddress: there is no session
}

// verdict is the decision of the commit: pure, so that it is the same on every
// engine. Nil grants the claim.
func verdict(c joinserver.Claim, has onRecord, now time.Time) error {
	req := c.Request
	if has.seen && has.mic == micNumber(req.MIC) && now.UnixMilli() <= has.until {
		return joinserver.ErrLateCopy
	}
	if now.After(c.Deadline) {
		return refuse(c, joinserver.TooLate)
	}
	if has.versions != c.Versions() {
		return joinserver.ErrPolicyMoved
	}
	if has.seen || joinserver.Monotonic(c.Policy.Node.MACVersion) && int64(req.DevNonce) <= has.highest {
		return refuse(c, joinserver.DevNonceReplayed)
	}
	if has.newest.joinNonce >= joinserver.MaxJoinNonce {
		return refuse(c, joinserver.JoinNonceExhausted)
	}
	return nil
}

func refuse(c joinserver.Claim, reason joinserver.Reason) error {
	return &joinserver.Rejection{Reason: reason, DevEUI: c.Request.DevEUI, JoinEUI: c.Request.JoinEUI, Account: c.Policy.Node.Account}
}

func micNumber(mic [4]byte) int64 {
	return int64(mic[0])<<24 | int64(mic[1])<<16 | int64(mic[2])<<8 | int64(mic[3])
}
