package backend

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"
)

// answerLater decides and sends the answer to the network server's AnswerURL.
func (s *Server) answerLater(ctx context.Context, server *NetworkServer, msg message, started time.Time) {
	out := s.handle(ctx, server, msg)
	body, err := json.Marshal(out.answer)
	if err == nil {
		err = s.answers.deliver(ctx, server.AnswerURL, body)
	}
	if err != nil {
		out.err = fmt.Errorf("answer was not delivered: %w", err)
	}
	s.tell(msg, *out, started)
}

// courier brings answers to network servers.
type courier struct {
	client *http.Client
	pauses []time.Duration // before each further try
	stop   context.Context
	close  context.CancelFunc
}

// tryTimeout bounds one try, so that there is time for another one before RX1.
const tryTimeout = 2 * time.Second

func newCourier(config *tls.Config) *courier {
	c := &courier{
		client: &http.Client{
			Timeout: tryTimeout,
			Transport: &http.Transport{
				TLSClientConfig: config, ForceAttemptHTTP2: true, IdleConnTimeout: time.Minute,
				// A burst of answers shares connections: handshakes would cost it more.
				MaxConnsPerHost: 16, MaxIdleConnsPerHost: 16,
				TLSHandshakeTimeout: tryTimeout, MaxResponseHeaderBytes: 64 << 10,
			},
			// An answer with keys goes where the configuration says and nowhere else.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		pauses: []time.Duration{100 * time.Millisecond, 500 * time.Millisecond},
	}
	c.stop, c.close = context.WithCancel(context.Background())
	return c
}

// deliver sends one answer, and again after a fault that may pass, while the
// context lasts.
func (c *courier) deliver(ctx context.Context, url string, body []byte) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(c.stop, cancel)()
	for try := 0; ; try++ {
		again, err := c.post(ctx, url, body)
		if err == nil || !again || try == len(c.pauses) {
			return err
		}
		select {
		case <-time.After(c.pauses[try]):
		case <-ctx.Done():
			return err
		}
	}
}

// post reports whether another try makes sense.
func (c *courier) post(ctx context.Context, url string, body []byte) (again bool, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return false, err
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := c.client.Do(request)
	if err != nil {
		return true, err
	}
	defer response.Body.Close()
	_, _ = io.CopyN(io.Discard, response.Body, maxBody) // so that the connection can be used again
	if response.StatusCode/100 == 2 {
		return false, nil
	}
	again = response.StatusCode/100 == 5 || response.StatusCode == http.StatusTooManyRequests
	return again, fmt.Errorf("%s answered %s", request.URL.Redacted(), response.Status)
}
