package courier

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"joingate/joinserver"
	"joingate/keyring"
)

// Headers of a webhook's requests.
const (
	// HeaderEventID has the event's id, the same whenever the event comes.
	HeaderEventID = "Joingate-Event-Id"
	// HeaderTimestamp has the time of this attempt, in seconds since 1970.
	HeaderTimestamp = "Joingate-Timestamp"
	// HeaderSignature has "v1=" and the hex HMAC-SHA256, under the secret, of the
	// timestamp's text, a full stop and the body.
	HeaderSignature = "Joingate-Signature"
)

// WebhookOptions say where events are posted. URL and Secret must be there.
type WebhookOptions struct {
	// URL is https://… or http://…, without user and password.
	URL string
	// Secret signs each request. The receiver must check it, and that the timestamp
	// is of the last minutes.
	Secret keyring.Secret
	// TLS is for a private authority, or a certificate of this program; nil: the
	// system's authorities, TLS 1.2 or later.
	TLS *tls.Config
	// Timeout bounds one request, from the connection to the end of the answer.
	// Default 10 s.
	Timeout time.Duration
}

// WebhookLanes is how many requests a Courier with a Webhook should have under way
// at a time: its Lanes.
const WebhookLanes = 16

// Webhook posts each event by itself, as JSON. An answer with status 2xx says that
// the receiver has it for good. Everything else is tried again: 3xx, as it is not
// followed, and 4xx (but for 408, 425 and 429) as a Refusal.
type Webhook struct {
	url    string
	secret keyring.Secret
	client *http.Client
	now    func() time.Time
}

var _ Sink = (*Webhook)(nil)

// NewWebhook checks the options. Errors do not show the URL, which may hold a
// token.
func NewWebhook(o WebhookOptions) (*Webhook, error) {
	at, err := url.Parse(o.URL)
	switch {
	case err != nil || at.Host == "" || at.Scheme != "https" && at.Scheme != "http":
		return nil, errors.New("the webhook's URL must be https://HOST/PATH or http://HOST/PATH")
	case at.User != nil:
		return nil, errors.New("the webhook's URL holds a user or password: take them out, requests are signed")
	case o.Secret.Reveal() == "":
		return nil, errors.New("the webhook needs a secret to sign its requests with")
	}
	if o.Timeout == 0 {
		o.Timeout = 10 * time.Second
	}
	if o.TLS == nil {
		o.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	return &Webhook{url: o.URL, secret: o.Secret, client: newClient(o), now: time.Now}, nil
}

const (
	// answerRead is how much of an answer's body is read: enough to use a connection
	// again after a usual one.
	answerRead = 64 << 10
	// answerShown is how much of it an error shows.
	answerShown = 200
	// largestHeader bounds the header of an answer, in octets.
	largestHeader = 64 << 10
)

func newClient(o WebhookOptions) *http.Client {
	return &http.Client{
		Timeout: o.Timeout,
		Transport: &http.Transport{
			Proxy: http.ProxyFromEnvironment, TLSClientConfig: o.TLS, ForceAttemptHTTP2: true,
			MaxIdleConnsPerHost: WebhookLanes, IdleConnTimeout: 90 * time.Second, MaxResponseHeaderBytes: largestHeader,
		},
		// The receiver is who the operator has named, and nobody else.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// Deliver implements Sink.
func (w *Webhook) Deliver(ctx context.Context, events []joinserver.OutboxEvent) (int, error) {
	for i, e := range events {
		if err := w.post(ctx, e); err != nil {
			return i, fmt.Errorf("post event %s: %w", eventID(e), err)
		}
	}
	return len(events), nil
}

func (w *Webhook) post(ctx context.Context, e joinserver.OutboxEvent) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, w.url, bytes.NewReader(e.Payload))
	if err != nil {
		return withoutURL(err)
	}
	timestamp := strconv.FormatInt(w.now().Unix(), 10)
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("User-Agent", "joingate")
	request.Header.Set(HeaderEventID, eventID(e))
	request.Header.Set(HeaderTimestamp, timestamp)
	request.Header.Set(HeaderSignature, signature(w.secret, timestamp, e.Payload))
	answer, err := w.client.Do(request)
	if err != nil {
		return withoutURL(err)
	}
	defer answer.Body.Close()
	said, _ := io.ReadAll(io.LimitReader(answer.Body, answerRead)) // the status has come, and it decides
	return judge(answer.StatusCode, said)
}

// judge says whether the receiver has taken the event.
func judge(status int, said []byte) error {
	if status >= 200 && status <= 299 {
		return nil
	}
	err := fmt.Errorf("the receiver answered with status %d, %q", status, said[:min(len(said), answerShown)])
	switch {
	case status == http.StatusRequestTimeout, status == http.StatusTooEarly, status == http.StatusTooManyRequests:
		return err
	case status >= 400 && status <= 499:
		return &Refusal{err}
	}
	return err
}

// signature gives the header that proves who posts, what, and when.
func signature(secret keyring.Secret, timestamp string, body []byte) string {
	mac := hmac.New(sha256.New, []byte(secret.Reveal()))
	mac.Write([]byte(timestamp + "."))
	mac.Write(body)
	return "v1=" + hex.EncodeToString(mac.Sum(nil))
}

// eventID is that of joinserver.JoinEvent.
func eventID(e joinserver.OutboxEvent) string { return fmt.Sprintf("%s-%d", e.DevEUI, e.JoinNonce) }

// withoutURL takes the URL out of an error.
func withoutURL(err error) error {
	var of *url.Error
	if errors.As(err, &of) {
		return of.Err
	}
	return err
}
