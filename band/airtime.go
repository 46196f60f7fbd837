package band

import "time"

// TimeOnAir is how long a LoRa frame of so many octets of PHYPayload occupies
// the air; 0 for what is not LoRa. LoRaWAN's settings are assumed: 8 symbols of
// preamble, explicit header, a CRC on uplinks only, and low data rate
// optimisation where a symbol lasts over 16 ms. The coding rate is 4/5, or 4/8
// at the 812 kHz of ISM2400, whose long interleaving shifts the result by a few
// symbols.
//
// Source: Semtech SX1276/77/78/79 data sheet, section 4.1.1.7 "Time on air".
func (m Modulation) TimeOnAir(octets int, uplink bool) time.Duration {
	if m.SpreadingFactor == 0 || m.Bandwidth == 0 {
		return 0
	}
	sf, codingRate := int(m.SpreadingFactor), 1
	if m.Bandwidth == bandwidth2400 {
		codingRate = 4
	}
	symbol := time.Second << sf / time.Duration(m.Bandwidth)
	perBlock := 4 * sf
	if symbol > 16*time.Millisecond {
		perBlock -= 8
	}
	bits := 8*octets - 4*sf + 28
	if uplink {
		bits += 16
	}
	blocks := max(0, (bits+perBlock-1)/perBlock)
	quarters := 4*(8+8+blocks*(codingRate+4)) + 17 // preamble 8 + 4.25, payload 8 and its blocks
	return time.Duration(quarters) * symbol / 4
}
