package linkwan

import (
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strings"
	"unicode/utf8"
)

// Limits of ours on one request.
const (
	maxRequestBytes = 1_000_000 // of query and body together
	maxParams       = 300       // the longest documented list has 100 items
	maxValueBytes   = 4096
)

// request is one HTTP request, decoded but not believed.
type request struct {
	action     string
	version    string
	format     format
	from       string // client address without port
	host       string
	params     map[string]string // of the action itself
	credential credential
}

// credential is what a request says about who signed it, in either scheme.
type credential struct {
	accessKeyID  string
	signature    string
	nonce        string
	timestamp    string
	stringToSign string
	sign         func(secret, stringToSign string) string
}

// format is the asked form of an answer.
type format uint8

const (
	formatXML format = iota // Alibaba's default
	formatJSON
)

// parseFormat compares without case: SDKs send JSON as well as json.
func parseFormat(s string) (format, bool) {
	switch {
	case strings.EqualFold(s, "JSON"):
		return formatJSON, true
	case s == "" || strings.EqualFold(s, "XML"):
		return formatXML, true
	}
	return formatXML, false
}

// decode reads a request of either signature scheme. With an error, the format
// is still the one that was asked for, as far as it could be read.
func decode(r *http.Request) (request, error) {
	req := request{from: clientAddress(r), host: r.Host, format: guessFormat(r)}
	if r.Method != http.MethodGet && r.Method != http.MethodPost {
		return req, fail("UnsupportedHTTPMethod")
	}
	if r.URL.Path != "/" && r.URL.Path != "" {
		return req, fail("InvalidAction.NotFound")
	}
	body, err := readBody(r)
	if err != nil {
		return req, err
	}
	query, err := parseParams(nil, r.URL.RawQuery)
	if err != nil {
		return req, err
	}
	all := query
	if len(body) > 0 {
		if all, err = parseForm(query, r.Header.Get("Content-Type"), body); err != nil {
			return req, err
		}
	}
	if strings.HasPrefix(r.Header.Get("Authorization"), algorithmV3) {
		return decodeV3(req, r, query, all, body)
	}
	return decodeV1(req, r.Method, all)
}

// clientAddress is the peer's address. Headers of proxies are not believed.
func clientAddress(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}

// guessFormat finds the asked format without decoding the body, so that the
// refusal of a body that cannot be decoded has the right form where possible.
func guessFormat(r *http.Request) format {
	for part := range strings.SplitSeq(r.URL.RawQuery, "&") {
		if value, ok := strings.CutPrefix(part, "Format="); ok {
			f, _ := parseFormat(value)
			return f
		}
	}
	if r.Header.Get("Authorization") != "" && !strings.Contains(r.Header.Get("Accept"), "xml") {
		return formatJSON
	}
	return formatXML
}

// readBody reads what a request holds. Nothing is decompressed: no client of Link
// WAN compresses, and a small body must not become a large one.
func readBody(r *http.Request) ([]byte, error) {
	if coding := r.Header.Get("Content-Encoding"); coding != "" && !strings.EqualFold(coding, "identity") {
		return nil, fail("InvalidParameter.Format")
	}
	if r.Body == nil {
		return nil, nil
	}
	room := int64(maxRequestBytes - len(r.URL.RawQuery))
	if r.ContentLength >= room {
		return nil, invalid("body")
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, max(room, 0)))
	if err != nil {
		return nil, fail("InvalidParameter.Format")
	}
	if int64(len(body)) >= room {
		return nil, invalid("body")
	}
	return body, nil
}

func parseForm(query map[string]string, contentType string, body []byte) (map[string]string, error) {
	kind, _, err := mime.ParseMediaType(contentType)
	if err != nil || kind != "application/x-www-form-urlencoded" {
		return nil, fail("InvalidParameter.Format")
	}
	return parseParams(query, string(body))
}

// parseParams adds the parameters of one encoded text to those that are known.
// A name that comes twice is refused: which one counts would be a guess.
func parseParams(known map[string]string, encoded string) (map[string]string, error) {
	params := make(map[string]string, len(known)+16)
	for name, value := range known {
		params[name] = value
	}
	for part := range strings.SplitSeq(encoded, "&") {
		if part == "" {
			continue
		}
		name, value, err := parseParam(part)
		if err != nil {
			return nil, err
		}
		if _, repeated := params[name]; repeated {
			return nil, invalid(name)
		}
		if params[name] = value; len(params) > maxParams {
			return nil, fail("InvalidParameter.Format")
		}
	}
	return params, nil
}

func parseParam(part string) (name, value string, err error) {
	rawName, rawValue, _ := strings.Cut(part, "=")
	name, err = url.QueryUnescape(rawName)
	if err != nil || !isParamName(name) {
		return "", "", fail("InvalidParameter.Format")
	}
	value, err = url.QueryUnescape(rawValue)
	if err != nil || !utf8.ValidString(value) || strings.ContainsRune(value, 0) || len(value) > maxValueBytes {
		return "", "", invalid(name)
	}
	return name, value, nil
}

