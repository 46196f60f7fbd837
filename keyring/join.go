package keyring

import (
	"crypto/aes"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/brocaar/lorawan"
)

// RootKeys are the keys a device is born with. A 1.0.x device has an AppKey; a
// 1.1 device has an AppKey and a NwkKey.
type RootKeys struct {
	App Key
	Nwk Key // zero for 1.0.x
}

// network is the key that proves and encrypts joins: AppKey for 1.0.x, NwkKey
// for 1.1 (TS001-1.1 section 6.1.1.3).
func (r RootKeys) network() Key {
	if r.Nwk.IsZero() {
		return r.App
	}
	return r.Nwk
}

const micSize = 4

// VerifyJoinRequest reports whether the join-request's MIC was made with the
// device's root key. The comparison takes constant time (TS001-1.0.4 section
// 6.2.5).
func (r RootKeys) VerifyJoinRequest(phyPayload []byte) (bool, error) {
	return r.network().VerifyMIC(phyPayload)
}

// VerifyMIC reports, in constant time, whether the last four octets of the frame
// are the first four of the CMAC of all before: the MIC of join-requests and
// rejoin-requests.
func (k Key) VerifyMIC(phyPayload []byte) (bool, error) {
	if len(phyPayload) < micSize {
		return false, fmt.Errorf("frame of %d octets has no MIC", len(phyPayload))
	}
	body, mic := phyPayload[:len(phyPayload)-micSize], phyPayload[len(phyPayload)-micSize:]
	sum, err := k.cmacOf(body)
	if err != nil {
		return false, err
	}
	return subtle.ConstantTimeCompare(sum[:micSize], mic) == 1, nil
}

// JoinIDs are the identifiers of a join-request that its join-accept depends on.
type JoinIDs struct {
	JoinEUI  [8]byte
	DevEUI   [8]byte
	DevNonce uint16
}

// SealJoinAccept signs and encrypts the answer to a join-request and returns the
// octets to send. With OptNeg set the MIC is the one of 1.1, under JSIntKey
// (TS001-1.1 section 6.2.3); without, the one of 1.0.x (TS001-1.0.4 section
// 6.2.6).
func (r RootKeys) SealJoinAccept(accept lorawan.JoinAcceptPayload, ids JoinIDs) ([]byte, error) {
	encKey := r.network()
	if encKey.IsZero() {
		return nil, errors.New("no root key to seal a join-accept with")
	}
	micKey := encKey
	if accept.DLSettings.OptNeg {
		var err error
		if micKey, err = JSIntKey(encKey, ids.DevEUI); err != nil {
			return nil, err
		}
	}
	return sealJoinAccept(accept, lorawan.JoinRequestType, ids, micKey, encKey)
}

// SealRejoinAccept signs and encrypts the answer to a rejoin-request of type 0, 1 or
// 2: the MIC is under JSIntKey, the cipher under JSEncKey, and the identifiers hold
// RJcount in place of the DevNonce (LoRaWAN 1.1, section 6.2.3). OptNeg must be set.
func (r RootKeys) SealRejoinAccept(accept lorawan.JoinAcceptPayload, joinReqType byte, ids JoinIDs) ([]byte, error) {
	if !accept.DLSettings.OptNeg {
		return nil, errors.New("a rejoin-request is answered with OptNeg set")
	}
	micKey, err := JSIntKey(r.Nwk, ids.DevEUI)
	if err != nil {
		return nil, err
	}
	encKey, err := JSEncKey(r.Nwk, ids.DevEUI)
	if err != nil {
		return nil, err
	}
	return sealJoinAccept(accept, lorawan.JoinType(joinReqType), ids, micKey, encKey)
}

// VerifyRejoinRequest1 reports whether the MIC of a rejoin-request of type 1 was
// made with the device's JSIntKey (LoRaWAN 1.1, section 6.2.4.2). It is false for a
// 1.0.x device, which has no such key.
func (r RootKeys) VerifyRejoinRequest1(phyPayload []byte, devEUI [8]byte) (bool, error) {
	if r.Nwk.IsZero() {
		return false, nil
	}
	key, err := JSIntKey(r.Nwk, devEUI)
	if err != nil {
		return false, err
	}
	return key.VerifyMIC(phyPayload)
}

// sealJoinAccept seals the answer to a join-request or, with the kind of the
// request and RJcount in place of the DevNonce, to a rejoin-request.
func sealJoinAccept(accept lorawan.JoinAcceptPayload, kind lorawan.JoinType, ids JoinIDs, micKey, encKey Key) ([]byte, error) {
	payload, err := accept.MarshalBinary()
	if err != nil {
		return nil, fmt.Errorf("encode join-accept: %w", err)
	}
	var context []byte
	if accept.DLSettings.OptNeg {
		context = answerContext(kind, ids)
	}
	return signAndEncrypt(append([]byte{joinAcceptMHDR}, payload...), context, micKey, encKey)
}

// joinAcceptMHDR is the MHDR of a join-accept of major version R1.
const joinAcceptMHDR = byte(lorawan.JoinAccept)<<5 | byte(lorawan.LoRaWANR1)

// answerContext is what the MIC of 1.1 covers before the frame, so that an
// answer belongs to one request: JoinReqType | JoinEUI | DevNonce (TS001-1.1
// section 6.2.3).
func answerContext(kind lorawan.JoinType, ids JoinIDs) []byte {
	b := make([]byte, 11)
	b[0] = byte(kind)
	putReversed(b[1:9], ids.JoinEUI[:])
	binary.LittleEndian.PutUint16(b[9:], ids.DevNonce)
	return b
}

// signAndEncrypt appends the MIC to a join-accept and encrypts all but its MHDR,
// which serves to tell the frame. The cipher is AES decryption, so that a device
// needs no more than AES encryption (TS001-1.0.4 section 6.2.6).
func signAndEncrypt(frame, context []byte, micKey, encKey Key) ([]byte, error) {
	sum, err := micKey.cmacOf(context, frame)
	if err != nil {
		return nil, err
	}
	frame = append(frame, sum[:micSize]...)
	block, err := encKey.cipher()
	if err != nil {
		return nil, err
	}
	for rest := frame[1:]; len(rest) >= aes.BlockSize; rest = rest[aes.BlockSize:] {
		block.Decrypt(rest, rest)
	}
	return frame, nil
}
