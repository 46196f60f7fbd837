package main

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"joingate/sim"
)

// TestSecretsStayInside looks for every key and secret in all that leaves the
// program and in all that lies on disk.
func TestSecretsStayInside(t *testing.T) {
	t.Parallel()
	d := newMachine(t, "JOINGATE_LOG__LEVEL=debug").serve()
	c, permission := d.site(gatewayA)
	e := newEar(t, d.broker)
	said := newTranscript() // what commands and the API print

	var devices []device
	for i, version := range demoVersions {
		devices = append(devices, newDevice(i, version))
	}
	c.register("meters", devices...)
	f := d.field(gatewayA)
	hidden := secrets{"AccessKeySecret": []byte(c.AccessKeySecret), "key file": readKEK(t, d.keyFile)}
	for _, device := range devices {
		hidden.addDevice(t, device, f.join(device.switchOn(t)))
	}

	d.makeFaults(f, devices)
	openDatabase(t, d.record).awaitDelivery()
	for _, o := range []outcome{
		c.keys().try("call", "ListOwnedJoinPermissions", "Limit=10"),
		c.keys().try("call", "GetOwnedJoinPermission", "JoinPermissionId="+permission),
		c.keys().with("JOINGATE_ACCESS_KEY_SECRET=wrong").try("call", "ListFreqBandPlanGroups"),
		c.keys().try("call", "NoSuchAction"),
		d.try("node", "export"), d.try("node", "export", "--json"), d.try("account", "list", "--json"), d.try("config", "print"),
		d.try("node", "import", d.write("twice.csv", nodeFile("meters", devices...)), "--account", "acme"),
		d.try("node", "import", d.write("garbled.csv", garbledNodeFile(devices[0]))),
	} {
		_, _ = said.Write([]byte(o.stdout + o.stderr))
	}
	_, metrics := d.get("/metrics")

	places := map[string][]byte{
		"log": []byte(d.log.String()), "announcement": []byte(d.out.String()), "metrics": []byte(metrics), "commands": []byte(said.String()),
	}
	for _, m := range e.heard("") {
		places["MQTT"] = append(append(places["MQTT"], m.topic...), m.payload...)
	}
	addFiles(t, places, filepath.Dir(d.record), d.keyFile)
	for place, octets := range places {
		if len(octets) == 0 {
			t.Errorf("nothing to look through: %s", place)
		}
		if seen := hidden.seenIn(octets); len(seen) > 0 {
			t.Errorf("in %s are to be seen: %v", place, seen)
		}
	}
}

// secrets are octets that nobody may see, by what they are.
type secrets map[string][]byte

// addDevice adds the root keys, and the session keys that follow from a join.
func (s secrets) addDevice(t testing.TB, d device, r sim.Result) {
	t.Helper()
	for name, digits := range map[string]string{"AppKey": d.appKey, "NwkKey": d.nwkKey} {
		if octets, err := hex.DecodeString(digits); err == nil && digits != "" {
			s[name+" of "+d.eui.String()] = octets
		}
	}
	session := r.SessionKeys()
	for name, key := range map[string]sim.Key{
		"AppSKey": session.AppSKey, "FNwkSIntKey": session.FNwkSIntKey, "SNwkSIntKey": session.SNwkSIntKey, "NwkSEncKey": session.NwkSEncKey,
	} {
		octets := key.Octets()
		s[name+" of "+d.eui.String()] = octets[:]
	}
}

// seenIn names the secrets that are there: as they are, turned round, in hex or
// in base64.
func (s secrets) seenIn(octets []byte) (names []string) {
	lower := bytes.ToLower(octets)
	for name, secret := range s {
		turned := slices.Clone(secret)
		slices.Reverse(turned)
		for _, form := range [][]byte{secret, turned} {
			found := bytes.Contains(octets, form) || bytes.Contains(lower, []byte(hex.EncodeToString(form)))
			for _, code := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
				found = found || bytes.Contains(octets, []byte(code.EncodeToString(form)))
			}
			if found {
				names = append(names, name)
			}
		}
	}
	return names
}

// makeFaults lets the server log and tell of refusals.
func (d *daemon) makeFaults(f *field, devices []device) {
	d.t.Helper()
	wrongKey, replayed := devices[0], devices[3]
	wrongKey.appKey = keyOf("another", 1)
	f.ask(gatewayA, wrongKey.counting(1).switchOn(d.t))
	replayed.firstDevNonce = 1
	node := replayed.switchOn(d.t)
	f.join(node)
	d.run("node", "set", devices[2].eui.String(), "--enabled=false")
	f.ask(gatewayA, devices[2].counting(9).switchOn(d.t))
	eventually(d.t, "the refusals are there", func() bool { return d.joins("bad_mic") == 1 && d.joins("device_disabled") == 1 })
}

// garbledNodeFile has a key with a digit too few and one with a wrong digit,
// which the messages about them must not repeat.
func garbledNodeFile(d device) string {
	short, wrong := d, d
	wrong.eui++
	short.appKey = d.appKey[:31]
	wrong.appKey = d.appKey[:31] + "x"
	return nodeFile("meters", short, wrong)
}

func readKEK(t testing.TB, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	check(t, err)
	kek, err := hex.DecodeString(strings.TrimSpace(string(text)))
	check(t, err)
	return kek
}

// addFiles adds what lies in a folder, the database and its log, but for one file.
func addFiles(t testing.TB, places map[string][]byte, folder, except string) {
	t.Helper()
	check(t, filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || path == except || strings.HasSuffix(path, "-shm") {
			return err
		}
		places[path], err = os.ReadFile(path)
		return err
	}))
}

// The search itself finds a key in each of its forms.
func TestSecretsAreFound(t *testing.T) {
	t.Parallel()
	key := []byte{0xde, 0xad, 0xbe, 0xef, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 0xfb}
	inJSON, err := json.Marshal(key)
	check(t, err)
	for _, text := range [][]byte{key, []byte("DEADBEEF0102030405060708090A0BFB"), inJSON, []byte("fb0b0a090807060504030201efbeadde")} {
		if len(secrets{"key": key}.seenIn(append([]byte("x"), text...))) == 0 {
			t.Errorf("not found in %q", text)
		}
	}
}
