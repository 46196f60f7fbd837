package linkwan

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"net/http"
	"slices"
)

// answer is the body of a call that succeeded.
type answer struct {
	RequestID string `json:"RequestId"`
	Success   bool
	Data      any `json:",omitempty"`
}

// errorAnswer is the body of a call that failed. All five are strings: Alibaba's
// Go SDK panics on anything else.
type errorAnswer struct {
	RequestID string `json:"RequestId"`
	HostID    string `json:"HostId"`
	Code      string
	Message   string
	Recommend string
}

// The Content-Types must read exactly so: the Java SDK takes its parser from
// them, the generic Tea client compares the XML one as a text.
const (
	contentJSON = "application/json;charset=utf-8"
	contentXML  = "text/xml;charset=utf-8"
)

// write sends the body in the asked format. root is the name of the XML root
// element, items names the elements of lists.
func write(w http.ResponseWriter, status int, f format, root string, items map[string]string, body any) {
	text, err := json.Marshal(body)
	contentType := contentJSON
	if err == nil && f == formatXML {
		contentType = contentXML
		text, err = toXML(root, items, text)
	}
	if err != nil {
		// The bodies are our own plain structs.
		panic(fmt.Errorf("encode answer: %w", err))
	}
	w.Header().Set("Content-Type", contentType)
	w.WriteHeader(status)
	_, _ = w.Write(text)
}

// toXML turns a JSON document into the XML of the same names and order. A list
// whose dotted path is in items becomes one element with an element per item; any
// other list repeats its own element (both forms are in Alibaba's examples).
func toXML(root string, items map[string]string, document []byte) ([]byte, error) {
	x := xmlWriter{items: items, in: json.NewDecoder(bytes.NewReader(document))}
	x.in.UseNumber()
	x.out.WriteString("<?xml version='1.0' encoding='UTF-8'?>")
	err := x.element(root, "")
	return x.out.Bytes(), err
}

type xmlWriter struct {
	items map[string]string
	in    *json.Decoder
	out   bytes.Buffer
}

// element writes the next JSON value as an element.
func (x *xmlWriter) element(name, path string) error {
	token, err := x.in.Token()
	if err != nil {
		return err
	}
	if token == json.Delim('[') {
		return x.list(name, path)
	}
	return x.rest(name, path, token)
}

// rest writes the JSON value that begins with the token.
func (x *xmlWriter) rest(name, path string, token json.Token) error {
	x.out.WriteString("<" + name + ">")
	if token == json.Delim('{') {
		if err := x.fields(path); err != nil {
			return err
		}
	} else if err := xml.EscapeText(&x.out, fmt.Append(nil, token)); err != nil {
		return err
	}
	x.out.WriteString("</" + name + ">")
	return nil
}

func (x *xmlWriter) fields(path string) error {
	for x.in.More() {
		name, err := x.in.Token()
		if err != nil {
			return err
		}
		if err := x.element(name.(string), joinPath(path, name.(string))); err != nil {
			return err
		}
	}
	_, err := x.in.Token() // the closing brace
	return err
}

func (x *xmlWriter) list(name, path string) error {
	item, wrapped := x.items[path]
	if wrapped {
		x.out.WriteString("<" + name + ">")
		defer x.out.WriteString("</" + name + ">")
	} else {
		item = name
	}
	for x.in.More() {
		token, err := x.in.Token()
		if err != nil {
			return err
		}
		if err := x.rest(item, path, token); err != nil {
			return err
		}
	}
	_, err := x.in.Token() // the closing bracket
	return err
}

func joinPath(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}
