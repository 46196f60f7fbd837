package linkwan

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"joingate/joinserver"
)

func (w *world) owned(key, id string, more ...string) map[string]any {
	w.t.Helper()
	var p map[string]any
	decodeInto(w.t, w.must(key, "GetOwnedJoinPermission", append([]string{"JoinPermissionId=" + id}, more...)...), &p)
	return p
}

func (w *world) stored(id string) joinserver.Permission {
	n, _ := parseID(id)
	return w.record.state.permissions[n]
}

func want(t *testing.T, got map[string]any, fields map[string]any) {
	t.Helper()
	for name, value := range fields {
		if fmt.Sprint(got[name]) != fmt.Sprint(value) {
			t.Errorf("%s is %v, want %v", name, got[name], value)
		}
	}
}

func TestCreatedPermissionShowsAllItWasGiven(t *testing.T) {
	w := newWorld(t)
	id := w.permission("alice", "水表_7", "UseDefaultJoinEui=false", "JoinEui=D896E0FFFF00ABCD", "RxDelay=15", "DataRate=5", "ClassMode=C", "FreqBandPlanGroupId=102")
	want(t, w.owned("alice", id), map[string]any{
		"JoinPermissionId": id, "JoinPermissionName": "水表_7", "JoinEui": "d896e0ffff00abcd", "ClassMode": "C", "FreqBandPlanGroupId": 102,
		"RxDelay": 15, "DataRate": 5, "Enabled": true, "AuthState": "NEW", "RenterAliyunId": "", "NodesCnt": 0, "RxDailySum": 0,
		"CreateMillis": fmt.Sprint(float64(w.stored(id).CreateMillis)), "MulticastEnabled": false,
	})
	if p := w.stored(id); p.RxDelay != 15*time.Second || *p.DataRate != 5 || p.Type != joinserver.Local || p.Owner != alice {
		t.Errorf("stored %+v", p)
	}
}

func TestDefaultsOfCreate(t *testing.T) {
	w := newWorld(t)
	id := w.permission("alice", "meters", "FreqBandPlanGroupId=201", "JoinEui=0000000000000001") // read only without UseDefaultJoinEui
	want(t, w.owned("alice", id), map[string]any{"JoinEui": defaultJoinEUI.String(), "RxDelay": 1, "DataRate": 2})
	if w.stored(id).DataRate != nil {
		t.Error("a DataRate that was not given was stored")
	}
}

func TestWrongValuesAreNamed(t *testing.T) {
	create := []string{"JoinPermissionName=meters", "FreqBandPlanGroupId=101", "ClassMode=A", "UseDefaultJoinEui=false", "JoinEui=d896e0efff000000"}
	for _, c := range []struct{ change, code, name string }{
		{"JoinEui=", "MissingParameter", "JoinEui"},
		{"JoinEui=d896e0efff00000", "InvalidParameter", "JoinEui"},
		{"JoinEui=g896e0efff000000", "InvalidParameter", "JoinEui"},
		{"RxDelay=0", "InvalidParameter", "RxDelay"},
		{"RxDelay=16", "InvalidParameter", "RxDelay"},
		{"RxDelay=1.5", "InvalidParameter", "RxDelay"},
		{"RxDelay=undefined", "InvalidParameter", "RxDelay"},
		{"DataRate=6", "InvalidParameter", "DataRate"},
		{"DataRate=-1", "InvalidParameter", "DataRate"},
		{"DataRate=260", "InvalidParameter", "DataRate"},
		{"ClassMode=D", "InvalidParameter", "ClassMode"},
		{"ClassMode=a", "InvalidParameter", "ClassMode"},
		{"ClassMode=", "MissingParameter", "ClassMode"},
		{"FreqBandPlanGroupId=", "MissingParameter", "FreqBandPlanGroupId"},
		{"FreqBandPlanGroupId=99999999999999999999", "InvalidParameter", "FreqBandPlanGroupId"},
		{"FreqBandPlanGroupId=+101", "InvalidParameter", "FreqBandPlanGroupId"},
		{"FreqBandPlanGroupId=0x65", "InvalidParameter", "FreqBandPlanGroupId"},
		{"UseDefaultJoinEui=yes", "InvalidParameter", "UseDefaultJoinEui"},
		{"UseDefaultJoinEui=undefined", "InvalidParameter", "UseDefaultJoinEui"},
		{"JoinPermissionName=undefined", "InvalidParameter", "JoinPermissionName"},
		{"JoinPermissionName=", "MissingParameter", "JoinPermissionName"},
		{"IotInstanceId=other", "InvalidParameter", "IotInstanceId"},
		{"RxDealy=2", "InvalidParameter", "RxDealy"},
		{"JoinPermissionId=1", "InvalidParameter", "JoinPermissionId"},
	} {
		t.Run(c.change, func(t *testing.T) {
			w := newWorld(t)
			refusal := w.fails(c.code, "alice", "CreateLocalJoinPermission", with(create, c.change)...)
			if !strings.Contains(refusal.Message, c.name) {
				t.Errorf("message %q does not name %s", refusal.Message, c.name)
			}
		})
	}
}

