package linkwan

import (
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"

	"joingate/joinserver"
)

// signed gives the parameters of a v1 call by alice, changed before they are
// signed. A parameter changed to "" is left out.
func (w *world) signed(method string, changes ...string) url.Values {
	all := args(
		"Action=ListFreqBandPlanGroups", "Version="+Version, "Format=JSON", "AccessKeyId=alice", "SignatureMethod=HMAC-SHA1",
		"SignatureVersion=1.0", fmt.Sprintf("SignatureNonce=n%d", nonces.Add(1)), "Timestamp="+w.clock.now().Format(timestampFormat))
	for _, change := range changes {
		name, value, _ := strings.Cut(change, "=")
		if all[name] = value; value == "" {
			delete(all, name)
		}
	}
	all["Signature"] = signV1("testsecret", stringToSignV1(method, all))
	values := url.Values{}
	for name, value := range all {
		values.Set(name, value)
	}
	return values
}

var nonces atomic.Int64

func get(values url.Values) *http.Request {
	return httptest.NewRequest("GET", "/?"+values.Encode(), nil)
}

func post(query, form string) *http.Request {
	r := httptest.NewRequest("POST", "/?"+query, strings.NewReader(form))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded; charset=UTF-8")
	return r
}

// codeOf reads the code of an error body in either format.
func codeOf(t *testing.T, got *httptest.ResponseRecorder) string {
	t.Helper()
	var body struct {
		XMLName   xml.Name `json:"-" xml:"Error"`
		RequestID string   `json:"RequestId" xml:"RequestId"`
		HostID    *string  `json:"HostId" xml:"HostId"`
		Code      string
		Message   string
		Recommend *string
	}
	var err error
	switch got.Header().Get("Content-Type") {
	case contentJSON:
		err = json.Unmarshal(got.Body.Bytes(), &body)
	case contentXML:
		err = xml.Unmarshal(got.Body.Bytes(), &body)
	default:
		t.Fatalf("Content-Type %q", got.Header().Get("Content-Type"))
	}
	if err != nil {
		t.Fatalf("%v: %s", err, got.Body)
	}
	if !requestID.MatchString(body.RequestID) || body.HostID == nil || body.Recommend == nil || body.Message == "" {
		t.Errorf("error body %s", got.Body)
	}
	return body.Code
}

var requestID = regexp.MustCompile(`^[0-9A-F]{8}-[0-9A-F]{4}-4[0-9A-F]{3}-[89AB][0-9A-F]{3}-[0-9A-F]{12}$`)

func TestParametersMayComeInQueryOrForm(t *testing.T) {
	for name, send := range map[string]func(w *world) *http.Request{
		"GET":        func(w *world) *http.Request { return get(w.signed("GET")) },
		"POST query": func(w *world) *http.Request { return post(w.signed("POST").Encode(), "") },
		"POST form":  func(w *world) *http.Request { return post("", w.signed("POST").Encode()) },
		"split": func(w *world) *http.Request {
			query, form := w.signed("POST"), url.Values{}
			form.Set("Timestamp", query.Get("Timestamp"))
			query.Del("Timestamp")
			return post(query.Encode(), form.Encode())
		},
		"SDK's extras": func(w *world) *http.Request {
			return get(w.signed("GET", "RegionId=cn-shanghai", "ApiProduct=LinkWAN", "ApiRevision=1", "SecurityToken=a+/="))
		},
	} {
		w := newWorld(t)
		if got := w.do(send(w)); got.Code != http.StatusOK {
			t.Errorf("%s: %s", name, got.Body)
		}
	}
}

