package backend_test

import (
	"bytes"
	"compress/gzip"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"

	"joingate/backend"
	"joingate/joinserver"
)

// TestMalformed sends what is no message, or none that can be believed.
func TestMalformed(t *testing.T) {
	whole := func(edits ...func(msg)) string { return string(mustJSON(t, joinReq(edits...))) }
	twice := strings.Replace(whole(), `"DevEUI"`, `"DevEUI":"0203040502030405","DevEUI"`, 1)
	for _, c := range []struct {
		name, body string
		status     int
		code       string
		says       string
	}{
		{"nothing", "", 400, "MalformedMessage", "no JSON object"},
		{"no JSON", "JoinReq", 400, "MalformedMessage", "no JSON object"},
		{"array", "[" + whole() + "]", 400, "MalformedMessage", "no JSON object"},
		{"half an object", whole()[:100], 400, "MalformedMessage", ""},
		{"no end", strings.TrimSuffix(whole(), "}"), 400, "MalformedMessage", ""},
		{"two objects", whole() + whole(), 400, "MalformedMessage", "more than one"},
		{"bad UTF-8", `{"MessageType":"` + "\xff" + `"}`, 400, "MalformedMessage", "UTF-8"},
		{"a field twice", twice, 400, "MalformedMessage", `"DevEUI" comes twice`},
		{"a field twice by escapes", strings.Replace(whole(), `{`, `{"DevEU\u0049":1,"DevEUI":2,`, 1), 400, "MalformedMessage", "comes twice"},
		{"deep", `{"a":` + strings.Repeat("[", 20000) + strings.Repeat("]", 20000) + "}", 400, "MalformedMessage", ""},
		{"deep, without end", strings.Repeat(`{"a":`, 10000), 400, "MalformedMessage", ""},
		{"no type", whole(without("MessageType")), 400, "MalformedMessage", "MessageType is missing"},
		{"a type nobody knows", whole(set("MessageType", "JoinBeg")), 400, "MalformedMessage", "JoinBeg"},
		{"a long type", whole(set("MessageType", strings.Repeat("J", 200))), 400, "MalformedMessage", "128"},
		{"an answer", whole(set("MessageType", "JoinAns")), 400, "MalformedMessage", "no request"},
		{"type in other case", whole(set("MessageType", "joinreq")), 400, "MalformedMessage", "no request"},
		{"field in other case", strings.Replace(whole(), `"SenderID"`, `"senderid"`, 1), 200, "MalformedMessage", "SenderID is missing"},
		{"no TransactionID", whole(without("TransactionID")), 200, "MalformedMessage", "TransactionID is missing"},
		{"TransactionID too large", whole(set("TransactionID", 1<<32)), 200, "MalformedMessage", "TransactionID"},
		{"TransactionID as text", whole(set("TransactionID", "1")), 200, "MalformedMessage", "TransactionID"},
		{"SenderID as number", whole(set("SenderID", 13)), 200, "MalformedMessage", "SenderID is no text"},
		{"a long SenderID", whole(set("SenderID", strings.Repeat("0", 200))), 200, "MalformedMessage", "128"},
		{"no ReceiverID", whole(without("ReceiverID")), 200, "MalformedMessage", "ReceiverID"},
		{"no version", whole(without("ProtocolVersion")), 200, "MalformedMessage", "ProtocolVersion"},
		{"version as number", whole(set("ProtocolVersion", 1.1)), 200, "MalformedMessage", "ProtocolVersion"},
		{"another version", whole(set("ProtocolVersion", "1.2")), 200, "InvalidProtocolVersion", "1.0 or 1.1"},
		{"token that is not hex", whole(set("SenderToken", "x")), 200, "MalformedMessage", "SenderToken"},
		{"long token", whole(set("SenderToken", strings.Repeat("00", 300))), 200, "MalformedMessage", "SenderToken"},
		{"object for a token", whole(set("SenderToken", msg{})), 200, "MalformedMessage", "SenderToken"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t).open()
			answer := w.post([]byte(c.body))
			if answer.status != c.status || answer.Result.ResultCode != c.code || !strings.Contains(answer.Result.Description, c.says) {
				t.Errorf("status %d, %.300s: want %d %s with %q", answer.status, answer.body, c.status, c.code, c.says)
			}
			if len(answer.body) > 1000 || len(w.logged()) > 2000 {
				t.Errorf("answer of %d and log of %d characters", len(answer.body), len(w.logged()))
			}
			if c.status == 200 && (answer.MessageType != "JoinAns" || answer.ReceiverID == "" && c.name != "field in other case" && !strings.Contains(c.name, "SenderID")) {
				t.Errorf("common fields: %s", answer.body)
			}
			if len(w.asked) != 0 || len(w.seen) != 1 {
				t.Errorf("JoinFor was asked %d times, %d messages were counted", len(w.asked), len(w.seen))
			}
		})
	}
	// Of a 1.0 sender the codes are those of 1.0.
	w := newWorld(t).open()
	w.wantResult(w.send(joinReq(set("ProtocolVersion", "1.0"), without("DevEUI"))), "MalformedRequest", "DevEUI is missing")
}

