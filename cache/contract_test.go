package cache_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"joingate/cache"
	"joingate/joinserver"
	"joingate/linkwan"
)

var (
	_ linkwan.Memory = cache.Quotas(nil)
	_ cache.Quotas   = (*linkwan.LocalMemory)(nil)
)

// backend is one way to share, as two instances have it.
type backend struct {
	policies func(*testing.T, joinserver.Policies) [2]cache.Policies
	quotas   func(*testing.T) [2]cache.Quotas
	copies   func(*testing.T) [2]cache.Copies
	ids      func(*testing.T) [2]cache.DownlinkIDs
	airtime  func(*testing.T, func() time.Time) [2]joinserver.Airtime
}

// TestContract holds every backend to the same promises.
func TestContract(t *testing.T) {
	for name, start := range map[string]func(*testing.T) backend{
		"memory":  func(*testing.T) backend { return inMemory() },
		"redis":   func(t *testing.T) backend { return inRedis(startServer(t).url()) },
		"cluster": func(t *testing.T) backend { return inRedis(clusterURL(startCluster(t))) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := start(t)
			t.Run("policies", func(t *testing.T) { policiesContract(t, b) })
			t.Run("quotas", func(t *testing.T) { quotasContract(t, b) })
			t.Run("copies", func(t *testing.T) { copiesContract(t, b) })
			t.Run("ids", func(t *testing.T) { idsContract(t, b) })
			t.Run("airtime", func(t *testing.T) { airtimeContract(t, b) })
		})
	}
}

func inMemory() backend {
	return backend{
		policies: func(_ *testing.T, r joinserver.Policies) [2]cache.Policies {
			m := cache.NewMemory(r, 100)
			return [2]cache.Policies{m, m}
		},
		quotas: func(*testing.T) [2]cache.Quotas {
			m := linkwan.NewLocalMemory(time.Now)
			return [2]cache.Quotas{m, m}
		},
		copies: func(*testing.T) [2]cache.Copies {
			m := cache.NewMemoryCopies(time.Now)
			return [2]cache.Copies{m, m}
		},
		ids: func(*testing.T) [2]cache.DownlinkIDs {
			m := cache.NewMemoryIDs(time.Now)
			return [2]cache.DownlinkIDs{m.DownlinkIDs(), m.DownlinkIDs()}
		},
		airtime: func(_ *testing.T, now func() time.Time) [2]joinserver.Airtime {
			a := cache.NewAirtime(now)
			return [2]joinserver.Airtime{a, a}
		},
	}
}

func inRedis(url string) backend {
	two := func(t *testing.T) (a, b *cache.Redis) { return openRedis(t, url), openRedis(t, url) }
	return backend{
		policies: func(t *testing.T, r joinserver.Policies) [2]cache.Policies {
			a, b := two(t)
			return [2]cache.Policies{a.Policies(r), b.Policies(r)}
		},
		quotas: func(t *testing.T) [2]cache.Quotas {
			a, b := two(t)
			return [2]cache.Quotas{a.Quotas(noQuotas{}), b.Quotas(noQuotas{})}
		},
		copies: func(t *testing.T) [2]cache.Copies {
			a, b := two(t)
			return [2]cache.Copies{a.Copies(), b.Copies()}
		},
		ids: func(t *testing.T) [2]cache.DownlinkIDs {
			a, b := two(t)
			return [2]cache.DownlinkIDs{a.DownlinkIDs(), b.DownlinkIDs()}
		},
		airtime: func(t *testing.T, now func() time.Time) [2]joinserver.Airtime {
			a, b := two(t)
			return [2]joinserver.Airtime{
				cache.WithClock(a.Airtime(cache.NewAirtime(now))), cache.WithClock(b.Airtime(cache.NewAirtime(now))),
			}
		},
	}
}

// noQuotas refuses: a test that should be answered by Redis fails with it.
type noQuotas struct{}

func (noQuotas) Take(context.Context, string, int, time.Duration) (bool, error) { return false, nil }
func (noQuotas) Full(context.Context, string, int, time.Duration) (bool, error) { return true, nil }
func (noQuotas) Release(context.Context, string) error                          { return nil }
func (noQuotas) Forget(context.Context, string) error                           { return nil }
func (noQuotas) Once(context.Context, string, time.Duration) (bool, error)      { return false, nil }

