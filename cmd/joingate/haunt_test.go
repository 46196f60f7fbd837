package main

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"joingate/tlsfile/testca"
)

// haunt is a server with everything switched on that tells somebody something, the
// secrets that it knows, and all that was said and written: where secrets must not be.
type haunt struct {
	*daemon
	t       *testing.T
	client  client
	devices []device
	field   *field
	ear     *ear

	hidden secrets
	places map[string][]byte

	inbox   map[string]*transcript // what was posted, by the path
	network *http.Client           // a network server
}

// Secrets in hex that the operator gives.
var (
	accountNSKEK = strings.Repeat("a1b2c3d4", 4)
	accountASKEK = strings.Repeat("5e6f7081", 8)
	networkKEK   = strings.Repeat("92a3b4c5", 4)
)

const webhookSecret = "correct horse battery staple"

// newHaunt starts a server on the machine.
func newHaunt(t *testing.T, m machine) *haunt {
	t.Helper()
	m.t = t
	h := &haunt{t: t, places: map[string][]byte{}, inbox: map[string]*transcript{"/webhook": newTranscript(), "/v1/traces": newTranscript()}}
	receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_ = r.Header.Write(h.inbox[r.URL.Path])
		_, _ = io.Copy(h.inbox[r.URL.Path], r.Body)
	}))
	t.Cleanup(receiver.Close)
	ca := testca.New(t, "authority")
	server, client := ca.Issue("joingate"), ca.Issue("ns.example.org")
	h.network = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: ca.Pool(), Certificates: []tls.Certificate{client.TLS}}}}
	h.daemon = m.with("JOINGATE_LOG__LEVEL=debug", "JOINGATE_TRACING__URL="+receiver.URL+"/v1/traces",
		"JOINGATE_EVENTS__WEBHOOK_URL="+receiver.URL+"/webhook", "JOINGATE_EVENTS__WEBHOOK_SECRET_FILE="+m.write("webhook", webhookSecret),
		"JOINGATE_BACKEND__LISTEN=127.0.0.1:0", "JOINGATE_BACKEND__TLS_CERT="+server.CertFile, "JOINGATE_BACKEND__TLS_KEY="+server.KeyFile,
		"JOINGATE_BACKEND__TLS_CLIENT_CA="+ca.File,
		"JOINGATE_CONFIG="+m.write("joingate.toml", fmt.Sprintf(`[[network_servers]]
name = "ns"
net_id = "000013"
certificates = ["cn:ns.example.org"]
kek_label = "ns"
kek_file = %q
`, m.write("network.kek", networkKEK)))).serve()
	h.hidden = secrets{
		"webhook secret": []byte(webhookSecret), "key file at first": readKEKs(t, h.keyFile)[0], "account's NS KEK": octetsOf(t, accountNSKEK),
		"account's AS KEK": octetsOf(t, accountASKEK), "network server's KEK": octetsOf(t, networkKEK),
	}
	return h
}

// live lets everything happen in which a secret has a part.
func (h *haunt) live() {
	h.t.Helper()
	c, permission := h.site(gatewayA)
	h.client, h.ear, h.field = c, newEar(h.t, h.broker), h.daemon.field(gatewayA)
	h.hidden["AccessKeySecret"] = []byte(c.AccessKeySecret)
	h.run("account", "kek", "acme", "ns", "--label", "ns-1", "--kek-file", h.write("ns.kek", accountNSKEK))
	h.run("account", "kek", "acme", "as", "--label", "as-1", "--kek-file", h.write("as.kek", accountASKEK))
	for i, version := range demoVersions {
		h.devices = append(h.devices, newDevice(i, version))
	}
	c.register("meters", h.devices...)
	for _, device := range h.devices {
		h.hidden.addDevice(h.t, device, h.field.join(device.switchOn(h.t)))
	}
	h.makeFaults(h.field, h.devices)
	h.askAsNetworkServer(h.devices[len(h.devices)-1].counting(100))
	h.sayEverything(permission)
	h.listen()
}

// askAsNetworkServer lets a network server ask for a join; what it gets, wrapped, is
// secret.
func (h *haunt) askAsNetworkServer(d device) {
	h.t.Helper()
	up, err := d.switchOn(h.t).JoinRequest()
	check(h.t, err)
	answer := h.ts002(map[string]any{
		"MessageType": "JoinReq", "MACVersion": "1.1", "PHYPayload": fmt.Sprintf("%x", up.PHYPayload), "DevEUI": d.eui.String(), "DevAddr": "26000001",
		"DLSettings": "00", "RxDelay": 1,
	})
	for name, kek := range map[string]string{"FNwkSIntKey": networkKEK, "SNwkSIntKey": networkKEK, "NwkSEncKey": networkKEK, "AppSKey": accountASKEK} {
		wrapped, _ := answer[name].(map[string]any)
		text, _ := wrapped["AESKey"].(string)
		key := unwrapped(h.t, kek, text)
		h.hidden[name+" of TS002"] = key[:]
	}
	again := h.ts002(map[string]any{"MessageType": "AppSKeyReq", "DevEUI": d.eui.String(), "SessionKeyID": answer["SessionKeyID"]})
	if _, given := again["AppSKey"]; !given {
		h.t.Errorf("no AppSKey: %v", again)
	}
}

