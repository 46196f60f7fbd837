package main

import (
	"crypto/aes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"joingate/courier"
	"joingate/keyring"
	"joingate/sim"

	"github.com/brocaar/lorawan"
)

// webhookServer receives join events by webhook. It refuses the first one, as a
// server does that is being started.
type webhookServer struct {
	url    string
	events chan joinedEvent
}

// joinedEvent is what a network server needs of a join event.
type joinedEvent struct {
	ID, DevAddr string
	Keys        struct {
		NS struct{ KekLabel, NwkSKey, FNwkSIntKey, SNwkSIntKey, NwkSEncKey string }
		AS struct{ KekLabel, AppSKey string }
	}
}

func newWebhookServer(t *testing.T, secret string) *webhookServer {
	w := &webhookServer{events: make(chan joinedEvent, 10)}
	var asked atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		mac := hmac.New(sha256.New, []byte(secret))
		mac.Write([]byte(r.Header.Get(courier.HeaderTimestamp) + "." + string(body)))
		if err != nil || r.Header.Get(courier.HeaderSignature) != "v1="+hex.EncodeToString(mac.Sum(nil)) {
			t.Errorf("signature %s of %s (%v)", r.Header.Get(courier.HeaderSignature), body, err)
		}
		if asked.Add(1) == 1 {
			rw.WriteHeader(http.StatusInternalServerError)
			return
		}
		var e joinedEvent
		if err := json.Unmarshal(body, &e); err != nil || e.ID != r.Header.Get(courier.HeaderEventID) {
			t.Errorf("event %s (%v)", body, err)
		}
		w.events <- e
	}))
	t.Cleanup(server.Close)
	w.url = server.URL
	return w
}

// TestNetworkServerReadsTheFirstUplink hands a join over as in the field: the
// network server gets the event, unwraps the keys under what it has registered, and
// reads the first frame that the device sends.
func TestNetworkServerReadsTheFirstUplink(t *testing.T) {
	t.Parallel()
	receiver := newWebhookServer(t, "a secret of the webhook")
	m := newMachine(t)
	d := m.with("JOINGATE_EVENTS__WEBHOOK_URL="+receiver.url,
		"JOINGATE_EVENTS__WEBHOOK_SECRET_FILE="+m.write("secret", "a secret of the webhook\n")).serve()
	c, _ := d.site(gatewayA)
	nsKEK, asKEK := strings.Repeat("a1", 16), strings.Repeat("b2", 32)
	d.run("account", "kek", "acme", "ns", "--label", "ns-1", "--kek-file", m.write("ns.kek", nsKEK))
	d.run("account", "kek", "acme", "as", "--label", "as-1", "--kek-file", m.write("as.kek", asKEK))
	devices := []device{newDevice(0, "1.0.3"), newDevice(1, "1.1")}
	c.register("meters", devices...)
	f := d.field(gatewayA)
	for i, node := range switchAllOn(t, devices) {
		joined := f.join(node)
		event := <-receiver.events
		if event.DevAddr != joined.DevAddr || event.Keys.NS.KekLabel != "ns-1" || event.Keys.AS.KekLabel != "as-1" {
			t.Fatalf("event %+v of %+v", event, joined)
		}
		frame := firstUplink(t, joined)
		mac, fKey, sKey := lorawan.LoRaWAN1_1, event.Keys.NS.FNwkSIntKey, event.Keys.NS.SNwkSIntKey
		if devices[i].version != "1.1" {
			mac, fKey, sKey = lorawan.LoRaWAN1_0, event.Keys.NS.NwkSKey, event.Keys.NS.NwkSKey
		}
		if ok, err := frame.ValidateUplinkDataMIC(mac, 0, 0, 0, unwrapped(t, nsKEK, fKey), unwrapped(t, nsKEK, sKey)); err != nil || !ok {
			t.Errorf("%s: MIC %v, %v", devices[i].version, ok, err)
		}
		check(t, frame.DecryptFRMPayload(unwrapped(t, asKEK, event.Keys.AS.AppSKey)))
		payload := frame.MACPayload.(*lorawan.MACPayload).FRMPayload[0].(*lorawan.DataPayload)
		if string(payload.Bytes) != meterReading {
			t.Errorf("%s: read %q", devices[i].version, payload.Bytes)
		}
	}
}

const meterReading = "42.7 m3"

// unwrapped opens a key of an event with the key that the server registered.
func unwrapped(t *testing.T, kek, wrapped string) (k lorawan.AES128Key) {
	t.Helper()
	kekOctets, err1 := hex.DecodeString(kek)
	octets, err2 := hex.DecodeString(wrapped)
	check(t, err1)
	check(t, err2)
	key, err := keyring.UnwrapKey(kekOctets, octets)
	check(t, err)
	check(t, k.UnmarshalText([]byte(key.RevealHex())))
	return k
}

// firstUplink is the first unconfirmed data frame of a device that has joined, with
// frame counter 0 on port 1 (TS001-1.0.4, sections 4.3.3 and 4.4).
func firstUplink(t *testing.T, joined sim.Result) *lorawan.PHYPayload {
	t.Helper()
	var addr lorawan.DevAddr
	check(t, addr.UnmarshalText([]byte(joined.DevAddr)))
	keys := joined.SessionKeys()
	port := uint8(1)
	frame := &lorawan.PHYPayload{
		MHDR: lorawan.MHDR{MType: lorawan.UnconfirmedDataUp, Major: lorawan.LoRaWANR1},
		MACPayload: &lorawan.MACPayload{
			FHDR: lorawan.FHDR{DevAddr: addr}, FPort: &port,
			FRMPayload: []lorawan.Payload{&lorawan.DataPayload{Bytes: encryptedByDevice(keys.AppSKey, addr, []byte(meterReading))}},
		},
	}
	mac, fKey, sKey := lorawan.LoRaWAN1_0, keys.FNwkSIntKey, keys.FNwkSIntKey
	if joined.OptNeg {
		mac, sKey = lorawan.LoRaWAN1_1, keys.SNwkSIntKey
	}
	check(t, frame.SetUplinkDataMIC(mac, 0, 0, 0, lorawan.AES128Key(fKey.Octets()), lorawan.AES128Key(sKey.Octets())))
	return frame
}

// encryptedByDevice encrypts up to 16 octets of the first uplink.
func encryptedByDevice(appSKey sim.Key, addr lorawan.DevAddr, plain []byte) []byte {
	octets := appSKey.Octets()
	block, _ := aes.NewCipher(octets[:]) // the length is right
	a := make([]byte, aes.BlockSize)
	a[0], a[15] = 1, 1
	binary.LittleEndian.PutUint32(a[6:], binary.BigEndian.Uint32(addr[:]))
	block.Encrypt(a, a)
	for i := range plain {
		plain[i] ^= a[i]
	}
	return plain
}
