package main

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"joingate/sim"
	"joingate/soak/servers"
)

// TestSecretsStayInside looks for every key and secret in all that leaves the
// program and in all that lies on disk, of the program itself and of the servers
// that it uses. The memory of the process, which is what a core dump holds, is not
// looked through: keys are open in it while they are used (doc/security.md).
func TestSecretsStayInside(t *testing.T) {
	t.Parallel()
	t.Run("SQLite", func(t *testing.T) {
		t.Parallel()
		h := newHaunt(t, newMachine(t))
		h.live()
		h.lookThrough("joingate.db", "backup.db")
	})
	t.Run("PostgreSQL and Redis", func(t *testing.T) {
		t.Parallel()
		folder, err := os.MkdirTemp("", "joingate-secrets") // PostgreSQL, which is not root, does not get into a test's own
		check(t, err)
		t.Cleanup(func() { _ = os.RemoveAll(folder) })
		postgres, err := servers.NewPostgres(folder)
		installed(t, err)
		t.Cleanup(postgres.Kill)
		dumps := t.TempDir()
		redis, err := servers.NewRedis(dumps, "--rdbcompression", "no", "--dbfilename", "dump.rdb") // compressed, a key could be in two parts
		installed(t, err)
		check(t, redis.Start())
		t.Cleanup(redis.Kill)
		h := newHaunt(t, newMachine(t, "JOINGATE_RECORD__URL="+postgres.URLAt(postgres.Address()), "JOINGATE_CACHE__URL=redis://"+redis.Address(),
			"JOINGATE_EVENTS__REDIS_STREAM=joins"))
		h.live()
		_, err = redis.Do("SAVE")
		check(t, err)
		postgres.Stop() // writes all that it holds, and takes no file away while we read
		addFiles(t, h.places, dumps, "")
		addFiles(t, h.places, folder, "")
		h.lookThrough("backup.db", "dump.rdb", "/base/", "/pg_wal/")
		for _, part := range []string{"appSKey", h.devices[0].eui.String()} { // the stream, and the policies
			if dump := h.places[filepath.Join(dumps, "dump.rdb")]; !bytes.Contains(dump, []byte(part)) {
				t.Errorf("no %s is in the dump of Redis", part)
			}
		}
	})
}

// What tests print of themselves shows no key either: it ends up in the logs of CI.
func TestOutputOfTestsShowsNoSecrets(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	check(t, err)
	output, err := exec.CommandContext(t.Context(), self, "-test.v", "-test.run", "^(TestPolicyUpdateBetweenTwoJoins|TestEveryReason)$").CombinedOutput()
	if err != nil || bytes.Count(output, []byte("--- PASS")) < 2 {
		t.Fatalf("%v\n%s", err, clipped(string(output)))
	}
	hidden := secrets{}
	for number := range 300 {
		for _, name := range []string{"AppKey", "NwkKey"} {
			hidden[fmt.Sprintf("%s of device %d", name, number)] = octetsOf(t, keyOf(name, number))
		}
	}
	if seen := hidden.seenIn(output); len(seen) > 0 {
		t.Errorf("to be seen: %v", seen)
	}
}

// secrets are octets that nobody may see, by what they are.
type secrets map[string][]byte

// addDevice adds the root keys, and the session keys that follow from a join.
func (s secrets) addDevice(t testing.TB, d device, r sim.Result) {
	t.Helper()
	for name, digits := range map[string]string{"AppKey": d.appKey, "NwkKey": d.nwkKey} {
		if digits != "" {
			s[name+" of "+d.eui.String()] = octetsOf(t, digits)
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

// seenIn names the secrets that are there: as they are, turned round, in hex, in
// base64, or as Go prints octets.
func (s secrets) seenIn(octets []byte) (names []string) {
	lower := bytes.ToLower(octets)
	for name, secret := range s {
		turned := slices.Clone(secret)
		slices.Reverse(turned)
		if slices.ContainsFunc([][]byte{secret, turned}, func(form []byte) bool { return inSight(form, octets, lower) }) {
			names = append(names, name)
		}
	}
	return names
}

func inSight(secret, octets, lower []byte) bool {
	for _, text := range []string{
		hex.EncodeToString(secret), fmt.Sprintf("% x", secret), strings.ReplaceAll(fmt.Sprintf("% x", secret), " ", ":"), listed("0x%02x, ", secret), listed("0x%x, ", secret),
	} {
		if bytes.Contains(lower, []byte(text)) {
			return true
		}
	}
	decimals := [][]byte{[]byte(listed("%d ", secret)), []byte(listed("%d,", secret)), []byte(listed("%d, ", secret))}
	found := func(form []byte) bool { return bytes.Contains(octets, form) }
	return found(secret) || slices.ContainsFunc(decimals, found) || slices.ContainsFunc(inBase64(secret), found)
}

// listed gives octets one by one in this format, without what is behind the last.
func listed(format string, octets []byte) string {
	var s strings.Builder
	for _, o := range octets {
		fmt.Fprintf(&s, format, o)
	}
	return strings.TrimRight(s.String(), ", ")
}

// inBase64 gives how octets look in the base64 of something that begins with any
// number of octets before them: without the digits that its neighbours decide, too.
func inBase64(octets []byte) (forms [][]byte) {
	for _, code := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
		for before := range 3 {
			digits := code.EncodeToString(append(make([]byte, before), octets...))
			first, last := (8*before+5)/6, 8*(before+len(octets))/6
			forms = append(forms, []byte(digits[first:last]))
		}
	}
	return forms
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

// readKEKs reads a key file: a key in each line.
func readKEKs(t testing.TB, path string) (keks [][]byte) {
	t.Helper()
	text, err := os.ReadFile(path)
	check(t, err)
	for digits := range strings.FieldsSeq(string(text)) {
		keks = append(keks, octetsOf(t, digits))
	}
	return keks
}

func octetsOf(t testing.TB, digits string) []byte {
	t.Helper()
	octets, err := hex.DecodeString(digits)
	check(t, err)
	return octets
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
	texts := [][]byte{slices.Clone(key), []byte("DEADBEEF0102030405060708090A0BFB"), []byte("fb0b0a090807060504030201efbeadde")}
	for _, format := range []string{"%v", "%#v", "% X", "%x"} {
		texts = append(texts, fmt.Appendf(nil, format, key), fmt.Appendf(nil, format, [16]byte(key)))
	}
	for before := range 4 {
		whole := slices.Concat([]byte("beforehand")[:before], key, []byte("after"))
		texts = append(texts, []byte(base64.StdEncoding.EncodeToString(whole)), []byte(base64.URLEncoding.EncodeToString(whole)))
	}
	for _, value := range []any{key, [16]byte(key)} {
		inJSON, err := json.Marshal(value)
		check(t, err)
		texts = append(texts, inJSON)
	}
	for _, text := range texts {
		if len(secrets{"key": key}.seenIn(append([]byte("x"), text...))) == 0 {
			t.Errorf("not found in %q", text)
		}
		text[len(text)/2] ^= 0x10
		if names := (secrets{"key": key}).seenIn(text); len(names) != 0 {
			t.Errorf("found %v in %q", names, text)
		}
	}
}
