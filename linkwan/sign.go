package linkwan

import (
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"slices"
	"strings"
)

// Signature v1: help.aliyun.com document 108601, "HMAC-SHA1" of RPC calls.
// Signature v3: "ACS3-HMAC-SHA256" headers of the newer SDKs.
const (
	methodV1    = "HMAC-SHA1"
	versionV1   = "1.0"
	algorithmV3 = "ACS3-HMAC-SHA256"
)

// percentEncode leaves the unreserved characters of RFC 3986 as they are and
// turns every other octet into %XX.
func percentEncode(s string) string {
	const upperHex = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		if isUnreserved(c) {
			b.WriteByte(c)
			continue
		}
		b.WriteByte('%')
		b.WriteByte(upperHex[c>>4])
		b.WriteByte(upperHex[c&15])
	}
	return b.String()
}

func isUnreserved(c byte) bool {
	return 'A' <= c && c <= 'Z' || 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || strings.IndexByte("-_.~", c) >= 0
}

// canonicalQuery joins the parameters, sorted by name, both sides encoded.
func canonicalQuery(params map[string]string, without string) string {
	names := make([]string, 0, len(params))
	for name := range params {
		if name != without {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	var b strings.Builder
	for i, name := range names {
		if i > 0 {
			b.WriteByte('&')
		}
		b.WriteString(percentEncode(name) + "=" + percentEncode(params[name]))
	}
	return b.String()
}

// stringToSignV1 covers all parameters, of query and form, but Signature.
func stringToSignV1(method string, params map[string]string) string {
	return method + "&%2F&" + percentEncode(canonicalQuery(params, "Signature"))
}

func signV1(secret, stringToSign string) string {
	mac := hmac.New(sha1.New, []byte(secret+"&"))
	mac.Write([]byte(stringToSign))
	return base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// stringToSignV3 covers the query, the headers named and the body's hash.
// signedHeaders is the text of SignedHeaders; header gives one header's value.
func stringToSignV3(method string, query map[string]string, signedHeaders string, header func(string) string, payloadHash string) string {
	var b strings.Builder
	b.WriteString(method + "\n/\n" + canonicalQuery(query, "") + "\n")
	for name := range strings.SplitSeq(signedHeaders, ";") {
		b.WriteString(name + ":" + strings.TrimSpace(header(name)) + "\n")
	}
	b.WriteString("\n" + signedHeaders + "\n" + payloadHash)
	return algorithmV3 + "\n" + hexSHA256([]byte(b.String()))
}

// signV3 has no "&" behind the secret, unlike v1.
func signV3(secret, stringToSign string) string {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(stringToSign))
	return hex.EncodeToString(mac.Sum(nil))
}

func hexSHA256(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}
