package band

// Bandwidths of LoRa.
const (
	kHz125        Hz = 125_000
	kHz250        Hz = 250_000
	kHz500        Hz = 500_000
	bandwidth2400 Hz = 812_000 // ISM2400's only one
)

// raster is the distance of channels in the regions that number them.
const raster Hz = 200_000

func lora(sf uint8, bandwidth Hz) rate {
	return rate{kind: "LORA", modulation: Modulation{sf, bandwidth}, up: true, down: true}
}

func fsk() rate { return rate{kind: "FSK", up: true, down: true} }

// lrFHSS is an uplink modulation only.
func lrFHSS() rate { return rate{kind: "LR_FHSS", up: true} }

func (r rate) uplinkOnly() rate { r.down = false; return r }

func (r rate) downlinkOnly() rate { r.up = false; return r }

// ratesSF12to7 are DR0 to DR5 of every region whose uplinks and downlinks are
// alike. KR920 and the older CN470 plans have these only.
func ratesSF12to7() rates {
	return rates{
		0: lora(12, kHz125), 1: lora(11, kHz125), 2: lora(10, kHz125),
		3: lora(9, kHz125), 4: lora(8, kHz125), 5: lora(7, kHz125),
	}
}

// ratesWithFSK add DR6, LoRa at 250 kHz, and DR7, FSK at 50 kbit/s: EU433,
// RU864, CN779 and AS923.
func ratesWithFSK() rates {
	r := ratesSF12to7()
	r[6], r[7] = lora(7, kHz250), fsk()
	return r
}

// sameRates answers each uplink at its own data rate.
func sameRates() rx1Rates { return rx1Rates{0, 1, 2, 3, 4, 5, 6, 7} }
