package linkwan

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// checkShape holds a good answer against actions.json: every field is declared
// and of its declared type, and the envelope is there.
func checkShape(t *testing.T, action string, answer json.RawMessage) {
	t.Helper()
	var want any
	decodeInto(t, catalog().Actions[action].Response, &want)
	var got map[string]any
	decoder := json.NewDecoder(strings.NewReader(string(answer)))
	decoder.UseNumber()
	if err := decoder.Decode(&got); err != nil {
		t.Fatalf("%s answered no JSON object: %s", action, answer)
	}
	if err := matchShape(action, want, got); err != nil {
		t.Error(err)
	}
	if got["Success"] != true || len(fmt.Sprint(got["RequestId"])) != 36 {
		t.Errorf("%s: envelope of %s", action, answer)
	}
	if _, declared := want.(map[string]any)["Data"]; declared != (got["Data"] != nil) {
		t.Errorf("%s: Data is declared: %v, but the answer is %s", action, declared, answer)
	}
}

func matchShape(path string, want, got any) error {
	switch want := want.(type) {
	case map[string]any:
		object, ok := got.(map[string]any)
		if !ok {
			return fmt.Errorf("%s is %v, not an object", path, got)
		}
		for name, value := range object {
			declared, ok := want[name]
			if !ok {
				return fmt.Errorf("%s.%s is not declared", path, name)
			}
			if err := matchShape(path+"."+name, declared, value); err != nil {
				return err
			}
		}
	case []any:
		items, ok := got.([]any)
		if !ok {
			return fmt.Errorf("%s is %v, not a list", path, got)
		}
		for i, item := range items {
			if err := matchShape(fmt.Sprintf("%s[%d]", path, i), want[0], item); err != nil {
				return err
			}
		}
	case string:
		return matchScalar(path, want, got)
	}
	return nil
}

func matchScalar(path, kind string, got any) error {
	ok := false
	switch got := got.(type) {
	case string:
		ok = kind == "string"
	case bool:
		ok = kind == "boolean"
	case json.Number:
		_, err := got.Int64()
		ok = kind == "number:float" || strings.HasPrefix(kind, "integer") && err == nil
	}
	if !ok {
		return fmt.Errorf("%s is %v (%T), not of type %s", path, got, got, kind)
	}
	return nil
}
