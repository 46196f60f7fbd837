package sim

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
)

// NonceBook is the lasting memory of devices that count their DevNonces: by
// DevEUI the next one that was not used. A real device has it in its flash
// (TS001-1.0.4 section 6.2.5); without it, one that comes back repeats itself and
// is refused.
type NonceBook map[EUI]uint32

// nonceColumns is the header of a book on disk.
func nonceColumns() []string { return []string{"dev_eui", "next_dev_nonce"} }

// ReadNonces reads what Write wrote. An error names line and column.
func ReadNonces(r io.Reader) (NonceBook, error) {
	in := csv.NewReader(r)
	header, err := in.Read()
	if err != nil || !slices.Equal(header, nonceColumns()) {
		return nil, fmt.Errorf("nonces line 1: the header is not %v", nonceColumns())
	}
	book := NonceBook{}
	for {
		record, err := in.Read()
		if errors.Is(err, io.EOF) {
			return book, nil
		}
		if err != nil {
			return nil, fmt.Errorf("nonces: %w", err)
		}
		line, _ := in.FieldPos(0)
		eui, err1 := ParseEUI(record[0])
		next, err2 := strconv.ParseUint(record[1], 10, 17)
		if err := errors.Join(err1, err2); err != nil || next > noNonceLeft {
			return nil, fmt.Errorf("nonces line %d: want 16 hex digits and 0 to %d, have %q", line, noNonceLeft, record)
		}
		book[eui] = uint32(next)
	}
}

// Write writes the book in the order of the DevEUIs.
func (b NonceBook) Write(w io.Writer) error {
	out := csv.NewWriter(w)
	_ = out.Write(nonceColumns()) // Error tells
	for _, eui := range slices.Sorted(maps.Keys(b)) {
		_ = out.Write([]string{eui.String(), strconv.FormatUint(uint64(b[eui]), 10)})
	}
	out.Flush()
	return out.Error()
}

// Reserve has the counting ones of the devices go on from the book and enters as
// used what each needs for so many attempts. Write the book before the devices
// begin: a run that is killed has then used no DevNonce that the next one uses.
func (b NonceBook) Reserve(devices []*Device, attempts int) {
	for _, d := range devices {
		if d.draws() {
			continue
		}
		d.mu.Lock()
		d.nextNonce = max(d.nextNonce, b[d.DevEUI()])
		b[d.DevEUI()] = min(d.nextNonce+uint32(max(1, attempts)), noNonceLeft)
		d.mu.Unlock()
	}
}
