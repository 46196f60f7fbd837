package joingate

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "joingate"

// folders tells which of our folders a folder may import. What is not listed has
// the rule of the folder above it.
var folders = map[string][]string{
	"band":        {},
	"keyring":     {},
	"config":      {},
	"sim":         {}, // so that a mistake of ours cannot cancel itself out
	"joinserver":  {"band", "keyring"},
	"record":      {"joinserver", "band", "keyring"},
	"cache":       {"joinserver", "band", "keyring"},
	"courier":     {"joinserver", "band", "keyring"},
	"backend":     {"joinserver", "band", "keyring"},
	"tlsfile":     {}, // every door needs it, and they do not know each other
	"linkwan":     {"joinserver", "band", "keyring"},
	"mqtt":        {"joinserver", "band", "keyring", "mqtt/broker"},
	"mqtt/broker": {},
	"cmd":         {"*"},

	"soak":         {"sim", "linkwan", "keyring", "soak/history", "soak/load", "soak/proxy", "soak/servers"},
	"soak/load":    {"sim", "linkwan", "soak/history", "soak/servers"},
	"soak/history": {}, // so that the checker knows the promises and not who keeps them
	"soak/proxy":   {},
	"soak/servers": {},
}

// libraries tells which folders may know what is outside, by the start of the
// import path; the longest counts. Tests may know more.
var libraries = map[string][]string{
	"database/sql": {"record"},
	"net/http":     {"linkwan", "backend", "courier", "cmd", "soak", "soak/load"}, // cmd has the operations endpoint

	"github.com/BurntSushi/toml":           {"config"},
	"github.com/brocaar/lorawan":           {"joinserver", "band", "keyring", "sim"},
	"github.com/brocaar/lorawan/backend":   {}, // pulls an old go-redis
	"github.com/chirpstack/chirpstack/api": {"mqtt", "sim"},
	"github.com/eclipse/paho.mqtt.golang":  {"mqtt", "sim", "soak/load"},
	"github.com/google/uuid":               {"linkwan", "cmd"},
	"github.com/jackc/pgx":                 {"record"},
	"github.com/jacobsa/crypto":            {"keyring"},
	"github.com/mochi-mqtt/server":         {"mqtt/broker"},
	"github.com/pressly/goose":             {"record"},
	"github.com/prometheus/client_golang":  {"mqtt", "cmd"},
	"github.com/redis/go-redis":            {"cache"},
	"github.com/spf13/cobra":               {"cmd"},
	"go.opentelemetry.io/otel":             {"cmd"},
	"go.uber.org/zap":                      {"mqtt", "mqtt/broker", "linkwan", "backend", "cmd"},
	"golang.org/x/sync":                    {"mqtt", "record", "cache", "linkwan", "sim", "cmd"},
	"google.golang.org/protobuf":           {"mqtt", "sim"},
	"modernc.org/sqlite":                   {"record"},
	"pgregory.net/rapid":                   {}, // tests only
	"github.com/brocaar/chirpstack-api":    {}, // panics at start beside the v4 API
}

// notOurs are the starts of the names of folders that hold no code of ours; deps
// only names the pinned libraries for go.mod.
var notOurs = []string{".", "testdata", "vendor", "deps"}

// source is one Go file with what it imports.
type source struct {
	file     string
	folder   string // relative to the repository, with slashes
	test     bool
	external bool // a test package of its own: it stands outside like any user
	imports  []string
}

// TestImports keeps the rule of who may import whom, so that it cannot rot.
func TestImports(t *testing.T) {
	sources := repository(t)
	if len(sources) < 20 {
		t.Fatalf("only %d Go files were found", len(sources))
	}
	for _, s := range sources {
		for _, imported := range s.imports {
			if fault := s.check(imported); fault != "" {
				t.Errorf("%s: %s", s.file, fault)
			}
		}
	}
}

// check says what is wrong with an import, "" for nothing.
func (s source) check(imported string) string {
	ours, inside := strings.CutPrefix(imported, module+"/")
	if inside {
		may, known := rule(folders, s.folder)
		switch {
		case s.external:
			return ""
		case !known:
			return "folder " + s.folder + " has no import rule: add it to the table"
		case !slices.Contains(may, "*") && !slices.Contains(may, ours):
			return s.folder + " must not import " + imported
		}
		return ""
	}
	if s.test {
		return ""
	}
	may, known := rule(libraries, imported)
	switch {
	case !known && strings.Contains(imported, "."):
		return imported + " is known to no folder yet: add it to the table"
	case known && !slices.ContainsFunc(may, s.isIn):
		return s.folder + " must not import " + imported
	}
	return ""
}