// ts002 sends a message of a network server, or of an application server in its
// name.
func (h *haunt) ts002(message map[string]any) (answer map[string]any) {
	h.t.Helper()
	message["ProtocolVersion"], message["TransactionID"] = "1.1", 1
	message["SenderID"], message["ReceiverID"] = "000013", defaultJoinEUI.String()
	body, err := json.Marshal(message)
	check(h.t, err)
	response, err := h.network.Post(h.announced("TS002"), "application/json", bytes.NewReader(body))
	check(h.t, err)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	check(h.t, err)
	h.keep("TS002", text)
	check(h.t, json.Unmarshal(text, &answer))
	return answer
}

// sayEverything asks the API and the commands for all that they have to say.
func (h *haunt) sayEverything(permission string) {
	h.t.Helper()
	c, mine, first, ten := h.client, "JoinPermissionId="+permission, "Offset=0", "Limit=10"
	for _, action := range [][]string{
		{"ListOwnedJoinPermissions", first, ten},
		{"ListNodesByOwnedJoinPermissionId", mine, first, ten},
		{"ListNodeGroups", first, ten},
		{"ListGateways", first, ten},
		{"ListNotifications", first, ten},
		{"GetOwnedJoinPermission", mine},
		{"GetNode", "DevEui=" + h.devices[0].eui.String()},
		{"GetGateway", "GwEui=" + gatewayA.String()},
	} {
		h.keep("call "+action[0], []byte(c.keys().run(append([]string{"call"}, action...)...)))
	}
	for _, command := range [][]string{
		{"node", "export"},
		{"node", "export", "--json"},
		{"node", "nonces", "--share", "0"},
		{"account", "list", "--json"},
		{"config", "print"},
		{"audit", "--json"},
		{"session", "list", "--json"},
		{"rejects", "--json", "--endpoint", h.operations},
		{"doctor", "--record", "--json"},
		{"record", "check"},
		{"record", "backup", filepath.Join(filepath.Dir(h.keyFile), "backup.db")},
		{"version", "--json"},
		{"keys", "rotate"},
	} {
		h.keep(command[0], []byte(h.run(command...)))
	}
	for _, mistake := range []outcome{
		c.keys().with("JOINGATE_ACCESS_KEY_SECRET=wrong").try("call", "ListFreqBandPlanGroups"), c.keys().try("call", "NoSuchAction"),
		h.try("node", "import", h.write("twice.csv", nodeFile("meters", h.devices...)), "--account", "acme"),
		h.try("node", "import", h.write("garbled.csv", garbledNodeFile(h.devices[0]))),
	} {
		if mistake.status == 0 {
			h.t.Errorf("%s: no mistake", mistake.command)
		}
		h.keep("mistakes", []byte(mistake.stdout+mistake.stderr))
	}
	for _, path := range []string{"/metrics", "/rejects", "/readyz", "/healthz"} {
		_, body := h.get(path)
		h.keep(path, []byte(body))
	}
}

// listen gathers what the server has said by itself, once it has, and ends it: what
// is on disk then is all there is.
func (h *haunt) listen() {
	h.t.Helper()
	for i, kek := range readKEKs(h.t, h.keyFile) {
		h.hidden[fmt.Sprintf("key %d of the key file", i+1)] = kek
	}
	all := len(h.devices)
	eventually(h.t, "every join was told", func() bool {
		return len(h.ear.joinEvents()) >= all && strings.Count(h.inbox["/webhook"].String(), `"joinNonce"`) >= all
	})
	if status := h.stop(); status != 0 {
		h.t.Errorf("exit status %d", status)
	}
	h.keep("log", []byte(h.log.String()))
	h.keep("announcement", []byte(h.out.String()))
	for path, posted := range h.inbox {
		h.keep("posted to "+path, []byte(posted.String()))
	}
	for _, m := range h.ear.heard("") {
		h.keep("MQTT", append([]byte(m.topic), m.payload...))
	}
	addFiles(h.t, h.places, filepath.Dir(h.keyFile), h.keyFile)
}

func (h *haunt) keep(place string, octets []byte) {
	h.places[place] = append(h.places[place], octets...)
}

// lookThrough looks for secrets everywhere, these places among it.
func (h *haunt) lookThrough(among ...string) {
	h.t.Helper()
	for _, part := range append(among, "log", "MQTT", "TS002", "/webhook", "/v1/traces", "/metrics", "/rejects", "call GetNode", "audit") {
		if !slices.ContainsFunc(slices.Collect(maps.Keys(h.places)), func(place string) bool { return strings.Contains(place, part) && len(h.places[place]) > 0 }) {
			h.t.Errorf("nothing to look through: %s", part)
		}
	}
	for place, octets := range h.places {
		if seen := h.hidden.seenIn(octets); len(seen) > 0 {
			h.t.Errorf("in %s are to be seen: %v", place, seen)
		}
	}
}
