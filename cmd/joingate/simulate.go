package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"text/tabwriter"
	"time"

	"joingate/sim"

	"github.com/spf13/cobra"
)

// simulation holds the flags of simulate.
type simulation struct {
	options                                     sim.Options
	devices, region, joinEUI, encoding, gateway string
	firstDevNonce                               int
}

func (p *program) simulateCommand() *cobra.Command {
	var s simulation
	c := &cobra.Command{
		Use:   "simulate --broker URL --devices FILE.csv",
		Short: "Let simulated devices join through simulated gateways at a running server",
		Long: `Let simulated devices join through simulated gateways at a running server, over
MQTT. The devices do real cryptography and refuse what a careful device refuses.

The file has the header dev_eui,app_key[,nwk_key][,mac_version][,join_eui][,region]
in any order; a file for node import will do.`,
		Example: "  joingate simulate --broker mqtt://127.0.0.1:1883 --devices nodes.csv --gateways 3 --region 101 --json",
		Args:    cobra.NoArgs,
		RunE:    func(c *cobra.Command, _ []string) error { return p.simulate(c.Context(), s) },
	}
	f := c.Flags()
	f.StringVar(&s.options.Broker, "broker", "mqtt://127.0.0.1:1883", "`URL` of the MQTT broker")
	f.StringVar(&s.options.Username, "username", "", "broker `USER`")
	f.StringVar(&s.devices, "devices", "", "CSV `FILE` of the devices")
	f.IntVar(&s.options.Gateways, "gateways", 1, "how many gateways there are")
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
	f.IntVar(&s.firstDevNonce, "first-dev-nonce", -1, "DevNonce from which counting devices (1.0.4, 1.1) go on; -1: by the clock, so that each run goes on from the last")
	f.DurationVar(&s.options.Timeout, "timeout", 7*time.Second, "how long a device waits for its join-accept")
	f.BoolVar(&s.options.Realtime, "realtime", false, "wait for the receive windows instead of computing them")
	_ = c.MarkFlagRequired("devices")
	return p.jsonFlag(c)
}

func (p *program) simulate(ctx context.Context, s simulation) error {
	var err1, err2, err3 error
	var joinEUI sim.EUI
	s.options.FirstGateway, err1 = sim.ParseEUI(s.gateway)
	s.options.Encoding, err2 = sim.ParseEncoding(s.encoding)
	joinEUI, err3 = sim.ParseEUI(s.joinEUI)
	if err := errors.Join(err1, err2, err3); err != nil {
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
		JoinEUI: joinEUI, Region: s.region, FirstDevNonce: s.devNonce(time.Now()), Rand: rand.New(rand.NewPCG(s.options.Scatter.Seed, 0)),
	})
	if err != nil {
		return fmt.Errorf("%s: %w", s.devices, err)
	}
	show := p.progress("joins:", len(s.options.Devices))
	s.options.Progress = func(done, _ int) { show(done) }
	results, err := sim.Simulate(ctx, s.options)
	if err != nil {
		return err
	}
	return p.print(results, func(w io.Writer) { printResults(w, results) })
}

// devNonce is where counting devices begin. By the clock it goes up by two a
// second and begins anew after nine hours: then reset the devices' nonces.
func (s simulation) devNonce(now time.Time) uint16 {
	if s.firstDevNonce >= 0 {
		return uint16(s.firstDevNonce)
	}
	return uint16(now.UnixMilli() / 500)
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
}