func TestNames(t *testing.T) {
	for name, good := range map[string]bool{
		"abcd": true, "abc": false, "凭证": true, "凭": false, "凭证1": true, "_a_1": true, "ABCdef_123": true,
		strings.Repeat("a", 30): true, strings.Repeat("a", 31): false, strings.Repeat("证", 15): true, strings.Repeat("证", 15) + "a": false,
		"meter-1": false, "a b c d": false, "abcé": false, "абвг": false, "abcd\n": false, "abc²": false, "ａｂｃｄ": false, "": false,
	} {
		if err := checkName(name); (err == nil) != good {
			t.Errorf("name %q: %v", name, err)
		}
	}
}

func TestUpdateChangesOnlyWhatIsGiven(t *testing.T) {
	for _, c := range []struct {
		change string
		field  string
		value  any
	}{
		{"JoinPermissionName=other", "JoinPermissionName", "other"},
		{"ClassMode=B", "ClassMode", "B"},
		{"RxDelay=7", "RxDelay", 7},
		{"DataRate=0", "DataRate", 0},
		{"JoinEui=0102030405060708", "JoinEui", "0102030405060708"},
		{"FreqBandPlanGroupId=102", "FreqBandPlanGroupId", 102},
	} {
		t.Run(c.change, func(t *testing.T) {
			w := newWorld(t)
			id := w.permission("alice", "meters", "RxDelay=3", "DataRate=4")
			before := w.owned("alice", id)
			w.must("alice", "UpdateOwnedLocalJoinPermission", "JoinPermissionId="+id, c.change)
			before[c.field] = c.value
			want(t, w.owned("alice", id), before)
		})
	}
}

func TestUpdateMovesTheVersion(t *testing.T) {
	w := newWorld(t)
	id := w.permission("alice", "meters")
	before := w.stored(id).Version
	w.must("alice", "UpdateOwnedLocalJoinPermission", "JoinPermissionId="+id, "RxDelay=2")
	if after := w.stored(id).Version; after <= before {
		t.Errorf("version %d after %d", after, before)
	}
}

func TestWrongUpdates(t *testing.T) {
	w := newWorld(t)
	id := w.permission("alice", "meters", "DataRate=5")
	for _, c := range []struct{ change, code, name string }{
		{"RxDelay=0", "InvalidParameter", "RxDelay"},
		{"RxDelay=16", "InvalidParameter", "RxDelay"},
		{"RxDelay= 2", "InvalidParameter", "RxDelay"},
		{"RxDelay=two", "InvalidParameter", "RxDelay"},
		{"DataRate=6", "InvalidParameter", "DataRate"},
		{"DataRate=five", "InvalidParameter", "DataRate"},
		{"JoinEui=01", "InvalidParameter", "JoinEui"},
		{"ClassMode=D2D", "InvalidParameter", "ClassMode"},
		{"FreqBandPlanGroupId=1001", "InvalidParameter", "DataRate"}, // has no data rate 5
	} {
		refusal := w.fails(c.code, "alice", "UpdateOwnedLocalJoinPermission", "JoinPermissionId="+id, c.change)
		if !strings.Contains(refusal.Message, c.name) {
			t.Errorf("%s: message %q", c.change, refusal.Message)
		}
	}
}

