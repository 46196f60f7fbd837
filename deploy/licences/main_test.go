package main

import (
	"strings"
	"testing"
)

func TestRecognise(t *testing.T) {
	const bsd = "Redistribution and use in source and binary\nforms, with or without modification, are permitted"
	for text, want := range map[string]string{
		"":                                   "",
		"Copyright me. All rights reserved.": "",
		"                              Apache License\n Version 2.0, January 2004": "Apache-2.0",
		bsd: "BSD-2-Clause",
		bsd + " ... Neither the name of Google Inc. nor": "BSD-3-Clause",
		"Permission is hereby granted, free of charge, to any person obtaining\na copy of this software ... without restriction": "MIT",
		"Mozilla Public License Version 2.0":                              "MPL-2.0",
		"Eclipse Public License - v 2.0 ... " + bsd + " neither the name": "EPL-2.0 BSD-3-Clause",
	} {
		if got := strings.Join(recognise(text), " "); got != want {
			t.Errorf("%q is recognised as %q, want %q", text, got, want)
		}
	}
}

func TestIsLicenceFile(t *testing.T) {
	for name, want := range map[string]bool{"LICENSE": true, "LICENSE.md": true, "License.txt": true, "COPYING": true, "edl-v10": true, "README.md": false, "main.go": false} {
		if isLicenceFile(name) != want {
			t.Errorf("%s: want %v", name, want)
		}
	}
}
