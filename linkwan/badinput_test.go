package linkwan

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"
)

// badInput is what a stranger sends over one connection, and what comes of it:
// the HTTP status and code of each answer, and "closed" when the server ends the
// connection.
type badInput struct {
	name    string // as in doc/security.md
	send    string
	outcome string
}

const (
	formHead = "POST / HTTP/1.1\r\nHost: h\r\nContent-Type: application/x-www-form-urlencoded\r\n"
	lastHead = "GET /?Format=JSON HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
)

// form is a whole request with a form body.
func form(body string) string { return withBody("application/x-www-form-urlencoded", body) }

func withBody(contentType, body string, headers ...string) string {
	return fmt.Sprintf("POST /?Format=JSON HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Type: %s\r\nContent-Length: %d\r\n%s\r\n%s",
		contentType, len(body), strings.Join(headers, ""), body)
}

// asking is a request for a target, with further headers.
func asking(method, target string, headers ...string) string {
	return method + " " + target + " HTTP/1.1\r\nHost: h\r\nConnection: close\r\n" + strings.Join(headers, "") + "\r\n"
}

// zipped is a megabyte of one letter, compressed.
func zipped() string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = w.Write(bytes.Repeat([]byte("a"), 1<<20))
	_ = w.Close()
	return b.String()
}

func many(n int, pattern string) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, pattern, i)
	}
	return b.String()
}

