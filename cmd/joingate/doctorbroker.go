package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"
	"time"
)

// queueProbe is more messages than mosquitto and EMQX hold for a client by
// default (1,000), and a storm of joins brings far more.
const queueProbe = 1_200

// droppedTopic is where mosquitto tells how many messages it has dropped because
// a queue was full: mosquitto(8), $SYS.
const droppedTopic = "$SYS/broker/publish/messages/dropped"

// broker looks at an external broker: whether it lets us in, to the topics that
// we need, and whether it keeps, queues and passes on what it should. The
// embedded one has limits of its own that need no look.
func (d *doctor) broker(ctx context.Context) {
	if d.config.MQTT.Embedded() {
		return
	}
	b, err := d.brokerAddress()
	if err != nil {
		d.fail("broker", "correct [mqtt]", "%v", err)
		return
	}
	if b.address == "" {
		d.warn("broker", "", "%s is not looked at: only mqtt:// and mqtts:// are", d.config.MQTT.URL[:strings.Index(d.config.MQTT.URL, ":")])
		return
	}
	start, name := time.Now(), "joingate-doctor-"+hostOf()
	p, err := dialMQTT(ctx, b, name, true)
	if err != nil {
		d.fail("broker", brokerRemedy(err, b.secure != nil), "%s: %v", b.address, err)
		return
	}
	defer p.close()
	d.ok("broker", "%s lets us in after %s", b.address, time.Since(start).Round(time.Millisecond))
	for _, look := range []func(context.Context, *mqttProbe, mqttBroker, string) error{d.rights, d.dropped, d.roundTrip} {
		if err := look(ctx, p, b, name); err != nil {
			d.fail("broker", "look at the broker's log", "the connection broke: %v", err)
			return
		}
	}
}

func (d *doctor) brokerAddress() (b mqttBroker, err error) {
	m := d.config.MQTT
	u, err := url.Parse(m.URL)
	if err != nil {
		return b, fmt.Errorf("mqtt.url is no URL")
	}
	ports := map[string]string{"mqtt": "1883", "tcp": "1883", "mqtts": "8883"}
	if ports[u.Scheme] == "" {
		return b, nil
	}
	at := parseServerURL(m.URL, ports[u.Scheme])
	if b.user, b.password, err = credentialsOf(at.user, m.Username, m.PasswordFile); err != nil {
		return b, err
	}
	if u.Scheme == "mqtts" {
		if b.secure, err = clientTLS(u.Hostname(), m.TLSCA, m.TLSCert, m.TLSKey); err != nil {
			return b, err
		}
	}
	b.address = at.hosts[0]
	return b, nil
}

// brokerRemedy tells what may be wrong when there is no connection.
func brokerRemedy(err error, secure bool) string {
	var unknown x509.UnknownAuthorityError
	switch {
	case errors.As(err, &unknown):
		return "let [mqtt] tls_ca name the authority that has signed the broker's certificate"
	case secure && tlsRefused(err):
		return "if the broker wants a client certificate: [mqtt] tls_cert and tls_key, valid and of an authority that it trusts"
	case !secure && (tlsRefused(err) || errors.Is(err, io.EOF)):
		return "look at the broker's log; if its port has TLS, write mqtts://"
	}
	return "look at the broker, at user and password, and at the way to it"
}

// rights asks for the topics that joins come by, and for a shared subscription
// under a name of its own, so that no message is taken from an instance.
func (d *doctor) rights(_ context.Context, p *mqttProbe, _ mqttBroker, name string) error {
	topics := []string{"gateway/+/event/up", "gateway/+/event/ack", "gateway/+/event/stats", "gateway/+/state/conn"}
	for _, prefix := range d.config.MQTT.Prefixes {
		topics = append(topics, prefix+"/gateway/+/event/up")
	}
	if d.config.MQTT.ShareGroup != "" {
		topics = append(topics, "$share/"+name+"/gateway/+/event/up")
	}
	codes, err := p.subscribe(topics...)
	if err != nil {
		return err
	}
	good := true
	for i, code := range codes {
		if code == subscriptionRefused {
			good = false
			d.fail("broker", "give the user the rights of deploy/mosquitto/acl", "it refuses the subscription to %s", topics[i])
		}
	}
	if good {
		d.ok("broker", "it grants the subscriptions that joins come by")
	}
	return nil
}

