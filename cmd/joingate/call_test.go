package main

import "testing"

func TestEndpointMayLackItsScheme(t *testing.T) {
	for given, want := range map[string]string{
		"127.0.0.1:8080":       "http://127.0.0.1:8080",
		"https://join.example": "https://join.example",
	} {
		if got := withScheme(given); got != want {
			t.Errorf("%s is called at %s, want %s", given, got, want)
		}
	}
}
