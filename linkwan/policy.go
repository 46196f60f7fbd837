package linkwan

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// ReadOnlyPolicy names the system policy of Alibaba Cloud that allows to read.
const ReadOnlyPolicy = "AliyunLinkWANReadOnlyAccess"

const readOnlyDocument = `{"Version":"1","Statement":[{"Effect":"Allow","Resource":"*",` +
	`"Action":["linkwan:Get*","linkwan:Count*","linkwan:List*","linkwan:Describe*","linkwan:Check*"]}]}`

// Policy is a RAM policy (help.aliyun.com document 112452). The zero Policy
// allows nothing.
type Policy struct {
	Version   string
	Statement []Statement
}

// Statement allows or denies actions on resources. "*" stands for any text.
type Statement struct {
	Effect   string // Allow or Deny
	Action   oneOrMore
	Resource oneOrMore
}

// everything is what an account itself may do.
var everything = Policy{Version: "1", Statement: []Statement{{Effect: "Allow", Action: oneOrMore{"*"}, Resource: oneOrMore{"*"}}}}

// oneOrMore is a JSON string or a list of strings.
type oneOrMore []string

// UnmarshalJSON reads either form.
func (o *oneOrMore) UnmarshalJSON(text []byte) error {
	var one string
	if json.Unmarshal(text, &one) == nil {
		*o = oneOrMore{one}
		return nil
	}
	return json.Unmarshal(text, (*[]string)(o))
}

// ParsePolicy reads a policy document, or the name of a system policy. A
// document with anything that Joingate does not heed, such as a Condition, is
// refused: heeding half of it would allow too much.
func ParsePolicy(text string) (Policy, error) {
	if text == ReadOnlyPolicy {
		text = readOnlyDocument
	}
	var p Policy
	decoder := json.NewDecoder(bytes.NewReader([]byte(text)))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&p); err != nil {
		return Policy{}, fmt.Errorf("policy is neither %s nor a RAM policy document: %w", ReadOnlyPolicy, err)
	}
	if decoder.More() {
		return Policy{}, errors.New("policy has text behind its end; remove it")
	}
	if err := p.validate(); err != nil {
		return Policy{}, err
	}
	return p, nil
}

func (p Policy) validate() error {
	if p.Version != "1" {
		return fmt.Errorf("policy has Version %q; write \"1\"", p.Version)
	}
	if len(p.Statement) == 0 {
		return errors.New("policy has no Statement")
	}
	for i, s := range p.Statement {
		if s.Effect != "Allow" && s.Effect != "Deny" {
			return fmt.Errorf("statement %d has Effect %q; write Allow or Deny", i+1, s.Effect)
		}
		if len(s.Action) == 0 || len(s.Resource) == 0 {
			return fmt.Errorf("statement %d lacks Action or Resource", i+1)
		}
	}
	return nil
}

// allows reports whether the policy lets its user do the action on the
// resource. A Deny wins over every Allow.
func (p Policy) allows(action, resource string) bool {
	allowed := false
	for _, s := range p.Statement {
		if !s.covers(action, resource) {
			continue
		}
		if s.Effect != "Allow" {
			return false
		}
		allowed = true
	}
	return allowed
}

func (s Statement) covers(action, resource string) bool {
	return anyMatch(s.Action, action, true) && anyMatch(s.Resource, resource, false)
}

func anyMatch(patterns []string, text string, foldCase bool) bool {
	for _, pattern := range patterns {
		p, t := pattern, text
		if foldCase {
			p, t = strings.ToLower(p), strings.ToLower(t)
		}
		if wildcardMatch(p, t) {
			return true
		}
	}
	return false
}

// wildcardMatch reports whether the text fits the pattern, in which "*" stands
// for any text, also none. Time is at most the product of the lengths.
func wildcardMatch(pattern, text string) bool {
	parts := strings.Split(pattern, "*")
	if len(parts) == 1 {
		return pattern == text
	}
	first, last := parts[0], parts[len(parts)-1]
	if len(text) < len(first)+len(last) || !strings.HasPrefix(text, first) || !strings.HasSuffix(text, last) {
		return false
	}
	text = text[len(first) : len(text)-len(last)]
	for _, part := range parts[1 : len(parts)-1] {
		_, after, found := strings.Cut(text, part)
		if !found {
			return false
		}
		text = after
	}
	return true
}