// TestHTTP sends what is not even looked at.
func TestHTTP(t *testing.T) {
	var zipped bytes.Buffer
	zip := gzip.NewWriter(&zipped)
	_, err := io.Copy(zip, io.LimitReader(zeros{}, 10<<20))
	if err := errors.Join(err, zip.Close()); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		body   []byte
		edit   func(*http.Request)
		status int
	}{
		{"GET", nil, func(r *http.Request) { r.Method = http.MethodGet }, http.StatusMethodNotAllowed},
		{"gzip", zipped.Bytes(), func(r *http.Request) { r.Header.Set("Content-Encoding", "gzip") }, http.StatusUnsupportedMediaType},
		{"gzip that does not say so", zipped.Bytes(), func(*http.Request) {}, http.StatusBadRequest},
		{"too long", bytes.Repeat([]byte(" "), 64<<10+1), func(*http.Request) {}, http.StatusRequestEntityTooLarge},
		{"broken off", nil, func(r *http.Request) { r.Body = io.NopCloser(iotest.ErrReader(io.ErrUnexpectedEOF)) }, http.StatusBadRequest},
	} {
		w := newWorld(t).open()
		answer := w.post(c.body, c.edit)
		if answer.status != c.status || answer.body == "" || len(w.asked) != 0 {
			t.Errorf("%s: status %d, %s", c.name, answer.status, answer.body)
		}
		if len(w.seen) != 1 || w.seen[0].MessageType != "unknown" || w.seen[0].Result.String() != "" || !strings.Contains(w.logged(), "refused") {
			t.Errorf("%s: observed %+v; %s", c.name, w.seen, w.logged())
		}
	}
	w := newWorld(t).open()
	padded := append(bytes.Repeat([]byte(" "), 32<<10), mustJSON(t, joinReq())...)
	if answer := w.post(padded, func(r *http.Request) { r.URL.Path = "/any/path"; r.Header.Set("Content-Encoding", "identity") }); answer.Result.ResultCode != "Success" {
		t.Errorf("any path, up to the limit: %d %s", answer.status, answer.body)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

// TestTooManyAtOnce: beyond the limit a message is sent away at once.
func TestTooManyAtOnce(t *testing.T) {
	w := newWorld(t)
	entered, leave := make(chan bool), make(chan bool)
	w.join = func(r joinserver.NetworkRequest) (joinserver.NetworkAnswer, error) {
		entered <- true
		<-leave
		return w.granted(r, false), nil
	}
	w.open()
	answers := make(chan reply)
	for i := range backend.MaxAtOnce {
		go func() { answers <- w.send(joinReq(set("TransactionID", i))) }()
		<-entered
	}
	if answer := w.send(joinReq(set("TransactionID", -1))); answer.status != http.StatusServiceUnavailable {
		t.Errorf("one too many: %d %s", answer.status, answer.body)
	}
	close(leave)
	for range backend.MaxAtOnce {
		if answer := <-answers; answer.Result.ResultCode != "Success" {
			t.Errorf("status %d, %s", answer.status, answer.body)
		}
	}
	go func() { <-entered }()
	w.mustSucceed(joinReq(set("TransactionID", backend.MaxAtOnce+1)))
}

// TestSenders: who asks is who its certificate says.
func TestSenders(t *testing.T) {
	named := &x509.Certificate{Raw: []byte("another certificate"), Subject: pkix.Name{CommonName: "ns.example.org"}}
	stranger := &x509.Certificate{Raw: []byte("a stranger's certificate"), Subject: pkix.Name{CommonName: "stranger"}}
	shows := func(c *x509.Certificate) func(*http.Request) {
		return func(r *http.Request) {
			r.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{c}, VerifiedChains: [][]*x509.Certificate{{c}}}
		}
	}
	colons := func(w *world) string {
		digits, out := strings.ToUpper(fingerprint(w.cert)), ""
		for i := 0; i < len(digits); i += 2 {
			out += ":" + digits[i:i+2]
		}
		return "sha256:" + out[1:]
	}
	for _, c := range []struct {
		name string
		edit func(w *world)
		m    msg
		http func(*http.Request)
		want string
	}{
		{"fingerprint", nil, joinReq(), nil, "Success"},
		{"fingerprint as openssl prints it", func(w *world) { w.ns().Certificates = []string{colons(w)} }, joinReq(), nil, "Success"},
		{"name", func(w *world) { w.ns().Certificates = []string{"cn:ns.example.org"} }, joinReq(), shows(named), "Success"},
		{"one of two", func(w *world) { w.ns().Certificates = append(w.ns().Certificates, "sha256:"+fingerprint(named)) }, joinReq(), shows(named), "Success"},
		{"same name, other certificate", nil, joinReq(), shows(named), "UnknownSender"},
		{"stranger", nil, joinReq(), shows(stranger), "UnknownSender"},
		{"no TLS", nil, joinReq(), func(r *http.Request) { r.TLS = nil }, "UnknownSender"},
		{"certificate that nobody verified", nil, joinReq(), func(r *http.Request) { r.TLS.VerifiedChains = nil }, "UnknownSender"},
		{"NetID of another", nil, joinReq(set("SenderID", "000014")), nil, "UnknownSender"},
		{"longer NetID", nil, joinReq(set("SenderID", "00000013")), nil, "UnknownSender"},
		{"empty SenderID", nil, joinReq(set("SenderID", "")), nil, "UnknownSender"},
		{"0x and upper case", func(w *world) { w.ns().NetID = joinserver.NetID{0xab, 0xcd, 0xef} }, joinReq(set("SenderID", "0xABCDEF")), nil, "Success"},
		{"AS-ID in a JoinReq", nil, joinReq(set("SenderID", "as.example.org")), nil, "UnknownSender"},
		{"not trusted any more", func(w *world) {
			w.config.CheckPeer = func(*tls.ConnectionState) error { return errors.New("serial number 5 is revoked") }
		}, joinReq(), nil, "UnknownSender"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			if c.edit != nil {
				c.edit(w)
			}
			w.open()
			if c.http == nil {
				c.http = func(*http.Request) {}
			}
			answer := w.post(mustJSON(t, c.m), c.http)
			if answer.status != http.StatusOK || answer.Result.ResultCode != c.want || (len(w.asked) == 1) != (c.want == "Success") {
				t.Errorf("status %d, %s; JoinFor was asked %d times", answer.status, answer.body, len(w.asked))
			}
			if c.name == "not trusted any more" && (strings.Contains(answer.body, "serial") || !strings.Contains(w.logged(), "serial number 5")) {
				t.Errorf("why belongs into the log: %s; %s", answer.body, w.logged())
			}
		})
	}
}

