// Package history says whether what a Joingate did under faults kept its promises.
//
// A history is what administrators, devices and a listener saw from outside, and
// what the record holds: JSON lines, in any order, each with one field of Line.
// Check finds what must not be in it. It knows nothing of Joingate but its
// promises, so that no mistake of the program is one of the checker too.
//
// Times are RFC 3339 with fractions. Begin and End, Sent and Received are those of
// the machine that observed; Committed is the clock of the database. They have to be
// one clock: that of one machine. The clocks of Joingate's instances do not matter
// where Committed is known.
//
// Known to be missing: two devices with one DevEUI, and permissions that move
// between band plan groups.
package history

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"
)

// Line is one line of a history: exactly one field is set.
type Line struct {
	Call    *Call    `json:"call,omitempty"`
	Accept  *Accept  `json:"accept,omitempty"`
	Refusal *Refusal `json:"refusal,omitempty"`
	Event   *Event   `json:"event,omitempty"`
	Session *Session `json:"session,omitempty"`
	State   *State   `json:"state,omitempty"`
	Missed  *Missed  `json:"missed,omitempty"`
	Fault   *Fault   `json:"fault,omitempty"`
}

// Outcome is what an administrator knows of a call.
type Outcome string

// Done was answered with success, Refused with an error: nothing was changed. Of an
// Unknown call nobody knows: it may be carried out at any time after its begin.
const (
	Done    Outcome = "done"
	Refused Outcome = "refused"
	Unknown Outcome = "unknown"
)

// Names of the fields of Call.Set and State.Set.
const (
	RxDelay  = "rx_delay"  // seconds
	DataRate = "data_rate" // RX2DataRate
	Enabled  = "enabled"   // 1 or 0
)

// Call is one write of an administrator.
type Call struct {
	Target  string         `json:"target"` // what it changes: "permission 1003", "node d896e0ffff000001"
	Set     map[string]int `json:"set"`
	Begin   time.Time      `json:"begin"`
	End     time.Time      `json:"end"` // when the answer was there
	Outcome Outcome        `json:"outcome"`
}

// Accept is a join-accept that a device has taken, with what it decrypted.
type Accept struct {
	Join
	Sent     time.Time `json:"sent"`     // its join-request
	Received time.Time `json:"received"` // when it had the answer
}

// Join is what tells one accepted join from another, and what was agreed on. A
// frame is named by DevEUI, JoinEUI and DevNonce: the rest of it follows from the
// root key.
type Join struct {
	DevEUI    string `json:"dev_eui"`
	JoinEUI   string `json:"join_eui"`
	DevNonce  uint16 `json:"dev_nonce"`
	JoinNonce uint32 `json:"join_nonce"`
	DevAddr   string `json:"dev_addr"`
	RxDelay   int    `json:"rx_delay"`
	DataRate  int    `json:"data_rate"`
}

// Refusal is a join that Joingate said it refused.
type Refusal struct {
	DevEUI string    `json:"dev_eui"`
	Target string    `json:"target"` // what the reason names: the node, or the join permission
	Reason string    `json:"reason"`
	Sent   time.Time `json:"sent"`  // the join-request
	Heard  time.Time `json:"heard"` // the event that tells of it
}

// Event is a join event. One that came several times may be there several times.
type Event struct {
	Join
	Permission string    `json:"permission"` // as Call.Target
	Time       time.Time `json:"time"`       // as the event tells it: when the join was decided
	// Heard is when the listener had it; the zero time for an event that is only
	// known from the record.
	Heard time.Time `json:"heard,omitzero"`
	// Written and Removed are when the record had taken it into its outbox and off
	// it again; the zero time: not known, or still in it.
	Written time.Time `json:"written,omitzero"`
	Removed time.Time `json:"removed,omitzero"`
}

// Session is a session on record.
type Session struct {
	Join
	Live      bool      `json:"live"`               // a row of the end: its DevAddr is taken
	Committed time.Time `json:"committed,omitzero"` // the zero time: not known
}

// State is a version of a row on record that Calls change.
type State struct {
	Target    string         `json:"target"`
	Set       map[string]int `json:"set"`
	Committed time.Time      `json:"committed"`
}

// Missed is a time in which the listener could not hear everything.
type Missed struct {
	From time.Time `json:"from"`
	To   time.Time `json:"to"`
}

// Fault tells readers what was done to the servers. It is not checked.
type Fault struct {
	What string    `json:"what"`
	From time.Time `json:"from"`
	To   time.Time `json:"to"`
}

// Writer writes a history. It is safe for concurrent use.
type Writer struct {
	mu  sync.Mutex
	out *bufio.Writer
	err error
}

// NewWriter writes to out, at the latest with Flush.
func NewWriter(out io.Writer) *Writer { return &Writer{out: bufio.NewWriter(out)} }

// Write adds a line. Its error comes with Flush.
func (w *Writer) Write(l Line) {
	text, err := json.Marshal(l)
	w.mu.Lock()
	defer w.mu.Unlock()
	if err == nil {
		_, err = w.out.Write(append(text, '\n'))
	}
	w.err = errors.Join(w.err, err)
}

// Flush hands everything over and reports what went wrong since the begin.
func (w *Writer) Flush() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return errors.Join(w.err, w.out.Flush())
}

// maxLine is how many octets a line may have.
const maxLine = 1 << 20

// Read reads a history. An error names the line.
func Read(in io.Reader) ([]Line, error) {
	var lines []Line
	scan := bufio.NewScanner(in)
	scan.Buffer(nil, maxLine)
	for number := 1; scan.Scan(); number++ {
		var l Line
		if err := json.Unmarshal(scan.Bytes(), &l); err != nil {
			return nil, fmt.Errorf("history line %d: %w", number, err)
		}
		if l == (Line{}) {
			return nil, fmt.Errorf("history line %d: it has none of the fields of a line", number)
		}
		lines = append(lines, l)
	}
	if err := scan.Err(); err != nil {
		return nil, fmt.Errorf("read history: %w", err)
	}
	return lines, nil
}
