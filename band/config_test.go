package band_test

import (
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/BurntSushi/toml"

	"joingate/band"
)

// settings is how a configuration file holds groups.
type settings struct {
	Groups []band.Config `toml:"groups"`
}

func decode(text string) ([]band.Config, error) {
	var s settings
	read, err := toml.Decode(text, &s)
	if err == nil && len(read.Undecoded()) > 0 {
		err = errors.New("unknown key " + read.Undecoded()[0].String())
	}
	return s.Groups, err
}

func fromTOML(t testing.TB, text string) (*band.Groups, error) {
	t.Helper()
	own, err := decode(text)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return band.Standard().With(own...)
}

func mustTOML(t testing.TB, text string) *band.Groups {
	t.Helper()
	gs, err := fromTOML(t, text)
	if err != nil {
		t.Fatal(err)
	}
	return gs
}

func TestOwnGroup(t *testing.T) {
	gs := mustTOML(t, `
[[groups]]
id = 10000
name = "EU868 with three more"
base = "EU868"
channels = [
  { frequency = 868100000 },
  { frequency = 868300000, min_data_rate = 2 },
  { frequency = 864100000, max_data_rate = 3 },
  { frequency = 864300000, rx1_frequency = 864500000 },
]
cf_list = { frequencies = [868500000, 868700000] }
rx2 = { frequency = 869525000, data_rate = 3 }
rx1_dr_offset = 2
power_dbm = 27
`)
	g := find(t, gs, 10_000)
	if g.Name != "EU868 with three more" || g.Region != "EU868" || g.RX1DROffset() != 2 || g.RX2DataRate() != 0 {
		t.Errorf("%s, region %s, offset %d, RX2 after the join at DR%d", g.Name, g.Region, g.RX1DROffset(), g.RX2DataRate())
	}
	for _, c := range []struct {
		f         band.Hz
		rx1       band.Hz
		low, high uint8 // spreading factors
	}{
		{868_100_000, 868_100_000, 7, 12},
		{868_300_000, 868_300_000, 7, 10},
		{864_100_000, 864_100_000, 9, 12},
		{864_300_000, 864_500_000, 7, 12},
	} {
		for n := uint8(7); n <= 12; n++ {
			a, ok := g.Answer(c.f, sf(n), band.MAC1_0_0, true)
			if ok != (c.low <= n && n <= c.high) {
				t.Errorf("%s SF%d is a join channel: %t", c.f, n, ok)
			}
			if ok && (a.RX1.Frequency != c.rx1 || a.RX1.Modulation != sf(n) || a.RX2.Frequency != 869_525_000 || a.RX2.DataRate != 3) {
				t.Errorf("%s SF%d is answered %+v", c.f, n, a)
			}
			if ok && (a.RX1.Power != 16 || a.RX2.Power != 27) {
				t.Errorf("%s SF%d is answered with %d and %d dBm, want 16, which is the limit, and 27", c.f, n, a.RX1.Power, a.RX2.Power)
			}
			if ok && hex.EncodeToString(a.CFList) != "c88584988d8400000000000000000000" {
				t.Errorf("CFList %x", a.CFList)
			}
		}
	}
	if g.JoinChannel(868_500_000, sf(7)) {
		t.Error("868.5 MHz is a join channel, though not given")
	}
	if want := (band.FreqBandPlan{GroupId: 10_000, FrequencyRegionId: "EU", FrequencyType: "DIFF_FREQUENCY", BeginFrequency: 863, EndFrequency: 870}); g.Plan() != want {
		t.Errorf("%+v, want %+v", g.Plan(), want)
	}
	if all := gs.All(); all[len(all)-1] != g {
		t.Error("the group is not the last")
	}
	checkSound(t, g, 863_000_000, 870_000_000, 0)
}

// A group that only has a name of its own is its base under another number.
func TestOwnGroupTakesAllFromItsBase(t *testing.T) {
	var own []band.Config
	for i, g := range band.Standard().All() {
		own = append(own, band.Config{ID: band.FirstOwnGroup + band.GroupID(i), Name: "own " + g.Name, Base: g.Name})
	}
	gs := with(t, own...)
	for i, base := range band.Standard().All() {
		g := find(t, gs, band.FirstOwnGroup+band.GroupID(i))
		want := base.Describe()
		want.Group, want.Name = g.ID, g.Name
		if got := asJSON(t, g.Describe()); got != asJSON(t, want) {
			t.Errorf("%s is not as its base: %s", g.Name, got)
		}
	}
}

