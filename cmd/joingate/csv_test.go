package main

import (
	"strings"
	"testing"

	"joingate/band"
)

func FuzzReadNodes(f *testing.F) {
	f.Add("dev_eui,app_key\n004a770066fffe01,000102030405060708090a0b0c0d0e0f\n")
	f.Add("group,mac_version,dev_eui,pin_code,app_key,nwk_key\nmeters,1.1,004A770066FFFE02,123456,000102030405060708090a0b0c0d0e0f,0f0e0d0c0b0a09080706050403020100\n")
	f.Add("\ufeffdev_eui,app_key\n\"004a\n770066fffe01\",x\n")
	f.Fuzz(func(t *testing.T, text string) {
		list, err := readNodes(strings.NewReader(text))
		if err != nil {
			return
		}
		for _, n := range list {
			if n.Keys.App.IsZero() || n.Keys.Nwk.IsZero() == (n.MACVersion == band.MAC1_1) || n.line < 2 {
				t.Errorf("accepted a node without the keys of its version: line %d of %q", n.line, text)
			}
		}
	})
}

func FuzzReadGateways(f *testing.F) {
	f.Add("gw_eui,pin_code\n0016c001f1500a01,123456\n")
	f.Add("pin_code,gw_eui\n12345,0016c001f1500a01\n")
	f.Fuzz(func(t *testing.T, text string) {
		list, err := readGateways(strings.NewReader(text))
		for _, g := range list {
			if err == nil && len(g.PinCode) != 6 {
				t.Errorf("accepted PIN %q", g.PinCode)
			}
		}
	})
}

// Mistakes are told with line and column, as many as a person can mend at once.
func TestReadNodesTellsEveryMistake(t *testing.T) {
	text := "dev_eui,app_key,nwk_key,mac_version,pin_code\n" +
		"004a770066fffe01,000102030405060708090a0b0c0d0e0f,,1.0.2,\n" +
		"004a77,000102030405060708090a0b0c0d0e0f,,,\n" +
		"004a770066fffe01,00,,,\n" +
		"004a770066fffe03,000102030405060708090a0b0c0d0e0f,,1.1,\n" +
		"004a770066fffe04,000102030405060708090a0b0c0d0e0f,000102030405060708090a0b0c0d0e0f,1.0.4,12345\n" +
		"004a770066fffe05,000102030405060708090a0b0c0d0e0f,,2.0,\n"
	_, err := readNodes(strings.NewReader(text))
	for _, want := range []string{
		"line 3, column dev_eui", "line 4, column app_key", "line 4, column dev_eui: 004a770066fffe01 is on line 2 already",
		"line 5, column nwk_key", "line 6, column nwk_key", "line 6, column pin_code", "line 7, column mac_version",
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("not told: %s\n%v", want, err)
		}
	}
}
