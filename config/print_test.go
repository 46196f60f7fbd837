package config

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files anew")

// The golden file is what the documents show as the reference of all keys.
func TestDefaultIsPrintedAsDocumented(t *testing.T) {
	const golden = "testdata/default.toml"
	var b bytes.Buffer
	if err := Default().WriteTOML(&b); err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(golden, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if b.String() != string(want) {
		t.Errorf("%s differs (write it anew with -update); printed:\n%s", golden, b.String())
	}
}

// What is printed can be loaded, from any folder, and is the same again.
func TestPrintedIsLoadedAgain(t *testing.T) {
	var environ []string
	for _, k := range keys(&Config{}) {
		environ = append(environ, k.variable()+"="+other(t, k))
	}
	for name, environ := range map[string][]string{"default": nil, "all keys set": environ} {
		t.Run(name, func(t *testing.T) {
			c, err := parse("", environ...)
			if err != nil {
				t.Fatal(err)
			}
			var b bytes.Buffer
			if err := c.WriteTOML(&b); err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(t.TempDir(), "joingate.toml")
			if err := os.WriteFile(file, b.Bytes(), 0o600); err != nil {
				t.Fatal(err)
			}
			again, err := Load(file, nil)
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(again, c) {
				t.Errorf("loaded again: %+v,\nprinted: %+v", again, c)
			}
		})
	}
}

// Each key says what happens without it, each table what it is for.
func TestEveryKeyIsExplained(t *testing.T) {
	docs, err := comments()
	if err != nil {
		t.Fatal(err)
	}
	for _, tab := range tables(&Config{}) {
		if tab.name != "" && docs[tab.doc] == "" {
			t.Errorf("[%s] has no comment", tab.name)
		}
		for _, k := range tab.keys {
			if k.name == "" {
				t.Errorf("%s has no toml tag", k.doc)
			}
			if !strings.Contains(strings.ReplaceAll(docs[k.doc], "\n# ", " "), "Default ") {
				t.Errorf("the comment of %s names no default: %q", k.path, docs[k.doc])
			}
		}
	}
}

// A default that a comment names is the one in force.
func TestCommentsNameTheDefaultsInForce(t *testing.T) {
	docs, err := comments()
	if err != nil {
		t.Fatal(err)
	}
	c := Default()
	for _, k := range keys(&c) {
		var line bytes.Buffer
		if err := k.writeTOML(&line); err != nil {
			t.Fatal(err)
		}
		_, value, _ := strings.Cut(strings.TrimSpace(line.String()), " = ")
		if value == `""` || value == "[]" {
			value = "none"
		}
		if doc := strings.ReplaceAll(docs[k.doc], "\n# ", " "); !strings.Contains(doc, "Default "+value) {
			t.Errorf("the comment of %s does not say Default %s: %s", k.path, value, doc)
		}
	}
}
