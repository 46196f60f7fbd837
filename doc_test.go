package joingate_test

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	testName = regexp.MustCompile(`\b(?:Test|Fuzz|Benchmark)[A-Z]\w*`)
	testFunc = regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Benchmark)[A-Z]\w*)\(`)
	quoted   = regexp.MustCompile("`([^`\n]+)`")
	// What a cell of a table of proofs is read by: a folder, then its tests.
	folderOrTest = regexp.MustCompile("`([a-z/]+)`|" + testName.String())
	linked       = regexp.MustCompile(`\]\(([^)#:]+)(?:#[^)]*)?\)`)
	setting      = regexp.MustCompile("`\\[([a-z]+)\\] ([a-z_]+)")
	section      = regexp.MustCompile(`(?m)^\t(\w+) +(\w+) +` + "`toml:\"([a-z]+)\"`")
	alert        = regexp.MustCompile("`(Joingate[A-Z]\\w+)`")
	series       = regexp.MustCompile(`joingate_[a-z_]+\{[^}]*\}`)
)

// testFolders gives the folders that each test, fuzz target and benchmark is in.
func testFolders(t *testing.T) map[string][]string {
	t.Helper()
	folders := map[string][]string{}
	err := filepath.WalkDir(".", func(file string, _ fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(file, "_test.go") {
			for _, m := range testFunc.FindAllSubmatch(content(t, file), -1) {
				folders[string(m[1])] = append(folders[string(m[1])], path.Dir(filepath.ToSlash(file)))
			}
		}
		return err
	})
	if err != nil || len(folders) < 100 {
		t.Fatalf("only %d tests were found (%v)", len(folders), err)
	}
	return folders
}

func documents(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("doc/*.md")
	if err != nil || len(files) < 5 {
		t.Fatalf("only %d documents were found (%v)", len(files), err)
	}
	return append(files, "README.md", "SECURITY.md")
}

func TestDocumentsNameTestsThatExist(t *testing.T) {
	folders := testFolders(t)
	for _, file := range documents(t) {
		for _, name := range testName.FindAllString(string(content(t, file)), -1) {
			if folders[name] == nil {
				t.Errorf("%s names %s, which is in no folder", file, name)
			}
		}
	}
}

// Each promise of doc/architecture.md names tests, and each of them is in the
// folder that is named before it.
func TestPromisesAreProved(t *testing.T) {
	folders := testFolders(t)
	_, table, _ := strings.Cut(string(content(t, "doc/architecture.md")), "## Promises and what proves them")
	table, _, _ = strings.Cut(table, "\n## ")
	promises := 0
	for line := range strings.Lines(table) {
		cells := strings.Split(line, "|")
		if !strings.HasPrefix(line, "| **") || len(cells) != 4 {
			continue
		}
		promises++
		folder, tests := "", 0
		for _, m := range folderOrTest.FindAllStringSubmatch(cells[2], -1) {
			if m[1] != "" {
				folder = m[1]
				continue
			}
			tests++
			if !slices.Contains(folders[m[0]], folder) {
				t.Errorf("%s is not in %q: %s", m[0], folder, strings.TrimSpace(cells[1]))
			}
		}
		if tests == 0 {
			t.Errorf("no test proves: %s", strings.TrimSpace(cells[1]))
		}
	}
	if promises != 9 {
		t.Errorf("%d promises were read, not 9", promises)
	}
}

// What documents call by its path, or link to, is there: a file under one of our
// folders, with * for any text.
func TestDocumentsNameFilesThatExist(t *testing.T) {
	for _, file := range documents(t) {
		text := string(content(t, file))
		for _, m := range linked.FindAllStringSubmatch(text, -1) {
			if _, err := os.Stat(filepath.Join(filepath.Dir(file), m[1])); errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s links to %s, which is not there", file, m[1])
			}
		}
		for _, m := range quoted.FindAllStringSubmatch(text, -1) {
			folder, _, below := strings.Cut(m[1], "/")
			// ./joingate-data is made by the first start; …/src/… is ChirpStack's.
			others := folder == "." || strings.Contains(m[1], "/src/") || strings.ContainsAny(m[1], " {…")
			if info, err := os.Stat(folder); !below || others || err != nil || !info.IsDir() {
				continue
			}
			if found, err := filepath.Glob(m[1]); err != nil || len(found) == 0 {
				t.Errorf("%s names %s, which is not there", file, m[1])
			}
		}
	}
}

// What documents say of metrics is true, values of labels included.
func TestDocumentsNameMetricsThatExist(t *testing.T) {
	names := registered(t)
	for _, file := range documents(t) {
		text := string(content(t, file))
		for _, metric := range metricsIn(text) {
			if !known(names, metric) {
				t.Errorf("%s names %s, which the program does not have", file, metric)
			}
		}
		for _, s := range series.FindAllString(text, -1) {
			wantLabels(t, file, s)
		}
	}
}

// A setting that documents name by `[section] key` is one.
func TestDocumentsNameSettingsThatExist(t *testing.T) {
	source := string(content(t, "config/config.go"))
	types := map[string]string{}
	for _, m := range section.FindAllStringSubmatch(source, -1) {
		types[m[3]] = m[2]
	}
	seen := 0
	for _, file := range documents(t) {
		for _, m := range setting.FindAllStringSubmatch(string(content(t, file)), -1) {
			seen++
			_, fields, found := strings.Cut(source, "type "+types[m[1]]+" struct {")
			fields, _, _ = strings.Cut(fields, "\n}")
			if !found || !strings.Contains(fields, `toml:"`+m[2]+`"`) {
				t.Errorf("%s names [%s] %s, which is no setting", file, m[1], m[2])
			}
		}
	}
	if seen < 15 {
		t.Errorf("only %d settings were found", seen)
	}
}

func TestDocumentsNameAlertsThatExist(t *testing.T) {
	rules := string(content(t, "deploy/prometheus/joingate.rules.yaml"))
	for _, file := range documents(t) {
		for _, m := range alert.FindAllStringSubmatch(string(content(t, file)), -1) {
			if !strings.Contains(rules, "- alert: "+m[1]+"\n") {
				t.Errorf("%s names the alert %s, which is not there", file, m[1])
			}
		}
	}
}
