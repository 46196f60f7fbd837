package joinserver

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"joingate/band"
)

// candidate is a copy that may be answered through the gateway it came from.
type candidate struct {
	reception int // index among the copies
	copy      Reception
	gateway   Gateway
}

// onChannel keeps the copies that came on a channel of the policy's band plan group
// where such a request may come. The others are ghosts: a receiver too close to the
// device hears it on other channels too.
func (h *Handler) onChannel(f finding, copies []Reception) (*band.Group, []candidate, error) {
	p := f.policy.Permission
	plan, ok := h.Bands.Find(p.BandPlanGroup)
	if !ok {
		return nil, nil, f.reject(WrongBandPlan,
			fmt.Sprintf("band plan group %d of join permission %d is not configured", p.BandPlanGroup, p.ID))
	}
	fits := plan.JoinChannel
	if f.request.kind != Joined {
		fits = plan.RejoinChannel
	}
	heard := make([]candidate, 0, len(copies))
	for i, c := range copies {
		if fits(c.Frequency, c.Modulation) {
			heard = append(heard, candidate{reception: i, copy: c})
		}
	}
	if len(heard) == 0 {
		return nil, nil, f.reject(WrongBandPlan, h.wouldFit(copies[0], plan))
	}
	return plan, heard, nil
}

// reject refuses the request that the finding is about.
func (f finding) reject(reason Reason, detail string) error {
	return f.request.reject(reason, f.policy.Node.Account, detail)
}

// wouldFit says where a request that came on no join channel of the plan belongs.
func (h *Handler) wouldFit(c Reception, plan *band.Group) string {
	missed := fmt.Sprintf("%s %s is no join channel of %d %s", c.Frequency, c.Modulation, plan.ID, plan.Name)
	fitting := h.Bands.Fitting(c.Frequency, c.Modulation)
	if len(fitting) == 0 {
		return missed + " nor of any other group"
	}
	names := make([]string, 0, len(fitting))
	for _, g := range fitting {
		names = append(names, fmt.Sprintf("%d %s", g.ID, g.Name))
	}
	return fmt.Sprintf("%s; %s is a join channel of %s", missed, c.Frequency, strings.Join(names, ", "))
}

// eligible keeps the copies of gateways that may serve the policy.
func (h *Handler) eligible(ctx context.Context, from Policies, f finding, heard []candidate) ([]candidate, error) {
	permission := f.policy.Permission
	start := h.Now()
	defer func() { h.Observe(StepGateways, h.Now().Sub(start)) }()
	registered, err := from.Gateways(ctx, gatewaysOf(heard))
	if err != nil {
		return nil, fmt.Errorf("find gateways of %s: %w", f.request.DevEUI, err)
	}
	may := make([]candidate, 0, len(heard))
	for _, c := range heard {
		i := slices.IndexFunc(registered, func(g Gateway) bool { return g.EUI == c.copy.Gateway })
		if i >= 0 && registered[i].Serves(permission) {
			c.gateway = registered[i]
			may = append(may, c)
		}
	}
	if len(may) == 0 {
		return nil, f.reject(GatewayNotAllowed, whyNot(heard[0].copy.Gateway, registered, permission))
	}
	return may, nil
}

func gatewaysOf(heard []candidate) []EUI64 {
	euis := make([]EUI64, 0, len(heard))
	for _, c := range heard {
		if !slices.Contains(euis, c.copy.Gateway) {
			euis = append(euis, c.copy.Gateway)
		}
	}
	return euis
}

// whyNot says why a gateway may not serve the permission.
func whyNot(eui EUI64, registered []Gateway, p JoinPermission) string {
	i := slices.IndexFunc(registered, func(g Gateway) bool { return g.EUI == eui })
	switch {
	case i < 0:
		return fmt.Sprintf("gateway %s is not registered", eui)
	case !registered[i].Enabled:
		return fmt.Sprintf("gateway %s is disabled", eui)
	case registered[i].BandPlanGroup != p.BandPlanGroup:
		return fmt.Sprintf("gateway %s is of band plan group %d, the permission of %d", eui, registered[i].BandPlanGroup, p.BandPlanGroup)
	case p.Type == Roaming:
		return fmt.Sprintf("gateway %s is not open to roaming", eui)
	}
	return fmt.Sprintf("gateway %s belongs to another account than the permission", eui)
}

// rank puts the best gateway first: link margin, which is the SNR as all copies
// have one spreading factor, then RSSI. Of several copies through one gateway
// (antennas) the best counts.
func rank(may []candidate) []candidate {
	ranked := onOneFrequency(may)
	slices.SortStableFunc(ranked, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(b.copy.SNR, a.copy.SNR), cmp.Compare(b.copy.RSSI, a.copy.RSSI))
	})
	var seen []EUI64
	return slices.DeleteFunc(ranked, func(c candidate) bool {
		again := slices.Contains(seen, c.gateway.EUI)
		seen = append(seen, c.gateway.EUI)
		return again
	})
}

// onOneFrequency keeps the copies on the frequency of the strongest: one
// transmission has one frequency, and the others are ghosts that chance put on a
// join channel. Strength is RSSI here. A receiver that is close enough to make
// ghosts hears the true copy far above them, but the SNR saturates and may well
// be better on the ghost.
func onOneFrequency(may []candidate) []candidate {
	strongest := slices.MaxFunc(may, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(a.copy.RSSI, b.copy.RSSI), cmp.Compare(a.copy.SNR, b.copy.SNR))
	})
	kept := make([]candidate, 0, len(may))
	for _, c := range may {
		if c.copy.Frequency == strongest.copy.Frequency {
			kept = append(kept, c)
		}
	}
	return kept
}

// RequiredSNR is the SNR in dB below which a LoRa receiver loses a spreading
// factor (Semtech SX1301 data sheet, V2.4, table 3-6; SF5 and SF6: SX1302).
func RequiredSNR(spreadingFactor uint8) float32 {
	return -2.5 * float32(int(spreadingFactor)-4)
}

// LinkMargin is how far the copy is above what its spreading factor needs, in dB.
func (r Reception) LinkMargin() float32 {
	return r.SNR - RequiredSNR(r.Modulation.SpreadingFactor)
}
