package cache

import (
	"bytes"
	"encoding/hex"
	"reflect"
	"testing"

	"joingate/band"
	"joingate/joinserver"
	"joingate/keyring"
)

func testSealer(tb testing.TB) *keyring.Sealer {
	tb.Helper()
	sealer, err := keyring.NewSealer(bytes.Repeat([]byte("k"), 32))
	if err != nil {
		tb.Fatal(err)
	}
	return sealer
}

const testMark = mark("0123456789abcdef")

// fill gives every field a value of its own, so that one that is not carried is
// seen, also one that is added later.
func fill(tb testing.TB, v reflect.Value, n *int64) {
	tb.Helper()
	*n++
	switch {
	case v.Type() == reflect.TypeFor[keyring.Key]():
		key, _ := keyring.ParseKey(hex.EncodeToString(bytes.Repeat([]byte{byte(*n)}, 16)))
		v.Set(reflect.ValueOf(key))
	case v.Type() == reflect.TypeFor[band.MACVersion]():
		v.Set(reflect.ValueOf(band.MAC1_0_4))
	case v.Kind() == reflect.Struct:
		for i := range v.NumField() {
			fill(tb, v.Field(i), n)
		}
	case v.Kind() == reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		v.Elem().SetUint(uint64(*n % 16))
	case v.Kind() == reflect.Array:
		for i := range v.Len() {
			v.Index(i).SetUint(uint64(*n) + uint64(i))
		}
	case v.CanInt():
		v.SetInt(*n << 40)
	case v.Kind() == reflect.Bool:
		v.SetBool(true)
	case v.Kind() == reflect.String:
		v.SetString("text " + string(rune('a'+*n)))
	default:
		tb.Fatalf("no value for a %s: teach the test, and the cache", v.Type())
	}
}

func TestEveryFieldIsCarried(t *testing.T) {
	s := testSealer(t)
	var n int64
	var full joinserver.Policy
	fill(t, reflect.ValueOf(&full).Elem(), &n)
	var gateway joinserver.Gateway
	fill(t, reflect.ValueOf(&gateway).Elem(), &n)
	for name, p := range map[string]joinserver.Policy{"full": full, "empty": {}} {
		v, ok := openValue(s, "key", policyValue(s, p, testMark).seal(s, "key"))
		if got, ok2 := v.policy(s, p.Node.DevEUI); !ok || !ok2 || v.generation != testMark || !reflect.DeepEqual(got, p) {
			t.Errorf("%s: %v %v %+v", name, ok, ok2, got)
		}
	}
	for name, g := range map[string]joinserver.Gateway{"full": gateway, "empty": {}} {
		v, ok := openValue(s, "key", gatewayValue(g, testMark).seal(s, "key"))
		if got, ok2 := v.gateway(g.EUI); !ok || !ok2 || got != g {
			t.Errorf("%s: %v %v %+v", name, ok, ok2, got)
		}
	}
}

// A value says nothing about anything else than it was written for.
func TestValuesAreNotMixedUp(t *testing.T) {
	s := testSealer(t)
	device := joinserver.EUI64{1}
	policy := policyValue(s, joinserver.Policy{Node: joinserver.Node{DevEUI: device}}, testMark)
	gateway := gatewayValue(joinserver.Gateway{EUI: device}, testMark)
	now := marks{generation: testMark, moment: "fedcba9876543210"}
	unknown := unknownValue(now)
	for name, v := range map[string]value{"policy": policy, "gateway": gateway, "unknown": unknown, "nothing": {}} {
		_, isPolicy := v.policy(s, device)
		_, isGateway := v.gateway(device)
		_, ofAnother := v.policy(s, joinserver.EUI64{2})
		_, ofAnotherGateway := v.gateway(joinserver.EUI64{2})
		if isPolicy != (name == "policy") || isGateway != (name == "gateway") || v.unknown(now) != (name == "unknown") || ofAnother || ofAnotherGateway {
			t.Errorf("%s: policy %v, gateway %v, unknown %v, of another device %v, of another gateway %v",
				name, isPolicy, isGateway, v.unknown(now), ofAnother, ofAnotherGateway)
		}
	}
	if unknown.unknown(marks{generation: testMark}) || (value{kind: kindUnknown}).unknown(marks{}) {
		t.Error("a device is unknown although no moment is current")
	}
	if _, ok := openValue(s, "another key", policy.seal(s, "key")); ok {
		t.Error("a value was believed under another key")
	}
}

// FuzzOpenValue: of what anybody may write to Redis, only what was sealed opens.
func FuzzOpenValue(f *testing.F) {
	s := testSealer(f)
	genuine := policyValue(s, joinserver.Policy{}, testMark).seal(s, "key")
	f.Add(genuine)
	f.Add(gatewayValue(joinserver.Gateway{}, testMark).seal(s, "another key"))
	f.Add(unknownValue(marks{testMark, testMark}).seal(s, "another key"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, octets []byte) {
		v, ok := openValue(s, "key", octets)
		if !ok {
			return
		}
		if generation, has := generationOf(octets); !has || generation != v.generation {
			t.Error("another generation was opened than was seen")
		}
		if sealed := len(octets) - sealSize; !bytes.Equal(octets[:sealed], genuine[:len(genuine)-sealSize]) {
			t.Errorf("%x was opened", octets)
		}
	})
}

// FuzzBody: what opens but cannot be read, as of a program that wrote another
// layout, is not there; what can be read is read the same when written again.
func FuzzBody(f *testing.F) {
	s := testSealer(f)
	var n int64
	var p joinserver.Policy
	fill(f, reflect.ValueOf(&p).Elem(), &n)
	var g joinserver.Gateway
	fill(f, reflect.ValueOf(&g).Elem(), &n)
	f.Add(byte(kindPolicy), policyValue(s, p, testMark).body)
	f.Add(byte(kindPolicy), policyValue(s, joinserver.Policy{}, testMark).body)
	f.Add(byte(kindGateway), gatewayValue(g, testMark).body)
	f.Add(byte(kindUnknown), []byte(testMark))
	f.Fuzz(func(t *testing.T, k byte, body []byte) {
		v := value{kind: kind(k), generation: testMark, body: body}
		var eui joinserver.EUI64
		copy(eui[:], body)
		if p, ok := v.policy(s, eui); ok {
			again, ok := policyValue(s, p, testMark).policy(s, eui)
			if !ok || !reflect.DeepEqual(again, p) {
				t.Errorf("%+v became %+v", p, again)
			}
		}
		if g, ok := v.gateway(eui); ok && !bytes.Equal(gatewayValue(g, testMark).body[:8], body[:8]) {
			t.Errorf("%+v", g)
		}
	})
}