func TestDataRateNeverSetFollowsTheGroup(t *testing.T) {
	w := newWorld(t)
	id := w.permission("alice", "meters")
	w.must("alice", "UpdateOwnedLocalJoinPermission", "JoinPermissionId="+id, "FreqBandPlanGroupId=1001")
	want(t, w.owned("alice", id), map[string]any{"DataRate": 8, "FreqBandPlanGroupId": 1001})
	w.must("alice", "UpdateOwnedLocalJoinPermission", "JoinPermissionId="+id, "FreqBandPlanGroupId=201", "DataRate=4")
	want(t, w.owned("alice", id), map[string]any{"DataRate": 4})
}

// A grant to oneself does not tie one's hands, one to another does.
func TestGrantTiesTheOwnersHands(t *testing.T) {
	for _, c := range []struct {
		renter string
		tied   bool
	}{{"1", false}, {"2", true}} {
		w := newWorld(t)
		id := w.permission("alice", "meters")
		w.must("alice", "SubmitJoinPermissionAuthOrder", "JoinPermissionId="+id, "RenterAliyunId="+c.renter)
		change := []string{"JoinPermissionId=" + id, "RxDelay=2"}
		if !c.tied {
			w.must("alice", "UpdateOwnedLocalJoinPermission", change...)
			w.must("alice", "DeleteLocalJoinPermission", "JoinPermissionId="+id)
			continue
		}
		w.fails("JoinPermissionAlreadyAuthorized", "alice", "UpdateOwnedLocalJoinPermission", change...)
		w.fails("JoinPermissionAlreadyAuthorized", "alice", "DeleteLocalJoinPermission", "JoinPermissionId="+id)
		w.must("alice", "UpdateOwnedLocalJoinPermissionEnablingState", "JoinPermissionId="+id, "Enabled=false") // at any time
		want(t, w.owned("alice", id), map[string]any{"Enabled": false, "AuthState": "APPLYING", "RenterAliyunId": "2"})
	}
}

func TestBoundPermissionIsUpdatedButNotDeleted(t *testing.T) {
	w := newWorld(t)
	id := w.permission("alice", "meters")
	w.group("alice", "cellar", "JoinPermissionId="+id)
	w.fails("JoinPermissionAlreadyAuthorized", "alice", "DeleteLocalJoinPermission", "JoinPermissionId="+id)
	w.fails("JoinPermissionAlreadyAuthorized", "alice", "SubmitJoinPermissionAuthOrder", "JoinPermissionId="+id, "RenterAliyunId=2")
	w.must("alice", "UpdateOwnedLocalJoinPermission", "JoinPermissionId="+id, "RxDelay=4")
}

func TestDeletedPermissionIsGone(t *testing.T) {
	w := newWorld(t)
	id := w.permission("alice", "meters")
	w.must("alice", "DeleteLocalJoinPermission", "JoinPermissionId="+id)
	w.fails("NonExistent", "alice", "GetOwnedJoinPermission", "JoinPermissionId="+id)
	w.fails("NonExistent", "alice", "DeleteLocalJoinPermission", "JoinPermissionId="+id)
	w.permission("alice", "meters") // the name is free again
}

func TestNamesAreUniquePerAccount(t *testing.T) {
	w := newWorld(t)
	w.permission("alice", "meters")
	w.permission("bob", "meters")
	w.permission("alice", "Meters") // the comparison is exact
	w.group("alice", "meters")
	w.group("bob", "meters")
}

func TestIDsThatNameNothing(t *testing.T) {
	w := newWorld(t)
	id := w.permission("alice", "meters")
	for _, wrong := range []string{"0" + id, id + "0", "+" + id, "-1", "0", " " + id, "99999999999999999999", "９"} {
		w.fails("NonExistent", "alice", "GetOwnedJoinPermission", "JoinPermissionId="+wrong)
	}
}

type page struct {
	TotalCount int
	List       []map[string]any
}