func TestGatewayCodes(t *testing.T) {
	for _, c := range []struct {
		code    string
		status  int
		changes string // of the signed parameters
	}{
		{"MissingParameter", 400, "Action="},
		{"InvalidAction.NotFound", 404, "Action=DescribeRegions"},
		{"InvalidAction.NotFound", 404, "Action=listfreqbandplangroups"},
		{"InvalidAction.NotFound", 404, "Action=SendUnicastCommand"}, // belongs elsewhere
		{"MissingParameter", 400, "Version="},
		{"InvalidVersion", 400, "Version=2018-12-30"},
		{"InvalidParameter", 400, "Format=YAML"},
		{"MissingParameter", 400, "AccessKeyId="},
		{"InvalidAccessKeyId.NotFound", 404, "AccessKeyId=mallory"},
		{"InvalidAccessKeyId.Inactive", 400, "AccessKeyId=disabled"},
		{"MissingParameter", 400, "SignatureMethod="},
		{"InvalidSignatureMethod", 400, "SignatureMethod=HMAC-SHA256"},
		{"InvalidSignatureMethod", 400, "SignatureVersion=2.0"},
		{"InvalidSignatureMethod", 400, "SignatureType=BEARERTOKEN"},
		{"MissingParameter", 400, "SignatureNonce="},
		{"InvalidParameter", 400, "SignatureNonce=" + strings.Repeat("n", maxNonceBytes+1)},
		{"MissingParameter", 400, "Timestamp="},
		{"InvalidTimeStamp.Format", 400, "Timestamp=2026-11-21 18:03:30"},
		{"InvalidTimeStamp.Format", 400, "Timestamp=2026-11-21T18:03:30+08:00"},
		{"InvalidTimeStamp.Format", 400, "Timestamp=2026-11-21T18:03:30.5Z"},
		{"InvalidTimeStamp.Format", 400, "Timestamp=1795284210"},
		{"InvalidTimeStamp.Expired", 400, "Timestamp=2026-11-21T17:48:29Z"},
		{"InvalidTimeStamp.Expired", 400, "Timestamp=2026-11-21T18:18:31Z"},
		{"", 200, "Timestamp=2026-11-21T17:48:30Z"},
		{"", 200, "Timestamp=2026-11-21T18:18:30Z"},
		{"InvalidParameter", 400, "Unknown=1"},
		{"SignatureDoesNotMatch", 400, "AccessKeyId=other"},
		{"", 200, "Format=json"},
		{"", 200, "Format="},
	} {
		t.Run(c.changes, func(t *testing.T) {
			w := newWorld(t)
			w.key("disabled", alice, "")
			disabled := w.record.state.keys["disabled"]
			disabled.Enabled = false
			w.record.state.keys["disabled"] = disabled
			other := disabled
			other.Enabled, other.Secret = true, joinserver.AccessKey{}.Secret
			w.record.state.keys["other"] = other
			got := w.do(get(w.signed("GET", c.changes)))
			if got.Code != c.status {
				t.Errorf("status %d, want %d: %s", got.Code, c.status, got.Body)
			}
			if c.code != "" && codeOf(t, got) != c.code {
				t.Errorf("code of %s, want %s", got.Body, c.code)
			}
		})
	}
}

