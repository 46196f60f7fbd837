package joinserver_test

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"joingate/band"
	"joingate/joinserver"
	"joingate/keyring"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// TestNothingPrintsKeys writes what the handler works with in the ways of logs,
// events and errors.
func TestNothingPrintsKeys(t *testing.T) {
	w := newWorld(t)
	nwk := key(t, nwkHex)
	w.record.change(func(p *joinserver.Policy) { p.Node.Keys.Nwk, p.Node.MACVersion = nwk, band.MAC1_1 })
	attempt, err := w.handler.Prepare(context.Background(), joinRequest(t, nwkHex, 1))
	if err != nil {
		t.Fatal(err)
	}
	down, err := w.handler.Answer(context.Background(), attempt, []joinserver.Reception{heardBy(gatewayA)})
	if err != nil {
		t.Fatal(err)
	}
	_, refusal := w.send(joinRequest(t, otherHex, 2))
	w.record.change(func(p *joinserver.Policy) { p.Permission.RxDelay = -1 })
	_, fault := w.send(joinRequest(t, nwkHex, 3))
	policy := w.record.policies[devEUI]
	answer, err := w.joinFor(request(joinRequest(t, nwkHex, 4)))
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]any{
		"Policy":    policy,
		"*Policy":   &policy,
		"Node":      policy.Node,
		"Claim":     down.Claim,
		"Downlink":  down,
		"Attempt":   attempt,
		"*Attempt":  &attempt,
		"Handler":   w.handler,
		"AccessKey": joinserver.AccessKey{ID: "LTAI", Secret: keyring.NewSecret(rootHex)},
		"refusal":   refusal,
		"fault":     fault,
		"wrapped":   fmt.Errorf("join with %v: %w", policy, errors.Join(refusal, fault)),
		"JoinEvent": eventOf(t, down),
		"Session":   down.Claim.Opened(down.Grant, start),
		"answer":    answer,
		"of server": joinserver.KeyEncryption{Label: "ns", KEK: wrapping(t, "ns", rootHex).KEK},
		"keys":      eventFor(t, down, joinserver.Recipients{Network: wrapping(t, "ns", rootHex)}),
	} {
		for way, text := range writings(value) {
			for _, secret := range forms(rootHex, nwkHex) {
				if strings.Contains(strings.ToLower(text), secret) {
					t.Errorf("%s shows a key through %s as %s", name, way, secret)
				}
			}
		}
	}
}

// writings gives the value as text in the ways of fmt, JSON and zap.
func writings(value any) map[string]string {
	texts := map[string]string{}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%c", "%U", "%t"} {
		texts[verb] = fmt.Sprintf(verb, value)
	}
	if octets, err := json.Marshal(value); err == nil {
		texts["JSON"] = string(octets)
	}
	for _, field := range []zap.Field{zap.Any("k", value), zap.Reflect("k", value)} {
		if line, err := zapcore.NewJSONEncoder(zapcore.EncoderConfig{}).EncodeEntry(zapcore.Entry{}, []zap.Field{field}); err == nil {
			texts["zap"] += line.String()
		}
	}
	return texts
}

// forms are the ways in which a part of a secret could be read: hex, the octets,
// the octets in decimal as fmt and JSON write them, the text's own hex.
func forms(secrets ...string) (all []string) {
	for _, secret := range secrets {
		octets, _ := hex.DecodeString(secret[:12])
		decimal := strings.Trim(fmt.Sprint(octets), "[]")
		all = append(all, secret[:12], string(octets), decimal, strings.ReplaceAll(decimal, " ", ","),
			strings.Trim(fmt.Sprintf("%#v", octets), "[]byte{}"), fmt.Sprintf("%x", secret[:12]))
	}
	return all
}
