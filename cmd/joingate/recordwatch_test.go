package main

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"joingate/cache"
	"joingate/joinserver"
	"joingate/record"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

// The watch shows what waits and what comes to its end, each device once, and prunes
// what is old. A record that cannot be read leaves a warning, but not at the end.
func TestRecordWatch(t *testing.T) {
	path := filepath.Join(t.TempDir(), "joingate.db")
	r, err := record.Open(t.Context(), record.Options{SQLitePath: path, KEK: make([]byte, 32)})
	check(t, err)
	core, logs := observer.New(zap.WarnLevel)
	devices := cache.NewKnown(r.DevEUIs)
	w, err := newRecordWatch(prometheus.NewRegistry(), r, devices, zap.New(core))
	check(t, err)
	now := time.UnixMilli(1_800_000_000_000)
	w.now = func() time.Time { return now }
	shows := func(want ...float64) {
		t.Helper()
		w.lookAtOutbox(t.Context())
		w.lookAtNonces(t.Context())
		w.prune(t.Context())
		if got := []float64{testutil.ToFloat64(w.events), testutil.ToFloat64(w.age), testutil.ToFloat64(w.exhausted)}; !slices.Equal(got, want) {
			t.Errorf("events, age and devices: %v, not %v", got, want)
		}
	}
	shows(0, 0, 0)
	db := openDatabase(t, path)
	for _, ago := range []time.Duration{30 * time.Second, time.Second} {
		db.do(`INSERT INTO outbox (committed_ms, dev_eui, join_nonce, account_id, payload) VALUES (?, '0000000000000001', 1, 1, 'x')`, now.Add(-ago).UnixMilli())
	}
	db.do(`INSERT INTO nodes (dev_eui, version, account_id, enabled, mac_version, pin_code, created_ms, bound_ms) VALUES ('0000000000000001', 1, 1, TRUE, '1.1', '', 0, 0)`)
	for _, joinEUI := range []string{"0000000000000001", "0000000000000002"} {
		db.do(`INSERT INTO dev_nonces (dev_eui, join_eui, dev_nonce, mic, answer_until_ms) VALUES ('0000000000000001', ?, 65000, 0, 0)`, joinEUI)
	}
	for _, ago := range []time.Duration{2 * prunedAfter, prunedAfter / 2} {
		db.do(`INSERT INTO notifications (id, account_id, category, notice_ms, handled_ms, content) VALUES (?, 1, 'c', 1, ?, '{}')`, ago, now.Add(-ago).UnixMilli())
	}
	shows(2, 30, 1)
	stranger, device := joinserver.EUI64{2}, joinserver.EUI64{7: 1}
	if again := w.lookAtDevices(t.Context()); devices.Has(stranger) || !devices.Has(device) || again < lookAtDevices {
		t.Errorf("after a look: a stranger is known: %t, the device: %t; the next look comes after %s", devices.Has(stranger), devices.Has(device), again)
	}
	if n := db.number(`SELECT COUNT(*) FROM notifications`); n != 1 {
		t.Errorf("%d notifications are left, not 1", n)
	}
	check(t, r.Close())
	shows(2, 30, 1)
	if n := logs.Len(); n != 3 {
		t.Errorf("%d warnings of a record that is closed, not 3", n)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	w.run(ended)
	if n := logs.Len(); n != 3 {
		t.Errorf("%d warnings after the end", n-3)
	}
}

// committing answers each commit with an error.
type committing struct{ err error }

func (c committing) Commit(context.Context, joinserver.Claim) (joinserver.Grant, error) {
	return joinserver.Grant{JoinNonce: 7}, c.err
}

func TestCountMoved(t *testing.T) {
	for err, want := range map[error]float64{nil: 0, joinserver.ErrPolicyMoved: 1, joinserver.ErrLateCopy: 0, errors.New("disk"): 0} {
		registry := prometheus.NewRegistry()
		joins, registerErr := countMoved(registry, committing{err})
		check(t, registerErr)
		if grant, got := joins.Commit(t.Context(), joinserver.Claim{}); !errors.Is(got, err) || grant.JoinNonce != 7 {
			t.Errorf("commit gave %+v, %v", grant, got)
		}
		if n := testutil.ToFloat64(joins.(countedJoins).moved); n != want {
			t.Errorf("after %v %v are counted", err, n)
		}
	}
}
