package config

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

const prefix = "JOINGATE_"

// otherVariables are read by commands, not here: the file's path, and the
// endpoint and AccessKey of joingate call.
var otherVariables = []string{
	"JOINGATE_CONFIG",
	"JOINGATE_ENDPOINT",
	"JOINGATE_ACCESS_KEY_ID",
	"JOINGATE_ACCESS_KEY_SECRET",
}

// setEnviron takes the values of the JOINGATE_ variables, notes which have set a key,
// and returns their mistakes in the order of environ.
func (c *Config) setEnviron(environ []string, set places) []error {
	known := keys(c)
	var mistakes []error
	for _, entry := range environ {
		name, text, _ := strings.Cut(entry, "=")
		if !strings.HasPrefix(name, prefix) || slices.Contains(otherVariables, name) {
			continue
		}
		if err := setVariable(known, name, text, set); err != nil {
			mistakes = append(mistakes, err)
		}
	}
	return mistakes
}

func setVariable(known []key, name, text string, set places) error {
	i := slices.IndexFunc(known, func(k key) bool { return k.variable() == name })
	if i < 0 {
		return unknownVariable(known, name)
	}
	set[known[i].path] = name
	if !utf8.ValidString(text) {
		return fmt.Errorf("%s is not UTF-8 text", name)
	}
	if err := known[i].setText(text); err != nil {
		return fmt.Errorf("%s=%q: %w", name, text, err)
	}
	return nil
}

// unknownVariable refuses what must be a slip of the pen, and nil for the rest:
// Kubernetes gives each pod variables such as JOINGATE_PORT and
// JOINGATE_MQTT_SERVICE_HOST when there are services of these names, and they
// must not keep the program from starting.
func unknownVariable(known []key, name string) error {
	variables := make([]string, len(known))
	slip := strings.Contains(name, "__")
	for i, k := range known {
		variables[i] = k.variable()
		slip = slip || resembles(name, variables[i])
	}
	if !slip {
		return nil
	}
	return fmt.Errorf("unknown variable %s; did you mean %s?", name, nearest(name, variables))
}

// resembles says whether name is a table without its key, or at most two edits
// from the variable, of which "_" for "__" is none.
func resembles(name, variable string) bool {
	return strings.HasPrefix(variable, name+"__") ||
		distance(name, strings.ReplaceAll(variable, "__", "_")) <= 2
}
