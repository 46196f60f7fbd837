package linkwan

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"joingate/joinserver"
)

// guess is AddNodeToGroup as alice makes it, from an address.
func guess(w *world, from string, run func() (any, error)) error {
	c := call{Server: w.server, params: params{"DevEui": devEUI}, account: w.record.state.accounts[alice]}
	_, err := w.server.guarded(context.Background(), actions()["AddNodeToGroup"], c, from, run)
	return err
}

// However many guesses run at once, ten learn whether they were right.
func TestGuessesAtOnce(t *testing.T) {
	const tries = 3 * maxFailures
	w := newWorld(t)
	var asked atomic.Int64
	var tasks sync.WaitGroup
	gate, answers := make(chan struct{}), make(chan error, tries)
	for range tries {
		tasks.Go(func() {
			answers <- guess(w, "192.0.2.1", func() (any, error) {
				asked.Add(1)
				<-gate
				return nil, fail("InvalidPinCode")
			})
		})
	}
	for range tries - maxFailures {
		wantRefusal(t, <-answers, "TooManyPinCodeVerificationFailures")
	}
	close(gate)
	tasks.Wait()
	if n := asked.Load(); n != maxFailures {
		t.Errorf("%d guesses were compared", n)
	}
}

func wantRefusal(t *testing.T, err error, code string) {
	t.Helper()
	var refusal *APIError
	if !errors.As(err, &refusal) || refusal.Code != code {
		t.Errorf("got %v, want %s", err, code)
	}
}

// Only wrong PINs count. The right one forgets the wrong ones of its node, not
// those of who gave them.
func TestWhatCountsAsGuess(t *testing.T) {
	w := newWorld(t)
	group := w.group("alice", "meters")
	for range 2 * maxFailures {
		w.fails("NodeDoesNotExist", "alice", "AddNodeToGroup", "NodeGroupId="+group, "DevEui="+devEUI, "PinCode="+pin)
	}
	w.stockNode(devEUI)
	for range maxFailures - 1 {
		w.fails("InvalidPinCode", "alice", "AddNodeToGroup", "NodeGroupId="+group, "DevEui="+devEUI, "PinCode=000000")
	}
	w.must("alice", "AddNodeToGroup", "NodeGroupId="+group, "DevEui="+devEUI, "PinCode="+pin)
	for key, want := range map[string]int{"bad-pin|DevEui|" + devEUI: 0, "bad-pin|account|1": maxFailures - 1, "bad-pin|from|127.0.0.1": maxFailures - 1} {
		if n := w.counted(key); n != want {
			t.Errorf("%s: %d failures are remembered, want %d", key, n, want)
		}
	}
}

// counted is how many events are counted under a key.
func (w *world) counted(key string) int {
	for n := 1; ; n++ {
		if full, _ := w.server.Memory.Full(w.t.Context(), key, n, failureWindow); !full {
			return n - 1
		}
	}
}

// A capital letter, and another address of the same IPv6 network, are no new try.
func TestGuessesElsewhere(t *testing.T) {
	w := newWorld(t)
	for i := range maxFailures {
		wantRefusal(t, guess(w, fmt.Sprintf("2001:db8::%x", i), func() (any, error) { return nil, fail("InvalidPinCode") }), "InvalidPinCode")
	}
	c := call{Server: w.server, params: params{"GwEui": gwEUI}, account: w.record.state.accounts[bob]}
	for from, shut := range map[string]bool{
		"2001:db8::ffff": true, "2001:db8:0:1::1": false, "192.0.2.1": false, "::ffff:192.0.2.1": false, "no address": false,
	} {
		_, err := w.server.guarded(context.Background(), actions()["CreateGateway"], c, from, func() (any, error) { return nil, nil })
		if (err != nil) != shut {
			t.Errorf("from %s: %v", from, err)
		}
	}
	c = call{Server: w.server, params: params{"DevEui": "D896E0FFFF010001"}, account: w.record.state.accounts[bob]}
	_, err := w.server.guarded(context.Background(), actions()["AddNodeToGroup"], c, "192.0.2.2", func() (any, error) { return nil, nil })
	wantRefusal(t, err, "TooManyPinCodeVerificationFailures")
}

// A client that is gone, a fault and a panic are no guesses.
func TestGuessThatCameToNothing(t *testing.T) {
	w := newWorld(t)
	for range 2 * maxFailures {
		if err := guess(w, "192.0.2.1", func() (any, error) { return nil, context.Canceled }); !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
	}
	if n := w.counted("bad-pin|from|192.0.2.1"); n != 0 {
		t.Errorf("%d are counted", n)
	}
}

// LocalMemory counts as a list of times does, whatever is done to it.
func TestLocalMemoryCounts(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		clock := &clock{at: time.Unix(0, 0)}
		m, model := NewLocalMemory(clock.now), map[string][]time.Time{}
		ctx, window := context.Background(), time.Minute
		for range rapid.IntRange(1, 60).Draw(rt, "steps") {
			key := rapid.SampledFrom([]string{"a", "b"}).Draw(rt, "key")
			live := model[key]
			for len(live) > 0 && !live[0].After(clock.now().Add(-window)) {
				live = live[1:]
			}
			switch rapid.SampledFrom([]string{"take", "full", "release", "forget", "move"}).Draw(rt, "do") {
			case "take":
				if free, _ := m.Take(ctx, key, 3, window); free != (len(live) < 3) {
					rt.Fatalf("Take gave %v with %d counted", free, len(live))
				} else if free {
					live = append(live, clock.now())
				}
			case "full":
				if full, _ := m.Full(ctx, key, 3, window); full != (len(live) >= 3) {
					rt.Fatalf("Full gave %v with %d counted", full, len(live))
				}
			case "release":
				_ = m.Release(ctx, key)
				live = live[:max(len(live)-1, 0)]
			case "forget":
				_ = m.Forget(ctx, key)
				live = nil
			case "move":
				clock.move(time.Duration(rapid.IntRange(1, 90).Draw(rt, "seconds")) * time.Second)
			}
			model[key] = live
		}
	})
}

// A flood of nonces does not make the memory forget wrong PINs.
func TestNoncesDoNotPushOutFailures(t *testing.T) {
	clock := &clock{at: time.Unix(0, 0)}
	m := NewLocalMemory(clock.now)
	_, _ = m.Take(t.Context(), "bad-pin", 1, failureWindow)
	for i := range 3 * memoryKeys {
		_, _ = m.Once(t.Context(), idText(int64(i)), joinserver.NonceLife)
	}
	if full, _ := m.Full(t.Context(), "bad-pin", 1, failureWindow); !full {
		t.Error("the failure is forgotten")
	}
}

// A wrong signature of a large request is not answered with one that is larger.
func TestStringToSignIsShownInPart(t *testing.T) {
	w := newWorld(t)
	var changes []string
	for i := range 100 {
		changes = append(changes, fmt.Sprintf("P%d=%s", i, strings.Repeat("水", 1000)))
	}
	form := w.signed("POST", changes...)
	form.Set("Signature", "wrong")
	got := w.do(post("", form.Encode()))
	if code, size := codeOf(t, got), got.Body.Len(); code != "SignatureDoesNotMatch" || size > 2*maxShownToSign {
		t.Errorf("%s in %d octets", code, size)
	}
}
