package joinserver

// euisRemembered is how many EUIs what is kept per EUI remembers. Those beyond it
// begin anew.
const euisRemembered = 1 << 16

// recent keeps a value for each of the EUIs that came last: so many, and no more,
// however many a stranger makes up.
type recent[V any] struct {
	size   int
	values map[EUI64]V
	order  []EUI64 // ring of the EUIs in values, oldest at next
	next   int
}

func newRecent[V any](size int) recent[V] {
	return recent[V]{size: size, values: make(map[EUI64]V)}
}

func (r *recent[V]) get(eui EUI64) (V, bool) {
	v, known := r.values[eui]
	return v, known
}

// set keeps a value, if need be instead of that of the EUI which came first.
func (r *recent[V]) set(eui EUI64, v V) {
	if _, known := r.values[eui]; !known {
		r.enter(eui)
	}
	r.values[eui] = v
}

func (r *recent[V]) enter(eui EUI64) {
	if len(r.order) < r.size {
		r.order = append(r.order, eui)
		return
	}
	delete(r.values, r.order[r.next])
	r.order[r.next] = eui
	r.next = (r.next + 1) % len(r.order)
}