func policiesContract(t *testing.T, b backend) {
	for name, keeps := range map[string]func(*testing.T, *record, [2]cache.Policies){
		"remembers until told to forget":                                remembers,
		"gives back what the record said":                               givesBack,
		"fresh is the truth and mends the cache":                        freshMends,
		"a read from before a write does not bring the old policy back": readFromBeforeAWrite,
		"a slow read does not undo a mended entry":                      slowRead,
		"a fault of the record is nobody's policy":                      faultOfTheRecord,
		"some gateways known":                                           someGatewaysKnown,
		"hammered":                                                      func(t *testing.T, truth *record, two [2]cache.Policies) { hammer(t, truth, two, func(int) {}) },
	} {
		t.Run(name, func(t *testing.T) {
			truth := newRecord(1)
			keeps(t, truth, b.policies(t, truth))
		})
	}
	t.Run("unknown and removed", func(t *testing.T) { unknownContract(t, b) })
}

func remembers(t *testing.T, truth *record, two [2]cache.Policies) {
	expect(t, two[0], 1)
	truth.set(2)
	expect(t, two[1], 1) // a cache may lie
	if n := truth.timesAsked(); n != 2 {
		t.Errorf("the record was asked %d times, want 2", n)
	}
	two[1].Forget()
	expect(t, two[0], 2)
}

func givesBack(t *testing.T, truth *record, two [2]cache.Policies) {
	truth.set(5)
	read(t, two[0])
	got, err := two[1].Policy(t.Context(), device)
	if want := policyOf(device, 5); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v", got, err)
	}
}

func freshMends(t *testing.T, truth *record, two [2]cache.Policies) {
	expect(t, two[0], 1)
	truth.set(2)
	expect(t, two[0].Fresh(), 2)
	cache.Settle(two[0])
	expect(t, two[1], 2)
}

func readFromBeforeAWrite(t *testing.T, truth *record, two [2]cache.Policies) {
	truth.once(func() { truth.set(2); two[1].Forget() })
	if p, err := two[0].Policy(t.Context(), device); err != nil || p.Node.Version != 1 {
		t.Fatalf("the racing read itself: %v, %v", p.Node.Version, err)
	}
	cache.Settle(two[0])
	truth.once(func() { truth.set(3); two[1].Forget() })
	read(t, two[0])
	expect(t, two[0], 3)
	expect(t, two[1], 3)
}

func slowRead(t *testing.T, truth *record, two [2]cache.Policies) {
	for range 2 { // first the policy is slow, then the gateway
		truth.set(1)
		two[0].Forget()
		truth.once(func() { truth.set(2); expect(t, two[1].Fresh(), 2) }) // by a command of the operator: nobody forgets
		_, _ = two[0].Policy(t.Context(), device)
		truth.set(1)
		truth.once(func() { truth.set(2); expect(t, two[1].Fresh(), 2) })
		_, _ = two[0].Gateways(t.Context(), []joinserver.EUI64{gateway})
		cache.Settle(two[0])
		expect(t, two[0], 2)
	}
}

func faultOfTheRecord(t *testing.T, truth *record, two [2]cache.Policies) {
	truth.fail(errDown)
	_, err1 := two[0].Policy(t.Context(), device)
	_, err2 := two[0].Gateways(t.Context(), []joinserver.EUI64{gateway})
	if !errors.Is(err1, errDown) || !errors.Is(err2, errDown) {
		t.Errorf("%v, %v", err1, err2)
	}
	truth.fail(nil)
	expect(t, two[0], 1)
}

func someGatewaysKnown(t *testing.T, _ *record, two [2]cache.Policies) {
	read(t, two[0])
	strange := joinserver.EUI64{9}
	found, err := two[0].Gateways(t.Context(), []joinserver.EUI64{strange, gateway})
	if err != nil || len(found) != 1 || found[0].EUI != gateway {
		t.Errorf("%v, %v", found, err)
	}
	if none, err := two[0].Gateways(t.Context(), nil); err != nil || len(none) != 0 {
		t.Errorf("%v, %v", none, err)
	}
}

