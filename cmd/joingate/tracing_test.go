package main

import (
	"context"
	"testing"

	"joingate/joinserver"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
)

// traced is a join handler whose steps are seen in a trace.
type traced struct{ steps func(ctx context.Context) }

func (h traced) Prepare(ctx context.Context, phy []byte) (joinserver.Attempt, error) {
	h.steps(ctx)
	return joinserver.Attempt{}, &joinserver.Rejection{Reason: joinserver.BadMIC}
}

func (h traced) Answer(ctx context.Context, _ joinserver.Attempt, _ []joinserver.Reception) (joinserver.Downlink, error) {
	h.steps(ctx)
	return joinserver.Downlink{}, nil
}

type unknownDevices struct{ joinserver.Policies }

func (unknownDevices) Policy(context.Context, joinserver.EUI64) (joinserver.Policy, error) {
	return joinserver.Policy{}, joinserver.ErrUnknownDevice
}

// The steps of one frame are one trace, and the reason of a refusal is in it.
func TestOneJoinIsOneTrace(t *testing.T) {
	spans := tracetest.NewSpanRecorder()
	tracer := newTracerTo(spans, 1)
	policies := tracer.policies("cache", unknownDevices{})
	handler := tracer.handler(traced{func(ctx context.Context) { _, _ = policies.Policy(ctx, joinserver.EUI64{}) }})
	_, _ = handler.Prepare(t.Context(), []byte("frame"))
	_, _ = handler.Prepare(t.Context(), []byte("frame"))
	_, _ = handler.Prepare(t.Context(), []byte("another"))
	byTrace := map[string][]string{}
	for _, s := range spans.Ended() {
		id := s.SpanContext().TraceID().String()
		byTrace[id] = append(byTrace[id], s.Name()+reasonIn(s))
	}
	if len(byTrace) != 2 || len(spans.Ended()) != 6 {
		t.Fatalf("traces %v", byTrace)
	}
	for _, names := range byTrace {
		if names[0] != "policy from cache" || names[1] != "prepare bad_mic" {
			t.Errorf("trace %v", names)
		}
	}
}

func reasonIn(s sdktrace.ReadOnlySpan) string {
	for _, a := range s.Attributes() {
		if a.Key == "reason" {
			return " " + a.Value.AsString()
		}
	}
	return ""
}

func TestNoTracerIsNoLayer(t *testing.T) {
	var none *tracer
	handler := traced{}
	if _, same := none.handler(handler).(traced); !same {
		t.Error("joins are wrapped although nobody traces them")
	}
	if err := none.close(t.Context()); err != nil {
		t.Error(err)
	}
}
