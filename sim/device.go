package sim

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// version is a LoRaWAN version a device is built to.
type version int

const (
	version100 version = iota
	version101
	version102
	version103
	version104
	version11
)

func versionNames() []string {
	return []string{"1.0.0", "1.0.1", "1.0.2", "1.0.3", "1.0.4", "1.1"}
}

func (v version) String() string { return versionNames()[v] }

// counts reports whether devices of this version count DevNonce up and want a
// JoinNonce above all before (TS001-1.0.4 and 1.1).
func (v version) counts() bool { return v >= version104 }

// Nonces says where a device takes its DevNonces from.
type Nonces int

const (
	NoncesByVersion Nonces = iota // counted from 1.0.4 on, drawn before
	NoncesCounted
	NoncesDrawn
)

// DeviceConfig is what is written into a device when it is made.
type DeviceConfig struct {
	DevEUI  EUI
	JoinEUI EUI
	AppKey  Key
	NwkKey  Key // 1.1 only

	// MACVersion is 1.0.0 to 1.0.4 or 1.1. Empty: 1.1 with a NwkKey, else 1.0.3.
	MACVersion string
	// Region is one of RegionNames. Empty: EU868.
	Region string

	Nonces Nonces
	// FirstDevNonce is where counting starts. A counting device that comes back
	// with the numbers it had before is refused as a replay.
	FirstDevNonce uint16
	// Rand draws channels and DevNonces. Nil: freshly seeded, so that a second run
	// does not draw the DevNonces of the first.
	Rand *rand.Rand
}

// Device is a simulated end-device. Its methods may be called concurrently.
type Device struct {
	config  DeviceConfig
	version version
	region  *Region

	mu            sync.Mutex
	rand          *rand.Rand
	nextNonce     uint32 // of a counting device; past 65535 there is none
	lastJoinNonce int64  // -1 before the first join
	tries         int
	waiting       *joinRequest // nil: the receiver is off
}

// joinRequest is the one a device waits to be answered.
type joinRequest struct {
	devNonce uint16
	channel  Channel
	rx1, rx2 Window
}

// NewDevice makes a device. An error says which field of the config is wrong.
func NewDevice(c DeviceConfig) (*Device, error) {
	if c.MACVersion == "" {
		c.MACVersion = "1.0.3"
		if !c.NwkKey.IsZero() {
			c.MACVersion = "1.1"
		}
	}
	if c.Region == "" {
		c.Region = "EU868"
	}
	v := version(slices.Index(versionNames(), c.MACVersion))
	switch {
	case v < 0:
		return nil, fmt.Errorf("device %s: mac_version %q is none of %v", c.DevEUI, c.MACVersion, versionNames())
	case c.AppKey.IsZero():
		return nil, fmt.Errorf("device %s: app_key is missing", c.DevEUI)
	case v == version11 && c.NwkKey.IsZero():
		return nil, fmt.Errorf("device %s: nwk_key is missing, a 1.1 device has both keys", c.DevEUI)
	case v != version11 && !c.NwkKey.IsZero():
		return nil, fmt.Errorf("device %s: nwk_key is set, a %s device has app_key only", c.DevEUI, v)
	}
	region, err := RegionByName(c.Region)
	if err != nil {
		return nil, fmt.Errorf("device %s: region: %w", c.DevEUI, err)
	}
	if c.Rand == nil {
		c.Rand = rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))
	}
	return &Device{
		config: c, version: v, region: region, rand: c.Rand,
		nextNonce: uint32(c.FirstDevNonce), lastJoinNonce: -1,
	}, nil
}

// DevEUI is the device's own.
func (d *Device) DevEUI() EUI { return d.config.DevEUI }

// JoinEUI is the one the device asks for.
func (d *Device) JoinEUI() EUI { return d.config.JoinEUI }

// MACVersion is the LoRaWAN version of the device: "1.0.3".
func (d *Device) MACVersion() string { return d.version.String() }

// Region is where the device is built for.
func (d *Device) Region() *Region { return d.region }

// String names the device without its keys.
func (d *Device) String() string {
	return fmt.Sprintf("device %s (%s, %s)", d.config.DevEUI, d.version, d.region.Name)
}

// Uplink is a frame on the air.
type Uplink struct {
	PHYPayload []byte
	Frequency  Hz
	Modulation
	CodeRate string // name in the gateway API; empty: CR_4_5
}

// ErrDevNonces says that a counting device has used up its DevNonces.
var ErrDevNonces = errors.New("no DevNonce is left")

// JoinRequest makes a join-request on a channel that devices of the region would
// choose, and opens the receive windows for its answer.
func (d *Device) JoinRequest() (Uplink, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.joinRequest(d.region.pick(d.rand, d.tries))
}

// JoinRequestOn makes a join-request on the channel given.
func (d *Device) JoinRequestOn(c Channel) (Uplink, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.joinRequest(c)
}

