package joinserver

import (
	"encoding/hex"
	"fmt"
	"strconv"

	"joingate/band"
)

// EUI64 is a DevEUI, JoinEUI or GwEUI, in the order in which it is written.
type EUI64 [8]byte

// String gives 16 lower-case hex digits.
func (e EUI64) String() string { return hex.EncodeToString(e[:]) }

// MarshalText and UnmarshalText make EUIs hex strings in JSON.
func (e EUI64) MarshalText() ([]byte, error) { return []byte(e.String()), nil }

// UnmarshalText reads what ParseEUI64 reads.
func (e *EUI64) UnmarshalText(text []byte) (err error) {
	*e, err = ParseEUI64(string(text))
	return err
}

// ParseEUI64 reads 16 hex digits of any case.
func ParseEUI64(s string) (e EUI64, err error) {
	if len(s) != 2*len(e) {
		return e, fmt.Errorf("EUI %q has %d characters, not 16 hex digits", s, len(s))
	}
	if _, err := hex.Decode(e[:], []byte(s)); err != nil {
		return EUI64{}, fmt.Errorf("EUI %q is not 16 hex digits", s)
	}
	return e, nil
}

// DevAddr is a device address, in the order in which it is written.
type DevAddr [4]byte

// String gives 8 lower-case hex digits.
func (a DevAddr) String() string { return hex.EncodeToString(a[:]) }

// MarshalText and UnmarshalText make a DevAddr a hex string in JSON.
func (a DevAddr) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// NetID is a network identifier; the top three bits of the first octet are its
// type, 0 to 7 (LoRaWAN Backend Interfaces TS002-1.1.0, section 13).
type NetID [3]byte

// String gives 6 lower-case hex digits.
func (n NetID) String() string { return hex.EncodeToString(n[:]) }

// ParseNetID reads 6 hex digits of any case.
func ParseNetID(s string) (n NetID, err error) {
	if len(s) != 2*len(n) {
		return n, fmt.Errorf("NetID %q has %d characters, not 6 hex digits", s, len(s))
	}
	if _, err := hex.Decode(n[:], []byte(s)); err != nil {
		return NetID{}, fmt.Errorf("NetID %q is not 6 hex digits", s)
	}
	return n, nil
}

// AccountID names an owner or renter: RenterAliyunId and OwnerAliyunId of the
// admin API.
type AccountID int64

// String gives the digits.
func (a AccountID) String() string { return strconv.FormatInt(int64(a), 10) }

// MACVersion is the LoRaWAN version a device is built to.
type MACVersion = band.MACVersion

// MaxJoinNonce is the last value of the 24-bit JoinNonce (TS001-1.0.4, section
// 6.2.6: called AppNonce before 1.0.4). It never wraps.
const MaxJoinNonce = 1<<24 - 1

// UnmarshalText reads what ParseDevAddr reads.
func (a *DevAddr) UnmarshalText(text []byte) (err error) {
	*a, err = ParseDevAddr(string(text))
	return err
}

// ParseDevAddr reads 8 hex digits of any case.
func ParseDevAddr(s string) (a DevAddr, err error) {
	if len(s) != 2*len(a) {
		return a, fmt.Errorf("DevAddr %q has %d characters, not 8 hex digits", s, len(s))
	}
	if _, err := hex.Decode(a[:], []byte(s)); err != nil {
		return DevAddr{}, fmt.Errorf("DevAddr %q is not 8 hex digits", s)
	}
	return a, nil
}
