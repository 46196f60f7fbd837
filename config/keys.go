package config

import (
	"cmp"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/BurntSushi/toml"
)

// table is one table of the file; the first one, without a name, is the top.
type table struct {
	name string // "api"
	doc  string // where its comment stands: "Config.API"
	keys []key
}

// key is one key of the configuration, bound to its field.
type key struct {
	name  string // "listen"
	path  string // "api.listen"
	doc   string // where its comment stands: "API.Listen"
	value any    // pointer to the field
}

// tables binds all keys to the fields of c, in the order of declaration.
func tables(c *Config) []table {
	root := reflect.ValueOf(c).Elem()
	all := []table{{}}
	for i := range root.NumField() {
		field := root.Type().Field(i)
		if field.Type.Kind() != reflect.Struct {
			all[0].keys = append(all[0].keys, bind(root, i, ""))
			continue
		}
		t := table{name: field.Tag.Get("toml"), doc: "Config." + field.Name}
		for j := range root.Field(i).NumField() {
			t.keys = append(t.keys, bind(root.Field(i), j, t.name+"."))
		}
		all = append(all, t)
	}
	return all
}

func bind(parent reflect.Value, i int, prefix string) key {
	field := parent.Type().Field(i)
	name := field.Tag.Get("toml")
	return key{
		name:  name,
		path:  prefix + name,
		doc:   parent.Type().Name() + "." + field.Name,
		value: parent.Field(i).Addr().Interface(),
	}
}

// keys gives the keys of all tables.
func keys(c *Config) []key {
	var all []key
	for _, t := range tables(c) {
		all = append(all, t.keys...)
	}
	return all
}

// variable is the key's environment variable: "JOINGATE_API__LISTEN".
func (k key) variable() string {
	return prefix + strings.ToUpper(strings.ReplaceAll(k.path, ".", "__"))
}

// setValue takes the key's value from the decoded file. A value of another type
// changes nothing.
func (k key) setValue(value any) error {
	ok := false
	switch field := k.value.(type) {
	case *string:
		ok = assign(field, value)
	case *bool:
		ok = assign(field, value)
	case *int64:
		ok = assign(field, value)
	case *[]string:
		ok = assignList(field, value)
	case *[]map[string]any:
		ok = assignList(field, value)
	case *time.Duration:
		if text, isText := value.(string); isText {
			return k.setQuoted(text)
		}
	}
	if !ok {
		return fmt.Errorf("%s must be %s", k.path, k.wants())
	}
	return nil
}

func assign[T any](field *T, value any) bool {
	typed, ok := value.(T)
	if ok {
		*field = typed
	}
	return ok
}

// assignList takes a list in both forms in which the library decodes it. The
// empty list is nil, as in Default, so that equal configurations compare equal.
func assignList[T any](field *[]T, value any) bool {
	if assign(field, value) {
		return true
	}
	items, ok := value.([]any)
	var list []T
	for _, item := range items {
		element, is := item.(T)
		list, ok = append(list, element), ok && is
	}
	return ok && assign(field, any(list))
}

// setQuoted takes a value that TOML can only write as a text.
func (k key) setQuoted(text string) error {
	if err := k.setText(text); err != nil {
		return fmt.Errorf("%s = %q: %w", k.path, text, err)
	}
	return nil
}

// wants says which TOML value the key takes.
func (k key) wants() string {
	switch k.value.(type) {
	case *time.Duration:
		return `a duration in quotes, such as "200ms"`
	case *bool:
		return "true or false, without quotes"
	case *int64:
		return "a whole number, without quotes"
	case *[]string:
		return `a list of texts, such as ["a/b", "c/d"]`
	case *[]map[string]any:
		return "tables with the header [[" + k.path + "]]"
	default:
		return "a text in quotes"
	}
}

// setText takes the key's value from an environment variable.
func (k key) setText(text string) error {
	switch value := k.value.(type) {
	case *string:
		*value = text
	case *bool:
		if text != "true" && text != "false" {
			return errors.New("must be true or false")
		}
		*value = text == "true"
	case *int64:
		number, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return errors.New("must be a whole number")
		}
		*value = number
	case *time.Duration:
		parsed, err := time.ParseDuration(text)
		if err != nil {
			return errors.New("must be a duration with its unit, such as 200ms")
		}
		*value = parsed
	case *[]string:
		*value = splitList(text)
	case *[]map[string]any:
		// One variable cannot hold [[…]] headers; the inline form is as good.
		var doc map[string]any
		if _, err := toml.Decode("value = "+text, &doc); err != nil || len(doc) != 1 || !assignList(value, doc["value"]) {
			return errors.New("must be a list of inline TOML tables, such as [{id = 10000}]")
		}
	default:
		panic(fmt.Sprintf("config: %s has type %T, which no code reads", k.path, k.value))
	}
	return nil
}

// splitList reads "a, b". An empty text is an empty list.
func splitList(text string) []string {
	if strings.TrimSpace(text) == "" {
		return nil
	}
	list := strings.Split(text, ",")
	for i := range list {
		list[i] = strings.TrimSpace(list[i])
	}
	return list
}

// nearest gives the one of the names that takes the fewest edits, letter case
// set aside. The first of equals wins.
func nearest(name string, names []string) string {
	edits := func(a, b string) int {
		return cmp.Compare(distance(name, a), distance(name, b))
	}
	return slices.MinFunc(names, edits)
}

// distance is Levenshtein's: how many octets to insert, delete or replace,
// letter case set aside.
func distance(a, b string) int {
	a, b = strings.ToLower(a), strings.ToLower(b)
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replaced := diagonal
			if a[i] != b[j] {
				replaced++
			}
			diagonal = row[j+1]
			row[j+1] = min(replaced, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
