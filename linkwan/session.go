package linkwan

import (
	"context"
	"strings"

	"joingate/joinserver"
)

// sessionActions are extensions of ours, which Link WAN does not have: own.json
// holds their contract.
func sessionActions() map[string]action {
	return map[string]action{
		"ConfirmNodeSession": {direct: confirmNodeSession, feature: featureNode, resources: on(oneNode), perSecond: confirmationsPerSecond},
	}
}

// confirmNodeSession takes a network server's word that a device uses a session,
// so that the one before it is over. It may be said again. A session that is not
// live is NonExistent.
func confirmNodeSession(ctx context.Context, c call) (any, error) {
	if c.ConfirmSession == nil || c.Sessions == nil {
		return nil, fail("InvalidAction.NotFound")
	}
	if !c.has("JoinNonce") && !c.has("DevAddr") {
		return nil, missing("JoinNonce")
	}
	if c.has("DevAddr") && !isDevAddr(c.text("DevAddr")) {
		return nil, invalid("DevAddr")
	}
	var device joinserver.Device
	err := c.Record.View(ctx, func(tx Tx) (err error) {
		device, err = c.findNode(tx, "NonExistent")
		return err
	})
	if err != nil {
		return nil, err
	}
	live, err := c.Sessions.Sessions(ctx, device.DevEUI)
	if err != nil {
		return nil, err
	}
	for _, s := range live {
		if c.names(s) {
			err := c.ConfirmSession(ctx, c.write, device.DevEUI, s.JoinNonce)
			return nil, asFailure(asFailure(err, joinserver.ErrNotFound, "NonExistent"), joinserver.ErrNonceUsed, "SignatureNonceUsed")
		}
	}
	return nil, fail("NonExistent")
}

// names reports whether the session is the one that the call means: given both,
// JoinNonce and DevAddr must be its.
func (c call) names(s joinserver.Session) bool {
	if c.has("JoinNonce") && c.integer("JoinNonce") != int64(s.JoinNonce) {
		return false
	}
	return !c.has("DevAddr") || strings.EqualFold(c.text("DevAddr"), s.DevAddr.String())
}

func isDevAddr(s string) bool { return len(s) == 8 && strings.Trim(s, "0123456789abcdefABCDEF") == "" }
