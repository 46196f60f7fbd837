package broker

import (
	"bytes"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

func TestBacklogIsBounded(t *testing.T) {
	ours, theirs := net.Pipe() // a pipe has no buffer
	defer theirs.Close()
	core, logged := observer.New(zap.WarnLevel)
	c := newConn(ours, false, zap.New(core))
	chunk := make([]byte, 1<<20)
	taken := 0
	for {
		n, err := c.Write(chunk)
		if err != nil {
			if !errors.Is(err, errBacklog) {
				t.Error(err)
			}
			break
		}
		taken += n
	}
	if taken != maxBacklog {
		t.Errorf("took %d octets, limit %d", taken, maxBacklog)
	}
	if logged.FilterMessageSnippet("does not read").Len() != 1 {
		t.Errorf("logged %v", logged.All())
	}
	if _, err := c.Write(chunk); !errors.Is(err, net.ErrClosed) {
		t.Errorf("writing after the end: %v", err)
	}
	if err := c.SetDeadline(time.Time{}); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a deadline after the end: %v", err)
	}
	<-c.done
}

func TestCloseDeliversWhatWasWritten(t *testing.T) {
	ours, theirs := net.Pipe()
	c := newConn(ours, false, zap.NewNop())
	var want bytes.Buffer
	for i := range 100 {
		octets := bytes.Repeat([]byte{byte(i)}, i*100)
		want.Write(octets)
		if _, err := c.Write(octets); err != nil {
			t.Fatal(err)
		}
	}
	_ = c.Close()
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("reading goes on")
	}
	got, err := io.ReadAll(theirs)
	if err != nil || !bytes.Equal(got, want.Bytes()) {
		t.Errorf("%d of %d octets came: %v", len(got), want.Len(), err)
	}
}