// isIn reports whether the file is in the folder. A folder that has its own rule
// is not part of the one above it.
func (s source) isIn(folder string) bool {
	at := s.folder
	for folders[at] == nil && at != "." {
		at = path.Dir(at)
	}
	return at == folder
}

// rule finds what the table says of a path or of the nearest one above it.
func rule(table map[string][]string, of string) ([]string, bool) {
	for at := of; at != "." && at != "/"; at = path.Dir(at) {
		if may, known := table[at]; known {
			return may, true
		}
	}
	return nil, false
}

// repository reads the imports of all Go files.
func repository(t *testing.T) (sources []source) {
	t.Helper()
	err := filepath.WalkDir(".", func(file string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := entry.Name()
		if entry.IsDir() && file != "." && slices.ContainsFunc(notOurs, func(n string) bool { return strings.HasPrefix(name, n) }) {
			return fs.SkipDir
		}
		if entry.IsDir() || !strings.HasSuffix(name, ".go") {
			return nil
		}
		s, err := read(filepath.ToSlash(file))
		sources = append(sources, s)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return sources
}

func read(file string) (source, error) {
	parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
	if err != nil {
		return source{}, err
	}
	s := source{
		file: file, folder: path.Dir(file),
		test: strings.HasSuffix(file, "_test.go"), external: strings.HasSuffix(parsed.Name.Name, "_test"),
	}
	for _, spec := range parsed.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return source{}, err
		}
		s.imports = append(s.imports, imported)
	}
	return s, nil
}

// TestRuleFindsOffenders proves that the rule refuses what it should.
func TestRuleFindsOffenders(t *testing.T) {
	for _, c := range []struct {
		s        source
		imported string
		ok       bool
	}{
		{source{folder: "mqtt"}, "joingate/joinserver", true},
		{source{folder: "mqtt"}, "joingate/record", false},
		{source{folder: "courier"}, "joingate/record", false},
		{source{folder: "courier"}, "net/http", true},
		{source{folder: "joinserver"}, "joingate/record", false},
		{source{folder: "keyring"}, "joingate/band", false},
		{source{folder: "sim"}, "joingate/band", false},
		{source{folder: "sim", test: true}, "joingate/band", false},
		{source{folder: "sim", test: true, external: true}, "joingate/band", true},
		{source{folder: "cmd/joingate"}, "joingate/record", true},
		{source{folder: "novel"}, "joingate/band", false},
		{source{folder: "joinserver"}, "net/http", false},
		{source{folder: "joinserver"}, "net/http/httptest", false},
		{source{folder: "joinserver", test: true}, "net/http", true},
		{source{folder: "joinserver"}, "net/netip", true},
		{source{folder: "joinserver"}, "go.uber.org/zap/zapcore", false},
		{source{folder: "record"}, "github.com/prometheus/client_golang/prometheus", false},
		{source{folder: "joinserver"}, "github.com/brocaar/lorawan", true},
		{source{folder: "joinserver"}, "github.com/brocaar/lorawan/backend", false},
		{source{folder: "mqtt/broker"}, "github.com/mochi-mqtt/server/v2/hooks/auth", true},
		{source{folder: "mqtt"}, "github.com/mochi-mqtt/server/v2", false},
		{source{folder: "mqtt/broker"}, "github.com/eclipse/paho.mqtt.golang", false},
		{source{folder: "cmd/joingate"}, "github.com/spf13/cobra", true},
		{source{folder: "cmd/joingate"}, "github.com/eclipse/paho.mqtt.golang", false},
		{source{folder: "linkwan"}, "example.org/novel", false},
	} {
		if fault := c.s.check(c.imported); (fault == "") != c.ok {
			t.Errorf("%s importing %s: %q, want allowed %v", c.s.folder, c.imported, fault, c.ok)
		}
	}
}

// TestJoinserverCanBeEmbedded looks at all that the domain pulls in, also by way
// of libraries: a network server gets no broker, database or HTTP with it.
func TestJoinserverCanBeEmbedded(t *testing.T) {
	listed, err := exec.Command("go", "list", "-deps", "./joinserver").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	deps := strings.Fields(string(listed))
	if !slices.Contains(deps, module+"/keyring") {
		t.Fatalf("go list gives no dependencies: %s", listed)
	}
	for _, barred := range []string{
		"net", "net/http", "database/sql", "os/exec", "log/slog", "modernc.org/sqlite", "github.com/jackc/pgx/v5", "github.com/redis/go-redis/v9",
		"github.com/eclipse/paho.mqtt.golang", "github.com/mochi-mqtt/server/v2", "go.uber.org/zap", "google.golang.org/protobuf/proto",
	} {
		if slices.Contains(deps, barred) {
			t.Errorf("joinserver pulls in %s", barred)
		}
	}
}
