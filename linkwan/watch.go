package linkwan

import (
	"context"
	"time"

	"go.uber.org/zap"

	"joingate/joinserver"
)

const (
	// silenceMeansOffline is how long a gateway may say nothing. Bridges publish
	// statistics every 30 s; six in a row are missing then.
	silenceMeansOffline = 3 * time.Minute
	lookForSilence      = 15 * time.Second
	// signsWaiting bounds what waits for the record. What is dropped comes again:
	// a gateway that lives is seen every 30 s.
	signsWaiting = 4096
)

// Watch follows which gateways are online, from what the gateway edge hears, and
// tells a Server what changes. Its GatewaySeen and GatewayOnline never block.
//
// That a gateway was heard is proof that it lives. What its bridge says is a
// hint: a bridge that was killed leaves its gateways ONLINE. So a gateway goes
// offline when its bridge says so, or when it has been silent for 3 minutes
// while the broker could be heard.
type Watch struct {
	server *Server
	ready  func() error // whether gateways can be heard at all
	signs  chan sign
	live   map[joinserver.EUI64]time.Time // gateways that are online, and when they were heard last
}

// sign is one thing heard of a gateway.
type sign struct {
	gateway joinserver.EUI64
	online  bool
	at      time.Time
}

// NewWatch makes a Watch for the server. ready tells whether the edge hears the
// broker.
func NewWatch(s *Server, ready func() error) *Watch {
	return &Watch{server: s, ready: ready, signs: make(chan sign, signsWaiting), live: make(map[joinserver.EUI64]time.Time)}
}

// GatewaySeen says that a frame or statistics of the gateway came.
func (w *Watch) GatewaySeen(gateway joinserver.EUI64, at time.Time) { w.note(sign{gateway, true, at}) }

// GatewayOnline says what the gateway's bridge says of it.
func (w *Watch) GatewayOnline(gateway joinserver.EUI64, online bool, at time.Time) {
	w.note(sign{gateway, online, at})
}

func (w *Watch) note(s sign) {
	select {
	case w.signs <- s:
	default:
	}
}

// Run follows the signs until ctx ends. It begins with the gateways that were
// online when the server stopped.
func (w *Watch) Run(ctx context.Context) {
	w.resume(ctx)
	look := time.NewTicker(lookForSilence)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case s := <-w.signs:
			w.heard(ctx, s)
		case <-look.C:
			w.silence(ctx, w.server.Now())
		}
	}
}

// resume gives the gateways that the record has online the usual time to be heard.
func (w *Watch) resume(ctx context.Context) {
	err := w.server.Record.View(ctx, func(tx Tx) error {
		online := true
		list, _, err := tx.Gateways(joinserver.GatewayFilter{Online: &online, Page: joinserver.Page{Limit: joinserver.NoLimit}})
		for _, g := range list {
			w.live[g.EUI] = w.server.Now()
		}
		return err
	})
	if err != nil && ctx.Err() == nil {
		w.server.Log.Error("online gateways cannot be read; they show again when they are heard", zap.Error(err))
	}
}

func (w *Watch) heard(ctx context.Context, s sign) {
	_, was := w.live[s.gateway]
	if s.online {
		w.live[s.gateway] = s.at
	} else {
		delete(w.live, s.gateway)
	}
	if was != s.online {
		w.change(ctx, s)
	}
}

// silence takes the gateways offline that have said nothing for too long. While
// the broker cannot be heard, nobody's silence counts.
func (w *Watch) silence(ctx context.Context, now time.Time) {
	if w.ready() != nil {
		for gateway := range w.live {
			w.live[gateway] = now
		}
		return
	}
	for gateway, last := range w.live {
		if now.Sub(last) > silenceMeansOffline {
			w.heard(ctx, sign{gateway, false, now})
		}
	}
}

// change records a change. If that fails, it is tried again at the next sign.
func (w *Watch) change(ctx context.Context, s sign) {
	err := w.server.GatewayChanged(ctx, joinserver.GatewayState{EUI: s.gateway, Online: s.online, ChangedMillis: s.at.UnixMilli()})
	if err == nil {
		return
	}
	if ctx.Err() == nil { // else this instance ends, and another one hears the gateway
		w.server.Log.Error("online state of gateway is not recorded", zap.Stringer("gateway", s.gateway), zap.Bool("online", s.online), zap.Error(err))
	}
	if s.online {
		delete(w.live, s.gateway)
	} else {
		w.live[s.gateway] = s.at
	}
}
