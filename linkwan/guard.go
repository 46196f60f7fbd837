package linkwan

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"
)

// Repeated failures of one kind shut their keys out: after maxFailures within
// failureWindow, until the first of them is that old.
const (
	maxFailures   = 10
	failureWindow = 10 * time.Minute
)

// guard shuts out who provokes one error too often.
type guard struct {
	code    string // counted when the action fails with it; empty: no guard
	tooMany string // answered afterwards
	keys    func(c call, from string) guardKeys
}

// guardKeys are what failures are counted under. Any one of them that is full
// shuts the call out.
type guardKeys struct {
	thing  string   // what the secret belongs to; a success forgets its failures
	others []string // who asks and from where; a success says nothing about these
}

// pinGuard counts wrong PINs by the node or gateway that they are for, by who
// gives them and from where.
func pinGuard(eui string) guard {
	return guard{"InvalidPinCode", "TooManyPinCodeVerificationFailures", func(c call, from string) guardKeys {
		return guardKeys{
			thing:  "bad-pin|" + eui + "|" + strings.ToLower(c.text(eui)),
			others: []string{fmt.Sprintf("bad-pin|account|%d", c.account.ID), "bad-pin|from|" + network(from)},
		}
	}}
}

// renterGuard counts guesses at account ids.
var renterGuard = guard{"RenterDoesNotExist", "TooManyRenterNonExistentFailures", func(c call, _ string) guardKeys {
	return guardKeys{others: []string{fmt.Sprintf("unknown-renter|%d", c.account.ID)}}
}}

func (k guardKeys) all() []string {
	if k.thing == "" {
		return k.others
	}
	return append([]string{k.thing}, k.others...)
}

// network is the part of a client's address that failures are counted by: an
// IPv6 client has a whole /64 to choose from.
func network(from string) string {
	address, err := netip.ParseAddr(from)
	if err != nil || address.Unmap().Is4() {
		return from
	}
	prefix, err := address.Prefix(64)
	if err != nil {
		return from
	}
	return prefix.String()
}

// guarded runs an action whose guesses must not be repeated too often. A guess is
// counted before it is made, and taken back when it was none: however many calls
// run at once, and however many of them their clients break off, no more than
// maxFailures learn whether they were right.
func (s *Server) guarded(ctx context.Context, act action, c call, from string, run func() (any, error)) (any, error) {
	if act.guard.code == "" {
		return run()
	}
	keys := act.guard.keys(c, from)
	if !s.countGuess(ctx, keys.all()) {
		return nil, fail(act.guard.tooMany)
	}
	data, err := run()
	var refusal *APIError
	if errors.As(err, &refusal) && refusal.Code == act.guard.code {
		return nil, err
	}
	s.takeBack(ctx, keys.all())
	if err == nil && keys.thing != "" {
		_ = s.Memory.Forget(context.WithoutCancel(ctx), keys.thing) // it is forgotten by itself within failureWindow
	}
	return data, err
}

// countGuess counts a guess under all keys, or under none when one is full. A
// Memory that fails does not keep administrators out.
func (s *Server) countGuess(ctx context.Context, keys []string) bool {
	for i, key := range keys {
		if free, err := s.Memory.Take(ctx, key, maxFailures, failureWindow); err == nil && !free {
			s.takeBack(ctx, keys[:i])
			return false
		}
	}
	return true
}

// takeBack undoes countGuess, also for a client that is gone. What fails to be
// taken back counts as a wrong guess.
func (s *Server) takeBack(ctx context.Context, keys []string) {
	for _, key := range keys {
		_ = s.Memory.Release(context.WithoutCancel(ctx), key)
	}
}