func unknownContract(t *testing.T, b backend) {
	truth := newRecord(0)
	two := b.policies(t, truth)
	unknown := func(from joinserver.Policies) {
		t.Helper()
		if _, err := from.Policy(t.Context(), device); !errors.Is(err, joinserver.ErrUnknownDevice) {
			t.Errorf("unknown device: %v", err)
		}
		found, err := from.Gateways(t.Context(), []joinserver.EUI64{gateway})
		if err != nil || len(found) != 0 {
			t.Errorf("unknown gateway: %v, %v", found, err)
		}
		cache.Settle(two[0])
	}
	unknown(two[0])
	truth.set(1)
	two[1].Forget()
	expect(t, two[0], 1)
	truth.set(0)
	unknown(two[0].Fresh())
	unknown(two[1])
	truth.set(2)
	expect(t, two[0].Fresh(), 2)
	cache.Settle(two[0])
	expect(t, two[1], 2)
}

// hammer reads through both instances while versions move. Once Forget has
// returned, nobody who begins to read sees an older version.
func hammer(t *testing.T, truth *record, two [2]cache.Policies, disturb func(round int)) {
	const writes, readers = 100, 4
	var floor, reads atomic.Int64
	floor.Store(1)
	done := make(chan struct{})
	var all sync.WaitGroup
	for i := range 2 * readers {
		all.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				least := floor.Load()
				if p, g := read(t, two[i%2]); p < least || g < least {
					t.Errorf("policy has version %d, gateway %d, after %d was in force", p, g, least)
					return
				}
				reads.Add(1)
			}
		})
	}
	for v := int64(2); v < writes; v++ {
		truth.set(v)
		two[v%2].Forget()
		floor.Store(v)
		disturb(int(v))
		for enough := reads.Load() + readers; reads.Load() < enough && !t.Failed(); {
			runtime.Gosched()
		}
	}
	close(done)
	all.Wait()
	expect(t, two[0], writes-1)
}

func quotasContract(t *testing.T, b backend) {
	for name, keeps := range map[string]func(*testing.T, [2]cache.Quotas){
		"exact under concurrency":             exactQuotas,
		"full counts nothing, keys are apart": fullQuotas,
		"once":                                onceQuotas,
		"what was counted can be taken back":  takenBack,
		"the window slides":                   slidingWindow,
	} {
		t.Run(name, func(t *testing.T) { keeps(t, b.quotas(t)) })
	}
}

func take(t *testing.T, q cache.Quotas, key string, n int, window time.Duration) bool {
	t.Helper()
	ok, err := q.Take(t.Context(), key, n, window)
	if err != nil {
		t.Error(err)
	}
	return ok
}

func exactQuotas(t *testing.T, two [2]cache.Quotas) {
	var taken atomic.Int64
	var all sync.WaitGroup
	for i := range 40 {
		all.Go(func() {
			for range 5 {
				if take(t, two[i%2], "k", 7, time.Hour) {
					taken.Add(1)
				}
			}
		})
	}
	all.Wait()
	if taken.Load() != 7 {
		t.Errorf("%d were taken, want 7", taken.Load())
	}
}

func fullQuotas(t *testing.T, two [2]cache.Quotas) {
	for range 3 {
		if full, err := two[0].Full(t.Context(), "full", 1, time.Hour); full || err != nil {
			t.Fatal(full, err)
		}
	}
	if !take(t, two[0], "full", 1, time.Hour) {
		t.Error("the first was refused")
	}
	if full, err := two[1].Full(t.Context(), "full", 1, time.Hour); !full || err != nil {
		t.Error(full, err)
	}
	long := string(bytes.Repeat([]byte("x"), 1000))
	if !take(t, two[0], "other", 1, time.Hour) || !take(t, two[0], long, 1, time.Hour) || take(t, two[1], long, 1, time.Hour) {
		t.Error("keys are mixed up")
	}
}

// onceQuotas also takes under the same key, which is another one.
func onceQuotas(t *testing.T, two [2]cache.Quotas) {
	first, err1 := two[0].Once(t.Context(), "nonce", time.Hour)
	again, err2 := two[1].Once(t.Context(), "nonce", time.Hour)
	if !first || again || err1 != nil || err2 != nil {
		t.Error(first, again, err1, err2)
	}
	if !take(t, two[0], "nonce", 1, time.Hour) {
		t.Error("a nonce that was seen counts as an event")
	}
}

