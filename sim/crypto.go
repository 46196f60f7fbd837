package sim

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/subtle"
	"encoding/binary"
)

// The cryptography of a join on the device's side: TS001-1.0.4 section 6.2 and
// LoRaWAN 1.1 section 6.2. CMAC is RFC 4493.

// First octet of the block that a key is derived from.
const (
	labelFNwkSInt = 0x01 // also the NwkSKey of 1.0.x
	labelAppS     = 0x02
	labelSNwkSInt = 0x03
	labelNwkSEnc  = 0x04
	labelJSInt    = 0x06
)

// joinReqType is the first octet of the MIC input of a 1.1 join-accept that
// answers a join-request.
const joinReqType = 0xff

// newCipher cannot fail: the only error of aes.NewCipher is a wrong key length.
func newCipher(k Key) cipher.Block {
	octets := k.Octets()
	block, _ := aes.NewCipher(octets[:])
	return block
}

// cmac is AES-CMAC of the message.
func cmac(k Key, message []byte) [16]byte {
	block := newCipher(k)
	var mac [16]byte
	for len(message) > 16 {
		subtle.XORBytes(mac[:], mac[:], message[:16])
		block.Encrypt(mac[:], mac[:])
		message = message[16:]
	}
	last := lastBlock(block, message)
	subtle.XORBytes(mac[:], mac[:], last[:])
	block.Encrypt(mac[:], mac[:])
	return mac
}

// lastBlock pads what is left of the message and adds the subkey: K1 to a full
// block, K2 to a padded one.
func lastBlock(block cipher.Block, rest []byte) [16]byte {
	var subkey, last [16]byte
	block.Encrypt(subkey[:], subkey[:])
	subkey = double(subkey)
	copy(last[:], rest)
	if len(rest) < 16 {
		last[len(rest)] = 0x80
		subkey = double(subkey)
	}
	subtle.XORBytes(last[:], last[:], subkey[:])
	return last
}

// double multiplies by x in the field of CMAC.
func double(b [16]byte) [16]byte {
	var out [16]byte
	high := binary.BigEndian.Uint64(b[:8])
	low := binary.BigEndian.Uint64(b[8:])
	binary.BigEndian.PutUint64(out[:8], high<<1|low>>63)
	binary.BigEndian.PutUint64(out[8:], low<<1)
	if high>>63 == 1 {
		out[15] ^= 0x87
	}
	return out
}

// mic is the first four octets of the CMAC, in the order they are sent.
func mic(k Key, message []byte) [4]byte {
	mac := cmac(k, message)
	return [4]byte(mac[:4])
}

// decryptAccept undoes the server's AES decryption of the octets after MHDR.
// The length is 17 or 33, checked by the caller.
func decryptAccept(k Key, phy []byte) []byte {
	block := newCipher(k)
	plain := make([]byte, len(phy))
	plain[0] = phy[0]
	for at := 1; at < len(phy); at += 16 {
		block.Encrypt(plain[at:at+16], phy[at:at+16])
	}
	return plain
}

// acceptMIC is the MIC of a decrypted join-accept in the form of 1.0.x.
func acceptMIC(k Key, plain []byte) [4]byte {
	return mic(k, plain[:len(plain)-4])
}

// acceptMIC11 is the MIC that a join-accept with OptNeg set carries. It binds
// the answer to the join-request.
func acceptMIC11(jsIntKey Key, joinEUI EUI, devNonce uint16, plain []byte) [4]byte {
	input := []byte{joinReqType}
	input = binary.LittleEndian.AppendUint64(input, uint64(joinEUI))
	input = binary.LittleEndian.AppendUint16(input, devNonce)
	return mic(jsIntKey, append(input, plain[:len(plain)-4]...))
}

// derive encrypts one block of label and content, filled up with zeros.
func derive(root Key, label byte, content []byte) Key {
	block := [16]byte{label}
	copy(block[1:], content)
	newCipher(root).Encrypt(block[:], block[:])
	return NewKey(block)
}

// jsIntKey is the key of 1.1 that signs join-accepts.
func jsIntKey(nwkKey Key, devEUI EUI) Key {
	return derive(nwkKey, labelJSInt, binary.LittleEndian.AppendUint64(nil, uint64(devEUI)))
}

// SessionKeys follow from a root key and the nonces of one join. A 1.0.x
// session has one network key, which then stands in all three places.
type SessionKeys struct {
	AppSKey     Key
	FNwkSIntKey Key // 1.0.x: NwkSKey
	SNwkSIntKey Key
	NwkSEncKey  Key
}

// sessionKeys10 derives by the rule of 1.0.x: JoinNonce, NetID, DevNonce.
func sessionKeys10(root Key, joinNonce, netID uint32, devNonce uint16) SessionKeys {
	content := appendUint24(appendUint24(nil, joinNonce), netID)
	content = binary.LittleEndian.AppendUint16(content, devNonce)
	nwkSKey := derive(root, labelFNwkSInt, content)
	return SessionKeys{
		AppSKey:     derive(root, labelAppS, content),
		FNwkSIntKey: nwkSKey,
		SNwkSIntKey: nwkSKey,
		NwkSEncKey:  nwkSKey,
	}
}

// sessionKeys11 derives by the rule of 1.1: JoinNonce, JoinEUI, DevNonce.
func sessionKeys11(appKey, nwkKey Key, joinNonce uint32, joinEUI EUI, devNonce uint16) SessionKeys {
	content := binary.LittleEndian.AppendUint64(appendUint24(nil, joinNonce), uint64(joinEUI))
	content = binary.LittleEndian.AppendUint16(content, devNonce)
	return SessionKeys{
		AppSKey:     derive(appKey, labelAppS, content),
		FNwkSIntKey: derive(nwkKey, labelFNwkSInt, content),
		SNwkSIntKey: derive(nwkKey, labelSNwkSInt, content),
		NwkSEncKey:  derive(nwkKey, labelNwkSEnc, content),
	}
}

func appendUint24(b []byte, v uint32) []byte {
	return append(b, byte(v), byte(v>>8), byte(v>>16))
}

func uint24(b []byte) uint32 {
	return uint32(b[0]) | uint32(b[1])<<8 | uint32(b[2])<<16
}