// TestConfigs that a Server is not made of.
func TestConfigs(t *testing.T) {
	for name, edit := range map[string]func(w *world){
		"no joiner":          func(w *world) { w.config.Joins = nil },
		"part of a second":   func(w *world) { w.config.Lifetime = 1 },
		"no name":            func(w *world) { w.ns().Name = "" },
		"no certificate":     func(w *world) { w.ns().Certificates = nil },
		"short fingerprint":  func(w *world) { w.ns().Certificates = []string{"sha256:00"} },
		"other identity":     func(w *world) { w.ns().Certificates = []string{"ns.example.org"} },
		"empty common name":  func(w *world) { w.ns().Certificates = []string{"cn:"} },
		"key without label":  func(w *world) { w.ns().KEK.Label = "" },
		"label without key":  func(w *world) { w.ns().KEK.KEK = joinserver.KeyEncryption{}.KEK },
		"keys to anywhere":   func(w *world) { w.ns().AnswerURL = "http://ns.example.org/" },
		"no URL":             func(w *world) { w.ns().AnswerURL = "ns.example.org" },
		"two with one name":  func(w *world) { other := *w.ns(); other.Certificates = []string{"cn:x"}; w.add(other) },
		"two with one print": func(w *world) { other := *w.ns(); other.Name = "other"; w.add(other) },
		"two with one cn": func(w *world) {
			w.ns().Certificates = []string{"cn:x"}
			other := *w.ns()
			other.Name = "other"
			w.add(other)
		},
	} {
		w := newWorld(t)
		edit(w)
		if _, err := backend.New(w.config); err == nil {
			t.Errorf("%s: no error", name)
		} else if strings.Contains(fmt.Sprintf("%v %+v", err, w.config.NetworkServers), kekHex) {
			t.Errorf("%s: the error or the configuration shows a key", name)
		}
	}
	w := newWorld(t)
	w.ns().AnswerURL = "http://127.0.0.1:1/"
	w.open()
}

