package mqtt

import (
	"github.com/prometheus/client_golang/prometheus"

	"joingate/joinserver"
)

// gatewayMetrics shows what presence counts. A gateway has rows of its own from its
// first join-accept on, as long as there are no more than gatewaysNamed; all others
// are gateway="other". So the rows are few, whatever ids strangers invent.
type gatewayMetrics struct {
	presence *presence
	uplinks  *prometheus.Desc
	requests *prometheus.Desc
	commands *prometheus.Desc
	refused  *prometheus.Desc
	acks     *prometheus.Desc
	lastSeen *prometheus.Desc
}

func newGatewayMetrics(p *presence) gatewayMetrics {
	describe := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("joingate_gateway_"+name, help, append([]string{"gateway"}, labels...), nil)
	}
	return gatewayMetrics{
		presence: p,
		uplinks:  describe("uplinks_total", "Frames that the gateway has heard."),
		requests: describe("join_requests_total", "Copies of join- and rejoin-requests that the gateway has heard."),
		commands: describe("join_accepts_total", "Join-accepts that the gateway was told to send."),
		refused:  describe("joins_refused_total", "Refused joins that the gateway heard first."),
		acks:     describe("tx_acks_total", "What the gateway said of the windows of its downlink commands.", "status"),
		lastSeen: describe("last_seen_timestamp_seconds", "When the gateway was heard of last, in Unix time."),
	}
}

// Describe implements prometheus.Collector.
func (m gatewayMetrics) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.uplinks, m.requests, m.commands, m.refused, m.acks, m.lastSeen} {
		to <- d
	}
}

// Collect implements prometheus.Collector.
func (m gatewayMetrics) Collect(to chan<- prometheus.Metric) {
	rows, other := m.presence.rows()
	m.show(to, "other", other)
	for _, row := range rows {
		m.show(to, row.gateway.String(), row.counts)
		if row.lastSeen > 0 {
			to <- prometheus.MustNewConstMetric(m.lastSeen, prometheus.GaugeValue, row.lastSeen, row.gateway.String())
		}
	}
}

func (m gatewayMetrics) show(to chan<- prometheus.Metric, gateway string, counts tally) {
	counter := func(what *prometheus.Desc, n int64, labels ...string) {
		to <- prometheus.MustNewConstMetric(what, prometheus.CounterValue, float64(n), append([]string{gateway}, labels...)...)
	}
	counter(m.uplinks, counts.uplinks)
	counter(m.requests, counts.requests)
	counter(m.commands, counts.commands)
	counter(m.refused, counts.refused)
	for status, n := range counts.acks {
		if n > 0 {
			counter(m.acks, n, statusLabel(countedStatus(status)))
		}
	}
}

// gatewayRow is a gateway with metrics of its own.
type gatewayRow struct {
	gateway  joinserver.EUI64
	counts   tally   // since it has its name
	lastSeen float64 // Unix time in seconds; 0: never
}

// rows gives the gateways that have a name, and all others together.
func (p *presence) rows() (rows []gatewayRow, other tally) {
	p.mu.Lock()
	defer p.mu.Unlock()
	other = p.all
	for _, s := range p.named {
		row := gatewayRow{gateway: s.gateway, counts: s.counts}
		row.counts.add(*s.unnamed, -1)
		other.add(row.counts, -1)
		if !s.lastSeen.IsZero() {
			row.lastSeen = float64(s.lastSeen.UnixMilli()) / 1000
		}
		rows = append(rows, row)
	}
	return rows, other
}