func badInputs() []badInput {
	acs3 := "Authorization: ACS3-HMAC-SHA256 Credential=alice,Signature=0,SignedHeaders="
	return []badInput{
		{"multipart body", withBody("multipart/form-data; boundary=b", "--b\r\nContent-Disposition: form-data; name=\"Action\"\r\n\r\nx\r\n--b--"), "400 InvalidParameter.Format, closed"},
		{"JSON body", withBody("application/json", `{"Action":"ListFreqBandPlanGroups"}`), "400 InvalidParameter.Format, closed"},
		{"XML body with an external entity", withBody("text/xml", `<!DOCTYPE a [<!ENTITY e SYSTEM "file:///etc/passwd">]><a>&e;</a>`), "400 InvalidParameter.Format, closed"},
		{"gzip body", withBody("application/x-www-form-urlencoded", zipped(), "Content-Encoding: gzip\r\n"), "400 InvalidParameter.Format, closed"},
		{"gzip body that claims to be a form", form(zipped()), "400 InvalidParameter.Format, closed"},
		{"form that claims to be gzip", withBody("application/x-www-form-urlencoded", "Action=a", "Content-Encoding: gzip\r\n"), "400 InvalidParameter.Format, closed"},
		{"gzip as transfer coding", formHead + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", "501, closed"},
		{"10,000 parameters", form(many(10_000, "a%d=1&")), "400 InvalidParameter.Format, closed"},
		{"5,000 parameters in the URL", asking("GET", "/?Format=JSON&"+many(5_000, "a%d=1&")), "400 InvalidParameter.Format, closed"},
		{"parameter twice", form("Action=a&Action=b"), "400 InvalidParameter, closed"},
		{"parameter in query and body", "POST /?Format=JSON&Action=a HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 8\r\n\r\nAction=a", "400 InvalidParameter, closed"},
		{"NUL in a value", form("Action=a%00b"), "400 InvalidParameter, closed"},
		{"NUL in a name", form("Act%00ion=a"), "400 InvalidParameter.Format, closed"},
		{"bad UTF-8", form("Action=%ff%fe"), "400 InvalidParameter, closed"},
		{"overlong UTF-8", form("Action=%c0%af"), "400 InvalidParameter, closed"},
		{"half a percent escape", form("Action=%4"), "400 InvalidParameter, closed"},
		{"line break in a name", form("a%0d%0ab=1"), "400 InvalidParameter.Format, closed"},
		{"nested names", form("a" + strings.Repeat("[a]", 100) + "=1"), "400 InvalidParameter.Format, closed"},
		{"semicolons as separators", form("Action=a;Version=b"), "400 MissingParameter, closed"},
		{"value of 4,097 octets", form("Action=" + strings.Repeat("a", maxValueBytes+1)), "400 InvalidParameter, closed"},
		{"body of 1,000,000 octets", form(strings.Repeat("a", maxRequestBytes)), "400 InvalidParameter, closed"},
		{"1,000,000 octets in one chunk", formHead + "Transfer-Encoding: chunked\r\n\r\nf4240\r\n" + strings.Repeat("&", maxRequestBytes) + "\r\n0\r\n\r\n", "400 InvalidParameter, closed"},
		{"chunks without end", formHead + "Transfer-Encoding: chunked\r\n\r\n" + strings.Repeat("1\r\na\r\n", 100), "400 InvalidParameter.Format, closed"},
		{"chunk of a size that is no number", formHead + "Transfer-Encoding: chunked\r\n\r\nzz\r\n", "400 InvalidParameter.Format, closed"},
		{"chunk of negative size", formHead + "Transfer-Encoding: chunked\r\n\r\n-1\r\n", "400 InvalidParameter.Format, closed"},
		{"endless chunk extension", formHead + "Transfer-Encoding: chunked\r\n\r\n1;" + strings.Repeat("a", 1<<20), "400 InvalidParameter.Format, closed"},
		{"body shorter than Content-Length", formHead + "Content-Length: 100\r\n\r\nAction=a", "400 InvalidParameter.Format, closed"},
		{"body longer than Content-Length", formHead + "Content-Length: 1\r\n\r\nAction=a", "400 MissingParameter, 400, closed"},
		{"Content-Length below zero", formHead + "Content-Length: -1\r\n\r\n", "400, closed"},
		{"Content-Length beyond 64 bits", formHead + "Content-Length: 99999999999999999999\r\n\r\n", "400, closed"},
		{"Content-Length of a gigabyte, no body", formHead + "Content-Length: 1000000000\r\n\r\n", "400 InvalidParameter, closed"},
		{"two Content-Lengths", formHead + "Content-Length: 1\r\nContent-Length: 2\r\n\r\nab", "400, closed"},
		{"Content-Length and chunks", formHead + "Content-Length: 100\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + lastHead, "400 MissingParameter, 400 MissingParameter, closed"},
		{"gigabyte announced with Expect", formHead + "Content-Length: 1000000000\r\nExpect: 100-continue\r\n\r\n", "400 InvalidParameter, closed"},
		{"100 KiB of one header", asking("GET", "/", "X: "+strings.Repeat("a", 100<<10)+"\r\n"), "431, closed"},
		{"10,000 headers", asking("GET", "/", many(10_000, "X-%d: aaaaaaaa\r\n")), "431, closed"},
		{"URL of 100 KiB", asking("GET", "/?a="+strings.Repeat("a", 100<<10)), "431, closed"},
		{"URL of 60 KiB", asking("GET", "/?Format=JSON&a="+strings.Repeat("a", 60<<10)), "400 InvalidParameter, closed"},
		{"signed header named 4,000 times", asking("GET", "/?Format=JSON", "X: "+strings.Repeat("a", 30<<10)+"\r\n", acs3+strings.Repeat("x;", 4_000)+"\r\n"), "400 InvalidParameter, closed"},
		{"signed header in capitals and not", asking("GET", "/?Format=JSON", acs3+"x-a;X-A\r\n"), "400 InvalidParameter, closed"},
		{"two Authorizations", asking("GET", "/?Format=JSON", acs3+"x\r\n", acs3+"y\r\n"), "400 InvalidParameter, closed"},
		{"another path", asking("GET", "/api/v1?Format=JSON"), "404 InvalidAction.NotFound, closed"},
		{"path that climbs", asking("GET", "/../../etc/passwd?Format=JSON"), "404 InvalidAction.NotFound, closed"},
		{"method DELETE", asking("DELETE", "/?Format=JSON"), "400 UnsupportedHTTPMethod, closed"},
		{"method CONNECT", asking("CONNECT", "h:443"), "400 UnsupportedHTTPMethod, closed"},
		{"OPTIONS *", asking("OPTIONS", "*"), "400 UnsupportedHTTPMethod, closed"},
		{"request for a proxy", asking("GET", "http://169.254.169.254/latest?Format=JSON"), "404 InvalidAction.NotFound, closed"},
		{"HTTP/1.0 without Host", "GET /?Format=JSON HTTP/1.0\r\n\r\n", "400 MissingParameter, closed"},
		{"HTTP/0.9", "GET /\r\n\r\n", "400, closed"},
		{"HTTP/2 without TLS", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "400 UnsupportedHTTPMethod, closed"},
		{"HTTP/3.0", "GET / HTTP/3.0\r\nHost: h\r\n\r\n", "505, closed"},
		{"TLS to the plain port", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "400, closed"},
		{"no Host", "GET / HTTP/1.1\r\n\r\n", "400, closed"},
		{"two Hosts", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "400, closed"},
		{"space before the colon", "GET / HTTP/1.1\r\nHost: h\r\nContent-Length : 5\r\n\r\n", "400, closed"},
		{"folded header", "GET / HTTP/1.1\r\nHost: h\r\nX: a\r\n b\r\nConnection: close\r\n\r\n", "400 MissingParameter, closed"},
		{"NUL in a header", "GET / HTTP/1.1\r\nHost: h\r\nX: a\x00b\r\n\r\n", "400, closed"},
		{"pipelining", "GET /nowhere?Format=JSON HTTP/1.1\r\nHost: h\r\n\r\n" + lastHead, "404 InvalidAction.NotFound, 400 MissingParameter, closed"},
		{"headers that never end", "GET / HTTP/1.1\r\nHost: h\r\n", "closed"},
		{"a connection that says nothing", "", "closed"},
		{"octets of no protocol", strings.Repeat("\xff\x00", 500) + "\r\n\r\n", "400, closed"},
	}
}

// TestBadInput tries the table of doc/security.md. None of it changes anything,
// is logged as a fault, or keeps a good call from being answered.
func TestBadInput(t *testing.T) {
	w := newWorld(t)
	server := NewHTTPServer(w.server, log.New(io.Discard, "", 0))
	for _, limit := range []*time.Duration{&server.ReadHeaderTimeout, &server.ReadTimeout, &server.WriteTimeout, &server.IdleTimeout} {
		if *limit <= 0 || *limit > time.Minute {
			t.Fatalf("a client may take %s", *limit)
		}
		*limit /= 20
	}
	unstarted := httptest.NewUnstartedServer(nil)
	unstarted.Config = server
	unstarted.Start()
	t.Cleanup(unstarted.Close)
	text, err := os.ReadFile("../doc/security.md")
	if err != nil {
		t.Fatal(err)
	}
	document, before := string(text), w.record.state.revision
	t.Run("all", func(t *testing.T) {
		for _, c := range badInputs() {
			t.Run(c.name, func(t *testing.T) {
				t.Parallel()
				if got := tryRaw(t, unstarted.Listener.Addr().String(), c.send); got != c.outcome {
					t.Errorf("%s, want %s", got, c.outcome)
				}
				if row := "| " + c.name + " | " + c.outcome + " |"; !strings.Contains(document, row) {
					t.Errorf("doc/security.md lacks %s", row)
				}
			})
		}
	})
	if w.record.state.revision != before {
		t.Error("bad input changed the record")
	}
	if n := w.logs.FilterMessage("call failed").Len(); n != 0 {
		t.Errorf("%d calls failed for a fault of ours", n)
	}
	w.must("alice", "ListFreqBandPlanGroups")
}

var (
	statusLine = regexp.MustCompile(`HTTP/1\.[01] (\d{3}) `)
	codeField  = regexp.MustCompile(`"Code":"([^"]*)"|<Code>([^<]*)</Code>`)
)

// tryRaw sends the text and tells of the answers until the server hangs up.
func tryRaw(t *testing.T, address, send string) string {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	go func() { _, _ = io.WriteString(conn, send) }() // the server may hang up before the end
	_ = conn.SetReadDeadline(time.Now().Add(time.Minute))
	answers, err := io.ReadAll(conn)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return "hangs"
	}
	var told []string
	for _, answer := range bytes.Split(answers, []byte("HTTP/1."))[1:] {
		text := "HTTP/1." + string(answer)
		line := statusLine.FindStringSubmatch(text)
		if line == nil {
			t.Fatalf("answer %q", text)
		}
		told = append(told, line[1]+strings.Join(codeOfText(text), ""))
	}
	return strings.Join(append(told, "closed"), ", ")
}

func codeOfText(answer string) []string {
	if m := codeField.FindStringSubmatch(answer); m != nil {
		return []string{" ", m[1], m[2]}
	}
	return nil
}
