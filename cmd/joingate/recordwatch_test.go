package main

import (
	"context"
	"errors"
	"testing"

	"joingate/joinserver"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

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