func TestRequestsThatAreNoCalls(t *testing.T) {
	big := strings.Repeat("a", maxRequestBytes)
	for name, c := range map[string]struct {
		code    string
		request func(w *world) *http.Request
	}{
		"PUT":          {"UnsupportedHTTPMethod", func(w *world) *http.Request { return httptest.NewRequest("PUT", "/?Format=JSON", nil) }},
		"HEAD":         {"UnsupportedHTTPMethod", func(w *world) *http.Request { return httptest.NewRequest("HEAD", "/", nil) }},
		"another path": {"InvalidAction.NotFound", func(w *world) *http.Request { return httptest.NewRequest("GET", "/x?Format=JSON", nil) }},
		"nothing":      {"MissingParameter", func(w *world) *http.Request { return httptest.NewRequest("GET", "/", nil) }},
		"huge body":    {"InvalidParameter", func(w *world) *http.Request { return post(w.signed("POST").Encode(), "Name="+big) }},
		"huge value": {"InvalidParameter", func(w *world) *http.Request {
			return post("", w.signed("POST", "Name="+big[:maxValueBytes+1]).Encode())
		}},
		"many parameters": {"InvalidParameter.Format", func(w *world) *http.Request {
			var all strings.Builder
			for i := range maxParams + 1 {
				fmt.Fprintf(&all, "p%d=1&", i)
			}
			return post("", all.String())
		}},
		"repeated in the query": {"InvalidParameter", func(w *world) *http.Request { return post(w.signed("POST").Encode()+"&Action=x", "") }},
		"repeated in the form":  {"InvalidParameter", func(w *world) *http.Request { return post(w.signed("POST").Encode(), "Action=ListFreqBandPlanGroups") }},
		"NUL":                   {"InvalidParameter", func(w *world) *http.Request { return get(w.signed("GET", "RegionId=a\x00b")) }},
		"bad UTF-8":             {"InvalidParameter", func(w *world) *http.Request { return get(w.signed("GET", "RegionId=a\xff")) }},
		"bad escape":            {"InvalidParameter", func(w *world) *http.Request { return post(w.signed("POST").Encode(), "RegionId=%zz") }},
		"bad name":              {"InvalidParameter.Format", func(w *world) *http.Request { return post(w.signed("POST").Encode(), "Region%00Id=1") }},
		"no name":               {"InvalidParameter.Format", func(w *world) *http.Request { return post(w.signed("POST").Encode(), "=1") }},
		"JSON body": {"InvalidParameter.Format", func(w *world) *http.Request {
			r := post(w.signed("POST").Encode(), `{"Action":"x"}`)
			r.Header.Set("Content-Type", "application/json")
			return r
		}},
		"broken body": {"InvalidParameter.Format", func(w *world) *http.Request {
			r := post(w.signed("POST").Encode(), "")
			r.Body = io.NopCloser(io.MultiReader(strings.NewReader("a=b"), brokenReader{}))
			return r
		}},
		"empty v3": {"MissingParameter", func(w *world) *http.Request {
			r := httptest.NewRequest("POST", "/", nil)
			r.Header.Set("Authorization", "ACS3-HMAC-SHA256")
			return r
		}},
		"v3 with SM3": {"MissingParameter", func(w *world) *http.Request {
			r := httptest.NewRequest("POST", "/", nil)
			r.Header.Set("Authorization", "ACS3-HMAC-SM3 Credential=alice,SignedHeaders=host,Signature=00")
			return r
		}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			got := w.do(c.request(w))
			if code := codeOf(t, got); code != c.code {
				t.Errorf("code %s, want %s", code, c.code)
			}
		})
	}
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, errors.New("connection reset") }

func TestSignatureDoesNotMatchShowsTheServersString(t *testing.T) {
	w := newWorld(t)
	values := w.signed("GET")
	sts := stringToSignV1("GET", flatten(values))
	values.Set("Signature", "bm90IGl0")
	var body errorAnswer
	decodeInto(t, w.do(get(values)).Body.Bytes(), &body)
	// Alibaba's Go SDK looks for exactly this prefix.
	if want := "Specified signature is not matched with our calculation. server string to sign is:" + sts; body.Message != want {
		t.Errorf("message %q\nwant %q", body.Message, want)
	}
	if strings.Contains(body.Message, "testsecret") {
		t.Error("the secret is in the answer")
	}
}

func flatten(values url.Values) map[string]string {
	all := map[string]string{}
	for name := range values {
		all[name] = values.Get(name)
	}
	return all
}

// panickingRecord is the worst failure.
type panickingRecord struct{}

func (panickingRecord) View(context.Context, func(Tx) error) error { panic("secret inside") }
func (panickingRecord) Update(context.Context, joinserver.Write, func(Tx) error) error {
	panic("secret inside")
}

