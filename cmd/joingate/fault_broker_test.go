package main

import (
	"net/http"
	"testing"

	"joingate/soak/proxy"
)

// The broker of several instances is killed and comes back, leaves a connection half
// open, and has an instance that reads too slowly. No promise is broken, and every
// join event is delivered.
func TestBrokerFails(t *testing.T) {
	t.Parallel()
	th := newTheatre(t, playbill{instances: 3, devices: 30})
	th.goesOn("nothing is wrong", 40, 6)

	th.mosquitto.Kill()
	for _, i := range th.instances {
		i.awaitNotReady("MQTT broker")
	}
	check(t, th.mosquitto.Start())
	th.ready()
	th.goesOn("the broker was killed", 40, 6)

	half := th.instances[1]
	half.broker.Set(proxy.State{Lose: true})
	half.awaitNotReady("MQTT broker")
	th.goesOn("a connection is half open", 40, 6)
	half.broker.Heal()
	th.ready()
	th.goesOn("it is whole again", 40, 6)

	slow := th.instances[2]
	slow.broker.Set(proxy.State{Rate: 2000})
	th.goesOn("an instance reads too slowly", 40, 6)
	slow.broker.Heal()
	th.ready()
	th.everyoneJoins("the faults of the broker")
	th.verdict()
}

// ready waits until every instance is.
func (th *theatre) ready() {
	th.t.Helper()
	for _, i := range th.instances {
		eventually(th.t, "every instance is ready", func() bool { status, _ := i.get("/readyz"); return status == http.StatusOK })
	}
}
