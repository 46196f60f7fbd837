package backend

import (
	"errors"
	"sync"
	"time"

	"go.uber.org/zap"
)

// errUndecided is the fault of a join whose decision broke off.
var errUndecided = errors.New("the join was not decided")

// tell writes the line of a message and has it counted.
func (s *Server) tell(msg message, out outcome, started time.Time) {
	now := s.Now()
	seen := Observation{MessageType: "unknown", Result: out.result, Took: now.Sub(started), Rejection: out.rejection}
	if isRequest(msg.kind) {
		seen.MessageType = msg.kind
	}
	if out.server != nil {
		seen.Server = out.server.Name
	}
	s.Observe(seen)
	if summed, pass := s.log.pass(out.result); pass {
		s.log.write(msg, out, seen, summed)
	}
}

// logger writes at most logRate lines a second for each result.
type logger struct {
	log *zap.Logger
	now func() time.Time

	mu     sync.Mutex
	second time.Time
	lines  [len(results)]int // in this second
	silent [len(results)]int // not written since the last line
}

const logRate = 100

func newLogger(log *zap.Logger, now func() time.Time) *logger { return &logger{log: log, now: now} }

// pass reports whether there is room for a line, and how many had none since.
func (l *logger) pass(result Result) (summed int, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now := l.now(); now.Sub(l.second) >= time.Second {
		l.second, l.lines = now, [len(results)]int{}
	}
	if l.lines[result]++; l.lines[result] > logRate {
		l.silent[result]++
		return 0, false
	}
	summed, l.silent[result] = l.silent[result], 0
	return summed, true
}

func (l *logger) write(msg message, out outcome, seen Observation, summed int) {
	fields := []zap.Field{
		zap.String("message_type", seen.MessageType), zap.String("server", seen.Server), zap.String("sender_id", msg.sender),
		zap.Uint32("transaction_id", msg.transaction), zap.Duration("took", seen.Took),
	}
	if out.device != nil {
		fields = append(fields, zap.Stringer("dev_eui", *out.device))
	}
	if out.repeated {
		fields = append(fields, zap.Bool("repeated", true))
	}
	if summed > 0 {
		fields = append(fields, zap.Int("not_logged_before", summed))
	}
	if out.err != nil {
		fields = append(fields, zap.Error(out.err))
	}
	if out.refused != nil {
		l.log.Info("message refused", append(fields, zap.Int("status", out.refused.status), zap.String("why", out.refused.text))...)
		return
	}
	fields = append(fields, zap.Stringer("result", out.result))
	if out.rejection != nil {
		fields = append(fields, zap.Stringer("reason", out.rejection.Reason))
	}
	if text := out.answer.Result.Description; text != "" {
		fields = append(fields, zap.String("description", text))
	}
	if out.err != nil && out.result != UnknownSender {
		l.log.Error("message answered with a fault", fields...)
		return
	}
	l.log.Info("message answered", fields...)
}