func takenBack(t *testing.T, two [2]cache.Quotas) {
	for range 2 { // the newest goes, so there is room for one
		for i := range 4 {
			if taken := take(t, two[i%2], "back", 3, time.Hour); taken != (i < 3) {
				t.Fatalf("number %d was taken: %v", i, taken)
			}
		}
		if err := two[1].Release(t.Context(), "back"); err != nil || !take(t, two[0], "back", 3, time.Hour) || take(t, two[1], "back", 3, time.Hour) {
			t.Errorf("after the release of one there is not room for one: %v", err)
		}
		if err := two[1].Forget(t.Context(), "back"); err != nil {
			t.Error(err)
		}
	}
	if err1, err2 := two[0].Release(t.Context(), "never"), two[0].Forget(t.Context(), "never"); err1 != nil || err2 != nil {
		t.Error(err1, err2)
	}
	if !take(t, two[1], "never", 1, time.Hour) || take(t, two[0], "never", 1, time.Hour) {
		t.Error("the release of nothing counts")
	}
}

// slidingWindow looks at what was granted, and when: no n+1 events lie within one
// window, and once a window has passed there is room again.
func slidingWindow(t *testing.T, two [2]cache.Quotas) {
	const n, window = 3, 100 * time.Millisecond
	type grant struct{ asked, given time.Time }
	var grants []grant
	eventually(t, func() bool {
		asked := time.Now()
		ok, err := two[len(grants)%2].Take(t.Context(), "k", n, window)
		if err != nil {
			t.Fatal(err)
		}
		if ok {
			grants = append(grants, grant{asked, time.Now()})
		}
		return len(grants) == 4*n
	})
	for i := range grants[n:] {
		if d := grants[i+n].given.Sub(grants[i].asked); d < window {
			t.Errorf("%d events within %s", n+1, d)
		}
	}
}

func copiesContract(t *testing.T, b backend) {
	frame := func() []byte { return fmt.Appendf(nil, "frame %d", rand.Uint64()) }
	ctx := t.Context()
	t.Run("one owner", func(t *testing.T) {
		two, f := b.copies(t), frame()
		var owners atomic.Int64
		var all sync.WaitGroup
		for i := range 20 {
			all.Go(func() {
				mine, err := two[i%2].Claim(ctx, f)
				if err != nil {
					t.Error(err)
				}
				if mine {
					owners.Add(1)
				}
			})
		}
		all.Wait()
		if owners.Load() != 1 {
			t.Errorf("%d owners", owners.Load())
		}
		if mine, err := two[0].Claim(ctx, frame()); !mine || err != nil {
			t.Errorf("another frame: %v, %v", mine, err)
		}
	})
	t.Run("copies come in order, whole and bounded", func(t *testing.T) {
		two, f := b.copies(t), frame()
		if none, err := two[0].Collect(ctx, f); err != nil || len(none) != 0 {
			t.Errorf("before there were any: %q, %v", none, err)
		}
		var want [][]byte
		for i := range cache.MaxCopies + 10 {
			copy := append([]byte{byte(i), 0, 0xff, '\r', '\n'}, make([]byte, i)...)
			if err := two[1].Hand(ctx, f, copy); err != nil {
				t.Fatal(err)
			}
			want = append(want, copy)
		}
		got, err := two[0].Collect(ctx, f)
		if err != nil || !slices.EqualFunc(got, want[:cache.MaxCopies], bytes.Equal) {
			t.Errorf("%d copies, %v", len(got), err)
		}
		if err := two[0].Hand(ctx, f, make([]byte, cache.MaxCopySize+1)); err == nil {
			t.Error("a huge copy was taken")
		}
	})
}

// idsContract takes as many ids as there are. None comes twice.
func idsContract(t *testing.T, b backend) {
	two := b.ids(t)
	two[0].Next(t.Context()) // it says where to begin
	const goroutines, each = 85, 771
	var seen [1 << 16]atomic.Int64
	var all sync.WaitGroup
	for i := range goroutines {
		all.Go(func() {
			for range each {
				seen[two[i%2].Next(t.Context())].Add(1)
			}
		})
	}
	all.Wait()
	for id := range seen {
		if n := seen[id].Load(); n > 1 || id == 0 && n > 0 {
			t.Fatalf("id %d came %d times", id, n)
		}
	}
}
