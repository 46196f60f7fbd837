package record_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"joingate/band"
	"joingate/joinserver"
	"joingate/keyring"
	"joingate/record"
)

// No root key and no secret lies in the files, in whatever notation; the names
// that lie beside them do, so the search finds what is there.
func TestSecretsAreSealed(t *testing.T) {
	w := newWorld(t, engine{"sqlite", newSQLite})
	const secret = "wJalrXUtnFEMIK7MDENGbPxRfiCYEXAMPLEKEY"
	w.importNodes(t, w.r, band.MAC1_1, 1, 60)
	update(t, w.r, func(tx *record.Tx) error {
		return errors.Join(tx.SetRecipient(owner, record.NetworkServer, wrappingKey(t, "ns", 0x5e)),
			tx.InsertAccessKey(joinserver.AccessKey{ID: "LTAI5example", Account: owner, Secret: keyring.NewSecret(secret), Enabled: true}))
	})
	for i := range 30 {
		w.mustJoin(t, devEUI(1+i), 1)
	}
	check(t, w.r.Backup(context.Background(), w.store.options.SQLitePath+".backup"))
	files := must[[]string](t)(filepath.Glob(w.store.options.SQLitePath + "*"))
	var all []byte
	for _, name := range files {
		all = append(all, must[[]byte](t)(os.ReadFile(name))...)
	}
	if !bytes.Contains(all, []byte("LTAI5example")) || !bytes.Contains(all, []byte(devEUI(7).String())) {
		t.Fatalf("what is no secret is not found in %v either", files)
	}
	forbidden := [][]byte{[]byte(secret), kekOf("test"), bytes.Repeat([]byte{0x5e}, 16)}
	for i := 1; i < 60; i++ {
		for _, key := range []keyring.Key{rootKey(t, i), rootKey(t, -i)} {
			forbidden = append(forbidden, must[[]byte](t)(hex.DecodeString(key.RevealHex())))
		}
	}
	for _, octets := range forbidden {
		h := hex.EncodeToString(octets)
		for _, text := range []string{string(octets), h, strings.ToUpper(h), base64.StdEncoding.EncodeToString(octets), base64.RawURLEncoding.EncodeToString(octets)} {
			if bytes.Contains(all, []byte(text)) {
				t.Errorf("%q is in the files", text)
			}
		}
	}
	check(t, w.r.View(context.Background(), func(tx *record.Tx) error {
		k, err := tx.AccessKey("LTAI5example")
		if k.Secret.Reveal() != secret || !k.Enabled || k.Account != owner {
			t.Errorf("AccessKey reads %+v", k)
		}
		return err
	}))
}

// A sealed key that was moved to another device does not open.
func TestSealedKeyBelongsToItsDevice(t *testing.T) {
	onEngines(t, func(t *testing.T, w *world) {
		w.importNodes(t, w.r, band.MAC1_1, 0, 2)
		w.exec(t, `UPDATE nodes SET sealed_nwk = (SELECT o.sealed_nwk FROM nodes o WHERE o.dev_eui <> nodes.dev_eui)`)
		if _, err := w.r.Policy(context.Background(), devEUI(0)); err == nil {
			t.Error("the policy has the root key of another device")
		}
		w.exec(t, `UPDATE nodes SET sealed_nwk = sealed_app`)
		if _, err := w.r.Policy(context.Background(), devEUI(0)); err == nil {
			t.Error("the policy has the AppKey for an NwkKey")
		}
	})
}
