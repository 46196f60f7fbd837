package linkwan

import (
	"math"
	"slices"
	"strconv"
	"strings"

	"joingate/joinserver"
)

// params are an action's parameters. Those that came through check are of their
// declared types; an empty value counts as not given.
type params map[string]string

func (p params) has(name string) bool    { return p[name] != "" }
func (p params) text(name string) string { return p[name] }

func (p params) integer(name string) int64 {
	n, _ := parseInteger(p[name], 64)
	return n
}

func (p params) number(name string) float64 {
	n, _ := strconv.ParseFloat(p[name], 64)
	return n
}

func (p params) flag(name string) bool { return strings.EqualFold(p[name], "true") }

// optionalFlag is nil when the parameter was not given.
func (p params) optionalFlag(name string) *bool {
	if !p.has(name) {
		return nil
	}
	flag := p.flag(name)
	return &flag
}

// list gives Name.1, Name.2 and so on.
func (p params) list(name string) []string {
	var items []string
	for i := 1; p.has(itemName(name, i)); i++ {
		items = append(items, p[itemName(name, i)])
	}
	return items
}

// expand puts parameters into a RAM resource: ${Name} is the parameter's value,
// and one resource for each item of a list. EUIs are written in lower case, so
// that a Deny cannot be dodged by writing one in capitals.
func (p params) expand(resource string) []string {
	name := resource[strings.IndexByte(resource, '/')+1:]
	name = strings.TrimSuffix(strings.TrimPrefix(name, "${"), "}")
	items := p.list(name)
	if len(items) == 0 {
		items = []string{p.text(name)}
	}
	expanded := make([]string, 0, len(items))
	for _, item := range items {
		if strings.HasSuffix(name, "Eui") {
			item = strings.ToLower(item)
		}
		expanded = append(expanded, strings.ReplaceAll(resource, "${"+name+"}", item))
	}
	return expanded
}

// page reads Offset, Limit, SortingField and Ascending. A missing Ascending
// sorts as no SortingField does: oldest first.
func (p params) page(keys map[string]joinserver.SortKey) joinserver.Page {
	page := joinserver.Page{Offset: p.integer("Offset"), Limit: p.integer("Limit")} // Limit left out: only the total is wanted
	if p.has("SortingField") {
		page.By = keys[p.text("SortingField")]
		page.Descending = p.has("Ascending") && !p.flag("Ascending")
	}
	return page
}

func itemName(list string, i int) string { return list + "." + strconv.Itoa(i) }

// check holds the given parameters against the action's contract and returns
// them without the empty ones.
func (a actionContract) check(given map[string]string) (params, error) {
	checked := make(params, len(given))
	for _, name := range sortedKeys(given) {
		if given[name] == "" {
			continue
		}
		if err := a.checkOne(name, given); err != nil {
			return nil, err
		}
		checked[name] = given[name]
	}
	for _, name := range sortedKeys(a.Params) {
		if a.Params[name].Required && !checked.has(name) && !checked.has(itemName(name, 1)) {
			return nil, missing(name)
		}
	}
	return checked, nil
}

// undefined is what JavaScript SDKs send for a variable that was never set. No
// parameter means it.
const undefined = "undefined"

func (a actionContract) checkOne(name string, given map[string]string) error {
	if given[name] == undefined {
		return invalid(name)
	}
	param, known := a.Params[name]
	if !known || param.Type == "array" {
		return a.checkItem(name, given)
	}
	if !param.admits(param.Type, given[name]) {
		return invalid(name)
	}
	return nil
}

// checkItem checks a parameter that the contract has only as an item of an
// array. Items are numbered from 1 without gaps.
func (a actionContract) checkItem(name string, given map[string]string) error {
	list, index, isItem := strings.Cut(name, ".")
	param := a.Params[list]
	if !isItem || param.Type != "array" {
		// IotInstanceId is told to enterprise users as a parameter of every call.
		if name == "IotInstanceId" {
			return nil
		}
		return invalid(name)
	}
	i, err := strconv.Atoi(index)
	if err != nil || i < 1 || i > param.MaxItems || name != itemName(list, i) || !param.admits(param.Items, given[name]) {
		return invalid(name)
	}
	if i > 1 && given[itemName(list, i-1)] == "" {
		return invalid(name)
	}
	return nil
}

func (p paramContract) admits(kind, value string) bool {
	switch kind {
	case "boolean":
		return strings.EqualFold(value, "true") || strings.EqualFold(value, "false")
	case "integer:int32":
		n, ok := parseInteger(value, 32)
		return ok && p.inRange(n)
	case "integer:int64":
		n, ok := parseInteger(value, 64)
		return ok && p.inRange(n)
	case "number:float":
		n, err := strconv.ParseFloat(value, 64)
		return err == nil && !math.IsNaN(n) && !math.IsInf(n, 0)
	}
	return len(p.Enum) == 0 || slices.Contains(p.Enum, value)
}

func (p paramContract) inRange(n int64) bool {
	if low, err := p.Minimum.Int64(); err == nil && n < low {
		return false
	}
	high, err := p.Maximum.Int64()
	return err != nil || n <= high
}

// parseInteger reads decimal digits with an optional minus and nothing else.
func parseInteger(s string, bits int) (int64, bool) {
	n, err := strconv.ParseInt(s, 10, bits)
	return n, err == nil && s[0] != '+'
}

// parseID reads an id of ours. What is not exactly an id names nothing.
func parseID(s string) (int64, bool) {
	id, ok := parseInteger(s, 64)
	return id, ok && id > 0 && strconv.FormatInt(id, 10) == s
}