func (w *world) add(n backend.NetworkServer) {
	w.config.NetworkServers = append(w.config.NetworkServers, n)
}

// TestEveryResultCode provokes each code of the table, or knows why there is none.
func TestEveryResultCode(t *testing.T) {
	refusing := func(reason joinserver.Reason) func(w *world) {
		return func(w *world) {
			w.join = func(joinserver.NetworkRequest) (joinserver.NetworkAnswer, error) {
				return joinserver.NetworkAnswer{}, &joinserver.Rejection{Reason: reason}
			}
		}
	}
	as := func(*world) {}
	provoked := map[backend.Result]struct {
		edit func(w *world)
		m    msg
		code string // with 1.0
	}{
		backend.Success:                {as, joinReq(), "Success"},
		backend.MICFailed:              {refusing(joinserver.BadMIC), joinReq(), "MICFailed"},
		backend.FrameReplayed:          {refusing(joinserver.DevNonceReplayed), joinReq(), "JoinReqFailed"},
		backend.JoinReqFailed:          {refusing(joinserver.WrongParameters), joinReq(), "JoinReqFailed"},
		backend.NoRoamingAgreement:     {func(w *world) { w.ns().Accounts = []joinserver.AccountID{8} }, joinReq(), "NoRoamingAgreement"},
		backend.ActivationDisallowed:   {refusing(joinserver.DeviceDisabled), joinReq(), "ActivationDisallowed"},
		backend.UnknownDevEUI:          {as, homeNSReq(set("DevEUI", "ffffffffffffffff")), "UnknownDevEUI"},
		backend.UnknownSender:          {as, joinReq(set("SenderID", "ffffff")), "UnknownSender"},
		backend.UnknownReceiver:        {as, joinReq(set("ReceiverID", "ffffffffffffffff")), "UnkownReceiver"},
		backend.InvalidProtocolVersion: {as, joinReq(set("ProtocolVersion", "2.0")), "InvalidProtocolVersion"},
		backend.MalformedRequest:       {as, joinReq(without("DevEUI")), "MalformedRequest"},
		backend.FrameSizeError:         {as, joinReq(set("PHYPayload", "00")), "FrameSizeError"},
		backend.Other:                  {as, request("PRStartReq"), "Other"},
	}
	for _, result := range backend.Results() {
		how, is := provoked[result]
		if never := backend.Never(result); is == (never != "") {
			t.Errorf("%s is provoked: %v, and cannot occur because %q", result, is, never)
		}
		if !is {
			continue
		}
		for _, version := range []string{"1.1", "1.0"} {
			w := newWorld(t)
			how.edit(w)
			w.open()
			m := msg{}
			for name, value := range how.m {
				m[name] = value
			}
			want := result.String()
			if m["ProtocolVersion"] != "2.0" {
				m["ProtocolVersion"] = version
				if version == "1.0" {
					want = how.code
				}
			}
			answer := w.send(m)
			if answer.status != http.StatusOK || answer.Result.ResultCode != want || w.seen[0].Result != result {
				t.Errorf("%s in %s: %d %s, observed %+v", result, version, answer.status, answer.body, w.seen[0])
			}
		}
	}
}

