package mqtt

// queue is a first-in, first-out list. The zero queue is empty.
type queue[T any] struct {
	items []T
	head  int // items before it have left
}

func (q *queue[T]) len() int { return len(q.items) - q.head }

func (q *queue[T]) push(item T) {
	if q.head > len(q.items)/2 && q.head >= 64 {
		q.compact()
	}
	q.items = append(q.items, item)
}

// front gives the oldest item. The queue must not be empty.
func (q *queue[T]) front() T { return q.items[q.head] }

// all gives the items, oldest first, for reading only.
func (q *queue[T]) all() []T { return q.items[q.head:] }

// pop removes the oldest item. The queue must not be empty.
func (q *queue[T]) pop() T {
	var none T
	item := q.items[q.head]
	q.items[q.head] = none // or the list would keep alive what has left
	q.head++
	if q.head == len(q.items) {
		q.items, q.head = q.items[:0], 0
	}
	return item
}

func (q *queue[T]) compact() {
	n := copy(q.items, q.items[q.head:])
	clear(q.items[n:])
	q.items, q.head = q.items[:n], 0
}
