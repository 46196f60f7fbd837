package sim

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
)

// EUI is a DevEUI, JoinEUI or gateway EUI.
type EUI uint64

// ParseEUI reads 16 hex digits in either case.
func ParseEUI(s string) (EUI, error) {
	if len(s) != 16 {
		return 0, fmt.Errorf("an EUI has 16 hex digits, %q has %d characters", s, len(s))
	}
	v, err := strconv.ParseUint(s, 16, 64)
	if err != nil {
		return 0, fmt.Errorf("an EUI has 16 hex digits, %q has others", s)
	}
	return EUI(v), nil
}

// String gives 16 lower-case hex digits.
func (e EUI) String() string { return fmt.Sprintf("%016x", uint64(e)) }

// MarshalText makes an EUI a string in JSON.
func (e EUI) MarshalText() ([]byte, error) { return []byte(e.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (e *EUI) UnmarshalText(text []byte) (err error) {
	*e, err = ParseEUI(string(text))
	return err
}

// Hz is a frequency or a bandwidth.
type Hz uint32

// String gives the frequency as people read it: "470.3 MHz".
func (f Hz) String() string {
	return strconv.FormatFloat(float64(f)/1e6, 'f', -1, 64) + " MHz"
}

// Key is a root or session key. The octets lie behind a function because fmt
// walks into unexported fields without asking for their String method, and with
// a verb that does not fit, such as %s, follows pointers too.
type Key struct{ octets func() [16]byte }

// NewKey wraps a copy of the octets.
func NewKey(octets [16]byte) Key { return Key{func() [16]byte { return octets }} }

// ParseKey reads 32 hex digits. Its errors do not repeat them.
func ParseKey(s string) (Key, error) {
	if len(s) != 32 {
		return Key{}, fmt.Errorf("a key has 32 hex digits, not %d characters", len(s))
	}
	var octets [16]byte
	if _, err := hex.Decode(octets[:], []byte(s)); err != nil {
		return Key{}, errors.New("a key has 32 hex digits, this one has other characters")
	}
	return NewKey(octets), nil
}

// IsZero reports whether the key was never set.
func (k Key) IsZero() bool { return k.octets == nil }

// Octets gives the key itself, all zero for one never set.
func (k Key) Octets() [16]byte {
	if k.octets == nil {
		return [16]byte{}
	}
	return k.octets()
}

// String keeps keys out of logs.
func (k Key) String() string { return "(key)" }
