package mqtt

// list is a doubly linked list whose nodes lie in what is listed: to join and to
// leave it, at whatever place, costs no allocation and no search. The zero list is
// empty.
type list[T any] struct{ first, last *node[T] }

// node is the place of one T in at most one list.
type node[T any] struct {
	prev, next *node[T]
	of         *T // nil: in no list
}

func (l *list[T]) empty() bool { return l.first == nil }

// push puts a T at the end; n is its node for this list.
func (l *list[T]) push(n *node[T], of *T) {
	n.of, n.prev, n.next = of, l.last, nil
	if l.last == nil {
		l.first = n
	} else {
		l.last.next = n
	}
	l.last = n
}

// remove takes a node out, which must be in this list.
func (l *list[T]) remove(n *node[T]) {
	if n.prev == nil {
		l.first = n.next
	} else {
		n.prev.next = n.next
	}
	if n.next == nil {
		l.last = n.prev
	} else {
		n.next.prev = n.prev
	}
	*n = node[T]{}
}
