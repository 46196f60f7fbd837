package keyring

import (
	"crypto/aes"
	"encoding/binary"
	"errors"
	"fmt"
)

// SessionKeys are the keys that a join gives to device and servers. They are
// never stored: they follow from the root keys and the nonces.
type SessionKeys struct {
	AppSKey     Key
	FNwkSIntKey Key // 1.0.x: the NwkSKey, in all three places
	SNwkSIntKey Key
	NwkSEncKey  Key
}

// Key types of the derivation blocks (TS001-1.1 sections 6.1.1 and 6.2.3).
const (
	typeFNwkSIntKey byte = 0x01 // NwkSKey in 1.0.x
	typeAppSKey     byte = 0x02
	typeSNwkSIntKey byte = 0x03
	typeNwkSEncKey  byte = 0x04
	typeJSEncKey    byte = 0x05
	typeJSIntKey    byte = 0x06
)

// SessionKeys10 derives the session keys of a join that was answered with OptNeg
// unset: AES(AppKey, type | JoinNonce | NetID | DevNonce | pad) (TS001-1.0.4
// section 6.2.6). A 1.1 device takes its NwkKey for the AppKey then (TS001-1.1
// section 6.1.1.3).
func (r RootKeys) SessionKeys10(joinNonce uint32, netID [3]byte, devNonce uint16) (SessionKeys, error) {
	block := func(kind byte) (b [aes.BlockSize]byte) {
		b[0] = kind
		putJoinNonce(b[1:], joinNonce)
		putReversed(b[4:7], netID[:])
		binary.LittleEndian.PutUint16(b[7:], devNonce)
		return b
	}
	root := r.network()
	app, err1 := root.derive(block(typeAppSKey))
	nwk, err2 := root.derive(block(typeFNwkSIntKey))
	return SessionKeys{AppSKey: app, FNwkSIntKey: nwk, SNwkSIntKey: nwk, NwkSEncKey: nwk}, errors.Join(err1, err2)
}

// SessionKeys11 derives the session keys of a 1.1 join: AES(root key, type |
// JoinNonce | JoinEUI | DevNonce | pad), AppSKey from AppKey and the others from
// NwkKey (TS001-1.1 section 6.2.3).
func (r RootKeys) SessionKeys11(joinNonce uint32, ids JoinIDs) (SessionKeys, error) {
	block := func(kind byte) (b [aes.BlockSize]byte) {
		b[0] = kind
		putJoinNonce(b[1:], joinNonce)
		putReversed(b[4:12], ids.JoinEUI[:])
		binary.LittleEndian.PutUint16(b[12:], ids.DevNonce)
		return b
	}
	app, err1 := r.App.derive(block(typeAppSKey))
	fNwk, err2 := r.Nwk.derive(block(typeFNwkSIntKey))
	sNwk, err3 := r.Nwk.derive(block(typeSNwkSIntKey))
	enc, err4 := r.Nwk.derive(block(typeNwkSEncKey))
	return SessionKeys{AppSKey: app, FNwkSIntKey: fNwk, SNwkSIntKey: sNwk, NwkSEncKey: enc}, errors.Join(err1, err2, err3, err4)
}

// JSIntKey derives the key that signs the join-accepts of 1.1 (TS001-1.1 section
// 6.1.1.4).
func JSIntKey(nwkKey Key, devEUI [8]byte) (Key, error) {
	return nwkKey.derive(lifetimeBlock(typeJSIntKey, devEUI))
}

// JSEncKey derives the key that encrypts answers to rejoin-requests (TS001-1.1
// section 6.1.1.4).
func JSEncKey(nwkKey Key, devEUI [8]byte) (Key, error) {
	return nwkKey.derive(lifetimeBlock(typeJSEncKey, devEUI))
}

func lifetimeBlock(kind byte, devEUI [8]byte) (b [aes.BlockSize]byte) {
	b[0] = kind
	putReversed(b[1:9], devEUI[:])
	return b
}

func (k Key) derive(block [aes.BlockSize]byte) (Key, error) {
	cipher, err := k.cipher()
	if err != nil {
		return Key{}, fmt.Errorf("derive key: %w", err)
	}
	cipher.Encrypt(block[:], block[:])
	return hide(block), nil
}

// On the air identifiers travel with their last octet first.
func putReversed(to, from []byte) {
	for i := range from {
		to[len(from)-1-i] = from[i]
	}
}

func putJoinNonce(to []byte, joinNonce uint32) {
	to[0], to[1], to[2] = byte(joinNonce), byte(joinNonce>>8), byte(joinNonce>>16)
}