func TestPanicIsAnInternalError(t *testing.T) {
	for _, format := range []string{"JSON", "XML"} {
		w := newWorld(t)
		w.server.Record = panickingRecord{}
		got := w.do(get(w.signed("GET", "Format="+format)))
		if got.Code != http.StatusInternalServerError || codeOf(t, got) != "InternalError" {
			t.Errorf("status %d", got.Code)
		}
		if strings.Contains(got.Body.String(), "secret inside") || strings.Contains(got.Body.String(), ".go:") {
			t.Errorf("the answer tells of the inside: %s", got.Body)
		}
		if lines := w.logs.FilterMessage("call failed").All(); len(lines) != 1 || !strings.Contains(fmt.Sprint(lines[0].ContextMap()["error"]), "secret inside") {
			t.Errorf("log %v", lines)
		}
	}
}

func TestRecordOutOfReachIsAnInternalError(t *testing.T) {
	w := newWorld(t)
	w.record.fault = errors.New("dial tcp 10.0.0.1:5432: refused")
	got := w.do(get(w.signed("GET")))
	if got.Code != http.StatusInternalServerError || strings.Contains(got.Body.String(), "10.0.0.1") {
		t.Errorf("status %d: %s", got.Code, got.Body)
	}
}

func TestOneLogLinePerCallWithoutSecrets(t *testing.T) {
	w := newWorld(t)
	w.permission("alice", "meters")
	w.fails("NonExistent", "alice", "GetOwnedJoinPermission", "JoinPermissionId=9")
	lines := w.logs.All()
	if len(lines) != 2 || lines[0].Message != "call answered" || lines[1].ContextMap()["code"] != "NonExistent" {
		t.Errorf("log %v", lines)
	}
	if text := fmt.Sprintf("%+v %+v", lines, w.record.state.keys); strings.Contains(text, "testsecret") {
		t.Error("a secret was printed")
	}
}

func TestXML(t *testing.T) {
	w := newWorld(t)
	for _, c := range []struct{ change, want string }{
		{"Action=ListOwnedJoinPermissions Offset=0 Limit=1", "<ListOwnedJoinPermissionsResponse><RequestId>ID</RequestId><Success>true</Success>" +
			"<Data><TotalCount>0</TotalCount><List></List></Data></ListOwnedJoinPermissionsResponse>"},
		{
			"Action=CreateLocalJoinPermission JoinPermissionName=凭证1 FreqBandPlanGroupId=102 ClassMode=A UseDefaultJoinEui=true",
			"<CreateLocalJoinPermissionResponse><RequestId>ID</RequestId><Success>true</Success><Data>1002</Data></CreateLocalJoinPermissionResponse>",
		},
		{"Action=ListOwnedJoinPermissions Offset=0 Limit=1", "<ListOwnedJoinPermissionsResponse><RequestId>ID</RequestId><Success>true</Success>" +
			"<Data><TotalCount>1</TotalCount><List><JoinPermission><JoinPermissionId>1002</JoinPermissionId>" +
			"<JoinPermissionName>凭证1</JoinPermissionName><JoinEui>d896e0efff000000</JoinEui><ClassMode>A</ClassMode>" +
			"<FreqBandPlanGroupId>102</FreqBandPlanGroupId><RxDelay>1</RxDelay><DataRate>0</DataRate><Enabled>true</Enabled>" +
			"<AuthState>NEW</AuthState><RenterAliyunId></RenterAliyunId></JoinPermission></List></Data></ListOwnedJoinPermissionsResponse>"},
		{
			"Action=DeleteLocalJoinPermission JoinPermissionId=1002",
			"<DeleteLocalJoinPermissionResponse><RequestId>ID</RequestId><Success>true</Success></DeleteLocalJoinPermissionResponse>",
		},
	} {
		got := w.do(get(w.signed("GET", append(strings.Fields(c.change), "Format=XML")...)))
		want := "<?xml version='1.0' encoding='UTF-8'?>" + c.want
		if text := hideRequestID.ReplaceAllString(got.Body.String(), "<RequestId>ID<"); text != want {
			t.Errorf("got  %s\nwant %s", text, want)
		}
	}
	got := w.do(get(w.signed("GET", "Action=ListFreqBandPlanGroups", "Format=")))
	if !strings.Contains(got.Body.String(), "<Data><FreqBandPlanGroup><GroupId>101</GroupId>") {
		t.Error(got.Body)
	}
}

