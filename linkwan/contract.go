package linkwan

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sync"
)

// Version is the API version that is served.
const Version = "2019-03-01"

// published is Alibaba's API metadata of product LinkWAN, version 2019-03-01;
// unpublished holds the actions that only Alibaba's SDKs know; own holds ours.
var (
	//go:embed actions.json
	published []byte
	//go:embed extra.json
	unpublished []byte
	//go:embed own.json
	own []byte
)

// contract is what actions.json says about all actions.
type contract struct {
	Actions       map[string]actionContract
	ErrorMessages map[string]string
}

// actionContract is what one action takes and answers.
type actionContract struct {
	Kind         string // read, write, readAndWrite or nothing
	Params       map[string]paramContract
	Response     json.RawMessage   // names and types, as an example
	XMLListItems map[string]string // dotted path of a list → name of its items
	Errors       []string
}

// paramContract is what a parameter's value must be.
type paramContract struct {
	Type     string // string, boolean, integer:int64, integer:int32, number:float, array
	Items    string // of an array
	Required bool
	Enum     []string
	Minimum  json.Number
	Maximum  json.Number
	MaxItems int
}

// writes reports whether the action may change the record.
func (a actionContract) writes() bool { return a.Kind == "write" || a.Kind == "readAndWrite" }

// mayFail reports whether the action's table lists the code.
func (a actionContract) mayFail(code string) bool {
	return slices.Contains(a.Errors, code)
}

// catalog parses the embedded contract, once. A test reads it, so it cannot fail
// in a build that passed its tests.
var catalog = sync.OnceValue(func() contract {
	c, err := parseContract(published, unpublished, own)
	if err != nil {
		panic(err)
	}
	return c
})

func parseContract(documents ...[]byte) (contract, error) {
	all := contract{Actions: map[string]actionContract{}, ErrorMessages: map[string]string{}}
	for _, document := range documents {
		var c contract
		if err := json.Unmarshal(document, &c); err != nil {
			return all, fmt.Errorf("read API contract: %w", err)
		}
		maps.Copy(all.Actions, c.Actions)
		maps.Copy(all.ErrorMessages, c.ErrorMessages)
	}
	return all, nil
}
