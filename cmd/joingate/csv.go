package main

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"joingate/joinserver"
)

// maxMistakes is how many mistakes of a file are told at once.
const maxMistakes = 20

// table reads a CSV file whose header names its columns in any order, and
// gathers the mistakes in its cells.
type table struct {
	reader   *csv.Reader
	columns  map[string]int
	row      []string
	line     int // in the file; the header is line 1
	mistakes []error
	more     int
}

// newTable reads the header.
func newTable(from io.Reader, required, optional []string) (*table, error) {
	t := &table{reader: csv.NewReader(from), columns: make(map[string]int)}
	header, err := t.reader.Read()
	if errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("the file is empty: its first line names the columns %s", strings.Join(required, ","))
	}
	if err != nil {
		return nil, err
	}
	for i, name := range header {
		name = strings.ToLower(strings.TrimSpace(strings.TrimPrefix(name, "\ufeff"))) // spreadsheets begin with a mark
		if !slices.Contains(required, name) && !slices.Contains(optional, name) {
			return nil, fmt.Errorf("line 1: column %q is unknown; there are %s", name, strings.Join(slices.Concat(required, optional), ","))
		}
		if _, twice := t.columns[name]; twice {
			return nil, fmt.Errorf("line 1: column %s is there twice", name)
		}
		t.columns[name] = i
	}
	for _, name := range required {
		if _, ok := t.columns[name]; !ok {
			return nil, fmt.Errorf("line 1: column %s is missing", name)
		}
	}
	return t, nil
}

// next goes to the next row. A file that is no CSV from some line on ends there,
// with a mistake.
func (t *table) next() bool {
	row, err := t.reader.Read()
	if errors.Is(err, io.EOF) {
		return false
	}
	if err != nil {
		t.mistakes = append(t.mistakes, err) // names the line
		return false
	}
	t.row = row
	t.line, _ = t.reader.FieldPos(0)
	return true
}

// text gives a cell, "" where the column is not there.
func (t *table) text(column string) string {
	i, ok := t.columns[column]
	if !ok {
		return ""
	}
	return strings.TrimSpace(t.row[i])
}

func (t *table) mistake(column, format string, args ...any) {
	if len(t.mistakes) >= maxMistakes {
		t.more++
		return
	}
	t.mistakes = append(t.mistakes, fmt.Errorf("line %d, column %s: %s", t.line, column, fmt.Sprintf(format, args...)))
}

// unique tells of an EUI that an earlier line has too.
func (t *table) unique(seen map[joinserver.EUI64]int, column string, eui joinserver.EUI64) {
	if before, twice := seen[eui]; twice && t.text(column) != "" {
		t.mistake(column, "%s is on line %d already", eui, before)
	}
	seen[eui] = t.line
}

// err tells all mistakes, one a line.
func (t *table) err() error {
	if t.more > 0 {
		return errors.Join(append(t.mistakes, fmt.Errorf("and %d mistakes more", t.more))...)
	}
	return errors.Join(t.mistakes...)
}

// cell reads a cell; where that fails, the mistake is noted.
func cell[V any](t *table, column string, parse func(string) (V, error)) (value V) {
	value, err := parse(t.text(column))
	if err != nil {
		t.mistake(column, "%s", err)
	}
	return value
}

// pinCode reads the six digits that prove who holds a device or gateway.
func pinCode(s string) (string, error) {
	if len(s) != 6 || strings.Trim(s, "0123456789") != "" {
		return "", errors.New("a PIN has six digits")
	}
	return s, nil
}

// orEmpty allows a cell to be empty.
func orEmpty[V any](parse func(string) (V, error)) func(string) (V, error) {
	return func(s string) (value V, err error) {
		if s == "" {
			return value, nil
		}
		return parse(s)
	}
}
