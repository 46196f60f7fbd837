package mqtt

import (
	"context"
	"encoding/json"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"joingate/joinserver"
)

const (
	// eventsWaiting bounds the events of a kind that wait for the broker. Those
	// beyond it are dropped and counted: they are news, not records.
	eventsWaiting = 4096
	// postBatch is how many are on their way at a time.
	postBatch = 256
	// postPatience is how long the broker may take for them.
	postPatience = time.Second
)

// post publishes news of one kind: at most once, and not at all while the broker is
// away or behind.
type post struct {
	broker  publisher
	kind    string // the end of the topic
	qos     byte
	results *prometheus.CounterVec // result
	log     *zap.Logger
	waiting chan news
}

// news is an event for an account's ears.
type news struct {
	account joinserver.AccountID // 0: not known
	device  string
	event   any // to become JSON
}

func newPost(broker publisher, kind string, qos byte, results *prometheus.CounterVec, log *zap.Logger) *post {
	return &post{broker: broker, kind: kind, qos: qos, results: results, log: log, waiting: make(chan news, eventsWaiting)}
}

// add queues an event. Callbacks of the broker's connection end up here, so it does
// not wait.
func (p *post) add(n news) {
	select {
	case p.waiting <- n:
	default:
		p.results.WithLabelValues(eventDropped).Inc()
	}
}

// run publishes until ctx is done.
func (p *post) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case first := <-p.waiting:
			p.publish(first)
		}
	}
}

// publish hands an event and those that wait behind it to the broker, and then waits
// for all of them together.
func (p *post) publish(first news) {
	receipts := []receipt{p.hand(first)}
	for more := true; more && len(receipts) < postBatch; {
		select {
		case n := <-p.waiting:
			receipts = append(receipts, p.hand(n))
		default:
			more = false
		}
	}
	until := time.Now().Add(postPatience)
	for _, r := range receipts {
		result := eventPublished
		if err := wait(r, max(0, time.Until(until))); err != nil {
			p.log.Debug("event was not published", zap.String("event", p.kind), zap.Error(err))
			result = eventPublishFailed
		}
		p.results.WithLabelValues(result).Inc()
	}
}

func (p *post) hand(n news) receipt {
	payload, err := json.Marshal(n.event)
	if err != nil {
		return doneReceipt{err}
	}
	return p.broker.publish(eventTopic(n.account, n.device, p.kind), p.qos, payload)
}

// idle reports whether no event waits to be published.
func (p *post) idle() bool { return len(p.waiting) == 0 }

// eventTopic is where an account learns of its devices. "_" stands for an
// account or a device that is not known.
func eventTopic(account joinserver.AccountID, device, event string) string {
	name := "_"
	if account != 0 {
		name = account.String()
	}
	return "joingate/" + name + "/node/" + device + "/event/" + event
}
