// Command licences writes doc/licences.md: the modules that go.mod names, with the
// licence that each brings along.
//
//	go run ./deploy/licences > doc/licences.md
//
// Licences are read from the module cache; a module that is not there yet is
// downloaded by the go command. A text that is not recognised is an error, so that
// a person looks at it.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

func main() {
	if err := run(os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "licences: "+err.Error())
		os.Exit(1)
	}
}

// module is one of go.mod.
type module struct {
	Path, Version string
	Indirect      bool
}

func run(out io.Writer) error {
	modules, err := required()
	if err != nil {
		return err
	}
	linked, err := linkedModules()
	if err != nil {
		return err
	}
	fmt.Fprint(out, heading)
	var faults []error
	for _, m := range modules {
		names, err := licencesOf(m)
		faults = append(faults, err)
		use := "tests and tools"
		if linked[m.Path] {
			use = "program"
		}
		fmt.Fprintf(out, "| %s | %s | %s | %s |\n", m.Path, m.Version, strings.Join(names, ", "), use)
	}
	return errors.Join(faults...)
}

const heading = `# Licences

Joingate is under the Apache License 2.0. These are the modules that go.mod names, with the licences that their files
hold. "program" are those that the program for Linux is linked from. ` + "`go run ./deploy/licences > doc/licences.md`" + ` writes
this page anew; a test compares it with go.mod. What the directly used ones are for: [decisions.md](decisions.md).

| module | version | licence | used by |
|---|---|---|---|
`

// required lists the modules of go.mod, in their order of path.
func required() ([]module, error) {
	text, err := goCommand("mod", "edit", "-json")
	if err != nil {
		return nil, err
	}
	var file struct{ Require []module }
	if err := json.Unmarshal(text, &file); err != nil {
		return nil, fmt.Errorf("read go.mod: %w", err)
	}
	slices.SortFunc(file.Require, func(a, b module) int { return strings.Compare(a.Path, b.Path) })
	return file.Require, nil
}

// linkedModules finds the modules that the program has packages of.
func linkedModules() (map[string]bool, error) {
	text, err := goCommand("list", "-deps", "-f", "{{with .Module}}{{.Path}}{{end}}", "./cmd/joingate")
	if err != nil {
		return nil, err
	}
	linked := map[string]bool{}
	for _, path := range strings.Fields(string(text)) {
		linked[path] = true
	}
	return linked, nil
}

func goCommand(args ...string) ([]byte, error) {
	c := exec.Command("go", args...)
	var faults bytes.Buffer
	c.Stderr = &faults
	text, err := c.Output()
	if err != nil {
		return nil, fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, faults.String())
	}
	return text, nil
}

// licencesOf recognises the licences in the files of a module's first folder.
func licencesOf(m module) (names []string, err error) {
	text, err := goCommand("mod", "download", "-json", m.Path+"@"+m.Version)
	if err != nil {
		return nil, err
	}
	var at struct{ Dir string }
	if err := json.Unmarshal(text, &at); err != nil || at.Dir == "" {
		return nil, fmt.Errorf("%s: no folder in the module cache (%w)", m.Path, err)
	}
	entries, err := os.ReadDir(at.Dir)
	if err != nil {
		return nil, err
	}
	for _, entry := range entries {
		if entry.IsDir() || !isLicenceFile(entry.Name()) {
			continue
		}
		text, err := os.ReadFile(filepath.Join(at.Dir, entry.Name()))
		if err != nil {
			return nil, err
		}
		names = append(names, recognise(string(text))...)
	}
	slices.Sort(names)
	if names = slices.Compact(names); len(names) == 0 {
		return []string{"?"}, fmt.Errorf("%s %s: no licence is recognised in %s: look at it", m.Path, m.Version, at.Dir)
	}
	return names, nil
}

func isLicenceFile(name string) bool {
	name = strings.ToUpper(name)
	for _, start := range []string{"LICENSE", "LICENCE", "COPYING", "EDL", "EPL", "UNLICENSE"} {
		if strings.HasPrefix(name, start) {
			return true
		}
	}
	return false
}

// marks are phrases that only one licence has, by its SPDX name.
var marks = []struct {
	name    string
	phrases []string
}{
	{"Apache-2.0", []string{"apache license", "version 2.0, january 2004"}},
	{"Apache-2.0", []string{"licensed under the apache license, version 2.0"}}, // its notice
	{"MIT", []string{"permission is hereby granted, free of charge, to any person obtaining a copy", "without restriction"}},
	{"MPL-2.0", []string{"mozilla public license", "version 2.0"}},
	{"EPL-2.0", []string{"eclipse public license - v 2.0"}},
	{"ISC", []string{"permission to use, copy, modify, and/or distribute this software for any purpose"}},
	{"BSD-3-Clause", []string{"redistribution and use in source and binary forms", "neither the name"}},
	{"BSD-2-Clause", []string{"redistribution and use in source and binary forms"}},
	{"Unlicense", []string{"this is free and unencumbered software released into the public domain"}},
}

// recognise names the licences in a text; of the two BSD ones the longer.
func recognise(text string) (names []string) {
	text = strings.Join(strings.Fields(strings.ToLower(text)), " ")
	for _, mark := range marks {
		if mark.name == "BSD-2-Clause" && slices.Contains(names, "BSD-3-Clause") {
			continue
		}
		if !slices.ContainsFunc(mark.phrases, func(phrase string) bool { return !strings.Contains(text, phrase) }) {
			names = append(names, mark.name)
		}
	}
	return names
}
