package main

import (
	"context"
	"crypto/tls"
	"net/url"
)

// webhook looks whether there is a server at [events] webhook_url, and whether
// its certificate is trusted. Nothing is posted to it.
func (d *doctor) webhook(ctx context.Context) {
	e := d.config.Events
	if e.WebhookURL == "" {
		return
	}
	target, err := url.Parse(e.WebhookURL)
	if err != nil {
		return // config has checked it
	}
	address := parseServerURL(target.Scheme+"://"+target.Host, map[string]string{"https": "443", "http": "80"}[target.Scheme]).hosts[0]
	var secure *tls.Config
	if target.Scheme == "https" {
		if secure, err = clientTLS(target.Hostname(), e.WebhookCA, "", ""); err != nil {
			d.fail("webhook", "correct events.webhook_ca", "%v", err)
			return
		}
	}
	conn, err := reach(ctx, address, secure)
	if err != nil {
		d.fail("webhook", "look at that server, and at events.webhook_url and webhook_ca; join events wait in the record until it takes them", "%s: %v", address, err)
		return
	}
	_ = conn.Close()
	d.ok("webhook", "a server answers at %s; nothing was posted to it", address)
}
