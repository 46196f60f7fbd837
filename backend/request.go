package backend

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"unicode/utf8"

	"joingate/joinserver"
)

// httpRefusal is for what is no message of TS002.
type httpRefusal struct {
	status int
	text   string
}

// readBody takes a POST of at most maxBody octets. Compressed bodies are refused:
// TS002 names no compression, and a small one can hide a huge one.
func readBody(w http.ResponseWriter, r *http.Request) ([]byte, *httpRefusal) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		return nil, &httpRefusal{http.StatusMethodNotAllowed, "messages of the LoRaWAN Backend Interfaces are sent with POST"}
	}
	if e := r.Header.Get("Content-Encoding"); e != "" && !strings.EqualFold(e, "identity") {
		return nil, &httpRefusal{http.StatusUnsupportedMediaType, "the body must not be compressed"}
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return nil, &httpRefusal{http.StatusRequestEntityTooLarge, fmt.Sprintf("the body has more than %d octets", maxBody)}
	case err != nil:
		return nil, &httpRefusal{http.StatusBadRequest, "the body could not be read"}
	}
	return body, nil
}

// fields are the members of the message's JSON object. Names are compared exactly,
// and none comes twice: which one counts would be a guess.
type fields map[string]json.RawMessage

func parseObject(body []byte) (fields, error) {
	if !utf8.Valid(body) {
		return nil, errors.New("the body is not UTF-8")
	}
	decoder := json.NewDecoder(bytes.NewReader(body))
	if token, err := decoder.Token(); err != nil || token != json.Delim('{') {
		return nil, errors.New("the body is no JSON object")
	}
	found := fields{}
	for decoder.More() {
		token, err := decoder.Token()
		name, isText := token.(string)
		if err != nil || !isText {
			return nil, errors.New("the body is no JSON object")
		}
		if _, twice := found[name]; twice {
			return nil, fmt.Errorf("field %s comes twice", shown(name))
		}
		var value json.RawMessage
		if err := decoder.Decode(&value); err != nil {
			return nil, fmt.Errorf("field %s is no JSON value", shown(name))
		}
		found[name] = value
	}
	if _, err := decoder.Token(); err != nil {
		return nil, errors.New("the JSON object has no end")
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("there is more than one JSON object")
	}
	return found, nil
}

// shown is what a description may repeat of a text that a sender wrote.
func shown(text string) string {
	const most = 32
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "…"
	}
	return strconv.Quote(text)
}

// reader takes values out of fields and keeps the first thing that is wrong.
type reader struct {
	fields fields
	err    error
}

func (r *reader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf(format, args...)
	}
}

// has reports whether the field is there. A null counts as left out.
func (r *reader) has(name string) bool {
	raw := r.fields[name]
	return raw != nil && string(raw) != "null"
}

func (r *reader) text(name string, most int) string {
	var text string
	switch {
	case !r.has(name):
		r.fail("field %s is missing", name)
	case json.Unmarshal(r.fields[name], &text) != nil:
		r.fail("field %s is no text", name)
	case len(text) > most:
		r.fail("field %s has more than %d characters", name, most)
		return ""
	}
	return text
}

// octets reads hex digits, with or without 0x in front.
func (r *reader) octets(name string, most int) []byte {
	octets, err := parseHex(r.text(name, 2*most+2))
	switch {
	case err != nil:
		r.fail("field %s is not hex digits", name)
	case len(octets) > most:
		r.fail("field %s has more than %d octets", name, most)
	}
	return octets
}

func (r *reader) fixed(name string, size int) []byte {
	octets := r.octets(name, size)
	if len(octets) != size {
		r.fail("field %s has %d octets, not %d", name, len(octets), size)
		return make([]byte, size)
	}
	return octets
}

func (r *reader) eui(name string) joinserver.EUI64 { return joinserver.EUI64(r.fixed(name, 8)) }

// number reads a whole number written without fraction and exponent.
func (r *reader) number(name string, most uint64) uint64 {
	if !r.has(name) {
		r.fail("field %s is missing", name)
		return 0
	}
	n, err := strconv.ParseUint(string(r.fields[name]), 10, 64)
	if err != nil || n > most {
		r.fail("field %s is no whole number from 0 to %d", name, most)
		return 0
	}
	return n
}

func parseHex(text string) ([]byte, error) {
	digits, prefixed := strings.CutPrefix(text, "0x")
	if !prefixed {
		digits = strings.TrimPrefix(text, "0X")
	}
	return hex.DecodeString(digits)
}
