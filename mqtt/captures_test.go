package mqtt

import (
	"encoding/hex"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"joingate/band"
	"joingate/joinserver"
)

// captures are messages of real bridges; testdata/README.md explains them.
type captures struct {
	Runs []captureRun `json:"runs"`
}

type captureRun struct {
	Run       string            `json:"run"`
	Bridge    string            `json:"bridge"`
	Marshaler string            `json:"marshaler"`
	Topics    map[string]string `json:"topics"`
	Records   []captureRecord   `json:"records"`
}

// encoding is the one the bridge of the run was set to.
func (r captureRun) encoding() encoding {
	return encodingOf(strings.Contains(r.Bridge, " 3."), r.Marshaler == "json")
}

type captureRecord struct {
	ID          string          `json:"id"`
	Step        string          `json:"step"`
	Direction   string          `json:"direction"`
	Topic       string          `json:"topic"`
	PayloadHex  string          `json:"payload_hex"`
	PayloadJSON string          `json:"payload_json"`
	Decoded     json.RawMessage `json:"decoded"`
}

func (r captureRecord) payload(t testing.TB) []byte {
	t.Helper()
	if r.PayloadJSON != "" {
		return []byte(r.PayloadJSON)
	}
	return unhex(t, r.PayloadHex)
}

// decodedAs reads the normalised form of the record into a T.
func decodedAs[T any](t testing.TB, r captureRecord) (decoded T) {
	t.Helper()
	if err := json.Unmarshal(r.Decoded, &decoded); err != nil {
		t.Fatalf("%s: %v", r.ID, err)
	}
	return decoded
}

func loadCaptures(t testing.TB) captures {
	t.Helper()
	text, err := os.ReadFile("testdata/captures.json")
	if err != nil {
		t.Fatal(err)
	}
	var c captures
	if err := json.Unmarshal(text, &c); err != nil {
		t.Fatal(err)
	}
	return c
}

// each calls visit with every captured message whose topic ends so.
func (c captures) each(topicEnd string, visit func(captureRun, captureRecord)) {
	for _, run := range c.Runs {
		for _, record := range run.Records {
			if strings.HasSuffix(record.Topic, topicEnd) {
				visit(run, record)
			}
		}
	}
}

// first finds a captured message by run, step and end of topic.
func (c captures) first(t testing.TB, run, step, topicEnd string) captureRecord {
	t.Helper()
	var found *captureRecord
	c.each(topicEnd, func(r captureRun, record captureRecord) {
		if found == nil && r.Run == run && record.Step == step {
			found = &record
		}
	})
	if found == nil {
		t.Fatalf("no %s in step %s of run %s", topicEnd, step, run)
	}
	return *found
}

type decodedUp struct {
	GatewayID       joinserver.EUI64 `json:"gateway_id"`
	PHYPayload      string           `json:"phy_payload_hex"`
	Context         string           `json:"context_hex"`
	Frequency       band.Hz          `json:"frequency_hz"`
	Modulation      string           `json:"modulation"`
	Bandwidth       band.Hz          `json:"bandwidth_hz"`
	SpreadingFactor uint8            `json:"spreading_factor"`
	RSSI            int32            `json:"rssi_dbm"`
	SNR             float64          `json:"snr_db"`
	CRCStatus       string           `json:"crc_status"`
}

type decodedDown struct {
	GatewayID    joinserver.EUI64  `json:"gateway_id"`
	DownlinkID   uint32            `json:"downlink_id"`
	DownlinkUUID string            `json:"downlink_uuid"`
	Items        []decodedDownItem `json:"items"`
}

type decodedDownItem struct {
	PHYPayload      string  `json:"phy_payload_hex"`
	Context         string  `json:"context_hex"`
	Frequency       band.Hz `json:"frequency_hz"`
	Power           int8    `json:"power_dbm"`
	SpreadingFactor uint8   `json:"spreading_factor"`
	Bandwidth       band.Hz `json:"bandwidth_hz"`
	DelayMS         int64   `json:"delay_ms"`
}

type decodedAck struct {
	GatewayID  joinserver.EUI64 `json:"gateway_id"`
	DownlinkID uint32           `json:"downlink_id"`
	Error      string           `json:"error"`
	Items      []string         `json:"items"`
}

type decodedConn struct {
	GatewayID joinserver.EUI64 `json:"gateway_id"`
	State     string           `json:"state"`
}

// decodedStats keeps the keys of its version.
type decodedStats struct {
	GatewayID           joinserver.EUI64 `json:"gatewayId"`
	Time                string           `json:"time"`
	RxPacketsReceived   uint32           `json:"rxPacketsReceived"`
	RxPacketsReceivedOK uint32           `json:"rxPacketsReceivedOk"`
	TxPacketsReceived   uint32           `json:"txPacketsReceived"`
	TxPacketsEmitted    uint32           `json:"txPacketsEmitted"`
	Location            *location        `json:"location"`
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	octets, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return octets
}
