package band_test

import (
	"encoding/json"
	"os"
	"strconv"
	"testing"

	"joingate/band"
)

// facts is testdata/regions.json: what specifications and other network servers
// say of the regions, with their sources.
type facts struct {
	Airtime struct {
		Rows []struct {
			SF      uint8   `json:"sf"`
			BW      band.Hz `json:"bw_hz"`
			Request float64 `json:"join_request_23_ms"`
			Bare    float64 `json:"join_accept_17_ms"`
			Long    float64 `json:"join_accept_33_ms"`
		} `json:"rows"`
	} `json:"airtime_ms"`
	Regions map[string]region `json:"regions"`
	LinkWAN struct {
		API []struct {
			Group         band.GroupID
			RegionID      string `json:"FrequencyRegionId"`
			FrequencyType string
			Begin         int64 `json:"BeginFrequency"`
			EndFrequency  int64
		} `json:"what_the_api_says"`
		Bands []struct {
			Name     string     `json:"name"`
			Up       [2]band.Hz `json:"up_hz"`
			Same     [2]band.Hz `json:"intra_down_hz"`
			SameRX2  band.Hz    `json:"intra_rx2_hz"`
			Other    [2]band.Hz `json:"inter_down_hz"`
			OtherRX2 band.Hz    `json:"inter_rx2_hz"`
		} `json:"cn470_bands"`
		Joins []struct {
			Group band.GroupID   `json:"group"`
			Up    band.Hz        `json:"up_hz"`
			UpDR  band.DataRate  `json:"up_dr"`
			RX1   band.Hz        `json:"rx1_hz"`
			RX1DR band.DataRate  `json:"rx1_dr"`
			RX2   band.Hz        `json:"rx2_hz"`
			RX2DR *band.DataRate `json:"rx2_dr"`
		} `json:"worked_joins"`
	} `json:"link_wan"`
}

type region struct {
	JoinChannels []struct {
		Frequency band.Hz          `json:"freq_hz"`
		DR        [2]band.DataRate `json:"dr"`
	} `json:"join_channels"`
	Numbered []struct {
		Index [2]int           `json:"index"`
		DR    [2]band.DataRate `json:"dr"`
		First band.Hz          `json:"first_hz"`
		Step  band.Hz          `json:"step_hz"`
	} `json:"numbered"`
	Downlink struct {
		First band.Hz `json:"first_hz"`
		Step  band.Hz `json:"step_hz"`
		Count int     `json:"count"`
	} `json:"downlink"`
	RX1Examples [][2]band.Hz `json:"rx1_examples_hz"`
	RX1DROffset struct {
		Max uint8 `json:"max"`
	} `json:"rx1_dr_offset"`
	RX1DR map[string][]band.DataRate `json:"rx1_dr"`
	RX2   struct {
		Frequency band.Hz       `json:"freq_hz"`
		DR        band.DataRate `json:"dr"`
	} `json:"rx2"`
	CFList struct {
		Worked []struct {
			Bytes string `json:"bytes"`
		} `json:"worked"`
	} `json:"cf_list"`
	DataRates map[string]rate `json:"data_rates"`
	SubBands  []struct {
		FSB       int        `json:"fsb"`
		Channels  [2]int     `json:"channels"`
		Narrow    [2]band.Hz `json:"freq_hz"`
		WideIndex int        `json:"channel_500k"`
		Wide      band.Hz    `json:"freq_500k_hz"`
		CFList    string     `json:"cf_list"`
	} `json:"sub_bands"`
	Blocks []struct {
		Channels [2]int     `json:"channels"`
		Up       [2]band.Hz `json:"up_hz"`
		Down     [2]band.Hz `json:"down_hz"`
		CFList   string     `json:"cf_list"`
	} `json:"blocks_of_8"`
	JoinTable []joinTableRow   `json:"join_channels_table"`
	JoinDR    [2]band.DataRate `json:"join_dr"`
	Plans     map[string]struct {
		CFList struct {
			All string `json:"all"`
		} `json:"cf_list"`
	} `json:"plans"`
}

type joinTableRow struct {
	Plan  string        `json:"plan"`
	Up    band.Hz       `json:"up_hz"`
	RX1   band.Hz       `json:"rx1_hz"`
	RX2   band.Hz       `json:"rx2_hz"`
	RX2DR band.DataRate `json:"rx2_dr"`
}

type rate struct {
	Kind string  `json:"mod"`
	SF   uint8   `json:"sf"`
	BW   band.Hz `json:"bw_hz"`
	Dir  string  `json:"dir"`
	M    int     `json:"m"`
	M400 *int    `json:"m_dwell400"`
}

func (r rate) modulation() band.Modulation {
	return band.Modulation{SpreadingFactor: r.SF, Bandwidth: r.BW}
}

// channel is a join channel as the facts have it.
type channel struct {
	frequency, rx1 band.Hz
	low, high      band.DataRate
}

// channels lays the facts of a region out, with the rule for RX1 applied.
func (r region) channels() []channel {
	var all []channel
	for _, c := range r.JoinChannels {
		all = append(all, channel{c.Frequency, c.Frequency, c.DR[0], c.DR[1]})
	}
	for _, n := range r.Numbered {
		for i := n.Index[0]; i <= n.Index[1]; i++ {
			down := r.Downlink.First + r.Downlink.Step*band.Hz(i%r.Downlink.Count)
			all = append(all, channel{n.First + n.Step*band.Hz(i-n.Index[0]), down, n.DR[0], n.DR[1]})
		}
	}
	return all
}

// rx1 gives the data rate of RX1 at offset 0.
func (r region) rx1(up band.DataRate) band.DataRate { return r.RX1DR[strconv.Itoa(int(up))][0] }

func (r region) rate(dr band.DataRate) rate { return r.DataRates[strconv.Itoa(int(dr))] }

func loadFacts(t testing.TB) facts {
	t.Helper()
	var f facts
	readJSON(t, "testdata/regions.json", &f)
	return f
}

func readJSON(t testing.TB, file string, into any) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, into); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
}

func find(t testing.TB, gs *band.Groups, id band.GroupID) *band.Group {
	t.Helper()
	g, ok := gs.Find(id)
	if !ok {
		t.Fatalf("there is no group %d", id)
	}
	return g
}

func with(t testing.TB, own ...band.Config) *band.Groups {
	t.Helper()
	gs, err := band.Standard().With(own...)
	if err != nil {
		t.Fatal(err)
	}
	return gs
}

func answer(t testing.TB, g *band.Group, f band.Hz, m band.Modulation, v band.MACVersion) band.Answer {
	t.Helper()
	a, ok := g.Answer(f, m, v, true)
	if !ok {
		t.Fatalf("%s: %s %s is no join channel", g.Name, f, m)
	}
	return a
}
