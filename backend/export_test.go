package backend

import "time"

// What tests of the outside need to know.
const (
	MaxAtOnce  = maxAtOnce
	RepeatLife = repeatLife
	RepeatMost = repeatMost
)

// Never says why a result code cannot occur here; empty: it can.
func Never(r Result) string { return results[r].never }

// SetPauses replaces the pauses between the tries to deliver an answer.
func (s *Server) SetPauses(pauses ...time.Duration) { s.answers.pauses = pauses }

// Remembered is how many joins the memory of repeated requests holds.
func (s *Server) Remembered() (known, order int) {
	s.repeats.mu.Lock()
	defer s.repeats.mu.Unlock()
	return len(s.repeats.known), len(s.repeats.order)
}
