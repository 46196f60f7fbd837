package cache

import (
	"context"
	"encoding/binary"
	"slices"
	"sync/atomic"

	"joingate/joinserver"
)

// Known knows which devices were on record when it last looked. It serves to put
// frames in order, never to refuse one: between two looks devices come and go.
// A million of them take 8 MB.
type Known struct {
	source   func(ctx context.Context, since int64, fn func(joinserver.EUI64)) (revision int64, err error)
	revision int64                    // of Look alone
	devices  atomic.Pointer[[]uint64] // in order; nil: it has not looked yet
}

// NewKnown takes what lists the devices on record: DevEUIs of a record.Record.
func NewKnown(source func(ctx context.Context, since int64, fn func(joinserver.EUI64)) (revision int64, err error)) *Known {
	return &Known{source: source, revision: -1}
}

// Has reports whether a device was on record. Before the first look all are.
func (k *Known) Has(device joinserver.EUI64) bool {
	devices := k.devices.Load()
	if devices == nil {
		return true
	}
	_, found := slices.BinarySearch(*devices, binary.BigEndian.Uint64(device[:]))
	return found
}

// Look reads the devices anew if any may have changed. One Look at a time.
func (k *Known) Look(ctx context.Context) error {
	var devices []uint64
	if last := k.devices.Load(); last != nil {
		devices = make([]uint64, 0, len(*last)+len(*last)/16)
	}
	revision, err := k.source(ctx, k.revision, func(device joinserver.EUI64) {
		devices = append(devices, binary.BigEndian.Uint64(device[:]))
	})
	if err != nil || revision == k.revision {
		return err
	}
	k.revision = revision
	k.devices.Store(&devices)
	return nil
}
