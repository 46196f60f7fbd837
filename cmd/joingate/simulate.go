package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"joingate/config"
	"joingate/sim"
	"joingate/tlsfile"

	"github.com/spf13/cobra"
)

// simulation holds the flags of simulate.
type simulation struct {
	options                                     sim.Options
	devices, region, joinEUI, encoding, gateway string
	passwordFile, nonces                        string
	tlsCA, tlsCert, tlsKey                      string
	firstDevNonce                               uint16
	storm                                       stormFlags
}

func (p *program) simulateCommand() *cobra.Command {
	var s simulation
	c := &cobra.Command{
		Use:   "simulate --devices FILE.csv | --storm",
		Short: "Let simulated devices join through simulated gateways at a running server, or play a storm",
		Long: `Let simulated devices join through simulated gateways at a running server, over
MQTT. The devices do real cryptography and refuse what a careful device refuses.

The file has the header dev_eui,app_key[,nwk_key][,mac_version][,join_eui][,region]
in any order; a file for node import will do. Devices that count their DevNonces
(1.0.4, 1.1) keep in FILE.nonces how far they are, as real ones do in their flash.

With --storm there is no broker and no waiting: the power of a district returns, and
a radio model with collisions, half-duplex gateways and back-off shows how long until
all have joined, with and without planning of airtime. The server's own decisions are
what answers. The seed of a storm is 1 unless given.`,
		Example: `  joingate simulate --broker mqtt://127.0.0.1:1883 --devices nodes.csv --gateways 3 --region 101 --json
  joingate simulate --storm --count 1000 --gateways 3 --svg storm.svg`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if s.storm.on {
				if !c.Flags().Changed("gateways") {
					s.options.Gateways = stormGateways
				}
				return p.storm(c.Context(), s.storm, s.options.Scatter.Seed, s.options.Gateways)
			}
			return p.simulate(c.Context(), s)
		},
	}
	s.flags(c)
	s.storm.flags(c)
	c.MarkFlagsOneRequired("devices", "storm")
	c.MarkFlagsMutuallyExclusive("devices", "storm")
	c.MarkFlagsRequiredTogether("tls-cert", "tls-key")
	return p.jsonFlag(c)
}

func (s *simulation) flags(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&s.options.Broker, "broker", "mqtt://127.0.0.1:1883", "`URL` of the MQTT broker")
	f.StringVar(&s.options.Username, "username", "", "broker `USER`")
	f.StringVar(&s.passwordFile, "password-file", "", "`FILE` with the user's password")
	f.StringVar(&s.tlsCA, "tls-ca", "", "PEM `FILE` with the authorities that may sign the broker's certificate (default: the system's)")
	f.StringVar(&s.tlsCert, "tls-cert", "", "PEM `FILE` with the certificate that the gateways show the broker")
	f.StringVar(&s.tlsKey, "tls-key", "", "PEM `FILE` with the private key of --tls-cert")
	f.StringVar(&s.devices, "devices", "", "CSV `FILE` of the devices")
	f.IntVar(&s.options.Gateways, "gateways", 1, "how many gateways there are; 3 in a storm")
	f.StringVar(&s.gateway, "first-gateway", sim.DefaultFirstGateway.String(), "`EUI` of the first gateway; the others follow")
	f.StringVar(&s.region, "region", "EU868", "`REGION` of devices that name none: a band plan group such as US915-FSB2, or 101, 102, 201")
	f.StringVar(&s.joinEUI, "join-eui", "d896e0efff000000", "JoinEUI of devices that name none")
	f.StringVar(&s.encoding, "encoding", sim.V4Protobuf.String(), "`FORM` of the gateway bridge: v4-protobuf, v4-json, v3-protobuf, v3-json")
	f.StringVar(&s.options.Prefix, "prefix", "", "topic `PREFIX` before gateway/…")
	f.IntVar(&s.options.Scatter.Copies, "copies", 1, "how many gateways hear each frame")
	f.Float64Var(&s.options.Scatter.SNR, "snr", 5, "SNR of the best copy, dB")
	f.Float64Var(&s.options.Scatter.Loss, "loss", 0, "share of copies that are lost, 0 to 1")
	f.Float64Var(&s.options.Scatter.Ghosts, "ghosts", 0, "share of copies with a ghost on another channel, 0 to 1")
	f.DurationVar(&s.options.Scatter.Delay, "delay", 0, "longest way from a gateway to its broker")
	f.Uint64Var(&s.options.Scatter.Seed, "seed", 0, "seed of all that is drawn; 0: another one each time")
	f.Float64Var(&s.options.Rate, "rate", 0, "devices that begin per second; 0: as fast as --concurrency allows")
	f.IntVar(&s.options.Concurrency, "concurrency", 200, "devices that join at a time")
	f.IntVar(&s.options.Attempts, "attempts", 1, "how often a device asks")
	f.Uint16Var(&s.firstDevNonce, "first-dev-nonce", 0, "least DevNonce of devices that count, for a server that knows them from elsewhere")
	f.StringVar(&s.nonces, "nonces", "", "`FILE` where counting devices keep their DevNonces (default: that of --devices with .nonces)")
	f.DurationVar(&s.options.Timeout, "timeout", 7*time.Second, "how long a device waits for its join-accept")
	f.BoolVar(&s.options.Realtime, "realtime", false, "wait for the receive windows instead of computing them")
}