// dropped reads mosquitto's own count, where it may be read.
func (d *doctor) dropped(_ context.Context, p *mqttProbe, _ mqttBroker, _ string) error {
	if _, err := p.subscribe(droppedTopic); err != nil {
		return err
	}
	if err := p.settle(); err != nil {
		return err
	}
	for _, m := range p.take(droppedTopic) {
		if m.payload != "0" {
			d.warn("broker", "raise its queue limits: deploy/mosquitto/mosquitto.conf", "it has dropped %s messages since it started, because a client's queue was full", m.payload)
		} else {
			d.ok("broker", "it has dropped no message since it started")
		}
	}
	return nil
}

// roundTrip sends a retained message and reads it back, twice: as it comes, and
// as it is kept. A broker may acknowledge what it throws away for want of rights.
func (d *doctor) roundTrip(ctx context.Context, p *mqttProbe, b mqttBroker, name string) error {
	topic := "joingate/_/doctor/" + name
	if _, err := p.subscribe(topic); err != nil {
		return err
	}
	start := time.Now()
	if err := p.publishAll(topic, "here", true, 1); err != nil {
		return err
	}
	took := time.Since(start)
	defer func() { _ = p.publishAll(topic, "", true, 1) }() // takes it away
	if err := p.settle(); err != nil {
		return err
	}
	if len(p.take(topic)) == 0 {
		d.warn("broker", "let the user write joingate/# and read joingate/_/doctor/#, as deploy/mosquitto/acl does; with use_identity_as_username the user is the common name of [mqtt] tls_cert",
			"a message is acknowledged after %s, but does not come back: mosquitto acknowledges also what a user has no right to, so nothing shows that ours has any; queues and retained messages were not looked at", took.Round(time.Microsecond))
		return nil
	}
	d.ok("broker", "a message is acknowledged after %s, and comes back", took.Round(time.Microsecond))
	if _, err := p.subscribe(topic); err != nil {
		return err
	}
	if err := p.settle(); err != nil {
		return err
	}
	if again := p.take(topic); len(again) == 0 || !again[0].retained {
		d.warn("broker", "allow retained messages", "it keeps no retained message: the states of gateways are not known after a start")
	} else {
		d.ok("broker", "it keeps retained messages")
	}
	return d.queue(ctx, p, b, name+"-queue", topic+"/queue")
}

// queue lets messages wait for a client that is away, and counts how many it
// gets.
func (d *doctor) queue(ctx context.Context, p *mqttProbe, b mqttBroker, client, topic string) error {
	sleeper, err := dialMQTT(ctx, b, client, false)
	if err != nil {
		d.warn("broker", "", "its queues were not looked at: no second connection: %v", err)
		return nil
	}
	defer d.endSession(ctx, b, client)
	if _, err := sleeper.subscribe(topic); err != nil {
		return err
	}
	sleeper.close()
	if err := p.publishAll(topic, "x", false, queueProbe); err != nil {
		return err
	}
	if sleeper, err = dialMQTT(ctx, b, client, false); err != nil {
		return err
	}
	defer sleeper.close()
	got := 0
	for got < queueProbe {
		if err := sleeper.settle(); err != nil {
			return err
		}
		more := len(sleeper.take(topic))
		if more == 0 {
			break
		}
		got += more
	}
	if got < queueProbe {
		d.warn("broker", "raise its queue limits: deploy/mosquitto/mosquitto.conf; for EMQX mqtt.max_mqueue_len", "of %d messages for a client that is away, it kept %d: a storm of joins loses some without a word", queueProbe, got)
	} else {
		d.ok("broker", "it queues %d messages and more", queueProbe)
	}
	return nil
}

// endSession leaves nothing of a lasting session behind.
func (d *doctor) endSession(ctx context.Context, b mqttBroker, client string) {
	if p, err := dialMQTT(ctx, b, client, true); err == nil {
		p.close()
	}
}
