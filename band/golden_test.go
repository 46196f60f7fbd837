package band_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"joingate/band"
)

var update = flag.Bool("update", false, "rewrite testdata/golden")

// TestGolden keeps every table where a change of it shows: one file for each
// group, the JSON of `joingate band show`, with a line for each join channel.
func TestGolden(t *testing.T) {
	files := map[string]bool{}
	check := func(name string, v any) {
		file := filepath.Join("testdata", "golden", name+".json")
		files[file] = true
		got, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		got = bytes.ReplaceAll(got, []byte(`{"frequency":`), []byte("\n{\"frequency\":"))
		got = bytes.ReplaceAll(got, []byte("\"rx2\":\n"), []byte(`"rx2":`))
		got = bytes.ReplaceAll(append(got, '\n'), []byte(`],"data_rates":{`), []byte("],\n\"data_rates\":{"))
		if *update {
			if err := os.WriteFile(file, got, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s has changed; if it is meant to, run go test ./band -update", file)
		}
	}
	gs := band.Standard()
	check("list", gs.List())
	for _, g := range gs.All() {
		check(fmt.Sprintf("%d-%s", g.ID, g.Name), g.Describe())
	}
	there, _ := filepath.Glob("testdata/golden/*")
	for _, file := range there {
		if !files[file] {
			t.Errorf("%s belongs to no group", file)
		}
	}
}

func TestJSONFormOfAGroup(t *testing.T) {
	got, err := json.Marshal(find(t, band.Standard(), 1006).Describe())
	if err != nil {
		t.Fatal(err)
	}
	var d struct {
		Group        int
		Name, Region string
		JoinChannels []struct {
			Frequency int
			DataRates []int `json:"data_rates"`
			RX1       []struct {
				UplinkDR  int `json:"uplink_dr"`
				Frequency int
				DataRate  int `json:"data_rate"`
			}
			RX2 struct {
				Frequency int
				DataRate  int `json:"data_rate"`
			}
			Power int `json:"power_dbm"`
		} `json:"join_channels"`
		DataRates map[string]struct {
			Modulation      string
			SpreadingFactor int `json:"spreading_factor"`
			Bandwidth       int
		} `json:"data_rates"`
		CFList map[string]string `json:"cf_list"`
	}
	read := json.NewDecoder(bytes.NewReader(got))
	read.DisallowUnknownFields()
	if err := read.Decode(&d); err != nil {
		t.Fatalf("%s: %v", got, err)
	}
	c := d.JoinChannels[2]
	if d.Group != 1006 || d.Name != "ISM2400" || d.Region != "ISM2400" || len(d.JoinChannels) != 3 {
		t.Errorf("%s", got)
	}
	if c.Frequency != 2_479_000_000 || len(c.DataRates) != 8 || len(c.RX1) != 8 || c.RX1[7].UplinkDR != 7 || c.RX1[7].Frequency != 2_479_000_000 ||
		c.RX1[7].DataRate != 7 || c.RX2.Frequency != 2_423_000_000 || c.RX2.DataRate != 0 || c.Power != 10 {
		t.Errorf("join channel %+v", c)
	}
	if dr := d.DataRates["7"]; dr.Modulation != "LORA" || dr.SpreadingFactor != 5 || dr.Bandwidth != 812_000 {
		t.Errorf("data rate 7 %+v", dr)
	}
	for _, v := range []string{"1.0.2", "1.0.3", "1.0.4", "1.1"} {
		if list, ok := d.CFList[v]; !ok || list != "" {
			t.Errorf("CFList for %s: %q, %t", v, list, ok)
		}
	}
}

// doc/bands.md has a row for every group, by its number and name.
func TestDocumentListsEveryGroup(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "doc", "bands.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range band.Standard().All() {
		row := fmt.Sprintf("\n| %d | %s |", g.ID, g.Name)
		if g.ID > 1100 && g.ID%100 != 0 { // the sub-bands share a row
			row = fmt.Sprintf("\n| %d-%d | %s-FSB1 to %s-FSB8 |", g.ID/100*100+1, g.ID/100*100+8, g.Region, g.Region)
		}
		if !bytes.Contains(text, []byte(row)) {
			t.Errorf("no row %q", row)
		}
	}
}
