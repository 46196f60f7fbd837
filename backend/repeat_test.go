package backend_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"joingate/backend"
	"joingate/joinserver"
)

// spend makes JoinFor take each DevNonce once, as a record does, and count the
// JoinNonce up.
func (w *world) spend() *world {
	var spent atomic.Uint32
	used := map[string]bool{}
	w.join = func(r joinserver.NetworkRequest) (joinserver.NetworkAnswer, error) {
		w.mu.Lock()
		defer w.mu.Unlock()
		if used[string(r.PHYPayload)] {
			return joinserver.NetworkAnswer{}, &joinserver.Rejection{Reason: joinserver.DevNonceReplayed, DevEUI: r.DevEUI}
		}
		used[string(r.PHYPayload)] = true
		answer := w.granted(r, false)
		answer.Grant.JoinNonce = spent.Add(1)
		return answer, nil
	}
	return w
}

// TestRepeatedRequest: what an HTTP client sends again gets the same answer, and
// nothing else does.
func TestRepeatedRequest(t *testing.T) {
	w := newWorld(t).withASKEK().spend().open()
	first := w.mustSucceed(joinReq())
	w.pass(backend.RepeatLife - time.Millisecond)
	if again := w.mustSucceed(joinReq()); again.body != first.body || len(w.asked) != 1 {
		t.Errorf("answers %s and %s, JoinFor was asked %d times", first.body, again.body, len(w.asked))
	}
	if !strings.Contains(w.logged(), `"repeated":true`) {
		t.Errorf("the log does not tell: %s", w.logged())
	}
	for name, edit := range map[string]func(msg){
		"TransactionID": set("TransactionID", 7), "DevAddr": set("DevAddr", "26000002"), "DLSettings": set("DLSettings", "04"),
		"RxDelay": set("RxDelay", 2), "CFList": set("CFList", strings.Repeat("00", 16)), "MACVersion": set("MACVersion", "1.0.2"),
	} {
		answer := w.send(joinReq(edit))
		w.wantResult(answer, "FrameReplayed", "dev_nonce_replayed")
		if t.Failed() {
			t.Fatalf("another %s was taken for the same request", name)
		}
	}
	w.pass(time.Millisecond)
	w.wantResult(w.send(joinReq()), "FrameReplayed", "")
}

// TestRepeatedByAnotherServer: the answer is for who asked.
func TestRepeatedByAnotherServer(t *testing.T) {
	w := newWorld(t).spend()
	other := *w.ns()
	other.Name, other.Certificates = "other", []string{"cn:ns.example.org"}
	w.add(other)
	w.open().mustSucceed(joinReq())
	// The common name is of the same certificate: without the fingerprint it is the
	// other server's.
	certificate := *w.cert
	certificate.Raw = []byte("another")
	w.cert = &certificate
	w.wantResult(w.send(joinReq()), "FrameReplayed", "")
}

// TestRepeatedWhileDecided: a client that does not wait asks for the same join.
func TestRepeatedWhileDecided(t *testing.T) {
	w := newWorld(t).spend()
	join, leave := w.join, make(chan bool)
	entered := make(chan bool, 1)
	w.join = func(r joinserver.NetworkRequest) (joinserver.NetworkAnswer, error) {
		entered <- true
		<-leave
		return join(r)
	}
	w.open()
	answers := make(chan reply)
	for range 8 {
		go func() { answers <- w.send(joinReq()) }()
	}
	<-entered
	close(leave)
	first := <-answers
	for range 7 {
		if answer := <-answers; answer.body != first.body || answer.Result.ResultCode != "Success" {
			t.Errorf("answers %s and %s", first.body, answer.body)
		}
	}
	if len(w.asked) != 1 {
		t.Errorf("JoinFor was asked %d times", len(w.asked))
	}
}

// TestClientHangsUp: the join is decided all the same, and the client that comes
// back gets its answer.
func TestClientHangsUp(t *testing.T) {
	w := newWorld(t).spend()
	gone, cancel := context.WithCancel(context.Background())
	join := w.join
	var alive error
	w.config.Joins = joinerFunc(func(ctx context.Context, r joinserver.NetworkRequest) (joinserver.NetworkAnswer, error) {
		cancel()
		alive = ctx.Err()
		return join(r)
	})
	w.open()
	first := w.post(mustJSON(t, joinReq()), func(r *http.Request) { *r = *r.WithContext(gone) })
	if again := w.mustSucceed(joinReq()); alive != nil || again.body != first.body {
		t.Errorf("context %v; answers %s and %s", alive, first.body, again.body)
	}
}

type joinerFunc func(context.Context, joinserver.NetworkRequest) (joinserver.NetworkAnswer, error)

func (f joinerFunc) JoinFor(ctx context.Context, r joinserver.NetworkRequest) (joinserver.NetworkAnswer, error) {
	return f(ctx, r)
}

// TestRefusalsAreDecidedAgain: an operator who mends something does not wait.
func TestRefusalsAreDecidedAgain(t *testing.T) {
	w := newWorld(t)
	granted := w.join
	w.join = func(joinserver.NetworkRequest) (joinserver.NetworkAnswer, error) {
		return joinserver.NetworkAnswer{}, &joinserver.Rejection{Reason: joinserver.DeviceDisabled, DevEUI: device}
	}
	w.open()
	w.wantResult(w.send(joinReq()), "ActivationDisallowed", "")
	w.join = granted
	w.mustSucceed(joinReq())
}

// TestMemoryOfRepeatsIsBounded, by number and by time.
func TestMemoryOfRepeatsIsBounded(t *testing.T) {
	w := newWorld(t).open()
	for i := range backend.RepeatMost + 10 {
		if answer := w.post(fmt.Appendf(nil, `{"ProtocolVersion":"1.1","SenderID":"000013","ReceiverID":%q,"TransactionID":%d,"MessageType":"JoinReq","MACVersion":"1.0.3",`+
			`"PHYPayload":%q,"DevEUI":%q,"DevAddr":"26000001","DLSettings":"03","RxDelay":1}`, joinEUI, i, joinFrame, device)); answer.Result.ResultCode != "Success" {
			t.Fatal(answer.body)
		}
	}
	if known, order := w.server.Remembered(); known != backend.RepeatMost || order != backend.RepeatMost {
		t.Errorf("%d joins known, %d in order", known, order)
	}
	w.pass(backend.RepeatLife)
	w.send(joinReq(set("TransactionID", 1)))
	if known, order := w.server.Remembered(); known != 1 || order != 1 {
		t.Errorf("after their time: %d joins known, %d in order", known, order)
	}
}
