package config

import (
	"bytes"
	_ "embed"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"reflect"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"
)

const header = `# The configuration of Joingate: every key with the value in force.
#
# A relative path starts at the folder of this file, the path in a sqlite: URL at
# data_dir. A password is never written here, only the path of its file. Each key
# can also be given as an environment variable, which wins over this file:
# JOINGATE_DATA_DIR, and JOINGATE_API__LISTEN for listen of [api].
`

// source is where the comments of the keys stand: what a reader of the code
// sees is what an operator sees.
//
//go:embed config.go
var source string

// WriteTOML writes all keys with their values and comments, as a file that Load
// reads back.
func (c Config) WriteTOML(w io.Writer) error {
	docs, err := comments()
	if err != nil {
		return err
	}
	b := bytes.NewBufferString(header)
	for _, t := range tables(&c) {
		if t.name != "" {
			fmt.Fprintf(b, "\n%s[%s]\n", docs[t.doc], t.name)
		}
		for _, k := range tablesLast(t.keys) {
			b.WriteString("\n" + docs[k.doc])
			if err := k.writeTOML(b); err != nil {
				return fmt.Errorf("write %s: %w", k.path, err)
			}
		}
	}
	_, err = w.Write(b.Bytes())
	return err
}

// tablesLast moves what is written as [[tables]] to the end: a plain key behind
// such a header would belong to it.
func tablesLast(keys []key) []key {
	asTables := func(k key) int {
		if list, is := k.value.(*[]map[string]any); is && len(*list) > 0 {
			return 1
		}
		return 0
	}
	return slices.SortedStableFunc(slices.Values(keys), func(a, b key) int { return asTables(a) - asTables(b) })
}

func (k key) writeTOML(w io.Writer) error {
	value := reflect.ValueOf(k.value).Elem()
	if value.Kind() == reflect.Slice && value.Len() == 0 {
		// The encoder leaves empty lists out.
		_, err := fmt.Fprintf(w, "%s = []\n", k.name)
		return err
	}
	enc := toml.NewEncoder(w)
	enc.Indent = ""
	return enc.Encode(map[string]any{k.name: value.Interface()})
}

// comments gives the comment of each field of config.go as TOML comment lines,
// by type and field: "API.Listen".
func comments() (map[string]string, error) {
	file, err := parser.ParseFile(token.NewFileSet(), "config.go", source, parser.ParseComments)
	if err != nil {
		return nil, fmt.Errorf("read the keys' comments: %w", err)
	}
	docs := map[string]string{}
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.TypeSpec)
		if !ok {
			return true
		}
		if fields, ok := spec.Type.(*ast.StructType); ok {
			for _, field := range fields.Fields.List {
				docs[spec.Name.Name+"."+field.Names[0].Name] = commentLines(field.Doc.Text())
			}
		}
		return false
	})
	return docs, nil
}

func commentLines(doc string) string {
	var b strings.Builder
	for line := range strings.Lines(doc) {
		b.WriteString("# " + line)
	}
	return b.String()
}
