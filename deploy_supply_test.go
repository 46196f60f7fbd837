package joingate_test

import (
	"encoding/json"
	"os/exec"
	"path"
	"regexp"
	"strings"
	"testing"
)

// requirement is a module of go.mod.
type requirement struct {
	Path, Version string
	Indirect      bool
}

func requirements(t *testing.T) []requirement {
	t.Helper()
	text, err := exec.Command("go", "mod", "edit", "-json").Output()
	if err != nil {
		t.Fatal(err)
	}
	var file struct{ Require []requirement }
	if err := json.Unmarshal(text, &file); err != nil || len(file.Require) < 15 {
		t.Fatalf("go.mod names %d modules (%v)", len(file.Require), err)
	}
	return file.Require
}

// The licences that may be in a program under the Apache License 2.0 without
// more ado. Of two, one is enough: the choice is ours.
var acceptable = []string{"Apache-2.0", "MIT", "BSD-2-Clause", "BSD-3-Clause", "ISC"}

var licenceRow = regexp.MustCompile(`(?m)^\| (\S+) \| (v\S+) \| ([^|]+) \| (program|tests and tools) \|$`)

func TestLicencesAreThoseOfTheModules(t *testing.T) {
	listed := map[string][]string{}
	for _, row := range licenceRow.FindAllStringSubmatch(string(content(t, "doc/licences.md")), -1) {
		listed[row[1]+" "+row[2]] = row
	}
	for _, m := range requirements(t) {
		row := listed[m.Path+" "+m.Version]
		if row == nil {
			t.Errorf("doc/licences.md lacks %s %s: write it anew with go run ./deploy/licences > doc/licences.md", m.Path, m.Version)
			continue
		}
		delete(listed, m.Path+" "+m.Version)
		good := false
		for _, name := range acceptable {
			good = good || strings.Contains(", "+row[3]+",", " "+name+",")
		}
		if !good && row[4] == "program" {
			t.Errorf("%s is linked into the program under %s: see whether that may be", m.Path, row[3])
		}
	}
	for name := range listed {
		t.Errorf("doc/licences.md lists %s, which go.mod does not name", name)
	}
}

var majorVersion = regexp.MustCompile(`^v[0-9]+$`)

// No library without a purpose: each one that is used directly is in the table of
// doc/decisions.md, by the last part of its path.
func TestLibrariesHaveAPurpose(t *testing.T) {
	_, table, found := strings.Cut(string(content(t, "doc/decisions.md")), "## Libraries and what for")
	if !found {
		t.Fatal("doc/decisions.md has no table of libraries")
	}
	for _, m := range requirements(t) {
		name := path.Base(m.Path)
		if majorVersion.MatchString(name) {
			name = path.Base(path.Dir(m.Path))
		}
		if !m.Indirect && !strings.Contains(strings.ToLower(table), strings.ToLower(name)) {
			t.Errorf("doc/decisions.md does not say what %s is for", m.Path)
		}
	}
}
