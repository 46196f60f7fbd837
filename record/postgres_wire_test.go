package record_test

import (
	"bytes"
	"io"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
)

// wire is a network between a program and PostgreSQL that can be cut.
type wire struct {
	url   string
	from  atomic.Pointer[[]byte] // when the program sends this, answers get lost from then on
	trips atomic.Int64           // answers that end a round trip
}

const (
	sentCommit    = "commit\x00"        // end of the message Query
	readyForQuery = "Z\x00\x00\x00\x05" // what ends the answer to each round trip
)

func newWire(t testing.TB, to string) *wire {
	t.Helper()
	u := must[*url.URL](t)(url.Parse(to))
	listener := must[net.Listener](t)(net.Listen("tcp", "127.0.0.1:0"))
	w := &wire{}
	w.cutAt("")
	server := u.Host
	u.Host = listener.Addr().String()
	w.url = u.String()
	var all sync.WaitGroup
	var conns sync.Map
	all.Go(func() {
		for {
			program, err := listener.Accept()
			if err != nil {
				return
			}
			conns.Store(program, nil)
			all.Go(func() { w.carry(program, server) })
		}
	})
	t.Cleanup(func() { // after the records on it are closed
		check(t, listener.Close())
		conns.Range(func(program, _ any) bool {
			_ = program.(net.Conn).Close() // it may be closed
			return true
		})
		all.Wait()
	})
	return w
}

func (w *wire) cutAt(text string) {
	from := []byte(text)
	w.from.Store(&from)
}

func (w *wire) carry(program net.Conn, to string) {
	defer program.Close()
	server, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	var cut atomic.Bool
	go func() {
		defer server.Close()
		copyWhile(server, program, func(sent []byte) bool {
			from := *w.from.Load()
			if len(from) > 0 && bytes.Contains(sent, from) {
				cut.Store(true)
			}
			return !cut.Load() || bytes.Contains(sent, []byte(sentCommit))
		})
	}()
	var answers []byte
	copyWhile(program, server, func(answered []byte) bool {
		answers = append(answers, answered...)
		w.trips.Add(int64(bytes.Count(answers, []byte(readyForQuery))))
		answers = answers[max(0, len(answers)-len(readyForQuery)+1):]
		return !cut.Load()
	})
}

// copyWhile carries on until an end is closed; what pass does not let by is lost.
func copyWhile(to io.Writer, from io.Reader, pass func([]byte) bool) {
	buffer := make([]byte, 1<<16)
	for {
		n, err := from.Read(buffer)
		if err != nil {
			return
		}
		if pass(buffer[:n]) {
			if _, err := to.Write(buffer[:n]); err != nil {
				return
			}
		}
	}
}
