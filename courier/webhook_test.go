package courier

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"joingate/joinserver"
	"joingate/keyring"
)

const secret = "s3cret-of-the-webhook"

func open(t testing.TB, url string, change ...func(*WebhookOptions)) *Webhook {
	t.Helper()
	o := WebhookOptions{URL: url, Secret: keyring.NewSecret(secret), Timeout: 5 * time.Second}
	for _, c := range change {
		c(&o)
	}
	w, err := NewWebhook(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.client.CloseIdleConnections)
	return w
}

func event(device byte) joinserver.OutboxEvent {
	return joinserver.OutboxEvent{DevEUI: eui(device), JoinNonce: 5, Payload: []byte(`{"id":"x","devEui":"…"}`)}
}

// serve answers with the handler.
func serve(t *testing.T, handler http.HandlerFunc) *httptest.Server {
	s := httptest.NewServer(handler)
	t.Cleanup(s.Close)
	return s
}

// The receiver can tell what an event is, and that it comes from here.
func TestRequest(t *testing.T) {
	s := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		stamp := r.Header.Get("Joingate-Timestamp")
		mac := hmac.New(sha256.New, []byte(secret))
		fmt.Fprintf(mac, "%s.%s", stamp, body)
		for what, c := range map[string][2]string{
			"method":    {r.Method, "POST"},
			"path":      {r.URL.String(), "/hook?a=b"},
			"type":      {r.Header.Get("Content-Type"), "application/json"},
			"id":        {r.Header.Get("Joingate-Event-Id"), "0000000000000003-5"},
			"time":      {stamp, "1000000000"},
			"signature": {r.Header.Get("Joingate-Signature"), "v1=" + hex.EncodeToString(mac.Sum(nil))},
			"body":      {string(body), string(event(3).Payload)},
		} {
			if c[0] != c[1] {
				t.Errorf("%s: %q, want %q", what, c[0], c[1])
			}
		}
	})
	w := open(t, s.URL+"/hook?a=b")
	w.now = func() time.Time { return time.Unix(1e9, 0) }
	if n, err := w.Deliver(t.Context(), []joinserver.OutboxEvent{event(3)}); n != 1 || err != nil {
		t.Error(n, err)
	}
}

// The id is that of the event itself.
func TestEventID(t *testing.T) {
	c := joinserver.Claim{Request: joinserver.JoinRequest{DevEUI: eui(9)}}
	made, err := c.Event(joinserver.Grant{JoinNonce: 77}, time.Now(), joinserver.Recipients{})
	if got := eventID(joinserver.OutboxEvent{DevEUI: eui(9), JoinNonce: 77}); err != nil || got != made.ID {
		t.Errorf("%s, the event has %s, %v", got, made.ID, err)
	}
}

func TestStatuses(t *testing.T) {
	for status, want := range map[int]string{
		200: "taken", 201: "taken", 202: "taken", 204: "taken", 299: "taken",
		301: "fault", 302: "fault", 307: "fault", 308: "fault", 304: "fault",
		400: "refused", 401: "refused", 403: "refused", 404: "refused", 410: "refused", 413: "refused", 422: "refused", 499: "refused",
		408: "fault", 425: "fault", 429: "fault", 500: "fault", 502: "fault", 503: "fault", 504: "fault",
	} {
		var asked atomic.Int64
		s := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			asked.Add(1)
			w.Header().Set("Location", "/elsewhere")
			w.WriteHeader(status)
		})
		n, err := open(t, s.URL).Deliver(t.Context(), []joinserver.OutboxEvent{event(1), event(2)})
		var refusal *Refusal
		switch got := errors.As(err, &refusal); {
		case want == "taken" && (n != 2 || err != nil || asked.Load() != 2):
			t.Errorf("%d: %d taken, %v", status, n, err)
		case want != "taken" && (n != 0 || err == nil || asked.Load() != 1):
			t.Errorf("%d: %d taken after %d requests, %v", status, n, asked.Load(), err)
		case got != (want == "refused"):
			t.Errorf("%d: refused is %v", status, got)
		}
	}
}

// However a receiver misbehaves, delivery ends in an error, soon.
func TestBadReceivers(t *testing.T) {
	for name, handler := range map[string]http.HandlerFunc{
		"says nothing": func(_ http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			<-r.Context().Done()
		},
		"hangs up": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"no HTTP":  func(w http.ResponseWriter, _ *http.Request) { speak(w, "hello\r\n\r\n") },
		"endless header": func(w http.ResponseWriter, _ *http.Request) {
			speak(w, "HTTP/1.1 200 OK\r\n"+strings.Repeat("a: b\r\n", 50_000))
		},
		"huge answer": func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(500)
			for r.Context().Err() == nil {
				if _, err := w.Write(make([]byte, 1<<20)); err != nil {
					return
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, handler)
			w := open(t, s.URL, func(o *WebhookOptions) { o.Timeout = 200 * time.Millisecond })
			n, err := w.Deliver(t.Context(), []joinserver.OutboxEvent{event(1)})
			if n != 0 || err == nil || len(err.Error()) > 1000 || strings.Contains(err.Error(), s.URL) {
				t.Errorf("%d, %.1000v", n, err)
			}
		})
	}
}

