package record_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"joingate/band"
	"joingate/joinserver"
	"joingate/record"

	"pgregory.net/rapid"
)

// frameModel is a join-request that was answered.
type frameModel struct {
	mic   byte
	until time.Time
}

// deviceModel says in a few lines what the nonce rules are.
type deviceModel struct {
	version   joinserver.MACVersion
	joinNonce uint32
	lastAddr  joinserver.DevAddr
	used      map[joinserver.EUI64]map[uint16]frameModel // by JoinEUI and DevNonce
}

func (d *deviceModel) outcome(eui joinserver.EUI64, devNonce uint16, mic byte, now time.Time) string {
	used := d.used[eui]
	frame, seen := used[devNonce]
	if seen && frame.mic == mic && !now.After(frame.until) {
		return "late copy"
	}
	for before := range used {
		if before == devNonce || d.version >= band.MAC1_0_4 && before > devNonce {
			return "dev_nonce_replayed"
		}
	}
	return "granted"
}

func (d *deviceModel) granted(eui joinserver.EUI64, devNonce uint16, mic byte, now time.Time) {
	if d.used[eui] == nil {
		d.used[eui] = map[uint16]frameModel{}
	}
	d.used[eui][devNonce] = frameModel{mic, now.Add(6 * time.Second)}
	d.joinNonce++
}

// Whatever devices, attackers and operators do in whatever order, the record
// decides as the model does.
func TestNonceRules(t *testing.T) {
	onEngines(t, func(t *testing.T, w *world) {
		device := 0
		rapid.Check(t, func(rt *rapid.T) {
			device++ // a new one for each run
			version := rapid.SampledFrom([]joinserver.MACVersion{band.MAC1_0_2, band.MAC1_0_4, band.MAC1_1}).Draw(rt, "version")
			d := &deviceModel{version: version, used: map[joinserver.EUI64]map[uint16]frameModel{}}
			w.importNodes(t, w.r, version, device, device+1)
			for range rapid.IntRange(1, 12).Draw(rt, "steps") {
				switch rapid.SampledFrom([]string{"join", "join", "join", "join", "time", "time", "reset", "import", "version"}).Draw(rt, "step") {
				case "join":
					w.joinAsModelled(t, rt, d, devEUI(device))
				case "time":
					w.clock.advance(time.Duration(rapid.IntRange(1, 7000).Draw(rt, "ms")) * time.Millisecond)
				case "reset":
					update(t, w.r, func(tx *record.Tx) error { return tx.ResetNonces(devEUI(device)) })
					clear(d.used)
				case "import":
					update(t, w.r, func(tx *record.Tx) error { return tx.DeleteNode(devEUI(device)) })
					w.importNodes(t, w.r, d.version, device, device+1)
				case "version":
					if d.version == band.MAC1_1 { // has other keys
						continue
					}
					d.version = rapid.SampledFrom([]joinserver.MACVersion{band.MAC1_0_3, band.MAC1_0_4}).Draw(rt, "version")
					update(t, w.r, func(tx *record.Tx) error { return tx.SetNode(devEUI(device), &d.version, nil) })
				}
			}
		})
	})
}

func (w *world) joinAsModelled(t *testing.T, rt *rapid.T, d *deviceModel, device joinserver.EUI64) {
	eui := rapid.SampledFrom([]joinserver.EUI64{joinEUI, otherEUI}).Draw(rt, "JoinEUI")
	devNonce := rapid.Uint16Range(0, 5).Draw(rt, "DevNonce")
	mic := rapid.ByteRange(0, 1).Draw(rt, "MIC")
	c := w.claim(t, w.r, device, devNonce, w.clock.now())
	c.Request.JoinEUI, c.Request.MIC = eui, [4]byte{mic}
	want := d.outcome(eui, devNonce, mic, w.clock.now())
	grant, err := w.commit(c)
	if got := outcome(err); got != want {
		rt.Fatalf("%s, not %s", got, want)
	}
	if err != nil {
		return
	}
	d.granted(eui, devNonce, mic, w.clock.now())
	if grant.JoinNonce != d.joinNonce {
		rt.Fatalf("JoinNonce %d, not %d", grant.JoinNonce, d.joinNonce)
	}
	if grant.DevAddr == d.lastAddr {
		rt.Fatalf("DevAddr %s twice running", grant.DevAddr)
	}
	d.lastAddr = grant.DevAddr
}

// sessionsModel holds the addresses of a device's live sessions, newest first.
type sessionsModel [2]joinserver.DevAddr

// No address is shared while the space has room; the model counts what is live.
func TestDevAddrUniqueness(t *testing.T) {
	onEngines(t, func(t *testing.T, w *world) {
		network := uint16(0)
		w.importNodes(t, w.r, band.MAC1_0_3, 0, 100)
		devNonce := uint16(0)
		rapid.Check(t, func(rt *rapid.T) {
			// A new network for each run; what the devices have of others does not count.
			network++
			id := joinserver.NetID{0xe0, byte(network >> 8), byte(network)}
			live := map[int]sessionsModel{}
			sharedBefore := w.r.SharedAddresses()
			for range rapid.IntRange(1, 8).Draw(rt, "rounds") {
				devNonce++
				first := rapid.IntRange(0, 30).Draw(rt, "first device")
				end := first + rapid.IntRange(1, 70).Draw(rt, "devices")
				for i, addr := range joinAtOnce(t, w, id, first, end, devNonce) {
					if addr == live[first+i][0] {
						rt.Fatalf("device %d has got %s twice running", first+i, addr)
					}
					live[first+i] = sessionsModel{addr, live[first+i][0]}
				}
				addrs := addresses(live)
				sessions, distinct, shared := len(addrs), len(slices.Compact(addrs)), w.r.SharedAddresses()-sharedBefore
				if sessions <= 128 && (distinct != sessions || shared != 0) {
					rt.Fatalf("%d live sessions have %d addresses, %d counted as shared, in a space of 128", sessions, distinct, shared)
				}
				if sessions > 128 && shared == 0 {
					rt.Fatalf("%d live sessions in a space of 128 share nothing", sessions)
				}
			}
		})
	})
}

// joinAtOnce commits one join of each device from first to before end together.
// They came with one import, so that their policies are alike.
func joinAtOnce(t *testing.T, w *world, id joinserver.NetID, first, end int, devNonce uint16) []joinserver.DevAddr {
	t.Helper()
	claims := make([]joinserver.Claim, end-first)
	model := w.claim(t, w.r, devEUI(first), devNonce, w.clock.now())
	for i := range claims {
		claims[i] = model
		claims[i].NetID, claims[i].Request.DevEUI, claims[i].Policy.Node.DevEUI = id, devEUI(first+i), devEUI(first+i)
	}
	grants, errs := w.r.CommitTogether(claims)
	check(t, errors.Join(errs...))
	got := make([]joinserver.DevAddr, len(claims))
	for i, g := range grants {
		got[i] = g.DevAddr
	}
	return got
}

// addresses gives all that are live, in order.
func addresses(live map[int]sessionsModel) (all []joinserver.DevAddr) {
	for _, s := range live {
		for _, addr := range s {
			if addr != (joinserver.DevAddr{}) {
				all = append(all, addr)
			}
		}
	}
	slices.SortFunc(all, func(a, b joinserver.DevAddr) int { return slices.Compare(a[:], b[:]) })
	return all
}