// Two sub-bands in one group: their channels, and the mask of both.
func TestOwnGroupOfTwoSubBands(t *testing.T) {
	own := band.Config{ID: 10_000, Name: "US915-FSB1+2", Base: "US915"}
	for i := range band.Hz(16) {
		own.Channels = append(own.Channels, band.ChannelConfig{Frequency: 902_300_000 + i*200_000})
	}
	own.Channels = append(own.Channels, band.ChannelConfig{Frequency: 903_000_000}, band.ChannelConfig{Frequency: 904_600_000})
	gs := with(t, own)
	g := find(t, gs, 10_000)
	if got := g.Describe().CFList["1.0.3"]; got != "ffff0000000000000300000000000001" {
		t.Errorf("CFList %s", got)
	}
	for _, c := range find(t, gs, 1102).Describe().JoinChannels {
		for _, m := range allModulations() {
			a, ok := g.Answer(c.Frequency, m, band.MAC1_0_2, true)
			b, want := find(t, gs, 1102).Answer(c.Frequency, m, band.MAC1_0_2, true)
			if ok != want || a.RX1 != b.RX1 || a.RX2 != b.RX2 {
				t.Errorf("%s %s: %+v, in 1102 %+v", c.Frequency, m, a, b)
			}
		}
	}
}

// Which RX2 data rate nodes wait at before they have joined depends on their SDK.
func TestRX2DataRateOfLinkWANJoins(t *testing.T) {
	for _, id := range []band.GroupID{101, 102} {
		for dr := range band.DataRate(6) {
			g := find(t, with(t, band.Config{ID: id, RX2: &band.RX2Config{DataRate: &dr}}), id)
			a := answer(t, g, 471_900_000, sf(9), band.MAC1_0_2)
			if a.RX2.DataRate != dr || a.RX2.Modulation != sf(12-uint8(dr)) || a.RX1.DataRate != 3 {
				t.Errorf("%d: %+v, want RX2 at DR%d", id, a, dr)
			}
			if g.RX2DataRate() != 0 {
				t.Errorf("%d: a permission without DataRate takes %d, want 0 still", id, g.RX2DataRate())
			}
		}
	}
}

func TestChangesOfBuiltInGroups(t *testing.T) {
	gs := mustTOML(t, `
groups = [
  { id = 1000, cf_list = { enabled = false }, rx1_dr_offset = 5 },
  { id = 1002, cf_list = { frequencies = [866185000] } },
  { id = 1102, cf_list = { channels = [8, 9, 65] }, power_dbm = 36 },
  { id = 1004, cf_list = { enabled = true } },
  { id = 1006, cf_list = { frequencies = [2403000000, 2425000000, 2479000000] } },
  { id = 102, cf_list = { channels = [0, 1, 2, 3, 4, 5, 6, 7] }, power_dbm = 0 },
]`)
	for id, want := range map[band.GroupID]string{
		1000: "", 1002: "5a2b8400000000000000000000000000", 1102: "00030000000000000200000000000001",
		1004: "e8d983b8e18388e98358f18328f98300", 1006: "9855b74803b9f821bd00000000000000", 102: "ff000000000000000000000000000001",
	} {
		if got := find(t, gs, id).Describe().CFList["1.0.3"]; got != want {
			t.Errorf("%d: CFList %q, want %q", id, got, want)
		}
	}
	if got := find(t, gs, 1000).RX1DROffset(); got != 5 {
		t.Errorf("offset %d", got)
	}
	if a := answer(t, find(t, gs, 1102), 903_900_000, sf(10), band.MAC1_0_2); a.RX1.Power != 36 || a.RX2.Power != 36 {
		t.Errorf("1102 sends with %d and %d dBm", a.RX1.Power, a.RX2.Power)
	}
	if a := answer(t, find(t, gs, 102), 471_900_000, sf(10), band.MAC1_0_2); a.RX1.Power != 0 || a.RX2.Power != 0 || a.CFList != nil {
		t.Errorf("102 answers a 1.0.2 node %+v", a)
	}
	if got, want := asJSON(t, find(t, gs, 101).Describe()), asJSON(t, find(t, band.Standard(), 101).Describe()); got != want {
		t.Error("group 101, which is not mentioned, has changed")
	}
}

