package backend_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"joingate/backend"
	"joingate/joinserver"
	"joingate/tlsfile/testca"
)

// mailbox is a network server's AnswerURL. It answers the first deliveries with
// the statuses it was given.
type mailbox struct {
	*httptest.Server
	ca       *testca.Authority
	statuses []int
	asked    atomic.Int32
	shown    atomic.Int32 // deliveries that showed a client certificate
	tried    chan bool    // has an element after a delivery that failed
	got      chan reply
}

func newMailbox(t *testing.T, statuses ...int) *mailbox {
	m := &mailbox{ca: testca.New(t, "network servers"), statuses: statuses, tried: make(chan bool, 16), got: make(chan reply, 16)}
	m.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if len(r.TLS.PeerCertificates) == 1 {
			m.shown.Add(1)
		}
		body, err := io.ReadAll(r.Body)
		if n := int(m.asked.Add(1)); n <= len(m.statuses) {
			w.Header().Set("Location", "/elsewhere")
			w.WriteHeader(m.statuses[n-1])
			m.tried <- true
			return
		}
		if err != nil || r.Header.Get("Content-Type") != "application/json" || r.Method != http.MethodPost {
			t.Errorf("%s with %s: %v", r.Method, r.Header.Get("Content-Type"), err)
		}
		m.got <- read(t, http.StatusOK, body)
	}))
	m.TLS = &tls.Config{Certificates: []tls.Certificate{m.ca.Issue("ns").TLS}, ClientAuth: tls.RequestClientCert}
	m.StartTLS()
	t.Cleanup(m.Close)
	return m
}

// async makes the world's network server an asynchronous one.
func (w *world) async(m *mailbox) *world {
	w.ns().AnswerURL = m.URL + "/answers"
	w.config.AnswerTLS = &tls.Config{RootCAs: m.ca.Pool(), Certificates: []tls.Certificate{m.ca.Issue("joingate").TLS}}
	w.open()
	w.server.SetPauses(0, 0)
	return w
}

func (w *world) close() {
	w.tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := w.server.Close(ctx); err != nil {
		w.tb.Error(err)
	}
}

// accepted sends a message that must be taken without an answer.
func (w *world) accepted(m msg) {
	w.tb.Helper()
	if answer := w.send(m); answer.status != http.StatusOK || answer.body != "" {
		w.tb.Errorf("status %d, %s", answer.status, answer.body)
	}
}

func TestAsynchronousAnswers(t *testing.T) {
	box := newMailbox(t)
	w := newWorld(t).withASKEK().withSessions().async(box)
	for _, m := range []msg{joinReq(set("SenderToken", "ab")), appSKeyReq(joinserver.SessionKeyID(device, 6)), homeNSReq(), request("PRStartReq"), joinReq(without("DevEUI"))} {
		w.accepted(m)
		answer := <-box.got
		if answer.TransactionID != 4294967295 || answer.MessageType != strings.TrimSuffix(m["MessageType"].(string), "Req")+"Ans" || answer.ReceiverID != "000013" {
			t.Errorf("answer: %s", answer.body)
		}
		if m["SenderToken"] != nil && (answer.ReceiverToken != "ab" || answer.NwkSKey.open(t, "ns-kek", kekHex) != nwkSKey) {
			t.Errorf("answer: %s", answer.body)
		}
	}
	w.close()
	if len(w.seen) != 5 || box.shown.Load() != 5 {
		t.Errorf("observed %+v, %d certificates were shown", w.seen, box.shown.Load())
	}

	// Whom nobody knows has no AnswerURL.
	w.wantResult(w.send(joinReq(set("SenderID", "ffffff"))), "UnknownSender", "")
}

// TestAnswersAreDeliveredAgain after a fault that may pass, and a few times only.
func TestAnswersAreDeliveredAgain(t *testing.T) {
	for _, c := range []struct {
		name     string
		statuses []int
		tries    int
		arrives  bool
	}{
		{"at once", nil, 1, true},
		{"after two faults", []int{500, 503}, 3, true},
		{"never", []int{500, 502, 503, 504}, 3, false},
		{"after it was told to wait", []int{429}, 2, true},
		{"refused", []int{400}, 1, false},
		{"sent elsewhere", []int{307}, 1, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			box := newMailbox(t, c.statuses...)
			w := newWorld(t).async(box)
			w.accepted(joinReq())
			w.close()
			if int(box.asked.Load()) != c.tries || len(box.got) == 1 != c.arrives {
				t.Errorf("%d tries, %d arrived", box.asked.Load(), len(box.got))
			}
			if failed := strings.Contains(w.logged(), "not delivered"); failed == c.arrives || strings.Contains(w.logged(), nwkSKey) {
				t.Errorf("log: %s", w.logged())
			}
		})
	}
}

