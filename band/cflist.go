package band

import "encoding/binary"

// A CFList is 16 octets, the last of which is its type (RP002-1.0.4, section
// "Join-Accept CFList" of each region; type 1 since Regional Parameters 1.0.3).
const (
	cfListOctets      = 16
	cfListTypeOctet   = 15
	cfListFrequencies = 5
)

// cfList is what a group announces in its join-accepts. The kind belongs to the
// region; frequencies or channels are what there is to announce, none for no
// CFList.
type cfList struct {
	unit        Hz   // type 0: what one step of a frequency is worth
	frequencies []Hz // type 0: at most five
	size        int  // type 1: number of channels in the region
	channels    []int
}

// masks reports whether the region's CFList is a channel mask (type 1).
func (l cfList) masks() bool { return l.size > 0 }

// knownTo reports whether devices of this version read the list. Before 1.0.3 a
// channel mask was no CFList, and those devices would take it for frequencies
// (Regional Parameters 1.0.2 knows type 0 only).
func (l cfList) knownTo(v MACVersion) bool { return !l.masks() || v >= MAC1_0_3 }

// encode gives the CFList in transmission order, or nil.
func (l cfList) encode() []byte {
	if len(l.frequencies) == 0 && len(l.channels) == 0 {
		return nil
	}
	// One octet more, since a frequency of three is written as a word of four.
	octets := make([]byte, cfListOctets+1)
	for i, f := range l.frequencies {
		binary.LittleEndian.PutUint32(octets[3*i:], uint32(f/l.unit))
	}
	for _, c := range l.channels {
		octets[c/8] |= 1 << (c % 8)
	}
	if l.masks() {
		octets[cfListTypeOctet] = 1
	}
	return octets[:cfListOctets:cfListOctets]
}

// run gives count channel numbers from first on.
func run(first, count int) []int {
	channels := make([]int, count)
	for i := range channels {
		channels[i] = first + i
	}
	return channels
}
