package mqtt

import (
	"encoding/hex"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"joingate/joinserver"
)

// Every captured join step, in all four encodings: one command per join, which
// is field by field the one that the bridge of the capture was given.
func TestCapturedJoins(t *testing.T) {
	onEachBroker(t, func(t *testing.T, url string) {
		for _, run := range loadCaptures(t).Runs {
			if joins := joinsOf(t, run); len(joins) > 0 {
				t.Run(run.Run, func(t *testing.T) { replayJoins(t, url, run, joins) })
			}
		}
	})
}

// capturedJoin is one join-request with all that was heard of it, and a command
// that was captured for its device.
type capturedJoin struct {
	copies  []captureRecord
	command downlinkCommand
}

// joinsOf gives the joins of a run by their PHYPayload.
func joinsOf(t *testing.T, run captureRun) map[string]*capturedJoin {
	joins := make(map[string]*capturedJoin)
	commands := make(map[joinserver.EUI64]downlinkCommand)
	for _, record := range run.Records {
		switch {
		case strings.HasPrefix(record.Step, "join-") && strings.HasSuffix(record.Topic, "event/up"):
			phy := decodedAs[decodedUp](t, record).PHYPayload
			if joins[phy] == nil {
				joins[phy] = new(capturedJoin)
			}
			joins[phy].copies = append(joins[phy].copies, record)
		case strings.HasSuffix(record.Topic, "command/down") && (strings.HasPrefix(record.Step, "down-rx1-ok") || record.Step == "down-ok"):
			command := commandOf(t, decodedAs[decodedDown](t, record))
			for phy, join := range joins {
				if join.heardWith(t, command) {
					commands[requestOf(unhex(t, phy)).DevEUI] = command
				}
			}
		}
	}
	for phy, join := range joins {
		join.command = commands[requestOf(unhex(t, phy)).DevEUI]
	}
	return joins
}

// heardWith reports whether a command goes back the way that a copy came.
func (j *capturedJoin) heardWith(t *testing.T, c downlinkCommand) bool {
	return slices.ContainsFunc(j.copies, func(r captureRecord) bool {
		up := decodedAs[decodedUp](t, r)
		return up.GatewayID == c.Gateway && up.Context == hex.EncodeToString(c.Context)
	})
}

// answer accepts the join as the captured command did.
func (j *capturedJoin) answer(request joinserver.JoinRequest, copies []joinserver.Reception) (joinserver.Downlink, error) {
	route := joinserver.Route{Gateway: j.command.Gateway, RX1: j.command.Windows[0], RX2: j.command.Windows[1]}
	route.Reception = slices.IndexFunc(copies, func(r joinserver.Reception) bool { return r.Gateway == route.Gateway })
	return joinserver.Downlink{
		PHYPayload: j.command.PHYPayload,
		Routes:     []joinserver.Route{route},
		Claim:      joinserver.Claim{Request: request},
	}, nil
}

func replayJoins(t *testing.T, url string, run captureRun, joins map[string]*capturedJoin) {
	byNonce := make(map[string]*capturedJoin) // what tells join-requests apart once they are decoded
	for phy, join := range joins {
		byNonce[fmt.Sprint(requestOf(unhex(t, phy)))] = join
	}
	handler := &fakeHandler{answer: func(r joinserver.JoinRequest, copies []joinserver.Reception) (joinserver.Downlink, error) {
		return byNonce[fmt.Sprint(r)].answer(r, copies)
	}}
	runEdge(t, url, handler)
	b := connectBridge(t, url)
	for _, join := range joins {
		for _, c := range join.copies {
			b.publish(t, c.Topic, c.payload(t))
		}
	}
	sent := b.awaitCommands(t, len(joins))
	for _, join := range joins {
		wantCommandLike(t, run, join, sent)
	}
	if prepared, answered := handler.calls(); prepared != len(joins) || len(answered) != len(joins) {
		t.Errorf("prepared %d, answered %d, want %d joins", prepared, len(answered), len(joins))
	}
}

// wantCommandLike looks for the answer to a join and compares it with the
// captured one. Only id and context are its own: that of the uplink.
func wantCommandLike(t *testing.T, run captureRun, join *capturedJoin, sent []published) {
	t.Helper()
	for _, m := range sent {
		got := commandSent(t, m)
		if !join.heardWith(t, got) {
			continue
		}
		want := join.command
		want.ID, want.Context = got.ID, got.Context
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: command %+v, want %+v", join.copies[0].Step, got, want)
		}
		prefix, _, _ := strings.Cut(join.copies[0].Topic, "gateway/")
		if topic := prefix + "gateway/" + want.Gateway.String() + "/command/down"; m.topic != topic {
			t.Errorf("%s: answered on %s, want %s", join.copies[0].Step, m.topic, topic)
		}
		if e := encodingOfCommand(m.payload); e != run.encoding() {
			t.Errorf("%s: answered in %s: %q", join.copies[0].Step, e, m.payload)
		}
		return
	}
	t.Errorf("%s: no command answers any copy of the join-request", join.copies[0].Step)
}