func (p *program) simulate(ctx context.Context, s simulation) error {
	var err1, err2, err3, err4, err5 error
	var joinEUI sim.EUI
	s.options.FirstGateway, err1 = sim.ParseEUI(s.gateway)
	s.options.Encoding, err2 = sim.ParseEncoding(s.encoding)
	joinEUI, err3 = sim.ParseEUI(s.joinEUI)
	s.options.Password, err4 = config.Secret(s.passwordFile)
	s.options.TLS, err5 = tlsfile.NewClient(s.tlsCert, s.tlsKey, s.tlsCA, tlsfile.Options{})
	if err := errors.Join(err1, err2, err3, err4, err5); err != nil {
		return err
	}
	file, err := os.Open(s.devices)
	if err != nil {
		return err
	}
	defer file.Close()
	if s.options.Scatter.Seed == 0 {
		s.options.Scatter.Seed = rand.Uint64()
	}
	s.options.Devices, err = sim.ReadDevices(file, sim.DeviceConfig{
		JoinEUI: joinEUI, Region: s.region, FirstDevNonce: s.firstDevNonce, Rand: rand.New(rand.NewPCG(s.options.Scatter.Seed, 0)),
	})
	if err != nil {
		return fmt.Errorf("%s: %w", s.devices, err)
	}
	if err := reserveNonces(cmp.Or(s.nonces, s.devices+".nonces"), s.options); err != nil {
		return err
	}
	show := p.progress("joins:", len(s.options.Devices))
	s.options.Progress = func(done, _ int) { show(done) }
	results, err := sim.Simulate(ctx, s.options)
	if err != nil {
		if !strings.HasPrefix(s.options.Broker, "mqtts:") && !strings.HasPrefix(s.options.Broker, "wss:") {
			return err
		}
		return brokerHint(err, s.tlsCert != "")
	}
	return p.print(results, func(w io.Writer) { printResults(w, results) })
}

// reserveNonces has devices that count go on from the file, and leaves in it
// where the next run goes on.
func reserveNonces(path string, o sim.Options) error {
	book := sim.NonceBook{}
	before, err := os.ReadFile(path)
	if err == nil {
		book, err = sim.ReadNonces(bytes.NewReader(before))
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%s: %w", path, err)
	}
	book.Reserve(o.Devices, o.Attempts)
	if len(book) == 0 {
		return nil // nobody counts
	}
	var after bytes.Buffer
	if err := book.Write(&after); err != nil {
		return err
	}
	// A half-written file would be worse than none.
	draft := path + ".new"
	if err := os.WriteFile(draft, after.Bytes(), 0o600); err != nil {
		return fmt.Errorf("keep the devices' DevNonces: %w: name another place with --nonces", err)
	}
	return os.Rename(draft, path)
}

func printResults(w io.Writer, results []sim.Result) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "DEVICE\tJOINED\tDEVADDR\tRXDELAY\tDATARATE\tWINDOW\tGATEWAY\tREASON")
	joined := 0
	for _, r := range results {
		if !r.Joined {
			fmt.Fprintf(t, "%s\tno\t\t\t\t\t\t%s\n", r.DevEUI, r.Reason)
			continue
		}
		joined++
		fmt.Fprintf(t, "%s\tyes\t%s\t%d s\t%d\tRX%d\t%s\t\n", r.DevEUI, r.DevAddr, r.RxDelay, r.DataRate, r.Window, r.Gateway)
	}
	_ = t.Flush()
	fmt.Fprintf(w, "%d of %d devices have joined\n", joined, len(results))
	if joined < len(results) {
		fmt.Fprint(w, unanswered)
	}
}

// unanswered helps whoever meets the silence that a refusal is on the air.
const unanswered = `A refused device hears nothing: joingate rejects tells why the server was silent.
If it knows nothing of them, no join-request came: look at the rights of the gateways'
user at the broker (deploy/mosquitto/acl), at --prefix, and at share_group.
For no_airtime, which is what many devices at once meet: a gateway sends one frame at a
time, so let them begin one after the other (--rate 2), ask again (--attempts 5), give
them more gateways, or set [join] airtime = "off" on a server that is only tried.
`
