package linkwan

import (
	"context"
	"crypto/subtle"
	"errors"
	"time"

	"joingate/joinserver"
)

// Limits of Alibaba's gateway, and ours on guessing secrets.
const (
	maxClockSkew  = 15 * time.Minute
	maxNonceBytes = 128
	// A refusal shows the string to sign, so that a client can compare: whole, as
	// long as no client of ours is near it, and no more.
	maxShownToSign = 64 << 10

	badSignatures      = 100 // of one AccessKey from one address within riskWindow
	riskWindow         = 10 * time.Minute
	timestampFormat    = "2006-01-02T15:04:05Z"
	timestampFormatLen = len(timestampFormat)
)

// caller is who makes a call.
type caller struct {
	key     joinserver.AccessKey
	account joinserver.Account
	policy  Policy // what the RAM user may do; the account itself may do everything
}

// authenticate proves who signed the request and that it is fresh. The nonce is
// used up only by a request whose signature is right.
func (s *Server) authenticate(ctx context.Context, req request) (caller, error) {
	c := req.credential
	if err := s.checkTime(c.timestamp); err != nil {
		return caller{}, err
	}
	if len(c.nonce) > maxNonceBytes {
		return caller{}, invalid("SignatureNonce")
	}
	who, err := s.findCaller(ctx, c.accessKeyID)
	if err != nil {
		return caller{}, err
	}
	if err := s.verify(ctx, who, req); err != nil {
		return caller{}, err
	}
	fresh, err := s.Memory.Once(ctx, "nonce|"+c.accessKeyID+"|"+c.nonce, joinserver.NonceLife)
	if err == nil && !fresh {
		return caller{}, fail("SignatureNonceUsed")
	}
	return who, nil
}

func (s *Server) checkTime(timestamp string) error {
	at, err := time.Parse(timestampFormat, timestamp)
	if err != nil || len(timestamp) != timestampFormatLen {
		return fail("InvalidTimeStamp.Format")
	}
	if skew := s.Now().Sub(at); skew > maxClockSkew || skew < -maxClockSkew {
		return fail("InvalidTimeStamp.Expired")
	}
	return nil
}

func (s *Server) findCaller(ctx context.Context, accessKeyID string) (caller, error) {
	var who caller
	err := s.Record.View(ctx, func(tx Tx) (err error) {
		if who.key, err = tx.AccessKey(accessKeyID); err != nil {
			return asFailure(err, joinserver.ErrNotFound, "InvalidAccessKeyId.NotFound")
		}
		if !who.key.Enabled {
			return fail("InvalidAccessKeyId.Inactive")
		}
		if who.account, err = tx.Account(who.key.Account); err != nil {
			return err
		}
		who.policy, err = userPolicy(tx, who.key)
		return err
	})
	return who, err
}

// userPolicy finds what a key may do. A user that is gone, and a policy that
// cannot be read, allow nothing.
func userPolicy(tx Tx, key joinserver.AccessKey) (Policy, error) {
	if key.User == "" {
		return everything, nil
	}
	user, err := tx.User(key.Account, key.User)
	if errors.Is(err, joinserver.ErrNotFound) {
		return Policy{}, nil
	}
	if err != nil {
		return Policy{}, err
	}
	policy, err := ParsePolicy(user.Policy)
	if err != nil {
		return Policy{}, nil
	}
	return policy, nil
}

// verify compares the signatures. After many wrong ones of a key from one
// address, that pair is shut out for a while: others with the key, and other
// keys from there, are not.
func (s *Server) verify(ctx context.Context, who caller, req request) error {
	pair := who.key.ID + "|" + network(req.from)
	if full, err := s.Memory.Full(ctx, "shut-out|"+pair, 1, riskWindow); err == nil && full {
		return fail("ForbiddenByRiskControl")
	}
	c := req.credential
	want := c.sign(who.key.Secret.Reveal(), c.stringToSign)
	if subtle.ConstantTimeCompare([]byte(want), []byte(c.signature)) == 1 {
		return nil
	}
	_, _ = s.Memory.Take(ctx, "bad-signature|"+pair, badSignatures, riskWindow)
	if full, err := s.Memory.Full(ctx, "bad-signature|"+pair, badSignatures, riskWindow); err == nil && full {
		_, _ = s.Memory.Take(ctx, "shut-out|"+pair, 1, riskWindow)
	}
	return failure("SignatureDoesNotMatch", c.stringToSign[:min(len(c.stringToSign), maxShownToSign)])
}

// asFailure turns one error of the record into the refusal with the code.
func asFailure(err, target error, code string) error {
	if errors.Is(err, target) {
		return fail(code)
	}
	return err
}