var hideRequestID = regexp.MustCompile("<RequestId>[^<]*<")

func TestXMLEscapes(t *testing.T) {
	text, err := toXML("R", map[string]string{"A.L": "I"}, []byte(`{"A":{"L":["<&>","\u0001"],"N":[{"x":1},{"x":[]}],"E":{}},"B":12.50}`))
	const want = "<?xml version='1.0' encoding='UTF-8'?><R><A><L><I>&lt;&amp;&gt;</I><I>\uFFFD</I></L><N><x>1</x></N><N></N><E></E></A><B>12.50</B></R>"
	if err != nil || string(text) != want {
		t.Errorf("%v\ngot  %s\nwant %s", err, text, want)
	}
}

func TestClientSaysWhoDidNotAnswer(t *testing.T) {
	other := httptest.NewServer(http.NotFoundHandler())
	defer other.Close()
	_, err := Client{Endpoint: other.URL}.Call(t.Context(), "ListFreqBandPlanGroups", nil)
	var refusal *APIError
	if err == nil || errors.As(err, &refusal) {
		t.Errorf("got %v", err)
	}
	other.Close()
	if _, err := (Client{Endpoint: other.URL}).Call(t.Context(), "ListFreqBandPlanGroups", nil); err == nil {
		t.Error("a closed endpoint answered")
	}
}

func TestContractIsWhole(t *testing.T) {
	if n := len(catalog().Actions); n != 82 {
		t.Errorf("%d actions", n)
	}
	for name, act := range actions() {
		if (act.run == nil) == (act.direct == nil) || len(act.Response) == 0 {
			t.Errorf("%s has no function or no contract", name)
		}
		if len(act.resources) == 0 {
			t.Errorf("%s names no RAM resource, so that any RAM user may call it", name)
		}
		if act.mayFail("FeatureNotActivated") && act.feature == "" {
			t.Errorf("%s names no feature", name)
		}
		for _, code := range act.Errors {
			if failure(code, "").Message == "" {
				t.Errorf("%s: %s has no message", name, code)
			}
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, c := range capturedRequests(f) {
		f.Add(c.Method, c.Target, c.Headers["Content-Type"], c.Headers["Authorization"], []byte(c.Body))
	}
	f.Add("POST", "/?a=%zz&=&a", "application/x-www-form-urlencoded", "ACS3-HMAC-SHA256 Credential=,SignedHeaders=;", []byte("x=\x00&x"))
	f.Fuzz(func(t *testing.T, method, target, contentType, authorization string, body []byte) {
		u, err := url.ParseRequestURI(target)
		if err != nil {
			return
		}
		r := &http.Request{Method: method, URL: u, Host: "h", Header: http.Header{}, Body: io.NopCloser(strings.NewReader(string(body)))}
		r.Header.Set("Content-Type", contentType)
		r.Header.Set("Authorization", authorization)
		req, err := decode(r)
		if err != nil {
			var refusal *APIError
			if !errors.As(err, &refusal) || refusal.Message == "" {
				t.Fatalf("got %v", err)
			}
			return
		}
		for _, act := range actions() {
			if checked, err := act.check(req.params); err == nil {
				checked.page(nil)
			}
		}
		if req.credential.accessKeyID == "" || req.credential.nonce == "" || req.credential.timestamp == "" {
			t.Fatalf("decoded without credential: %+v", req)
		}
	})
}