func TestWithLeavesItsReceiverAlone(t *testing.T) {
	gs := band.Standard()
	before := asJSON(t, find(t, gs, 101).Describe())
	two, power, off := band.DataRate(2), int8(3), false
	next, err := gs.With(
		band.Config{ID: 101, RX2: &band.RX2Config{DataRate: &two}, PowerDBm: &power, CFList: &band.CFListConfig{Enabled: &off}},
		band.Config{ID: 10_000, Name: "own", Base: "CN470-SAME", Channels: []band.ChannelConfig{{Frequency: 471_900_000}}},
	)
	if err != nil {
		t.Fatal(err)
	}
	if asJSON(t, find(t, gs, 101).Describe()) != before || len(gs.All()) == len(next.All()) {
		t.Error("With has changed the groups it was called on")
	}
	if a := answer(t, find(t, gs, 101), 471_900_000, sf(9), band.MAC1_0_2); a.RX2.DataRate != 0 || a.RX2.Power != 19 {
		t.Errorf("With has changed the answer of group 101: %+v", a)
	}
	// The base is the group as it was, and a second call builds on the first.
	if a := answer(t, find(t, next, 10_000), 471_900_000, sf(9), band.MAC1_0_2); a.RX2.DataRate != 0 {
		t.Errorf("the own group has the change of its base: %+v", a)
	}
	again, err := next.With(band.Config{ID: 10_001, Name: "own too", Base: "own"})
	if err != nil {
		t.Fatal(err)
	}
	if len(find(t, again, 10_001).Describe().JoinChannels) != 1 {
		t.Error("a group of one's own is no base")
	}
}

// TestRefusedConfigs holds what is wrong against the field that the error names.
func TestRefusedConfigs(t *testing.T) {
	for text, fields := range map[string]string{
		`id = 999`:                            "id",
		`id = -1`:                             "id",
		`name = "none"`:                       "id",
		`id = 10000`:                          "base",
		"id = 10000\nname = 'x'\nbase = 'EU'": "base",
		"id = 10000\nbase = 'EU868'":          "name",
		"id = 10000\nname = 'EU868'\nbase = 'EU868'":                           "name",
		"id = 10000\nname = \"a\\u0007\"\nbase = 'EU868'":                      "name",
		"id = 10000\nname = '" + strings.Repeat("n", 65) + "'\nbase = 'EU868'": "name",

		"id = 1000\nname = 'mine'":                                          "name",
		"id = 1000\nbase = 'EU868'":                                         "base",
		"id = 1000\nchannels = [{frequency = 868100000}]":                   "channels",
		"id = 1000\nrx2 = {frequency = 869525000}":                          "rx2.frequency",
		"id = 1000\nrx2 = {data_rate = 3}":                                  "rx2.data_rate",
		"id = 101\nrx2 = {data_rate = 6}":                                   "rx2.data_rate",
		"id = 1000\nrx1_dr_offset = 6":                                      "rx1_dr_offset",
		"id = 1102\nrx1_dr_offset = 4":                                      "rx1_dr_offset",
		"id = 1000\npower_dbm = 30":                                         "power_dbm",
		"id = 1000\npower_dbm = -1":                                         "power_dbm",
		"id = 1000\ncf_list = {channels = [1]}":                             "cf_list.channels",
		"id = 1102\ncf_list = {frequencies = [904300000]}":                  "cf_list.frequencies",
		"id = 1102\ncf_list = {channels = [72]}":                            "cf_list.channels[0]",
		"id = 1026\ncf_list = {channels = [0, 48]}":                         "cf_list.channels[1]",
		"id = 1102\ncf_list = {channels = [-1]}":                            "cf_list.channels[0]",
		"id = 1102\ncf_list = {channels = [7, 8, 7]}":                       "cf_list.channels[2]",
		"id = 1002\ncf_list = {enabled = true}":                             "cf_list.frequencies",
		"id = 101\ncf_list = {enabled = true}":                              "cf_list.channels",
		"id = 1002\ncf_list = {}":                                           "cf_list.frequencies",
		"id = 1000\ncf_list = {frequencies = [870100000]}":                  "cf_list.frequencies[0]",
		"id = 1000\ncf_list = {frequencies = [867100050]}":                  "cf_list.frequencies[0]",
		"id = 1006\ncf_list = {frequencies = [2403000100]}":                 "cf_list.frequencies[0]",
		"id = 1000\ncf_list = {frequencies = [867100000, 867100000]}":       "cf_list.frequencies[1]",
		"id = 1000\ncf_list = {enabled = false, frequencies = [867100000]}": "cf_list.enabled",
		"id = 1000\ncf_list = {frequencies = [867100000, 867200000, 867300000, 867400000, 867500000, 867600000]}": "cf_list.frequencies",

		own("EU868") + "channels = [{}]":                                                               "channels[0].frequency",
		own("EU868") + "channels = [{frequency = 868100000}, {frequency = 868100000}]":                 "channels[1].frequency",
		own("EU868") + "channels = [{frequency = 902300000}]":                                          "channels[0].frequency",
		own("EU868") + "channels = [{frequency = 868100000, max_data_rate = 7}]":                       "channels[0].max_data_rate",
		own("EU868") + "channels = [{frequency = 868100000, min_data_rate = 16, max_data_rate = 200}]": "channels[0].min_data_rate",
		own("EU868") + "channels = [{frequency = 868100000, min_data_rate = 3, max_data_rate = 2}]":    "channels[0].max_data_rate",
		own("US915") + "channels = [{frequency = 902300000, max_data_rate = 5}]":                       "channels[0].max_data_rate",
		own("CN470-20A") + "channels = [{frequency = 470900000, min_data_rate = 0}]":                   "channels[0].min_data_rate",
		own("EU868") + "channels = [{frequency = 868100000, rx1_frequency = 1}]":                       "channels[0].rx1_frequency",
		own("US915") + "channels = [{frequency = 902400000}]":                                          "channels[0].rx1_frequency",
		own("CN470-SAME") + "channels = [{frequency = 480000000}]":                                     "rx2.frequency",
		own("CN470-DIFF") + "channels = [{frequency = 480000000, rx1_frequency = 490000000}]":          "rx2.frequency",
		own("EU868") + "rx2 = {frequency = 1000000000}":                                                "rx2.frequency",
		own("EU868") + "rx2 = {data_rate = 7}":                                                         "rx2.data_rate",
		own("EU868") + "rx2 = {data_rate = 255}":                                                       "rx2.data_rate",
		own("US915") + "rx2 = {data_rate = 0}":                                                         "rx2.data_rate",
		own("AS923-1") + "rx2 = {data_rate = 1}":                                                       "rx2.data_rate",
	} {
		_, err := fromTOML(t, "[[groups]]\n"+text)
		if err == nil {
			t.Errorf("accepted: %s", text)
			continue
		}
		for _, line := range strings.Split(err.Error(), "\n") {
			if field := strings.Split(line, ": "); len(field) < 3 || !strings.HasPrefix(field[0], "band plan group ") || field[1] != fields {
				t.Errorf("%s\n\twant an error of %s, got: %s", text, fields, line)
			}
		}
	}
}

