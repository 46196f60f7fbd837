package linkwan

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"joingate/keyring"
)

// maxAnswerBytes bounds what a Client reads: 200 rows are far below it.
const maxAnswerBytes = 16 << 20

// Client makes calls with signature v1, as Alibaba's SDKs do.
type Client struct {
	Endpoint    string // with scheme, as http://127.0.0.1:8080
	AccessKeyID string
	Secret      keyring.Secret

	HTTP *http.Client     // nil: http.DefaultClient
	Now  func() time.Time // nil: time.Now
}

// Call makes one call and returns the answer's JSON. A refusal by the server is
// an *APIError; any other error means that it is not known what the server did.
func (c Client) Call(ctx context.Context, action string, params map[string]string) (json.RawMessage, error) {
	form := c.sign(action, params)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(c.Endpoint, "/")+"/", strings.NewReader(form))
	if err != nil {
		return nil, fmt.Errorf("call %s: %w", action, err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	client := c.HTTP
	if client == nil {
		client = http.DefaultClient
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("call %s: %w", action, err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswerBytes))
	if err != nil {
		return nil, fmt.Errorf("read answer of %s: %w", action, err)
	}
	return readAnswer(resp.StatusCode, body)
}

// sign gives the form body of a call.
func (c Client) sign(action string, params map[string]string) string {
	now := c.Now
	if now == nil {
		now = time.Now
	}
	nonce := make([]byte, 16)
	_, _ = rand.Read(nonce) // never fails
	all := map[string]string{
		"Action":           action,
		"Version":          Version,
		"Format":           "JSON",
		"AccessKeyId":      c.AccessKeyID,
		"SignatureMethod":  methodV1,
		"SignatureVersion": versionV1,
		"SignatureNonce":   hex.EncodeToString(nonce),
		"Timestamp":        now().UTC().Format(timestampFormat),
	}
	for name, value := range params {
		all[name] = value
	}
	all["Signature"] = signV1(c.Secret.Reveal(), stringToSignV1(http.MethodPost, all))
	return canonicalQuery(all, "")
}

func readAnswer(status int, body []byte) (json.RawMessage, error) {
	if status == http.StatusOK && json.Valid(body) {
		return body, nil
	}
	var refusal errorAnswer
	if err := json.Unmarshal(body, &refusal); err != nil || refusal.Code == "" {
		return nil, fmt.Errorf("the endpoint answered with HTTP status %d, but not as this API does; check its address", status)
	}
	return nil, &APIError{
		Code: refusal.Code, Message: refusal.Message, Recommend: refusal.Recommend, RequestID: refusal.RequestID, HTTPStatus: status,
	}
}