func (w *world) page(key, action string, pairs ...string) page {
	w.t.Helper()
	var p page
	data := w.must(key, action, with([]string{"Offset=0", "Limit=200"}, pairs...)...)
	decodeInto(w.t, data, &p)
	if strings.Contains(string(data), "null") {
		w.t.Errorf("%s: null in %s", action, data)
	}
	return p
}

func (p page) names(field string) string {
	var names []string
	for _, row := range p.List {
		names = append(names, fmt.Sprint(row[field]))
	}
	return strings.Join(names, " ")
}

func TestListOwned(t *testing.T) {
	w := newWorld(t)
	w.permission("alice", "zebra", "UseDefaultJoinEui=false", "JoinEui=00000000000000ab")
	w.permission("alice", "Apple_1")
	last := w.permission("alice", "apple_2")
	w.permission("bob", "apple_3")
	w.must("alice", "UpdateOwnedLocalJoinPermissionEnablingState", "JoinPermissionId="+last, "Enabled=false")
	w.must("alice", "SubmitJoinPermissionAuthOrder", "JoinPermissionId="+last, "RenterAliyunId=2")
	for _, c := range []struct {
		filter string
		names  string
		total  int
	}{
		{"", "zebra Apple_1 apple_2", 3},
		{"Offset=1 Limit=1", "Apple_1", 3},
		{"Offset=3", "", 3},
		{"Offset=9223372036854775807", "", 3},
		{"Limit=0", "", 3},
		{"SortingField=CREATED_MILLIS Ascending=false", "apple_2 Apple_1 zebra", 3},
		{"SortingField=CREATED_MILLIS Ascending=true", "zebra Apple_1 apple_2", 3},
		{"SortingField=CREATED_MILLIS", "zebra Apple_1 apple_2", 3},
		{"Ascending=false", "zebra Apple_1 apple_2", 3},
		{"FuzzyJoinPermissionName=APPLE", "Apple_1 apple_2", 2},
		{"FuzzyJoinPermissionName=pple_", "Apple_1 apple_2", 2},
		{"FuzzyJoinPermissionName=%", "", 0},
		{"FuzzyJoinEui=D896", "Apple_1 apple_2", 2},
		{"FuzzyJoinEui=00AB", "zebra", 1},
		{"Enabled=false", "apple_2", 1},
		{"Enabled=TRUE", "zebra Apple_1", 2},
		{"FuzzyRenterAliyunId=2", "apple_2", 1},
		{"FuzzyRenterAliyunId=0", "", 0},
	} {
		t.Run(c.filter, func(t *testing.T) {
			w.t = t
			p := w.page("alice", "ListOwnedJoinPermissions", strings.Fields(c.filter)...)
			if got := p.names("JoinPermissionName"); got != c.names || p.TotalCount != c.total {
				t.Errorf("got %q of %d, want %q of %d", got, p.TotalCount, c.names, c.total)
			}
		})
	}
}

func TestPagesOutOfRange(t *testing.T) {
	w := newWorld(t)
	for _, wrong := range []string{"Offset=-1", "Limit=201", "Limit=-1", "SortingField=NAME", "Ascending=down", "Enabled=2"} {
		w.fails("InvalidParameter", "alice", "ListOwnedJoinPermissions", with([]string{"Offset=0", "Limit=1"}, wrong)...)
	}
	w.fails("MissingParameter", "alice", "ListOwnedJoinPermissions", "Offset=0")
}

