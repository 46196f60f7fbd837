package cache

import (
	"encoding/binary"
	"slices"

	"joingate/keyring"
)

// A value in Redis:
//
//	octets  what
//	 1      layout of the value: another version of the program may use another
//	 1      kind
//	16      generation under which it was read
//	24      versions of its rows in the record, each 8, most significant first
//	 …      body
//	28      seal over all of that and the key it lies under
//
// Redis itself compares the versions (storeScript), so they stand at a fixed
// place. The seal is AES-256-GCM of nothing, with the rest as its additional
// data: a value that is damaged, moved to another key, or written by somebody
// without the key encryption key is garbage.
const (
	valueLayout    = 2
	versionsAt     = 2 + markSize
	bodyAt         = versionsAt + 3*8
	sealSize       = 12 + 16 // nonce and tag of GCM
	smallestValue  = bodyAt + sealSize
	sealPlace      = "cache.value "
	appKeyPlace    = "cache.app_key "
	nwkKeyPlace    = "cache.nwk_key "
	largestSection = 1 << 10 // of a text or a sealed key in a body
)

// kind tells what a value is of.
type kind byte

const (
	kindPolicy kind = iota + 1
	kindUnknown
	kindGateway
)

// value is one value in Redis.
type value struct {
	kind       kind
	generation mark
	versions   versions
	body       []byte
}

// versions of node, group and permission, or of a gateway. Each only grows, and a
// row that another one names has changed when it names a third: so of two
// policies of one device, the one whose first difference is greater is newer.
type versions [3]int64

// before reports whether v is older.
func (v versions) before(other versions) bool { return slices.Compare(v[:], other[:]) < 0 }

// seal writes the value for its key.
func (v value) seal(s *keyring.Sealer, key string) []byte {
	b := make([]byte, 0, smallestValue+len(v.body))
	b = append(b, valueLayout, byte(v.kind))
	b = append(b, v.generation...)
	for _, n := range v.versions {
		b = binary.BigEndian.AppendUint64(b, uint64(n))
	}
	b = append(b, v.body...)
	return append(b, s.Seal([]byte{}, sealPlace+key+string(b))...)
}

// openValue reads what seal wrote for the same key.
func openValue(s *keyring.Sealer, key string, octets []byte) (v value, ok bool) {
	if len(octets) < smallestValue || octets[0] != valueLayout {
		return value{}, false
	}
	clear, tag := octets[:len(octets)-sealSize], octets[len(octets)-sealSize:]
	if _, err := s.Open(tag, sealPlace+key+string(clear)); err != nil {
		return value{}, false
	}
	v = value{kind: kind(clear[1]), generation: mark(clear[2:versionsAt]), body: clear[bodyAt:]}
	for i := range v.versions {
		v.versions[i] = int64(binary.BigEndian.Uint64(clear[versionsAt+8*i:]))
	}
	return v, true
}

// same reports whether the value says the same of the same rows, and counts: no
// version comes twice.
func (v value) same(k kind, now marks, of versions) bool {
	return v.kind == k && v.generation == now.generation && v.versions == of
}

// generationOf reads the generation of a value that nobody has checked yet.
func generationOf(octets []byte) (mark, bool) {
	if len(octets) < smallestValue || octets[0] != valueLayout {
		return "", false
	}
	return mark(octets[2:versionsAt]), true
}

// writer and section write the parts of a body.
type writer []byte

func (w *writer) int(n int64)      { *w = binary.AppendVarint(*w, n) }
func (w *writer) octets(b ...byte) { *w = append(*w, b...) }

func (w *writer) section(b []byte) {
	w.int(int64(len(b)))
	*w = append(*w, b...)
}

func (w *writer) bool(b bool) {
	if b {
		w.octets(1)
	} else {
		w.octets(0)
	}
}

// reader reads what writer wrote. After the first thing that is wrong all others
// are zero.
type reader struct {
	rest []byte
	bad  bool
}

func (r *reader) fail() { r.bad, r.rest = true, nil }

func (r *reader) int() int64 {
	n, size := binary.Varint(r.rest)
	if size <= 0 {
		r.fail()
		return 0
	}
	r.rest = r.rest[size:]
	return n
}

func (r *reader) octets(n int) []byte {
	if len(r.rest) < n {
		r.fail()
		return make([]byte, n)
	}
	b := r.rest[:n]
	r.rest = r.rest[n:]
	return b
}

func (r *reader) section() []byte {
	n := r.int()
	if n < 0 || n > largestSection || r.bad {
		r.fail()
		return nil
	}
	return r.octets(int(n))
}

func (r *reader) bool() bool {
	b := r.octets(1)[0]
	if b > 1 {
		r.fail()
	}
	return b == 1
}

// ended reports whether everything was read, and right.
func (r *reader) ended() bool { return !r.bad && len(r.rest) == 0 }
