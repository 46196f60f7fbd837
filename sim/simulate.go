package sim

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Options say what Simulate does. Broker and Devices are needed, the rest has
// defaults.
type Options struct {
	Broker             string // as in BridgeConfig
	Username, Password string
	TLS                *tls.Config
	Prefix             string
	Encoding           Encoding
	QoS                byte

	Devices []*Device
	// GatewayEUIs lists the gateways. Empty: Gateways of them (0: one), from
	// FirstGateway on (0: DefaultFirstGateway).
	GatewayEUIs  []EUI
	Gateways     int
	FirstGateway EUI
	GPS          bool
	HalfDuplex   bool
	// Connections is how many MQTT connections the gateways share. 0: one.
	Connections int

	Scatter Scatter
	// Attempts, Timeout and Realtime are those of AirConfig.
	Attempts int
	Timeout  time.Duration
	Realtime bool

	// Rate is how many devices begin per second. 0: as fast as Concurrency allows.
	Rate float64
	// Concurrency is how many devices join at a time. 0: 200.
	Concurrency int
	// Progress is told after each device, one call at a time.
	Progress func(done, total int)
}

// DefaultFirstGateway is the EUI of the first simulated gateway.
const DefaultFirstGateway EUI = 0x0016c001f1500000

// GatewayEUIs lists n EUIs from first on (0: DefaultFirstGateway).
func GatewayEUIs(first EUI, n int) []EUI {
	if first == 0 {
		first = DefaultFirstGateway
	}
	all := make([]EUI, n)
	for i := range all {
		all[i] = first + EUI(i)
	}
	return all
}

// Simulate brings up gateways at the broker, lets every device join through
// them, and takes the gateways down. It gives one Result per device, in their
// order. A device that does not join is no error: its Result has the Reason.
// When ctx ends, devices that had not begun are marked so.
func Simulate(ctx context.Context, o Options) ([]Result, error) {
	if len(o.Devices) == 0 {
		return nil, errors.New("simulate: no devices")
	}
	if len(o.GatewayEUIs) == 0 {
		o.GatewayEUIs = GatewayEUIs(o.FirstGateway, max(1, o.Gateways))
	}
	bridges, gateways, err := o.bringUp(ctx)
	defer takeDown(bridges)
	if err != nil {
		return nil, err
	}
	air := NewAir(AirConfig{
		Propagation: o.Scatter.Over(gateways), Timeout: o.Timeout, Attempts: o.Attempts, Realtime: o.Realtime,
	}, gateways...)
	stop := keepStats(gateways)
	defer stop()
	return o.joinAll(ctx, air), ctx.Err()
}

// bringUp connects the bridges, which it returns also with an error.
func (o Options) bringUp(ctx context.Context) (bridges []*Bridge, gateways []*Gateway, err error) {
	for range min(max(1, o.Connections), len(o.GatewayEUIs)) {
		bridges = append(bridges, NewBridge(BridgeConfig{
			Broker: o.Broker, Username: o.Username, Password: o.Password, TLS: o.TLS,
			Prefix: o.Prefix, Encoding: o.Encoding, QoS: o.QoS,
		}))
	}
	for i, eui := range o.GatewayEUIs {
		g, err := bridges[i%len(bridges)].AddGateway(GatewayConfig{EUI: eui, GPS: o.GPS, HalfDuplex: o.HalfDuplex})
		if err != nil {
			return bridges, nil, fmt.Errorf("simulate: %w", err)
		}
		gateways = append(gateways, g)
	}
	for _, b := range bridges {
		if err := b.Connect(ctx); err != nil {
			return bridges, nil, fmt.Errorf("simulate: %w", err)
		}
	}
	return bridges, gateways, nil
}

func takeDown(bridges []*Bridge) {
	for _, b := range bridges {
		_ = b.Close() // the results are in; a broker that has gone changes nothing
	}
}

// keepStats publishes event/stats now and every 30 s, as packet forwarders do.
func keepStats(gateways []*Gateway) (stop func()) {
	quit := make(chan struct{})
	var done sync.WaitGroup
	done.Go(func() {
		tick := time.NewTicker(30 * time.Second)
		defer tick.Stop()
		for {
			for _, g := range gateways {
				_ = g.PublishStats() // lost stats are what a broken connection looks like
			}
			select {
			case <-tick.C:
			case <-quit:
				return
			}
		}
	})
	return func() {
		close(quit)
		done.Wait()
	}
}

// joinAll lets the devices begin in order, a bounded number at a time.
func (o Options) joinAll(ctx context.Context, air *Air) []Result {
	results := make([]Result, len(o.Devices))
	begin := make(chan int)
	finished := make(chan struct{})
	var workers sync.WaitGroup
	for range min(o.concurrency(), len(o.Devices)) {
		workers.Go(func() {
			for i := range begin {
				results[i], _ = air.Join(ctx, o.Devices[i]) // an error is in the Reason as well
				finished <- struct{}{}
			}
		})
	}
	reported := make(chan struct{})
	go func() {
		defer close(reported)
		for n := 1; ; n++ {
			if _, ok := <-finished; !ok {
				return
			}
			if o.Progress != nil {
				o.Progress(n, len(o.Devices))
			}
		}
	}()
	begun := o.pace(ctx, begin)
	workers.Wait()
	close(finished)
	<-reported
	for i := begun; i < len(results); i++ {
		results[i] = Result{JoinAccept: JoinAccept{DevEUI: o.Devices[i].DevEUI()}, Reason: "not begun"}
	}
	return results
}

func (o Options) concurrency() int {
	if o.Concurrency > 0 {
		return o.Concurrency
	}
	return 200
}

// pace hands out the devices at the rate wanted until ctx ends, and reports how
// many it handed out.
func (o Options) pace(ctx context.Context, begin chan<- int) (begun int) {
	defer close(begin)
	start := time.Now()
	for i := range o.Devices {
		if o.Rate > 0 && !sleepUntil(ctx, start.Add(time.Duration(float64(i)/o.Rate*float64(time.Second)))) {
			return i
		}
		select {
		case begin <- i:
		case <-ctx.Done():
			return i
		}
	}
	return len(o.Devices)
}

// sleepUntil reports false if ctx ended first.
func sleepUntil(ctx context.Context, when time.Time) bool {
	wait := time.NewTimer(time.Until(when))
	defer wait.Stop()
	select {
	case <-wait.C:
		return true
	case <-ctx.Done():
		return false
	}
}
