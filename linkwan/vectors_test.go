package linkwan

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"
)

// captured is a request as a real client sent it.
type captured struct {
	Client          string
	Method          string
	Target          string
	Chunked         bool
	Headers         map[string]string
	Body            string
	AccessKeySecret string `json:"access_key_secret"`
	StringToSign    string `json:"string_to_sign"`
	Action          string
}

func capturedRequests(t testing.TB) []captured {
	t.Helper()
	text, err := os.ReadFile("testdata/signed-requests.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct{ Requests []captured }
	if err := json.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	return file.Requests
}

func (c captured) request() *http.Request {
	r := httptest.NewRequest(c.Method, c.Target, strings.NewReader(c.Body))
	for name, value := range c.Headers {
		r.Header.Set(name, value)
	}
	r.Host = c.Headers["Host"]
	if c.Chunked {
		r.ContentLength = -1
	}
	return r
}

func (w *world) vectorKeys() {
	w.key("testid", alice, "")
	w.key("STS.id", alice, "")
}

// Every captured request must have the string to sign that its client had, and
// pass the signature check; what it then says is another matter.
func TestCapturedRequestsAreAuthentic(t *testing.T) {
	for _, c := range capturedRequests(t) {
		t.Run(c.Client+" "+c.Action, func(t *testing.T) {
			w := newWorld(t)
			w.vectorKeys()
			req, err := decode(c.request())
			if err != nil {
				t.Fatal(err)
			}
			if req.credential.stringToSign != c.StringToSign {
				t.Errorf("string to sign\n%s\nwant\n%s", req.credential.stringToSign, c.StringToSign)
			}
			if req.action != c.Action {
				t.Errorf("action %q, want %q", req.action, c.Action)
			}
			if _, err := w.server.authenticate(t.Context(), req); err != nil {
				t.Error(err)
			}
		})
	}
}

// The captured name breaks the name rule; UpdateOwned… and GetOwned… name ids
// that nobody made; "undefined" is refused; the rest succeeds.
func TestCapturedRequestsGetTheirAnswers(t *testing.T) {
	for _, c := range capturedRequests(t) {
		t.Run(c.Client+" "+c.Action, func(t *testing.T) {
			w := newWorld(t)
			w.vectorKeys()
			code := map[string]string{
				"CreateLocalJoinPermission": "InvalidName", "UpdateOwnedLocalJoinPermission": "NonExistent", "GetOwnedJoinPermission": "NonExistent",
			}[c.Action]
			if strings.Contains(c.Target+c.Body, "=undefined") {
				code = "InvalidParameter"
			}
			got := w.do(c.request())
			wantJSON := !strings.Contains(c.Target, "Format=XML")
			if isJSON := got.Header().Get("Content-Type") == contentJSON; isJSON != wantJSON {
				t.Fatalf("Content-Type %q", got.Header().Get("Content-Type"))
			}
			if code == "" {
				if got.Code != http.StatusOK {
					t.Errorf("status %d: %s", got.Code, got.Body)
				}
				return
			}
			if got.Code != http.StatusBadRequest || !strings.Contains(got.Body.String(), code) {
				t.Errorf("status %d, body %s, want %s", got.Code, got.Body, code)
			}
		})
	}
}

// Any change to what is signed must be noticed.
func TestAlteredRequestsAreRefused(t *testing.T) {
	alter := map[string]func(*http.Request){
		"query": func(r *http.Request) { r.URL.RawQuery += "&RxDelay=9" },
		"body": func(r *http.Request) {
			r.Body = http.NoBody
			if r.ContentLength == 0 {
				r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
				r.Body = httptest.NewRequest("POST", "/", strings.NewReader("RxDelay=9")).Body
			}
		},
		"method": func(r *http.Request) {
			r.Method = map[string]string{"GET": "POST", "POST": "GET"}[r.Method]
		},
	}
	for name, change := range alter {
		for _, c := range capturedRequests(t) {
			if strings.Contains(c.Target, "RxDelay") {
				continue
			}
			w := newWorld(t)
			w.vectorKeys()
			r := c.request()
			change(r)
			if got := w.do(r); got.Code == http.StatusOK {
				t.Errorf("%s %s with another %s was answered", c.Client, c.Action, name)
			}
		}
	}
}

func TestACS3HeadersAreCovered(t *testing.T) {
	for _, c := range capturedRequests(t) {
		if !strings.HasPrefix(c.Client, "Tea (ACS3)") {
			continue
		}
		for _, header := range []string{"X-Acs-Action", "X-Acs-Version", "X-Acs-Date", "X-Acs-Signature-Nonce", "X-Acs-Content-Sha256", "X-Acs-Credentials-Provider"} {
			w := newWorld(t)
			w.vectorKeys()
			r := c.request()
			r.Header.Set(header, r.Header.Get(header)+"x")
			if got := w.do(r); got.Code == http.StatusOK {
				t.Errorf("%s with another %s was answered", c.Action, header)
			}
		}
		w := newWorld(t)
		w.vectorKeys()
		r := c.request()
		r.Host = "127.0.0.1"
		if got := w.do(r); !strings.Contains(got.Body.String(), "SignatureDoesNotMatch") {
			t.Errorf("%s with another Host: %s", c.Action, got.Body)
		}
	}
}

func TestACS3MustCoverWhatItSays(t *testing.T) {
	for _, c := range capturedRequests(t) {
		if !strings.HasPrefix(c.Client, "Tea (ACS3)") {
			continue
		}
		covered := coveredV3
		if c.Body != "" {
			covered = append([]string{"content-type"}, coveredV3...)
		}
		for _, header := range covered {
			r := c.request()
			authorization := r.Header.Get("Authorization")
			r.Header.Set("Authorization", strings.NewReplacer("="+header+";", "=", ";"+header, "").Replace(authorization))
			if _, err := decode(r); err == nil || !strings.Contains(err.Error(), header+" is mandatory") {
				t.Errorf("%s whose %s is not signed: %v", c.Action, header, err)
			}
		}
		r := c.request()
		r.Header.Set("X-Acs-Content-Sha256", hexSHA256([]byte("another body")))
		if _, err := decode(r); err == nil || !strings.Contains(err.Error(), "x-acs-content-sha256") {
			t.Errorf("%s with the hash of another body: %v", c.Action, err)
		}
	}
}

func TestReplayedRequestIsRefused(t *testing.T) {
	w := newWorld(t)
	w.vectorKeys()
	for _, c := range capturedRequests(t) {
		if c.Action != "ListOwnedJoinPermissions" {
			continue
		}
		w.clock.move(0)
		if got := w.do(c.request()); got.Code != http.StatusOK {
			t.Fatalf("first: %s", got.Body)
		}
		w.clock.move(14 * time.Minute)
		if got := w.do(c.request()); !strings.Contains(got.Body.String(), "SignatureNonceUsed") {
			t.Errorf("again: %s", got.Body)
		}
		w.clock.move(-14 * time.Minute)
	}
}
