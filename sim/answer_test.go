package sim

import (
	"crypto/aes"
	"encoding/binary"
	"testing"

	"github.com/brocaar/lorawan"
)

// answer is a join-accept as a server would make it. It is encoded, signed and
// encrypted by brocaar/lorawan, so that the device's own code is not its judge.
type answer struct {
	joinNonce uint32
	netID     lorawan.NetID
	devAddr   lorawan.DevAddr
	rx2DR     uint8
	offset    uint8
	rxDelay   uint8
	cfList    []byte
	optNeg    bool
}

// rawCFList carries 16 octets as they are.
type rawCFList []byte

func (r rawCFList) MarshalBinary() ([]byte, error)     { return r, nil }
func (r rawCFList) UnmarshalBinary(bool, []byte) error { return nil }
func list(b []byte) *lorawan.CFList {
	return &lorawan.CFList{Payload: rawCFList(b), CFListType: lorawan.CFListType(b[15])}
}

func requestNonce(request []byte) lorawan.DevNonce {
	return lorawan.DevNonce(binary.LittleEndian.Uint16(request[17:]))
}
func aesKey(k Key) lorawan.AES128Key       { return lorawan.AES128Key(k.Octets()) }
func networkEUI(e EUI) (out lorawan.EUI64) { binary.BigEndian.PutUint64(out[:], uint64(e)); return out }
func testKey(first byte) Key               { return NewKey([16]byte{first, 2, 3, 4}) }
func serverJSIntKey(d *Device) (out lorawan.AES128Key) {
	block := [16]byte{6}
	binary.LittleEndian.PutUint64(block[1:], uint64(d.DevEUI()))
	nwkKey := d.config.NwkKey.Octets()
	c, _ := aes.NewCipher(nwkKey[:])
	c.Encrypt(out[:], block[:])
	return out
}

// frame builds the join-accept that answers the request.
func (a answer) frame(t testing.TB, d *Device, request []byte) []byte {
	t.Helper()
	body := &lorawan.JoinAcceptPayload{
		JoinNonce: lorawan.JoinNonce(a.joinNonce), HomeNetID: a.netID, DevAddr: a.devAddr, RXDelay: a.rxDelay,
		DLSettings: lorawan.DLSettings{OptNeg: a.optNeg, RX2DataRate: a.rx2DR, RX1DROffset: a.offset},
	}
	if a.cfList != nil {
		body.CFList = list(a.cfList)
	}
	phy := lorawan.PHYPayload{MHDR: lorawan.MHDR{MType: lorawan.JoinAccept, Major: lorawan.LoRaWANR1}, MACPayload: body}
	root := aesKey(d.config.AppKey)
	if d.version == version11 {
		root = aesKey(d.config.NwkKey)
	}
	signing := root
	if a.optNeg {
		signing = serverJSIntKey(d)
	}
	if err := phy.SetDownlinkJoinMIC(lorawan.JoinRequestType, networkEUI(d.JoinEUI()), requestNonce(request), signing); err != nil {
		t.Fatal(err)
	}
	if err := phy.EncryptJoinAcceptPayload(root); err != nil {
		t.Fatal(err)
	}
	b, err := phy.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	return b
}