// speak answers past net/http.
func speak(w http.ResponseWriter, text string) {
	conn, _, err := w.(http.Hijacker).Hijack()
	if err == nil {
		_, _ = conn.Write([]byte(text))
		_ = conn.Close()
	}
}

func TestPrivateAuthority(t *testing.T) {
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	t.Cleanup(s.Close)
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	for name, c := range map[string]struct {
		tls *tls.Config
		ok  bool
	}{
		"known":   {&tls.Config{RootCAs: roots}, true},
		"unknown": {nil, false},
	} {
		_, err := open(t, s.URL, func(o *WebhookOptions) { o.TLS = c.tls }).Deliver(t.Context(), []joinserver.OutboxEvent{event(1)})
		if (err == nil) != c.ok {
			t.Errorf("%s authority: %v", name, err)
		}
	}
}

func TestWrongOptions(t *testing.T) {
	for _, url := range []string{"", "h", "ftp://h", "https://", "https:///p", "https://u:t0ken@h/", "https://h:x/t0ken", "https://h/%zt0ken"} {
		_, err := NewWebhook(WebhookOptions{URL: url, Secret: keyring.NewSecret("s")})
		if err == nil || strings.Contains(err.Error(), "t0ken") {
			t.Errorf("%q: %v", url, err)
		}
	}
	if _, err := NewWebhook(WebhookOptions{URL: "https://h"}); err == nil {
		t.Error("taken without a secret")
	}
	w := open(t, "http://127.0.0.1:1/t0ken?t0ken")
	_, err := w.Deliver(t.Context(), []joinserver.OutboxEvent{event(1)})
	for _, text := range []string{fmt.Sprint(err), fmt.Sprintf("%+v", WebhookOptions{Secret: keyring.NewSecret(secret)}), fmt.Sprintf("%+v", w.secret)} {
		if strings.Contains(text, "t0ken") || strings.Contains(text, secret) {
			t.Errorf("shows a secret: %s", text)
		}
	}
}

// receiver is a server of the kind that operators write: it keeps what it has
// taken, and is out of order at times.
type receiver struct {
	mu    sync.Mutex
	asked int
	taker *taker
}

func (s *receiver) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var e joinserver.OutboxEvent
	var device string
	if _, err := fmt.Sscanf(strings.Replace(r.Header.Get(HeaderEventID), "-", " ", 1), "%s %d", &device, &e.JoinNonce); err != nil {
		w.WriteHeader(400)
		return
	}
	e.DevEUI, _ = joinserver.ParseEUI64(device)
	s.enter(e.DevEUI)
	defer s.leave(e.DevEUI)
	_, _ = io.Copy(io.Discard, r.Body)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
	switch {
	case s.asked < 50 || s.asked%7 == 0:
		w.WriteHeader(500)
	case s.asked%11 == 0: // taken, and the answer lost
		s.taker.take(e)
		panic(http.ErrAbortHandler)
	case s.asked%13 == 0:
		panic(http.ErrAbortHandler)
	default:
		s.taker.take(e)
	}
}

func (s *receiver) enter(device joinserver.EUI64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.taker.busy[device] {
		s.taker.fault = "two requests for one device at a time"
	}
	s.taker.busy[device] = true
}

func (s *receiver) leave(device joinserver.EUI64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.taker.busy, device)
}

// The whole way: a receiver that is down at first and fails at times, and a
// courier that dies in between.
func TestWebhookAtLeastOnceInOrder(t *testing.T) {
	g := newRig(4)
	r := &receiver{taker: g.sink}
	s := httptest.NewServer(r)
	t.Cleanup(s.Close)
	hook := open(t, s.URL)
	const devices, each = 20, 10
	for range each {
		for device := range devices {
			g.box.add(byte(device))
		}
	}
	for i := 0; g.box.left() > 0; i++ {
		if i%5 == 2 {
			g.restart(4)
			g.box.unkept = 1
		}
		g.runner.Sink = hook
		g.step(t)
	}
	if g.sink.fault != "" || g.sink.count() != devices*each {
		t.Errorf("fault %q, %d of %d events came", g.sink.fault, g.sink.count(), devices*each)
	}
	if len(g.sink.taken) == devices*each {
		t.Error("no event came twice: nothing was proved")
	}
}
