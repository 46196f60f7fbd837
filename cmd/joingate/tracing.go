package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"time"

	"joingate/config"
	"joingate/joinserver"
	"joingate/mqtt"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// tracer makes one trace of each join: what is done for the frame as soon as its
// first copy is there, and what is done once all are. The trace's id follows
// from the frame, so that the parts of one join find each other, whatever
// instance they run on. A nil tracer traces nothing.
type tracer struct {
	provider *sdktrace.TracerProvider
	trace.Tracer
}

// newTracer sends traces to the collector of the configuration; nil if it names
// none.
func newTracer(ctx context.Context, c config.Tracing) (*tracer, error) {
	if c.URL == "" {
		return nil, nil
	}
	exporter, err := otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(c.URL))
	if err != nil {
		return nil, err
	}
	return newTracerTo(sdktrace.NewBatchSpanProcessor(exporter), c.OneOf), nil
}

func newTracerTo(spans sdktrace.SpanProcessor, oneOf int64) *tracer {
	provider := sdktrace.NewTracerProvider(
		sdktrace.WithSpanProcessor(spans),
		sdktrace.WithSampler(sdktrace.TraceIDRatioBased(1/float64(oneOf))),
		sdktrace.WithResource(resource.NewSchemaless(attribute.String("service.name", "joingate"), attribute.String("service.version", thisBuild().Version))),
	)
	return &tracer{provider, provider.Tracer("joingate")}
}

// close sends what has not been sent yet.
func (t *tracer) close(ctx context.Context) error {
	if t == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, tracesFlushed)
	defer cancel()
	return t.provider.Shutdown(ctx)
}

// handler puts spans around the two parts of a join.
func (t *tracer) handler(of mqtt.Handler) mqtt.Handler {
	if t == nil {
		return of
	}
	return tracedHandler{of, t}
}

// policies puts spans around the reading of policies; from says where from.
func (t *tracer) policies(from string, of joinserver.Policies) joinserver.Policies {
	if t == nil {
		return of
	}
	return tracedPolicies{of, t, from}
}

// joins puts spans around commits.
func (t *tracer) joins(of joinserver.Joins) joinserver.Joins {
	if t == nil {
		return of
	}
	return tracedJoins{of, t}
}

// part begins a span in the trace of the frame.
func (t *tracer) part(ctx context.Context, phyPayload []byte, name string) (context.Context, trace.Span) {
	id := sha256.Sum256(phyPayload)
	parent := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID(id[:16]), SpanID: trace.SpanID(id[16:24]), Remote: true})
	return t.Start(trace.ContextWithRemoteSpanContext(ctx, parent), name)
}

// end ends a span with what came out. A refusal is a result, not a fault.
func end(span trace.Span, err error) {
	var refused *joinserver.Rejection
	switch {
	case errors.As(err, &refused):
		span.SetAttributes(attribute.String("reason", refused.Reason.String()))
	case errors.Is(err, joinserver.ErrPolicyMoved), errors.Is(err, joinserver.ErrLateCopy), errors.Is(err, joinserver.ErrUnknownDevice):
		span.SetAttributes(attribute.String("result", err.Error()))
	case err != nil:
		span.SetStatus(codes.Error, err.Error())
	}
	span.End()
}

type tracedHandler struct {
	mqtt.Handler
	tracer *tracer
}

func (h tracedHandler) Prepare(ctx context.Context, phyPayload []byte) (a joinserver.Attempt, err error) {
	ctx, span := h.tracer.part(ctx, phyPayload, "prepare")
	defer func() {
		span.SetAttributes(attribute.String("dev_eui", a.Request.DevEUI.String()), attribute.String("join_eui", a.Request.JoinEUI.String()))
		end(span, err)
	}()
	return h.Handler.Prepare(ctx, phyPayload)
}

func (h tracedHandler) Answer(ctx context.Context, a joinserver.Attempt, copies []joinserver.Reception) (d joinserver.Downlink, err error) {
	ctx, span := h.tracer.part(ctx, a.PHYPayload(), "answer")
	defer func() {
		span.SetAttributes(attribute.Int("copies", len(copies)), attribute.String("dev_eui", a.Request.DevEUI.String()))
		if err == nil {
			span.SetAttributes(attribute.String("gateway", d.Claim.Gateway.EUI.String()), attribute.Int64("join_nonce", int64(d.Grant.JoinNonce)))
		}
		end(span, err)
	}()
	return h.Handler.Answer(ctx, a, copies)
}

type tracedPolicies struct {
	of     joinserver.Policies
	tracer *tracer
	from   string
}

func (p tracedPolicies) Policy(ctx context.Context, device joinserver.EUI64) (_ joinserver.Policy, err error) {
	ctx, span := p.tracer.Start(ctx, "policy from "+p.from)
	defer func() { end(span, err) }()
	return p.of.Policy(ctx, device)
}

func (p tracedPolicies) Gateways(ctx context.Context, euis []joinserver.EUI64) (_ []joinserver.Gateway, err error) {
	ctx, span := p.tracer.Start(ctx, "gateways from "+p.from)
	defer func() { end(span, err) }()
	return p.of.Gateways(ctx, euis)
}

type tracedJoins struct {
	of     joinserver.Joins
	tracer *tracer
}

func (j tracedJoins) Commit(ctx context.Context, c joinserver.Claim) (_ joinserver.Grant, err error) {
	ctx, span := j.tracer.Start(ctx, "commit")
	defer func() { end(span, err) }()
	return j.of.Commit(ctx, c)
}

// tracesFlushed bounds how long a stopping server waits for its collector.
const tracesFlushed = 2 * time.Second