// TestAnswerToWrongAuthority: keys do not go to a server that anybody may be.
func TestAnswerToWrongAuthority(t *testing.T) {
	box := newMailbox(t)
	w := newWorld(t).async(box)
	w.config.AnswerTLS = nil
	w.open()
	w.server.SetPauses(0, 0)
	w.accepted(joinReq())
	w.close()
	if box.asked.Load() != 0 || !strings.Contains(w.logged(), "certificate") {
		t.Errorf("%d deliveries; %s", box.asked.Load(), w.logged())
	}
}

// TestCloseGivesUp: a server that stops does not wait for ever for another one.
func TestCloseGivesUp(t *testing.T) {
	box := newMailbox(t, 500, 500, 500)
	w := newWorld(t).async(box)
	w.server.SetPauses(time.Hour, time.Hour)
	w.accepted(joinReq())
	<-box.tried
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	if err := w.server.Close(ended); err == nil {
		t.Error("the answer was given up without an error")
	}
	if !strings.Contains(w.logged(), "not delivered") {
		t.Errorf("log: %s", w.logged())
	}
}

// TestAsynchronousRoom: an answer under way takes a slot.
func TestAsynchronousRoom(t *testing.T) {
	box := newMailbox(t)
	w := newWorld(t)
	leave := make(chan bool)
	w.join = func(r joinserver.NetworkRequest) (joinserver.NetworkAnswer, error) {
		<-leave
		return joinserver.NetworkAnswer{}, &joinserver.Rejection{Reason: joinserver.Overloaded, DevEUI: r.DevEUI}
	}
	w.async(box)
	go func() {
		for range box.got {
		}
	}()
	for i := range backend.MaxAtOnce {
		w.accepted(joinReq(set("TransactionID", i)))
	}
	if answer := w.send(joinReq()); answer.status != http.StatusServiceUnavailable {
		t.Errorf("one too many: %d %s", answer.status, answer.body)
	}
	close(leave)
	w.close()
	if len(w.seen) != backend.MaxAtOnce+1 {
		t.Errorf("%d messages were counted", len(w.seen))
	}
}

// FuzzMessage: whatever a sender writes, the answer is one of those that the
// interface has, and knows no key.
func FuzzMessage(f *testing.F) {
	for _, m := range []msg{
		joinReq(), joinReq(set("SenderToken", "ab"), set("CFList", strings.Repeat("00", 16))), appSKeyReq(joinserver.SessionKeyID(device, 6)),
		homeNSReq(), request("PRStartReq"), joinReq(set("MessageType", "RejoinReq"), set("PHYPayload", "c0020302010807060504030201db003c8642ae")),
	} {
		f.Add(mustJSON(f, m))
	}
	f.Add([]byte(`{"a":[[[]]],"a":1}`))
	f.Add([]byte("{"))
	w := newWorld(f).withASKEK().withSessions().open()
	f.Fuzz(func(t *testing.T, body []byte) {
		w.mu.Lock()
		w.tb, w.seen, w.asked, w.confirmed = t, nil, nil, nil
		w.log.Reset()
		w.mu.Unlock()
		w.pass(time.Second)
		answer := w.post(body)
		switch answer.status {
		case http.StatusOK:
			if !strings.HasSuffix(answer.MessageType, "Ans") || !json.Valid([]byte(answer.body)) {
				t.Errorf("answer: %s", answer.body)
			}
		case http.StatusBadRequest:
			if answer.Result.ResultCode != "MalformedMessage" {
				t.Errorf("answer: %s", answer.body)
			}
		case http.StatusRequestEntityTooLarge:
		default:
			t.Errorf("status %d, %s", answer.status, answer.body)
		}
		if len(answer.body) > 8<<10 || strings.Contains(answer.body, nwkSKey) || len(w.logged()) > 8<<10 || strings.Contains(w.logged(), "panic") {
			t.Errorf("answer %.200s, log %.2000s", answer.body, w.logged())
		}
		if len(w.seen) != 1 {
			t.Errorf("%d messages were counted", len(w.seen))
		}
	})
}

// BenchmarkJoinReq is a JoinReq without the decision and without TLS.
func BenchmarkJoinReq(b *testing.B) {
	w := newWorld(b).withASKEK()
	w.config.Observe = nil
	w.open()
	body := mustJSON(b, joinReq())
	b.ReportAllocs()
	for b.Loop() {
		w.pass(backend.RepeatLife)
		if answer := w.post(body); answer.Result.ResultCode != "Success" {
			b.Fatal(answer.body)
		}
		w.asked = nil
	}
}
