package band

import "encoding/hex"

// Summary is a group in a list, in the JSON form of `joingate band list`.
type Summary struct {
	Group  GroupID `json:"group"`
	Name   string  `json:"name"`
	Region string  `json:"region"`
}

// Description is the whole of a group in the JSON form of `joingate band show`.
// Frequencies and bandwidths are in Hz.
type Description struct {
	Summary
	JoinChannels []JoinChannelDescription     `json:"join_channels"`
	DataRates    map[DataRate]RateDescription `json:"data_rates"`
	CFList       map[string]string            `json:"cf_list"` // hex by LoRaWAN version, "" for none
}

// JoinChannelDescription is one join channel and how joins on it are answered.
// A data rate without an entry in RX1 is answered in RX2 only.
type JoinChannelDescription struct {
	Frequency Hz                `json:"frequency"`
	DataRates []int             `json:"data_rates"` // of []DataRate JSON would make base64
	RX1       []RX1Description  `json:"rx1"`
	RX2       WindowDescription `json:"rx2"`
	Power     int8              `json:"power_dbm"` // EIRP in RX1
}

// RX1Description is RX1 after an uplink of the data rate UplinkDR.
type RX1Description struct {
	UplinkDR  DataRate `json:"uplink_dr"`
	Frequency Hz       `json:"frequency"`
	DataRate  DataRate `json:"data_rate"`
}

// WindowDescription is a receive window.
type WindowDescription struct {
	Frequency Hz       `json:"frequency"`
	DataRate  DataRate `json:"data_rate"`
}

// RateDescription is a data rate; only LoRa has the last two fields.
type RateDescription struct {
	Modulation      string `json:"modulation"` // LORA, FSK or LR_FHSS
	SpreadingFactor uint8  `json:"spreading_factor,omitempty"`
	Bandwidth       Hz     `json:"bandwidth,omitempty"`
}

// FreqBandPlan is a group as ListFreqBandPlanGroups of the Link WAN API tells it,
// in that API's spelling.
type FreqBandPlan struct {
	GroupId           int64
	FrequencyRegionId string
	FrequencyType     string // SAME_FREQUENCY or DIFF_FREQUENCY
	BeginFrequency    int64  // MHz
	EndFrequency      int64  // MHz
}

// List gives the groups in the order of All.
func (gs *Groups) List() []Summary {
	list := make([]Summary, len(gs.ordered))
	for i, g := range gs.ordered {
		list[i] = g.summary()
	}
	return list
}

func (g *Group) summary() Summary { return Summary{g.ID, g.Name, g.Region} }

// Describe tells what is in force in the group.
func (g *Group) Describe() Description {
	d := Description{Summary: g.summary(), DataRates: map[DataRate]RateDescription{}, CFList: map[string]string{}}
	for i := range g.channels {
		d.JoinChannels = append(d.JoinChannels, g.describe(&g.channels[i]))
	}
	for dr, r := range g.plan.rates {
		if r.kind != "" {
			d.DataRates[DataRate(dr)] = RateDescription{r.kind, r.modulation.SpreadingFactor, r.modulation.Bandwidth}
		}
	}
	for v := MAC1_0_2; v <= MAC1_1; v++ {
		d.CFList[v.String()] = ""
		if g.plan.list.knownTo(v) {
			d.CFList[v.String()] = hex.EncodeToString(g.cfList)
		}
	}
	return d
}

func (g *Group) describe(c *channel) JoinChannelDescription {
	d := JoinChannelDescription{Frequency: c.frequency, RX2: WindowDescription{c.rx2, c.rx2DR}, Power: c.rx1Power}
	for dr := c.dr.low; dr <= c.dr.high; dr++ {
		d.DataRates = append(d.DataRates, int(dr))
		if rx1 := g.plan.rx1DR[dr]; g.fits[rx1].bare {
			d.RX1 = append(d.RX1, RX1Description{dr, c.rx1, rx1})
		}
	}
	return d
}

// Plan gives the group as the admin API lists it. The frequency type says
// whether RX1 of the join is on the uplink's own frequency.
func (g *Group) Plan() FreqBandPlan {
	p := FreqBandPlan{
		GroupId:           int64(g.ID),
		FrequencyRegionId: g.plan.country,
		FrequencyType:     "SAME_FREQUENCY",
		BeginFrequency:    g.plan.limits[0],
		EndFrequency:      g.plan.limits[1],
	}
	for _, c := range g.channels {
		if c.rx1 != c.frequency {
			p.FrequencyType = "DIFF_FREQUENCY"
		}
	}
	return p
}
