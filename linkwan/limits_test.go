package linkwan

import (
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"joingate/joinserver"
)

func TestNonceIsUsedOnceButOnlyByASignedRequest(t *testing.T) {
	w := newWorld(t)
	values := w.signed("GET", "SignatureNonce=once")
	forged := url.Values{}
	for name := range values {
		forged.Set(name, values.Get(name))
	}
	forged.Set("Signature", "forged")
	if code := codeOf(t, w.do(get(forged))); code != "SignatureDoesNotMatch" {
		t.Fatal(code)
	}
	if got := w.do(get(values)); got.Code != http.StatusOK {
		t.Fatalf("a forger used the nonce up: %s", got.Body)
	}
	if code := codeOf(t, w.do(get(w.signed("GET", "SignatureNonce=once")))); code != "SignatureNonceUsed" {
		t.Error(code)
	}
	w.key("second", alice, "")
	if got := w.do(get(w.signed("GET", "SignatureNonce=once", "AccessKeyId=second"))); got.Code != http.StatusOK {
		t.Errorf("another key's nonce: %s", got.Body)
	}
	w.clock.move(joinserver.NonceLife)
	if got := w.do(get(w.signed("GET", "SignatureNonce=once"))); got.Code != http.StatusOK {
		t.Errorf("after its life: %s", got.Body)
	}
}

// The record refuses a write's nonce also when the memory has lost it.
func TestNonceOfAWriteOutlivesTheMemory(t *testing.T) {
	w := newWorld(t)
	write := []string{"Action=CreateNodeGroup", "NodeGroupName=meters", "SignatureNonce=once"}
	if got := w.do(get(w.signed("GET", write...))); got.Code != http.StatusOK {
		t.Fatal(got.Body)
	}
	w.server.Memory = NewLocalMemory(w.clock.now)
	if code := codeOf(t, w.do(get(w.signed("GET", append(write, "NodeGroupName=other")...)))); code != "SignatureNonceUsed" {
		t.Error(code)
	}
	if len(w.record.state.groups) != 1 {
		t.Error("the second write was made")
	}
}

func TestFiveCallsASecondPerAccountAndAction(t *testing.T) {
	w := newWorld(t)
	w.user("clerk", ReadOnlyPolicy)
	read := func(key, action string, more ...string) string {
		got := w.do(get(w.signed("GET", append([]string{"AccessKeyId=" + key, "Action=" + action}, more...)...)))
		if got.Code == http.StatusOK {
			return ""
		}
		return codeOf(t, got)
	}
	const action = "ListFreqBandPlanGroups"
	for i := range callsPerSecond {
		if code := read([]string{"alice", "clerk"}[i%2], action); code != "" {
			t.Fatalf("call %d: %s", i+1, code)
		}
		w.clock.move(100 * time.Millisecond)
	}
	for _, key := range []string{"alice", "clerk"} {
		if code := read(key, action); code != "Throttling.User" {
			t.Errorf("%s: %q", key, code)
		}
	}
	if code := read("bob", action); code != "" {
		t.Errorf("another account: %s", code)
	}
	if code := read("alice", "ListOwnedJoinPermissions", "Offset=0", "Limit=1"); code != "" {
		t.Errorf("another action: %s", code)
	}
	w.clock.move(499 * time.Millisecond) // 999 ms after the first
	if code := read("alice", action); code != "Throttling.User" {
		t.Errorf("just before the second is over: %q", code)
	}
	w.clock.move(time.Millisecond)
	if code := read("alice", action); code != "" {
		t.Errorf("a second after the first: %s", code)
	}
	if code := read("alice", action); code != "Throttling.User" { // the window slides, it does not start anew
		t.Errorf("the one after: %q", code)
	}
}

func TestThrottlingIsExactUnderConcurrency(t *testing.T) {
	w := newWorld(t)
	var answered atomic.Int64
	var all sync.WaitGroup
	for range 60 {
		r := get(w.signed("GET"))
		all.Go(func() {
			if w.do(r).Code == http.StatusOK {
				answered.Add(1)
			}
		})
	}
	all.Wait()
	if answered.Load() != callsPerSecond {
		t.Errorf("%d calls were answered, not %d", answered.Load(), callsPerSecond)
	}
}

func TestOneNameIsGivenOnce(t *testing.T) {
	w := newWorld(t)
	var made atomic.Int64
	var all sync.WaitGroup
	for range callsPerSecond {
		r := get(w.signed("GET", "Action=CreateNodeGroup", "NodeGroupName=meters"))
		all.Go(func() {
			if w.do(r).Code == http.StatusOK {
				made.Add(1)
			}
		})
	}
	all.Wait()
	if made.Load() != 1 || len(w.record.state.groups) != 1 {
		t.Errorf("%d calls were answered, %d groups made", made.Load(), len(w.record.state.groups))
	}
}

func TestManyBadSignaturesShutOnePairOut(t *testing.T) {
	w := newWorld(t)
	from := func(address string, changes ...string) string {
		values := w.signed("GET", changes...)
		if len(changes) == 0 {
			values.Set("Signature", "bad")
		}
		r := get(values)
		r.RemoteAddr = address + ":4242"
		got := w.do(r)
		if got.Code == http.StatusOK {
			return ""
		}
		return codeOf(t, got)
	}
	for i := range badSignatures {
		if code := from("192.0.2.1"); code != "SignatureDoesNotMatch" {
			t.Fatalf("guess %d: %s", i+1, code)
		}
		w.clock.move(time.Second)
	}
	if code := from("192.0.2.1", "AccessKeyId=alice"); code != "ForbiddenByRiskControl" {
		t.Errorf("with the right secret: %q", code)
	}
	if code := from("192.0.2.2", "AccessKeyId=alice"); code != "" {
		t.Errorf("from elsewhere: %s", code)
	}
	if code := from("192.0.2.1", "AccessKeyId=bob"); code != "" {
		t.Errorf("with another key: %s", code)
	}
	w.clock.move(riskWindow - 2*time.Second)
	if code := from("192.0.2.1", "AccessKeyId=alice"); code != "ForbiddenByRiskControl" {
		t.Errorf("before 10 minutes are over: %q", code)
	}
	w.clock.move(time.Second)
	if code := from("192.0.2.1", "AccessKeyId=alice"); code != "" {
		t.Errorf("after 10 minutes: %s", code)
	}
}

func TestUnknownRentersAreForgivenInTime(t *testing.T) {
	w := newWorld(t)
	id := w.permission("alice", "meters")
	submit := []string{"JoinPermissionId=" + id, "RenterAliyunId=77"}
	for range maxFailures {
		w.fails("RenterDoesNotExist", "alice", "SubmitJoinPermissionAuthOrder", submit...)
	}
	w.fails("TooManyRenterNonExistentFailures", "alice", "SubmitJoinPermissionAuthOrder", submit...)
	other := w.permission("bob", "meters")
	w.must("bob", "SubmitJoinPermissionAuthOrder", "JoinPermissionId="+other, "RenterAliyunId=1")
	w.clock.move(failureWindow)
	w.must("alice", "SubmitJoinPermissionAuthOrder", with(submit, "RenterAliyunId=2")...)
}
