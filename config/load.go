package config

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"
)

// Load gives the defaults, overridden by the file ("" for none), overridden by
// the JOINGATE_ variables of environ (as os.Environ gives it), with all paths
// absolute.
//
// What it returns without an error is valid. The error holds all mistakes, one
// a line, each with the place and what to do.
func Load(file string, environ []string) (Config, error) {
	folder, err := filepath.Abs(filepath.Dir(file))
	if err != nil {
		return Config{}, fmt.Errorf("find the folder that paths are relative to: %w", err)
	}
	if file == "" {
		return load("", "", folder, environ)
	}
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return Config{}, fmt.Errorf("configuration file %q does not exist: correct the path, or run without one to use the defaults", file)
	}
	if err != nil {
		return Config{}, fmt.Errorf("read configuration file: %w", err)
	}
	return load(file, string(text), folder, environ)
}

// load is Load after the file was read: its text, and the folder it lies in.
func load(file, text, folder string, environ []string) (Config, error) {
	c, set := Default(), places{}
	mistakes := append(c.setFile(file, text, set), c.setEnviron(environ, set)...)
	c.resolvePaths(folder)
	mistakes = append(mistakes, set.name(c.check())...)
	if err := errors.Join(mistakes...); err != nil {
		return Config{}, err
	}
	return c, nil
}

// places tells where each key was set: "joingate.toml, line 3", or the variable.
type places map[string]string

// name puts the place before each mistake in a key that was set.
func (p places) name(mistakes []error) []error {
	named := make([]error, len(mistakes))
	for i, err := range mistakes {
		named[i] = err
		var in invalid
		if !errors.As(err, &in) {
			continue
		}
		if at := slices.IndexFunc(in.keys, func(key string) bool { return p[key] != "" }); at >= 0 {
			named[i] = fmt.Errorf("%s: %w", p[in.keys[at]], err)
		}
	}
	return named
}

// resolvePaths makes the paths absolute. The one in a sqlite: URL is left out:
// it starts at data_dir.
func (c *Config) resolvePaths(folder string) {
	for _, path := range []*string{
		&c.DataDir,
		&c.Record.PasswordFile,
		&c.Cache.PasswordFile, &c.Cache.TLSCA, &c.Cache.TLSCert, &c.Cache.TLSKey,
		&c.MQTT.PasswordFile, &c.MQTT.TLSCA, &c.MQTT.TLSCert, &c.MQTT.TLSKey,
		&c.MQTT.EmbeddedUsersFile, &c.MQTT.EmbeddedTLSCert, &c.MQTT.EmbeddedTLSKey, &c.MQTT.EmbeddedTLSClientCA,
		&c.API.TLSCert, &c.API.TLSKey,
		&c.Ops.TLSCert, &c.Ops.TLSKey,
		&c.Backend.TLSCert, &c.Backend.TLSKey, &c.Backend.TLSClientCA, &c.Backend.TLSClientCRL,
		&c.Events.WebhookSecretFile, &c.Events.WebhookCA,
		&c.Keys.KEKFile,
	} {
		*path = absolute(folder, *path)
	}
	for _, server := range c.NetworkServers {
		for name, value := range server {
			if path, is := value.(string); is && strings.HasSuffix(name, "_file") {
				server[name] = absolute(folder, path)
			}
		}
	}
}

// absolute lets a relative path start at the folder; none stays none.
func absolute(folder, path string) string {
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(folder, path)
}

// setFile takes the values of a TOML text, notes where they stand, and returns its
// mistakes from top to bottom.
func (c *Config) setFile(file, text string, set places) []error {
	var root map[string]toml.Primitive
	meta, err := toml.Decode(text, &root)
	if err != nil {
		return []error{syntaxError(file, err)}
	}
	r := reader{file: file, meta: meta, known: tables(c), set: set}
	r.read("", root)
	slices.SortFunc(r.mistakes, func(a, b mistake) int {
		return cmp.Or(cmp.Compare(a.line, b.line), cmp.Compare(a.err.Error(), b.err.Error()))
	})
	errs := make([]error, len(r.mistakes))
	for i, m := range r.mistakes {
		errs[i] = fmt.Errorf("%s: %w", place(file, m.line), m.err)
	}
	return errs
}

// syntaxError says where the text stops being TOML.
func syntaxError(file string, err error) error {
	var at toml.ParseError
	if errors.As(err, &at) {
		return fmt.Errorf("%s: %s", place(file, at.Position.Line), at.Message)
	}
	return fmt.Errorf("%s: %w", file, err)
}

// place names a line; 0 is a line that is not known.
func place(file string, line int) string {
	if line == 0 {
		return file
	}
	return fmt.Sprintf("%s, line %d", file, line)
}

// reader walks through a decoded file.
type reader struct {
	file     string
	set      places
	meta     toml.MetaData
	known    []table
	mistakes []mistake
}

type mistake struct {
	line int
	err  error
}

// read sets the keys of one table; prefix is "" or "api.".
func (r *reader) read(prefix string, values map[string]toml.Primitive) {
	for name, value := range values {
		// Quoting keeps the one key "api.listen" apart from api.listen.
		path := prefix + toml.Key{name}.String()
		if err := r.readOne(path, value); err != nil {
			r.mistakes = append(r.mistakes, mistake{r.lineOf(value), err})
		}
	}
}

func (r *reader) readOne(path string, primitive toml.Primitive) error {
	var value any
	if err := r.meta.PrimitiveDecode(primitive, &value); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	for _, t := range r.known {
		if t.name == path {
			return r.readTable(path, primitive, value)
		}
		for _, k := range t.keys {
			if k.path == path {
				r.set[path] = place(r.file, r.lineOf(primitive))
				return k.setValue(value)
			}
		}
	}
	return r.unknown(path)
}

func (r *reader) readTable(path string, primitive toml.Primitive, value any) error {
	// Asked here and not left to PrimitiveDecode, which takes anything that is
	// no table for an empty one.
	if _, ok := value.(map[string]any); !ok {
		return fmt.Errorf("%s must be a table with the header [%s]", path, path)
	}
	var below map[string]toml.Primitive
	if err := r.meta.PrimitiveDecode(primitive, &below); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	r.read(path+".", below)
	return nil
}

// unknown names the nearest known key; a table only for a key of the top, or
// api.port would be nearest to api.
func (r *reader) unknown(path string) error {
	var names []string
	for _, t := range r.known {
		if t.name != "" && !strings.Contains(path, ".") {
			names = append(names, t.name)
		}
		for _, k := range t.keys {
			names = append(names, k.path)
		}
	}
	return fmt.Errorf("unknown key %q; did you mean %q?", path, nearest(path, names))
}

// lineOf gives the line of a value, 0 when the library does not know it. The
// library tells it only in the error of a value that refuses to be decoded.
func (r *reader) lineOf(value toml.Primitive) int {
	var at toml.ParseError
	errors.As(r.meta.PrimitiveDecode(value, refuser{}), &at)
	return at.Position.Line
}

type refuser struct{}

func (refuser) UnmarshalTOML(any) error { return errors.New("refused") }