// isParamName admits the names that Alibaba's products use, so that a name can
// stand in a message and in a log line.
func isParamName(name string) bool {
	for i := range len(name) {
		if c := name[i]; !isUnreserved(c) || c == '~' {
			return false
		}
	}
	return name != "" && len(name) <= 128
}

// commonParams are those of signature v1 and of Alibaba's SDKs, which no action
// sees.
var commonParams = []string{
	"Action", "Version", "Format", "AccessKeyId", "Signature", "SignatureMethod", "SignatureVersion", "SignatureNonce",
	"SignatureType", "Timestamp", "RegionId", "SecurityToken", "BearerToken", "ApiProduct", "ApiRevision",
	"OwnerId", "OwnerAccount", "ResourceOwnerId", "ResourceOwnerAccount", "RealTenantId", "RealTripartiteKey",
}

func actionParams(all map[string]string) map[string]string {
	params := make(map[string]string, len(all))
	for name, value := range all {
		params[name] = value
	}
	for _, name := range commonParams {
		delete(params, name)
	}
	return params
}

func decodeV1(req request, method string, all map[string]string) (request, error) {
	var known bool
	if req.format, known = parseFormat(all["Format"]); !known {
		return req, invalid("Format")
	}
	req.action, req.version, req.params = all["Action"], all["Version"], actionParams(all)
	req.credential = credential{
		accessKeyID:  all["AccessKeyId"],
		signature:    all["Signature"],
		nonce:        all["SignatureNonce"],
		timestamp:    all["Timestamp"],
		stringToSign: stringToSignV1(method, all),
		sign:         signV1,
	}
	for _, name := range []string{"Action", "Version", "AccessKeyId", "SignatureMethod", "SignatureVersion", "SignatureNonce", "Timestamp", "Signature"} {
		if all[name] == "" {
			return req, missing(name)
		}
	}
	if all["SignatureMethod"] != methodV1 || all["SignatureVersion"] != versionV1 || all["SignatureType"] != "" {
		return req, fail("InvalidSignatureMethod")
	}
	return req, nil
}

// coveredV3 are the headers that a v3 signature must cover: those that we act
// on. Content-Type is added when there is a body.
var coveredV3 = []string{"host", "x-acs-action", "x-acs-version", "x-acs-date", "x-acs-signature-nonce", "x-acs-content-sha256"}

func decodeV3(req request, r *http.Request, query, all map[string]string, body []byte) (request, error) {
	if text, asked := all["Format"]; asked {
		var known bool
		if req.format, known = parseFormat(text); !known {
			return req, invalid("Format")
		}
	}
	fields, err := authorizationFields(r.Header.Values("Authorization"))
	if err != nil {
		return req, err
	}
	header := func(name string) string {
		if name == "host" {
			return r.Host
		}
		return strings.Join(r.Header.Values(name), ",")
	}
	req.action, req.version, req.params = header("x-acs-action"), header("x-acs-version"), actionParams(all)
	req.credential = credential{
		accessKeyID:  fields["Credential"],
		signature:    fields["Signature"],
		nonce:        header("x-acs-signature-nonce"),
		timestamp:    header("x-acs-date"),
		stringToSign: stringToSignV3(r.Method, query, fields["SignedHeaders"], header, hexSHA256(body)),
		sign:         signV3,
	}
	for _, name := range []string{"Credential", "SignedHeaders", "Signature"} {
		if fields[name] == "" {
			return req, missing(name)
		}
	}
	return req, checkCoverage(fields["SignedHeaders"], header, body)
}

func checkCoverage(signedHeaders string, header func(string) string, body []byte) error {
	covered := coveredV3
	if len(body) > 0 {
		covered = append([]string{"content-type"}, coveredV3...)
	}
	for _, name := range covered {
		if header(name) == "" || !strings.Contains(";"+signedHeaders+";", ";"+name+";") {
			return missing(name)
		}
	}
	if header("x-acs-content-sha256") != hexSHA256(body) {
		return invalid("x-acs-content-sha256")
	}
	return nil
}

// authorizationFields reads "ALGORITHM Name=value,Name=value". No header can be
// named twice as signed: a text of a few octets could else stand for megabytes.
func authorizationFields(headers []string) (map[string]string, error) {
	fields := map[string]string{}
	if len(headers) != 1 {
		return fields, invalid("Authorization")
	}
	_, list, _ := strings.Cut(headers[0], " ")
	for field := range strings.SplitSeq(list, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(field), "=")
		if _, repeated := fields[name]; repeated {
			return fields, invalid("Authorization")
		}
		fields[name] = value
	}
	if hasRepeats(strings.Split(fields["SignedHeaders"], ";")) {
		return fields, invalid("SignedHeaders")
	}
	return fields, nil
}

// hasRepeats compares without case, as header names do.
func hasRepeats(names []string) bool {
	seen := make(map[string]bool, len(names))
	for _, name := range names {
		seen[strings.ToLower(name)] = true
	}
	return len(seen) != len(names)
}