func (d *Device) joinRequest(c Channel) (Uplink, error) {
	rx1, rx2, err := d.region.windows(c)
	if err != nil {
		return Uplink{}, fmt.Errorf("%s: %w", d, err)
	}
	devNonce, err := d.takeDevNonce()
	if err != nil {
		return Uplink{}, fmt.Errorf("%s: %w", d, err)
	}
	d.tries++
	d.waiting = &joinRequest{devNonce, c, rx1, rx2}
	return Uplink{
		PHYPayload: d.requestFrame(devNonce),
		Frequency:  c.Frequency,
		Modulation: d.region.rates[c.DataRate].Modulation,
		CodeRate:   d.region.codeRate,
	}, nil
}

func (d *Device) takeDevNonce() (uint16, error) {
	if d.draws() {
		return uint16(d.rand.Uint32()), nil
	}
	if d.nextNonce >= noNonceLeft {
		return 0, ErrDevNonces
	}
	d.nextNonce++
	return uint16(d.nextNonce - 1), nil
}

// noNonceLeft follows the last DevNonce of a device that counts.
const noNonceLeft = 1 << 16

// draws reports whether the device draws its DevNonces, instead of counting.
func (d *Device) draws() bool {
	return d.config.Nonces == NoncesDrawn || d.config.Nonces == NoncesByVersion && !d.version.counts()
}

// Frame types in the three highest bits of MHDR; the major version below is 0.
const (
	mhdrJoinRequest = 0x00
	mhdrJoinAccept  = 0x20
)

// requestFrame is MHDR, JoinEUI, DevEUI, DevNonce, MIC.
func (d *Device) requestFrame(devNonce uint16) []byte {
	frame := make([]byte, 1, 23)
	frame[0] = mhdrJoinRequest
	frame = binary.LittleEndian.AppendUint64(frame, uint64(d.config.JoinEUI))
	frame = binary.LittleEndian.AppendUint64(frame, uint64(d.config.DevEUI))
	frame = binary.LittleEndian.AppendUint16(frame, devNonce)
	sum := mic(d.rootKey(), frame)
	return append(frame, sum[:]...)
}

// rootKey signs join-requests and hides join-accepts.
func (d *Device) rootKey() Key {
	if d.version == version11 {
		return d.config.NwkKey
	}
	return d.config.AppKey
}

// Downlink is a frame as it reaches a device's antenna.
type Downlink struct {
	PHYPayload []byte
	Frequency  Hz
	Modulation
	Inverted bool          // polarisation of a downlink, without which no device hears it
	Delay    time.Duration // from the end of the device's last uplink
}

// Why a device does not take a downlink. A frame that fails leaves the device
// waiting for the next.
var (
	ErrNotWaiting  = errors.New("the device does not wait for a join-accept")
	ErrNotHeard    = errors.New("outside the receive windows")
	ErrFrame       = errors.New("not a join-accept")
	ErrMIC         = errors.New("the MIC is wrong")
	ErrJoinNonce   = errors.New("the JoinNonce was used before")
	ErrCFList      = errCFList
	ErrDLSettings  = errors.New("DLSettings")
	ErrDwellExceed = errors.New("the transmission is longer than the region allows")
)

// JoinAccept is what a device read from its join-accept.
type JoinAccept struct {
	DevEUI      EUI    `json:"dev_eui"`
	Joined      bool   `json:"joined"`
	DevAddr     string `json:"dev_addr"` // 8 hex digits, "" before a join
	NetID       string `json:"net_id"`   // 6 hex digits
	JoinNonce   uint32 `json:"join_nonce"`
	DevNonce    uint16 `json:"dev_nonce"`
	RxDelay     int    `json:"rx_delay"`  // seconds, 1 to 15
	DataRate    int    `json:"data_rate"` // RX2DataRate
	RX1DROffset int    `json:"rx1_dr_offset"`
	OptNeg      bool   `json:"opt_neg"`
	CFList      string `json:"cf_list"`            // 32 hex digits in the order sent, "" for none
	Channels    []Hz   `json:"channels,omitempty"` // uplink channels in use from now on
	Window      int    `json:"window"`             // 1 or 2, in which it was heard

	keys SessionKeys
}

// SessionKeys are those that the device derived.
func (j JoinAccept) SessionKeys() SessionKeys { return j.keys }

// Receive gives a device what reached its antenna. An accepted frame ends the
// waiting; any error leaves the device as it was.
func (d *Device) Receive(dl Downlink) (JoinAccept, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	window, err := d.hear(dl)
	if err != nil {
		return JoinAccept{}, err
	}
	plain, optNeg, err := d.open(dl.PHYPayload)
	if err != nil {
		return JoinAccept{}, err
	}
	accept := d.read(plain, optNeg)
	accept.Window = window.Number
	if err := d.check(accept); err != nil {
		return JoinAccept{}, err
	}
	accept.Channels, err = d.region.uplinkChannels(plain[13:len(plain)-4], d.version, d.waiting.channel)
	if err != nil {
		return JoinAccept{}, err
	}
	d.lastJoinNonce = int64(accept.JoinNonce)
	d.waiting = nil
	accept.Joined = true
	return accept, nil
}

