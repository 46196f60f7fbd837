package keyring_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"testing"

	"joingate/keyring"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

const (
	keyHex     = "5ec4e7c0ffee5ec4e7c0ffee5ec4e7c0"
	secretText = "Th1sMustN0tBeSeen"
)

func secretKey(t *testing.T) keyring.Key {
	t.Helper()
	key, err := keyring.ParseKey(keyHex)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// TestSecretsDoNotPrint writes everything that holds a secret in every way that
// a log line, an error, an event or an answer could be written.
func TestSecretsDoNotPrint(t *testing.T) {
	key, secret := secretKey(t), keyring.NewSecret(secretText)
	octets, _ := hex.DecodeString(keyHex)
	kek := bytes.Repeat(octets, 2)
	sealer, err := keyring.NewSealer(kek)
	if err != nil {
		t.Fatal(err)
	}
	wrapping, err := keyring.NewWrappingKey(kek)
	if err != nil {
		t.Fatal(err)
	}
	type hidesInside struct{ roots keyring.RootKeys }
	type hidesWrapping struct{ key keyring.WrappingKey }
	for name, value := range map[string]any{
		"Key":                   key,
		"*Key":                  &key,
		"RootKeys":              keyring.RootKeys{App: key, Nwk: key},
		"SessionKeys":           keyring.SessionKeys{AppSKey: key, FNwkSIntKey: key, SNwkSIntKey: key, NwkSEncKey: key},
		"Secret":                secret,
		"*Secret":               &secret,
		"WrappingKey":           wrapping,
		"*WrappingKey":          &wrapping,
		"one in a struct":       struct{ Key keyring.WrappingKey }{wrapping},
		"one in a private one":  hidesWrapping{wrapping},
		"Sealer":                sealer,
		"in a private field":    hidesInside{keyring.RootKeys{App: key}},
		"in a slice and a map":  map[string][]keyring.Key{"keys": {key}},
		"an error that has one": fmt.Errorf("fault with %v and %v: %w", key, secret, errors.ErrUnsupported),
	} {
		for way, text := range writings(value) {
			if leak := leaked(text, keyHex, secretText); leak != "" {
				t.Errorf("%s shows itself through %s as %s", name, way, leak)
			}
		}
	}
}

// writings gives the value as text in all ways.
func writings(value any) map[string]string {
	texts := map[string]string{}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%o", "%b", "%c", "%U", "%p", "%t", "%e", "%w"} {
		texts[verb] = fmt.Sprintf(verb, value)
	}
	texts["Errorf"] = fmt.Errorf("fault: %v", value).Error()
	asJSON, _ := json.Marshal(value)
	asXML, _ := xml.Marshal(value)
	texts["JSON"], texts["XML"] = string(asJSON), string(asXML)
	entry := zapcore.Entry{}
	for name, encoder := range map[string]zapcore.Encoder{
		"zap JSON": zapcore.NewJSONEncoder(zapcore.EncoderConfig{}), "zap console": zapcore.NewConsoleEncoder(zapcore.EncoderConfig{}),
	} {
		for _, field := range []zap.Field{zap.Any("k", value), zap.Reflect("k", value), zap.String("k", fmt.Sprint(value))} {
			if line, err := encoder.EncodeEntry(entry, []zap.Field{field}); err == nil {
				texts[name] += line.String()
			}
		}
	}
	var text, line bytes.Buffer
	slog.New(slog.NewTextHandler(&text, nil)).Info("m", "k", value)
	slog.New(slog.NewJSONHandler(&line, nil)).Info("m", "k", value)
	texts["slog text"], texts["slog JSON"] = text.String(), line.String()
	return texts
}

// leaked looks for the secrets in all forms in which octets are written.
func leaked(text, keyHex, secret string) string {
	octets, _ := hex.DecodeString(keyHex)
	part := octets[:6] // is too much already
	decimal := strings.Trim(fmt.Sprint(part), "[]")
	for _, form := range []string{
		keyHex[:12], strings.ToUpper(keyHex[:12]),
		decimal, strings.ReplaceAll(decimal, " ", ","), strings.ReplaceAll(decimal, " ", ", "),
		strings.Trim(fmt.Sprintf("%#v", part), "[]byte{}"),
		base64.StdEncoding.EncodeToString(part),
		string(part),
		secret, base64.StdEncoding.EncodeToString([]byte(secret))[:16], fmt.Sprintf("%x", secret), fmt.Sprintf("%X", secret),
	} {
		if strings.Contains(text, form) {
			return form
		}
	}
	return ""
}

// TestLeakIsSeen proves that the search finds a key that does print.
func TestLeakIsSeen(t *testing.T) {
	octets, _ := hex.DecodeString(keyHex)
	seen := 0
	for _, text := range writings(struct{ K [16]byte }{[16]byte(octets)}) {
		if leaked(text, keyHex, secretText) != "" {
			seen++
		}
	}
	if seen < 10 {
		t.Errorf("a bare key was seen in %d writings only", seen)
	}
}

// TestErrorsDoNotQuoteKeys gives wrong keys to everything that reads keys.
func TestErrorsDoNotQuoteKeys(t *testing.T) {
	tooLong := keyHex + "5e"
	_, parseErr := keyring.ParseKey(tooLong)
	_, hexErr := keyring.ParseKey(keyHex[:31] + "g")
	_, newErr := keyring.NewKey([]byte(tooLong))
	_, kekErr := keyring.NewSealer([]byte(tooLong))
	_, wrapErr := keyring.UnwrapKey([]byte(keyHex), []byte(tooLong))
	_, wrappingErr := keyring.ParseWrappingKey(tooLong)
	_, textErr := keyring.KEKText("vault", func() ([]byte, error) { return []byte(tooLong), nil })()
	for name, err := range map[string]error{
		"ParseKey": parseErr, "not hex": hexErr, "NewKey": newErr, "NewSealer": kekErr, "UnwrapKey": wrapErr,
		"ParseWrappingKey": wrappingErr, "KEKText": textErr,
	} {
		if err == nil {
			t.Errorf("%s took a wrong key", name)
		} else if leak := leaked(err.Error(), keyHex, secretText); leak != "" {
			t.Errorf("%s quotes the key: %s", name, leak)
		}
	}
}

// TestKeysHaveNoTextForm guards the rule that a key becomes text by RevealHex
// alone: a MarshalText method would be found by encoders.
func TestKeysHaveNoTextForm(t *testing.T) {
	for _, kind := range []reflect.Type{reflect.TypeFor[*keyring.Key](), reflect.TypeFor[*keyring.Secret](), reflect.TypeFor[*keyring.RootKeys](), reflect.TypeFor[*keyring.WrappingKey]()} {
		for _, method := range []string{"MarshalText", "AppendText", "MarshalBinary", "GobEncode", "Value", "String"} {
			if _, there := kind.MethodByName(method); there {
				t.Errorf("%s has %s", kind, method)
			}
		}
	}
}

// TestPlaceholder: whoever reads a log sees that there was a key.
func TestPlaceholder(t *testing.T) {
	for _, value := range []any{secretKey(t), keyring.NewSecret(secretText), keyring.Key{}, keyring.WrappingKey{}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
			if got := fmt.Sprintf(verb, value); got != "(key)" {
				t.Errorf("%s of %T prints %q", verb, value, got)
			}
		}
		if got, err := json.Marshal(value); err != nil || string(got) != `"(key)"` {
			t.Errorf("JSON of %T is %s, %v", value, got, err)
		}
	}
}
