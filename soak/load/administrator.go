package load

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"joingate/linkwan"
	"joingate/soak/history"
)

// Administrator changes one join permission through the admin API, and writes down
// what it was told.
type Administrator struct {
	Client     linkwan.Client
	Permission string // its id
	History    *history.Writer
	// Answered is told after each call; nil: nobody asks.
	Answered func(history.Outcome)

	step  atomic.Int64 // of the values, so that each update brings others
	calls atomic.Int64
}

// Values that a permission of band plan group 101 takes.
const (
	rxDelays  = 15 // 1 to 15 s
	dataRates = 6  // 0 to 5
)

// Update gives the permission values that it has not had for 89 updates.
func (a *Administrator) Update(ctx context.Context) history.Outcome {
	n := int(a.step.Add(1))
	rxDelay, dataRate := 1+n%rxDelays, n/rxDelays%dataRates
	return a.call(ctx, "UpdateOwnedLocalJoinPermission", map[string]string{
		"RxDelay": strconv.Itoa(rxDelay), "DataRate": strconv.Itoa(dataRate),
	}, map[string]int{history.RxDelay: rxDelay, history.DataRate: dataRate})
}

// Enable switches the permission on or off.
func (a *Administrator) Enable(ctx context.Context, enabled bool) history.Outcome {
	return a.call(ctx, "UpdateOwnedLocalJoinPermissionEnablingState", map[string]string{"Enabled": strconv.FormatBool(enabled)},
		map[string]int{history.Enabled: number(enabled)})
}

// Calls is how many calls there were.
func (a *Administrator) Calls() int { return int(a.calls.Load()) }

func (a *Administrator) call(ctx context.Context, action string, params map[string]string, set map[string]int) history.Outcome {
	params["JoinPermissionId"] = a.Permission
	c := &history.Call{Target: Permission(a.Permission), Set: set, Begin: time.Now()}
	_, err := a.Client.Call(ctx, action, params)
	c.End, c.Outcome = time.Now(), outcome(err)
	a.History.Write(history.Line{Call: c})
	a.calls.Add(1)
	if a.Answered != nil {
		a.Answered(c.Outcome)
	}
	return c.Outcome
}

// outcome is what an error of a call tells. After a fault of the server nobody knows
// whether its commit happened.
func outcome(err error) history.Outcome {
	var refusal *linkwan.APIError
	switch {
	case err == nil:
		return history.Done
	case errors.As(err, &refusal) && refusal.HTTPStatus < http.StatusInternalServerError:
		return history.Refused
	}
	return history.Unknown
}

// Made writes down the permission as it was made: enabled, with these values.
func (a *Administrator) Made(begin time.Time, rxDelay, dataRate int) {
	a.History.Write(history.Line{Call: &history.Call{
		Target: Permission(a.Permission), Begin: begin, End: time.Now(), Outcome: history.Done,
		Set: map[string]int{history.RxDelay: rxDelay, history.DataRate: dataRate, history.Enabled: 1},
	}})
}

// pace keeps below the quota of the API, which is 5 calls a second of each action.
const pace = 130 * time.Millisecond

// callPatience bounds a call: a server that stands still is found out.
const callPatience = 8 * time.Second

// Hammer changes the permission until ctx is done: some updates, then it is off for a
// moment, and so on. In the end it is on.
func (a *Administrator) Hammer(ctx context.Context) {
	next := time.NewTicker(pace)
	defer next.Stop()
	for turn := 0; ; turn++ {
		select {
		case <-ctx.Done():
			a.switchOn()
			return
		case <-next.C:
		}
		within, cancel := context.WithTimeout(ctx, callPatience)
		switch turn % 5 {
		case 2:
			a.Enable(within, false)
		case 3:
			a.Enable(within, true)
		default:
			a.Update(within)
		}
		cancel()
	}
}

// switchOn tries until the permission is on.
func (a *Administrator) switchOn() {
	for range 100 {
		ctx, cancel := context.WithTimeout(context.Background(), callPatience)
		done := a.Enable(ctx, true) == history.Done
		cancel()
		if done {
			return
		}
		time.Sleep(pace)
	}
}
