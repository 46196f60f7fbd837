package linkwan

import (
	"errors"
	"strings"
	"testing"
	"time"

	"joingate/joinserver"
)

// watched is a gateway of alice with a Watch on it.
func watched(t *testing.T) (w *world, watch *Watch, gateway joinserver.EUI64, broker *error) {
	w = newWorld(t)
	eui := w.gateway("alice")
	broker = new(error)
	return w, NewWatch(w.server, func() error { return *broker }), mustEUI(eui), broker
}

func (w *world) wantOnline(gateway joinserver.EUI64, want string) {
	w.t.Helper()
	w.clock.move(time.Second) // calls per second are limited
	answer := w.must("alice", "GetGateway", "GwEui="+gateway.String())
	if !strings.Contains(string(answer), `"OnlineState":"`+want+`"`) {
		w.t.Errorf("gateway is not %s: %s", want, answer)
	}
}

func TestGatewayThatIsHeardIsOnlineUntilItsBridgeSaysOtherwise(t *testing.T) {
	w, watch, gateway, _ := watched(t)
	watch.heard(t.Context(), sign{gateway, true, w.clock.now()})
	w.wantOnline(gateway, "ONLINE")
	watch.heard(t.Context(), sign{gateway, false, w.clock.now()})
	w.wantOnline(gateway, "OFFLINE")
	if n := len(w.notices("alice")); n != 1 {
		t.Errorf("%d notifications, want one of the gateway going offline", n)
	}
}

func TestSilentGatewayGoesOffline(t *testing.T) {
	w, watch, gateway, broker := watched(t)
	start := w.clock.now()
	watch.heard(t.Context(), sign{gateway, true, start})
	watch.silence(t.Context(), start.Add(silenceMeansOffline))
	w.wantOnline(gateway, "ONLINE")

	// The broker is away for an hour: that is not the gateway's silence.
	*broker = errors.New("away")
	watch.silence(t.Context(), start.Add(time.Hour))
	*broker = nil
	watch.silence(t.Context(), start.Add(time.Hour+silenceMeansOffline))
	w.wantOnline(gateway, "ONLINE")
	watch.silence(t.Context(), start.Add(time.Hour+silenceMeansOffline+time.Second))
	w.wantOnline(gateway, "OFFLINE")
}

// A gateway that was online when the server stopped, and died meanwhile.
func TestWatchResumesWithWhatTheRecordHasOnline(t *testing.T) {
	w, watch, gateway, _ := watched(t)
	watch.heard(t.Context(), sign{gateway, true, w.clock.now()})
	again := NewWatch(w.server, func() error { return nil })
	again.resume(t.Context())
	again.silence(t.Context(), w.clock.now().Add(silenceMeansOffline+time.Second))
	w.wantOnline(gateway, "OFFLINE")
}

func TestSignsNeverBlock(t *testing.T) {
	_, watch, gateway, _ := watched(t)
	for range signsWaiting + 10 {
		watch.GatewaySeen(gateway, time.Now())
		watch.GatewayOnline(gateway, true, time.Now())
	}
}