// TestOtherRequests: what is between network servers gets an answer of its kind.
func TestOtherRequests(t *testing.T) {
	w := newWorld(t).open()
	for kind, answerKind := range map[string]string{
		"PRStartReq": "PRStartAns", "PRStopReq": "PRStopAns", "HRStartReq": "HRStartAns", "HRStopReq": "HRStopAns",
		"ProfileReq": "ProfileAns", "XmitDataReq": "XmitDataAns", "XmitLocReq": "XmitLocAns",
	} {
		answer := w.send(request(kind))
		w.wantResult(answer, "Other", "this is a join server")
		if answer.MessageType != answerKind {
			t.Errorf("%s was answered with %s", kind, answer.MessageType)
		}
	}
}

// TestLogIsBounded: a flood of one kind is summed, and hides no other kind.
func TestLogIsBounded(t *testing.T) {
	w := newWorld(t).open()
	for range 250 {
		w.send(joinReq(set("SenderID", "ffffff")))
	}
	w.send(joinReq())
	if lines := strings.Count(w.logged(), "\n"); lines != 101 || len(w.seen) != 251 {
		t.Errorf("%d lines for %d messages", lines, len(w.seen))
	}
	w.pass(2e9)
	w.send(joinReq(set("SenderID", "ffffff")))
	if !strings.Contains(w.logged(), `"not_logged_before":150`) {
		t.Errorf("the sum is missing: %s", w.logged()[strings.LastIndex(strings.TrimSpace(w.logged()), "\n"):])
	}
}

// TestNothingPrintsKeys: no log line, also none of a fault, has a key in it.
func TestNothingPrintsKeys(t *testing.T) {
	w := newWorld(t).withASKEK()
	w.ns().KeysInClear, w.ns().KEK = true, joinserver.KeyEncryption{}
	w.sessions[device] = []joinserver.Session{{DevEUI: device, JoinEUI: joinEUI, JoinNonce: 1, Account: account, Live: true}}
	w.open()
	w.mustSucceed(joinReq())
	w.mustSucceed(appSKeyReq(joinserver.SessionKeyID(device, 1)))
	w.join = func(r joinserver.NetworkRequest) (joinserver.NetworkAnswer, error) {
		return joinserver.NetworkAnswer{}, fmt.Errorf("fault with %+v and %#v", w.granted(r, true), w.keks)
	}
	w.send(joinReq(set("TransactionID", 2)))
	for _, secret := range []string{nwkSKey, sNwkHex, encHex, appSKey, kekHex, asKEKHex} {
		if strings.Contains(strings.ToLower(w.logged()), secret) {
			t.Errorf("the log shows %s: %s", secret, w.logged())
		}
	}
}
