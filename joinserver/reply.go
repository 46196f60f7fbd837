package joinserver

import (
	"context"
	"fmt"
	"slices"

	"joingate/band"
)

// reply is how a join is to be answered, before it is committed.
type reply struct {
	routes []Route // the first one is via's
	via    Gateway
	answer band.Answer
}

// reply finds the windows that each gateway can still make and, where airtime is
// planned, books the best of them that is free. What it has booked is to be
// released if nothing is sent.
func (h *Handler) reply(ctx context.Context, f finding, plan *band.Group, ranked []candidate, copies []Reception) (reply, error) {
	elapsed := h.Now().Add(h.SendLead).Sub(firstReceived(copies))
	if elapsed > band.JoinAcceptDelay2 {
		return reply{}, f.reject(TooLate, fmt.Sprintf("%s after the first copy", elapsed-h.SendLead))
	}
	heard, rx1 := ranked[0].copy, elapsed <= band.JoinAcceptDelay1
	answer, ok := f.answer(plan, heard, rx1)
	if !ok {
		return reply{}, fmt.Errorf("band plan group %d has no answer to its own join channel %s", plan.ID, heard.Frequency)
	}
	if answer.RX1 == (band.Window{}) && answer.RX2 == (band.Window{}) {
		return reply{}, f.reject(TooLate, "RX1 is over, and in RX2 the device listens for what no gateway sends")
	}
	if h.Airtime == nil {
		return reply{routes: routesOf(ranked, answer), via: ranked[0].gateway, answer: answer}, nil
	}
	answers := []band.Answer{answer}
	if answer.RX2 == (band.Window{}) { // given up for the CFList: without it RX2 is a way too
		if bare, ok := f.answer(plan, heard, false); ok && bare.RX2 != (band.Window{}) {
			answers = append(answers, bare)
		}
	}
	return h.book(ctx, f, ranked, answers)
}

// answer asks the band plan how the request is answered.
func (f finding) answer(plan *band.Group, heard Reception, rx1 bool) (band.Answer, bool) {
	if f.request.kind == Joined {
		return plan.Answer(heard.Frequency, heard.Modulation, f.policy.Node.MACVersion, rx1)
	}
	listens := dlSettings(f.policy, plan)
	if f.session != nil {
		listens = f.session.DLSettings
	}
	answer, ok := plan.AnswerRejoin(heard.Frequency, heard.Modulation, listens, rx1)
	if !f.keepsRadio() || answer.CFList == nil {
		return answer, ok
	}
	answer.CFList = f.session.CFList
	if answer.CFList == nil && answer.RX2 == (band.Window{}) { // given up for a CFList that is not sent
		bare, _ := plan.AnswerRejoin(heard.Frequency, heard.Modulation, listens, false)
		answer.RX2 = bare.RX2
	}
	return answer, ok
}

func routesOf(ranked []candidate, answer band.Answer) []Route {
	routes := make([]Route, 0, len(ranked))
	for _, c := range ranked {
		routes = append(routes, Route{Reception: c.reception, Gateway: c.gateway.EUI, RX1: answer.RX1, RX2: answer.RX2})
	}
	return routes
}

// book takes the best way that fits what the gateways have to send already. A join
// that fits nowhere is refused before it has cost a nonce, so that the device's next
// try can succeed.
func (h *Handler) book(ctx context.Context, f finding, ranked []candidate, answers []band.Answer) (reply, error) {
	start := h.Now()
	defer func() { h.Observe(StepAirtime, h.Now().Sub(start)) }()
	h.demand.heard(ranked, start)
	ways := waysOf(ranked, answers)
	of := len(ways)
	ways = h.demand.affordable(f.request.DevEUI, ways, start)
	i := h.firstFree(ctx, ways)
	if i < 0 {
		h.demand.noAirtime(f.request.DevEUI)
		return reply{}, f.reject(NoAirtime, fmt.Sprintf("of %d ways through %d gateways %d are taken, and %d too slow for the crowd that waits",
			of, len(ranked), len(ways), of-len(ways)))
	}
	taken := ways[i]
	answer, at := answers[taken.answer], taken.Route
	first := slices.Concat(ranked[at:at+1], ranked[:at], ranked[at+1:])
	routes := routesOf(first, answer)
	routes[0].Booked = taken.Transmission
	if taken.Window == answer.RX2 {
		routes[0].RX1 = band.Window{}
	}
	return reply{routes: routes, via: first[0].gateway, answer: answer}, nil
}

// firstFree books the first of the ways that is free; -1: none is.
func (h *Handler) firstFree(ctx context.Context, ways []ratedWay) int {
	if len(ways) == 0 {
		return -1
	}
	wanted := make([]Transmission, len(ways))
	for i, w := range ways {
		wanted[i] = w.Transmission
	}
	return h.Airtime.Book(ctx, wanted)
}

// release gives back what the reply has booked. It happens also when the join was
// given up on the way.
func (h *Handler) release(ctx context.Context, r reply) {
	if booked := r.routes[0].Booked; booked != (Transmission{}) {
		h.Airtime.Release(context.WithoutCancel(ctx), booked)
	}
}

// waysOf lists the ways to send the answers, the best first; their routes are
// indices of the ranking.
func waysOf(ranked []candidate, answers []band.Answer) []ratedWay {
	ways := make([]ratedWay, 0, 2*len(ranked)*len(answers))
	for n, answer := range answers {
		for i, c := range ranked {
			for _, w := range [...]band.Window{answer.RX1, answer.RX2} {
				if w != (band.Window{}) {
					way := Way{i, w, transmission(c.gateway.EUI, c.copy.Received, w, answer.Octets())}
					ways = append(ways, ratedWay{Way: way, answer: n, margin: c.copy.marginIn(w)})
				}
			}
		}
	}
	bestFirst(ways)
	return ways
}