// timing is how far a downlink may be off the opening of a window (TS001-1.0.4
// section 3.3).
const timing = 20 * time.Microsecond

// hear finds the window in which the device hears the downlink.
func (d *Device) hear(dl Downlink) (Window, error) {
	if d.waiting == nil {
		return Window{}, ErrNotWaiting
	}
	if !dl.Inverted {
		return Window{}, fmt.Errorf("%w: polarisation is not inverted", ErrNotHeard)
	}
	for _, w := range []Window{d.waiting.rx1, d.waiting.rx2} {
		if dl.Frequency == w.Frequency && dl.Modulation == w.Modulation && (dl.Delay-w.Delay).Abs() <= timing {
			if air := dl.Airtime(len(dl.PHYPayload), false); d.region.dwell > 0 && air > d.region.dwell {
				return Window{}, fmt.Errorf("%w: %d octets at %s last %s, the limit of %s is %s",
					ErrDwellExceed, len(dl.PHYPayload), dl.Modulation, air.Round(time.Millisecond), d.region.Name, d.region.dwell)
			}
			return w, nil
		}
	}
	return Window{}, fmt.Errorf("%w: %s %s after %s; RX1 is %s, RX2 is %s",
		ErrNotHeard, dl.Frequency, dl.Modulation, dl.Delay, d.waiting.rx1, d.waiting.rx2)
}

// String gives "500.3 MHz SF10BW125 after 5s".
func (w Window) String() string {
	return fmt.Sprintf("%s %s after %s", w.Frequency, w.Modulation, w.Delay)
}

// open decrypts a join-accept and proves it. OptNeg means something to 1.1
// devices only; to the others the bit is RFU.
func (d *Device) open(phy []byte) (plain []byte, optNeg bool, err error) {
	if len(phy) != 17 && len(phy) != 33 {
		return nil, false, fmt.Errorf("%w: %d octets, want 17 or 33", ErrFrame, len(phy))
	}
	if phy[0] != mhdrJoinAccept {
		return nil, false, fmt.Errorf("%w: MHDR is %02x", ErrFrame, phy[0])
	}
	plain = decryptAccept(d.rootKey(), phy)
	optNeg = d.version == version11 && plain[11]&0x80 != 0
	want := acceptMIC(d.rootKey(), plain)
	if optNeg {
		key := jsIntKey(d.config.NwkKey, d.config.DevEUI)
		want = acceptMIC11(key, d.config.JoinEUI, d.waiting.devNonce, plain)
	}
	if [4]byte(plain[len(plain)-4:]) != want {
		return nil, false, ErrMIC
	}
	return plain, optNeg, nil
}

// read takes the fields apart: MHDR, JoinNonce, NetID, DevAddr, DLSettings,
// RxDelay, CFList, MIC.
func (d *Device) read(plain []byte, optNeg bool) JoinAccept {
	joinNonce, netID := uint24(plain[1:]), uint24(plain[4:])
	accept := JoinAccept{
		DevEUI:      d.config.DevEUI,
		DevAddr:     fmt.Sprintf("%08x", binary.LittleEndian.Uint32(plain[7:])),
		NetID:       fmt.Sprintf("%06x", netID),
		JoinNonce:   joinNonce,
		DevNonce:    d.waiting.devNonce,
		RxDelay:     max(1, int(plain[12]&0x0f)),
		DataRate:    int(plain[11] & 0x0f),
		RX1DROffset: int(plain[11] >> 4 & 0x07),
		OptNeg:      optNeg,
		CFList:      hex.EncodeToString(plain[13 : len(plain)-4]),
	}
	if optNeg {
		accept.keys = sessionKeys11(d.config.AppKey, d.config.NwkKey, joinNonce, d.config.JoinEUI, d.waiting.devNonce)
	} else {
		accept.keys = sessionKeys10(d.rootKey(), joinNonce, netID, d.waiting.devNonce)
	}
	return accept
}

// check refuses a JoinNonce that came before and settings that the region does
// not have. Devices from 1.0.4 on count from 0, so that the first is at least 1.
func (d *Device) check(a JoinAccept) error {
	nonce := int64(a.JoinNonce)
	switch {
	case nonce == d.lastJoinNonce, d.version.counts() && nonce <= max(0, d.lastJoinNonce):
		return fmt.Errorf("%w: %d after %d", ErrJoinNonce, nonce, d.lastJoinNonce)
	case !d.region.rates[a.DataRate].down:
		return fmt.Errorf("%w: RX2DataRate %d is no downlink data rate of %s", ErrDLSettings, a.DataRate, d.region.Name)
	case a.RX1DROffset > d.region.offsets:
		return fmt.Errorf("%w: RX1DROffset %d, the highest of %s is %d", ErrDLSettings, a.RX1DROffset, d.region.Name, d.region.offsets)
	}
	return nil
}
