package main

import (
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

var (
	// What documents show of our command line: in a line of code, or between backticks.
	commandLine = regexp.MustCompile("(?m)(?:`|^ *\\$? *|bin/|sudo -u joingate |/)joingate( [a-z-][^`\\n|#]*)")
	commandWord = regexp.MustCompile(`^[a-z][a-z-]+$`)
	flagName    = regexp.MustCompile(`^--([a-z][a-z-]*)`)
)

// Documents name commands and flags that exist.
func TestDocumentsNameCommandsThatExist(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("../../doc/*.md")
	check(t, err)
	seen := 0
	for _, file := range append(files, "../../README.md", "../../SECURITY.md") {
		text, err := os.ReadFile(file)
		check(t, err)
		for _, line := range commandLine.FindAllStringSubmatch(strings.ReplaceAll(string(text), "\\\n", " "), -1) {
			seen++
			if wrong := wrongCommand(strings.Fields(line[1])); wrong != "" {
				t.Errorf("%s: joingate%s: %s", filepath.Base(file), line[1], wrong)
			}
		}
	}
	if seen < 40 {
		t.Errorf("only %d commands were found", seen)
	}
}

// wrongCommand says what is wrong with a command line; "" for nothing. It is cut off
// where the shell takes over.
func wrongCommand(words []string) string {
	p := &program{stdout: io.Discard, stderr: io.Discard}
	c := p.command()
	for len(words) > 0 && commandWord.MatchString(words[0]) && c.HasSubCommands() {
		below := commandNamed(c, words[0])
		if below == nil {
			return c.CommandPath() + " has no command " + words[0]
		}
		c, words = below, words[1:]
	}
	for _, word := range words {
		if strings.ContainsAny(word, ">&;") {
			break
		}
		m := flagName.FindStringSubmatch(word)
		if m != nil && m[1] != "help" && c.Flags().Lookup(m[1]) == nil && c.InheritedFlags().Lookup(m[1]) == nil {
			return c.CommandPath() + " has no flag --" + m[1]
		}
	}
	return ""
}

func commandNamed(in *cobra.Command, name string) *cobra.Command {
	for _, c := range in.Commands() {
		if c.Name() == name {
			return c
		}
	}
	return nil
}
