package main

import (
	"bytes"
	"encoding/json"
	"os"
	"runtime/debug"
	"testing"
)

func TestDescribe(t *testing.T) {
	b := describe(&debug.BuildInfo{
		GoVersion: "go1.26.8",
		Main:      debug.Module{Path: "joingate", Version: "v1.2.3"},
		Deps: []*debug.Module{
			{Path: "example.org/a", Version: "v1.0.0", Sum: "h1:abc"},
			{Path: "example.org/b", Version: "v2.0.0", Replace: &debug.Module{Path: "example.org/c", Version: "v3.0.0"}},
		},
		Settings: []debug.BuildSetting{{Key: "vcs.time", Value: "2026-11-21T20:00:00Z"}, {Key: "CGO_ENABLED", Value: "0"}, {Key: "-tags"}},
	})
	if b.Metadata.Timestamp != "2026-11-21T20:00:00Z" || b.Metadata.Component.Version != "v1.2.3" || len(b.Metadata.Component.Properties) != 3 {
		t.Errorf("metadata %+v", b.Metadata)
	}
	var purls []string
	for _, c := range b.Components {
		purls = append(purls, c.PURL)
	}
	want := []string{"pkg:golang/std@1.26.8", "pkg:golang/example.org/a@v1.0.0", "pkg:golang/example.org/c@v3.0.0"}
	if len(purls) != 3 || purls[0] != want[0] || purls[1] != want[1] || purls[2] != want[2] || b.Components[1].Properties[0].Value != "h1:abc" {
		t.Errorf("components %+v, want %v", b.Components, want)
	}
}

// A program describes itself twice in the same words.
func TestRun(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var first, second bytes.Buffer
	if err := run([]string{self}, &first); err != nil {
		t.Fatal(err)
	}
	if err := run([]string{self}, &second); err != nil || first.String() != second.String() {
		t.Errorf("the second time it is %s (%v), before %s", second.String(), err, first.String())
	}
	var b bom
	if err := json.Unmarshal(first.Bytes(), &b); err != nil || b.Format != "CycloneDX" {
		t.Errorf("%s (%v)", first.String(), err)
	}
	for _, wrong := range [][]string{nil, {"a", "b"}, {"main_test.go"}, {"nowhere"}} {
		if err := run(wrong, &first); err == nil {
			t.Errorf("%v was taken", wrong)
		}
	}
}
