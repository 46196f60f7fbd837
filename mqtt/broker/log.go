package broker

import (
	"context"
	"log/slog"
	"sync/atomic"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/system"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// lossReport logs how many messages were dropped since it looked last.
type lossReport struct {
	mochi.HookBase
	log  *zap.Logger
	seen atomic.Int64
}

// ID names the hook.
func (r *lossReport) ID() string { return "loss-report" }

// Provides names what the hook wants to hear of.
func (r *lossReport) Provides(event byte) bool { return event == mochi.OnSysInfoTick }

// OnSysInfoTick comes every reportInterval.
func (r *lossReport) OnSysInfoTick(info *system.Info) {
	dropped := info.MessagesDropped + info.InflightDropped
	if before := r.seen.Swap(dropped); dropped > before {
		r.log.Warn("embedded broker dropped messages: a subscriber reads slower than publishers send",
			zap.Int64("dropped", dropped-before), zap.Int64("dropped_total", dropped))
	}
}

// slogTo sends mochi's log to zap. All but errors goes to the debug level: any
// client can make mochi warn, as often as it likes.
func slogTo(log *zap.Logger) *slog.Logger { return slog.New(zapHandler{log}) }

type zapHandler struct{ log *zap.Logger }

func levelOf(level slog.Level) zapcore.Level {
	if level >= slog.LevelError {
		return zapcore.ErrorLevel
	}
	return zapcore.DebugLevel
}

// Enabled is part of slog.Handler.
func (h zapHandler) Enabled(_ context.Context, level slog.Level) bool {
	return h.log.Core().Enabled(levelOf(level))
}

// Handle is part of slog.Handler.
func (h zapHandler) Handle(_ context.Context, record slog.Record) error {
	fields := make([]zap.Field, 0, record.NumAttrs())
	record.Attrs(func(a slog.Attr) bool {
		fields = appendField(fields, a)
		return true
	})
	h.log.Log(levelOf(record.Level), "embedded broker: "+record.Message, fields...)
	return nil
}

// WithAttrs is part of slog.Handler.
func (h zapHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	var fields []zap.Field
	for _, a := range attrs {
		fields = appendField(fields, a)
	}
	return zapHandler{h.log.With(fields...)}
}

// WithGroup is part of slog.Handler; mochi does not use groups.
func (h zapHandler) WithGroup(string) slog.Handler { return h }

// appendField leaves out whole packets: they hold payloads and passwords.
func appendField(fields []zap.Field, a slog.Attr) []zap.Field {
	if a.Key == "pk" || a.Key == "packet" {
		return fields
	}
	return append(fields, zap.Any(a.Key, a.Value.Any()))
}
