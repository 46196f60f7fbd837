package joinserver_test

import (
	"bytes"
	"context"
	"crypto/aes"
	"encoding/binary"
	"encoding/hex"
	"slices"
	"testing"

	"joingate/band"
	"joingate/joinserver"
	"joingate/keyring"

	"github.com/jacobsa/crypto/cmac"
)

// device11 is a LoRaWAN 1.1 device with its own reading of the specification
// (LoRaWAN 1.1, chapter 6): AES and CMAC of the libraries, nothing of ours.
type device11 struct {
	tb       testing.TB
	app, nwk [16]byte
	dev      joinserver.EUI64
	join     joinserver.EUI64
	netID    joinserver.NetID
	sNwkSInt [16]byte // of its session
	appSKey  [16]byte
	settings byte // DLSettings
	rxDelay  byte
	rj0, rj1 uint16 // of the next rejoin-request
	asked    [3]byte
}

func newDevice11(tb testing.TB) *device11 {
	return &device11{
		tb: tb, app: [16]byte(unhex(tb, rootHex)), nwk: [16]byte(unhex(tb, nwkHex)), dev: devEUI, join: joinEUI,
	}
}

// joinRequest asks with a DevNonce.
func (d *device11) joinRequest(nonce uint16) []byte {
	d.asked = [3]byte{0xff, byte(nonce), byte(nonce >> 8)}
	return joinRequest(d.tb, nwkHex, nonce)
}

// rejoinRequest asks within its session (types 0 and 2), or for one (type 1).
func (d *device11) rejoinRequest(kind byte) []byte {
	frame, signs, count := []byte{0xc0, kind}, d.sNwkSInt, &d.rj0
	if kind == 1 {
		frame, signs, count = append(frame, reversed(d.join[:])...), d.lifetimeKey(0x06), &d.rj1
	} else {
		frame = append(frame, reversed(d.netID[:])...)
	}
	frame = append(frame, reversed(d.dev[:])...)
	frame = binary.LittleEndian.AppendUint16(frame, *count)
	d.asked = [3]byte{kind, byte(*count), byte(*count >> 8)}
	*count++
	return append(frame, d.cmac(signs, frame)[:4]...)
}

// receive reads the answer to its last request, and begins the new session.
func (d *device11) receive(frame []byte) (plain []byte) {
	d.tb.Helper()
	cipherKey := d.nwk
	if d.asked[0] != 0xff {
		cipherKey = d.lifetimeKey(0x05)
	}
	plain = d.decrypted(cipherKey, frame)
	body, mic := plain[:len(plain)-4], plain[len(plain)-4:]
	covered := slices.Concat(d.asked[:1], reversed(d.join[:]), d.asked[1:], body)
	if want := d.cmac(d.lifetimeKey(0x06), covered)[:4]; !bytes.Equal(mic, want) {
		d.tb.Fatalf("the answer to %x has MIC %x, the device wants %x", d.asked, mic, want)
	}
	joinNonce := body[1:4]
	copy(d.netID[:], reversed(body[4:7]))
	d.settings, d.rxDelay = body[11], body[12]
	context := slices.Concat(joinNonce, reversed(d.join[:]), d.asked[1:])
	d.sNwkSInt = d.encrypted(d.nwk, 0x03, context)
	d.appSKey = d.encrypted(d.app, 0x02, context)
	d.rj0 = 0
	return body
}

// lifetimeKey is JSEncKey (05) or JSIntKey (06).
func (d *device11) lifetimeKey(kind byte) [16]byte {
	return d.encrypted(d.nwk, kind, reversed(d.dev[:]))
}

func (d *device11) encrypted(key [16]byte, kind byte, context []byte) (out [16]byte) {
	d.tb.Helper()
	block, err := aes.NewCipher(key[:])
	if err != nil {
		d.tb.Fatal(err)
	}
	copy(out[:], append([]byte{kind}, context...))
	block.Encrypt(out[:], out[:])
	return out
}

func (d *device11) decrypted(key [16]byte, frame []byte) []byte {
	d.tb.Helper()
	block, err := aes.NewCipher(key[:])
	if err != nil {
		d.tb.Fatal(err)
	}
	if len(frame)%aes.BlockSize != 1 || frame[0] != 0x20 {
		d.tb.Fatalf("%x is no join-accept", frame)
	}
	plain := bytes.Clone(frame)
	for i := 1; i < len(plain); i += aes.BlockSize {
		block.Encrypt(plain[i:], plain[i:])
	}
	return plain
}

func (d *device11) cmac(key [16]byte, message []byte) []byte {
	d.tb.Helper()
	hash, err := cmac.New(key[:])
	if err != nil {
		d.tb.Fatal(err)
	}
	hash.Write(message)
	return hash.Sum(nil)
}

func reversed(b []byte) []byte {
	r := slices.Clone(b)
	slices.Reverse(r)
	return r
}

// live is an in-memory Sessions, the newest first.
type live struct {
	sessions []joinserver.Session
	fault    error
	asked    int
}

func (l *live) Sessions(context.Context, joinserver.EUI64) ([]joinserver.Session, error) {
	l.asked++
	return l.sessions, l.fault
}

// remembers gives the world sessions, and makes the device one of LoRaWAN 1.1.
func (w *world) remembers() *live {
	w.setVersion(band.MAC1_1)
	l := new(live)
	w.config.Sessions = l
	w.rebuild()
	return l
}

// opened puts what a join has opened to the sessions.
func (l *live) opened(down joinserver.Downlink) {
	l.sessions = slices.Insert(l.sessions, 0, down.Claim.Opened(down.Grant, start))
}

// sameKeys compares the keys that the server derives with those of the device.
func (d *device11) sameKeys(keys keyring.SessionKeys) {
	d.tb.Helper()
	for name, pair := range map[string][2]string{
		"SNwkSIntKey": {keys.SNwkSIntKey.RevealHex(), hex.EncodeToString(d.sNwkSInt[:])},
		"AppSKey":     {keys.AppSKey.RevealHex(), hex.EncodeToString(d.appSKey[:])},
	} {
		if pair[0] != pair[1] {
			d.tb.Errorf("server and device have other %ss", name)
		}
	}
}