func TestListRented(t *testing.T) {
	w := newWorld(t)
	mine, free := w.permission("alice", "mine", "RxDelay=3", "DataRate=4"), w.permission("alice", "free")
	w.must("alice", "SubmitJoinPermissionAuthOrder", "JoinPermissionId="+free, "RenterAliyunId=1")
	w.group("alice", "cellar", "JoinPermissionId="+mine)
	w.permission("alice", "never_granted")
	w.permission("bob", "of_bob")

	all := w.page("alice", "ListRentedJoinPermissions")
	if all.names("JoinPermissionName") != "mine free" {
		t.Fatalf("got %v", all)
	}
	want(t, all.List[0], map[string]any{
		"FreqBandPlanGroupId": "101", "RxDelay": "3", "DataRate": "4", "OwnerAliyunId": "1", "Type": "LOCAL", "Enabled": true,
		"BoundNodeGroup": true, "BoundNodeGroupName": "cellar",
	})
	want(t, all.List[1], map[string]any{"BoundNodeGroup": false, "BoundNodeGroupId": "", "BoundNodeGroupName": ""})
	for filter, names := range map[string]string{
		"BoundNodeGroup=true": "mine", "BoundNodeGroup=false": "free", "Type=ROAMING": "", "Type=LOCAL": "mine free",
		"FuzzyOwnerAliyunId=1": "mine free", "FuzzyOwnerAliyunId=2": "", "FuzzyJoinPermissionName=EE": "free",
		"SortingField=CREATED_MILLIS Ascending=false": "free mine",
	} {
		if got := w.page("alice", "ListRentedJoinPermissions", strings.Fields(filter)...).names("JoinPermissionName"); got != names {
			t.Errorf("%s: got %q, want %q", filter, got, names)
		}
	}
	w.fails("InvalidParameter", "alice", "ListRentedJoinPermissions", "Offset=0", "Limit=1", "Type=local")
}

func TestSubmitOffersToAnotherAndGrantsToOneself(t *testing.T) {
	for _, c := range []struct {
		renter string
		state  joinserver.OrderState
		auth   string
	}{{"1", joinserver.OrderAccepted, "ACCEPTED"}, {"2", joinserver.OrderApplying, "APPLYING"}} {
		w := newWorld(t)
		id := w.permission("alice", "meters")
		var order int64
		decodeInto(t, w.must("alice", "SubmitJoinPermissionAuthOrder", "JoinPermissionId="+id, "RenterAliyunId="+c.renter), &order)
		want(t, w.owned("alice", id), map[string]any{"AuthState": c.auth, "RenterAliyunId": c.renter})
		o := w.record.state.orders[order]
		if o.State != c.state || o.ApplyingMillis == 0 || (o.AcceptedMillis != 0) != (c.state == joinserver.OrderAccepted) {
			t.Errorf("order %+v", o)
		}
	}
}

func TestGrantToOneselfCanBeOfferedOn(t *testing.T) {
	w := newWorld(t)
	id := w.permission("alice", "meters")
	for range 2 {
		w.must("alice", "SubmitJoinPermissionAuthOrder", "JoinPermissionId="+id, "RenterAliyunId=1")
	}
	w.must("alice", "SubmitJoinPermissionAuthOrder", "JoinPermissionId="+id, "RenterAliyunId=2")
	want(t, w.owned("alice", id), map[string]any{"AuthState": "APPLYING", "RenterAliyunId": "2"})
}

func TestBindingGrantsOnesOwn(t *testing.T) {
	w := newWorld(t)
	id, group := w.permission("alice", "meters"), w.group("alice", "cellar")
	w.must("alice", "BindJoinPermissionToNodeGroup", "JoinPermissionId="+id, "NodeGroupId="+group)
	want(t, w.owned("alice", id), map[string]any{"AuthState": "ACCEPTED", "RenterAliyunId": "1"})
	g, _ := parseID(group)
	if w.record.state.groups[g].PermissionID != w.stored(id).ID {
		t.Error("not bound")
	}
}

func TestWhatIsNotHeldCannotBeBound(t *testing.T) {
	w := newWorld(t)
	offered := w.permission("alice", "offered")
	w.must("alice", "SubmitJoinPermissionAuthOrder", "JoinPermissionId="+offered, "RenterAliyunId=2")
	for _, key := range []string{"alice", "bob"} {
		w.fails("NotResourceOwner", key, "BindJoinPermissionToNodeGroup", "JoinPermissionId="+offered, "NodeGroupId="+w.group(key, "cellar"))
		w.fails("NotResourceOwner", key, "CreateNodeGroup", "NodeGroupName=attic", "JoinPermissionId="+offered)
	}
}