func own(base string) string { return "id = 10000\nname = 'own'\nbase = '" + base + "'\n" }

func TestErrorsNameEveryField(t *testing.T) {
	_, err := fromTOML(t, `
groups = [
  { id = 10000, name = "a", base = "EU868", rx1_dr_offset = 9, power_dbm = 99 },
  { id = 10000, name = "b", base = "EU868" },
  { id = 10001, name = "a", base = "EU868" },
  { id = 10002, name = "c" },
]`)
	if err == nil {
		t.Fatal("accepted")
	}
	got := strings.Split(err.Error(), "\n")
	want := []string{
		"band plan group 10000: rx1_dr_offset: is 9; EU868 has 0 to 5",
		"band plan group 10000: power_dbm: is 99; EU868 allows 0 to 29 dBm EIRP",
		"band plan group 10000: id: is given to two groups",
		`band plan group 10001: name: "a" is the name of group 10000`,
		`band plan group 10002: base: "" is no group; take one such as EU868, US915-FSB2 or AS923-1`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("errors:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestDocumentedGroupIsAccepted(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "doc", "bands.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, example, _ := strings.Cut(string(text), "```toml\n")
	example, _, _ = strings.Cut(example, "```")
	g := find(t, mustTOML(t, "[[groups]]\n"+example), 10_000)
	if got := len(g.Describe().JoinChannels); got != 2 {
		t.Errorf("%d join channels", got)
	}
}

// FuzzConfig: what With accepts answers soundly, and what it refuses it names.
func FuzzConfig(f *testing.F) {
	seeds, err := filepath.Glob("testdata/config/*.toml")
	if err != nil || len(seeds) == 0 {
		f.Fatal("no seeds in testdata/config", err)
	}
	for _, file := range seeds {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text))
	}
	standard := band.Standard()
	f.Fuzz(func(t *testing.T, text string) {
		own, err := decode(text)
		if err != nil || len(own) > 8 {
			return
		}
		gs, err := standard.With(own...)
		if err != nil {
			if !strings.HasPrefix(err.Error(), "band plan group ") {
				t.Errorf("the error does not name a group: %v", err)
			}
			return
		}
		for _, c := range own {
			g := find(t, gs, c.ID)
			plan := g.Plan()
			var limit time.Duration
			if strings.HasPrefix(g.Region, "AS923") && (c.DwellLimit == nil || *c.DwellLimit) {
				limit = 400 * time.Millisecond
			}
			checkSound(t, g, band.Hz(plan.BeginFrequency)*1_000_000, band.Hz(plan.EndFrequency)*1_000_000, limit)
		}
	})
}