func TestInstances(t *testing.T) {
	w := newWorld(t)
	instance := "IotInstanceId=" + corpInstance
	id := w.permission("corp", "meters", instance)
	get := []string{"JoinPermissionId=" + id}
	if refusal := w.fails("MissingParameter", "corp", "GetOwnedJoinPermission", get...); !strings.Contains(refusal.Message, "IotInstanceId") {
		t.Error(refusal)
	}
	w.fails("InvalidParameter", "corp", "GetOwnedJoinPermission", with(get, "IotInstanceId=another")...)
	w.fails("InvalidParameter", "alice", "ListOwnedJoinPermissions", "Offset=0", "Limit=1", instance)
	w.owned("corp", id, instance)
	w.must("corp", "SubmitJoinPermissionAuthOrder", with(get, "RenterAliyunId=3")...) // has no such parameter
	w.must("corp", "SubmitJoinPermissionAuthOrder", with(get, "RenterAliyunId=3", instance)...)
	group := w.group("corp", "cellar", "JoinPermissionId="+id)

	// In another instance they are not seen.
	w.account(corp, func(a *joinserver.Account) { a.InstanceID = "moved" })
	moved := "IotInstanceId=moved"
	w.fails("NonExistent", "corp", "GetOwnedJoinPermission", with(get, moved)...)
	w.fails("JoinPermissionDoesNotExist", "corp", "CreateNodeGroup", with(get, "NodeGroupName=attic")...)
	w.fails("NodeGroupDoesNotExist", "corp", "BindJoinPermissionToNodeGroup", "NodeGroupId="+group,
		"JoinPermissionId="+w.permission("corp", "other", moved))
	if p := w.page("corp", "ListOwnedJoinPermissions", moved); p.names("JoinPermissionName") != "other" {
		t.Errorf("got %v", p)
	}
}

func TestListFreqBandPlanGroups(t *testing.T) {
	w := newWorld(t)
	var groups []map[string]any
	decodeInto(t, w.must("alice", "ListFreqBandPlanGroups"), &groups)
	text, _ := json.Marshal(groups[:3])
	const want = `[{"BeginFrequency":470,"EndFrequency":510,"FrequencyRegionId":"CN","FrequencyType":"SAME_FREQUENCY","GroupId":101},` +
		`{"BeginFrequency":470,"EndFrequency":510,"FrequencyRegionId":"CN","FrequencyType":"DIFF_FREQUENCY","GroupId":102},` +
		`{"BeginFrequency":923,"EndFrequency":925,"FrequencyRegionId":"CN","FrequencyType":"SAME_FREQUENCY","GroupId":201}]`
	if string(text) != want {
		t.Errorf("got  %s\nwant %s", text, want)
	}
}

func TestEveryWriteIsAuditedAndTold(t *testing.T) {
	w := newWorld(t)
	w.user("clerk", `{"Version":"1","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}`)
	id := w.permission("clerk", "meters")
	answer, err := w.call("clerk", "UpdateOwnedLocalJoinPermission", args("JoinPermissionId="+id, "RxDelay=2"))
	if err != nil {
		t.Fatal(err)
	}
	line := w.record.audit[len(w.record.audit)-1]
	if line.Account != alice || line.User != "clerk" || line.AccessKeyID != "clerk" || line.From != "127.0.0.1" ||
		line.Action != "UpdateOwnedLocalJoinPermission" || !strings.Contains(string(answer), line.RequestID) || line.Nonce == "" {
		t.Errorf("audit line %+v", line.Write)
	}
	if len(line.changes) != 1 || line.changes[0].ID != id || !strings.Contains(line.changes[0].Old, `"RxDelay":1000000000`) ||
		!strings.Contains(line.changes[0].New, `"RxDelay":2000000000`) {
		t.Errorf("changes %+v", line.changes)
	}
	if last := w.forgot[len(w.forgot)-1]; len(last) != 1 || last[0].Entity != entityPermission || last[0].ID != id {
		t.Errorf("told %+v", last)
	}
	told := len(w.forgot)
	w.owned("alice", id)
	w.fails("NonExistent", "alice", "DeleteLocalJoinPermission", "JoinPermissionId=99")
	if len(w.forgot) != told {
		t.Error("a read or a refused write told of a change")
	}
}
