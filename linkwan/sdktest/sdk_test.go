package sdktest

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"

	sdkerrors "github.com/aliyun/alibaba-cloud-sdk-go/sdk/errors"
	"github.com/aliyun/alibaba-cloud-sdk-go/sdk/requests"
	"github.com/aliyun/alibaba-cloud-sdk-go/services/linkwan"
)

// step is one call of the story. "$name" in a parameter is what an earlier step
// saved under that name; save keeps this step's Data.
type step struct {
	by     string
	action string
	params string
	save   string
	code   string // of the error that is expected; empty: success
}

// story calls every action at least once, and some in vain.
var story = []step{
	{by: "alice", action: "CheckCloudProductOpenStatus", params: "ServiceCode=linkwan"},
	{by: "alice", action: "CheckUserChargeStatus"},
	{by: "alice", action: "ListActivatedFeatures"},
	{by: "alice", action: "ListFreqBandPlanGroups"},
	{by: "alice", action: "GetFreqBandPlanGroup", params: "GroupId=101"},
	{by: "alice", action: "CreateLocalJoinPermission", params: "JoinPermissionName=水表_1 FreqBandPlanGroupId=101 ClassMode=A UseDefaultJoinEui=true RxDelay=2 DataRate=3", save: "own"},
	{by: "alice", action: "CreateLocalJoinPermission", params: "JoinPermissionName=凭证-1 FreqBandPlanGroupId=101 ClassMode=A UseDefaultJoinEui=true", code: "InvalidName"},
	{by: "alice", action: "CreateCustomLocalJoinPermission", params: "JoinPermissionName=custom FreqBandPlanGroupId=102 ClassMode=C JoinEui=0102030405060708", save: "custom"},
	{by: "alice", action: "UpdateOwnedLocalJoinPermission", params: "JoinPermissionId=$own RxDelay=5 DataRate=4"},
	{by: "alice", action: "UpdateOwnedLocalJoinPermissionEnablingState", params: "JoinPermissionId=$own Enabled=true"},
	{by: "alice", action: "GetOwnedJoinPermission", params: "JoinPermissionId=$own"},
	{by: "bob", action: "GetOwnedJoinPermission", params: "JoinPermissionId=$own", code: "NotResourceOwner"},
	{by: "alice", action: "ListOwnedJoinPermissions", params: "Offset=0 Limit=10 SortingField=CREATED_MILLIS Ascending=false"},
	{by: "alice", action: "CountOwnedJoinPermissions"},
	{by: "alice", action: "SubmitJoinPermissionAuthOrder", params: "JoinPermissionId=$custom RenterAliyunId=$bob", save: "order"},
	{by: "bob", action: "GetJoinPermissionAuthOrder", params: "OrderId=$order"},
	{by: "alice", action: "CancelJoinPermissionAuthOrder", params: "OrderId=$order"},
	{by: "bob", action: "AcceptJoinPermissionAuthOrder", params: "OrderId=$order", code: "IllegalOrderStateTransition"},
	{by: "alice", action: "SubmitJoinPermissionAuthOrder", params: "JoinPermissionId=$custom RenterAliyunId=$bob", save: "order"},
	{by: "bob", action: "RejectJoinPermissionAuthOrder", params: "OrderId=$order"},
	{by: "alice", action: "SubmitJoinPermissionAuthOrder", params: "JoinPermissionId=$custom RenterAliyunId=$bob", save: "order"},
	{by: "bob", action: "AcceptJoinPermissionAuthOrder", params: "OrderId=$order"},
	{by: "alice", action: "UpdateOwnedLocalJoinPermission", params: "JoinPermissionId=$custom RxDelay=5", code: "JoinPermissionAlreadyAuthorized"},
	{by: "bob", action: "GetRentedJoinPermission", params: "JoinPermissionId=$custom"},
	{by: "bob", action: "ListRentedJoinPermissions", params: "Offset=0 Limit=10"},
	{by: "bob", action: "CountRentedJoinPermissions"},
	{by: "bob", action: "ReturnJoinPermission", params: "JoinPermissionId=$custom JoinPermissionType=LOCAL"},
	{by: "alice", action: "DeleteLocalJoinPermission", params: "JoinPermissionId=$custom"},
	{by: "alice", action: "ApplyRoamingJoinPermission", params: "JoinPermissionName=roaming FreqBandPlanGroupId=101 ClassMode=D2D", save: "roaming"},
	{by: "alice", action: "UpdateRoamingJoinPermission", params: "JoinPermissionId=$roaming RxDelay=2 DataRate=1"},
	{by: "alice", action: "UpdateRoamingJoinPermissionEnablingState", params: "JoinPermissionId=$roaming Enabled=false"},
	{by: "alice", action: "CreateNodeGroup", params: "NodeGroupName=cellar", save: "group"},
	{by: "alice", action: "BindJoinPermissionToNodeGroup", params: "NodeGroupId=$group JoinPermissionId=$own"},
	{by: "alice", action: "UpdateDataDispatchConfig", params: "NodeGroupId=$group DataDispatchDestination=IOT ProductName=产品 ProductKey=a1 ProductType=IOT_SUITE DebugSwitch=true"},
	{by: "alice", action: "UpdateDataDispatchEnablingState", params: "NodeGroupId=$group DataDispatchEnabled=true"},
	{by: "alice", action: "UpdateNodeGroup", params: "NodeGroupId=$group NodeGroupName=attic"},
	{by: "alice", action: "AddNodeToGroup", params: "NodeGroupId=$group DevEui=" + devEUI + " PinCode=" + pin},
	{by: "alice", action: "GetNode", params: "DevEui=" + devEUI},
	{by: "alice", action: "ListNodesByNodeGroupId", params: "NodeGroupId=$group Offset=0 Limit=10 SortingField=LAST_JOIN_MILLIS"},
	{by: "alice", action: "CountNodesByNodeGroupId", params: "NodeGroupId=$group"},
	{by: "alice", action: "ListNodesByOwnedJoinPermissionId", params: "JoinPermissionId=$own Offset=0 Limit=10"},
	{by: "alice", action: "CountNodesByOwnedJoinPermissionId", params: "JoinPermissionId=$own"},
	{by: "alice", action: "UpdateNodeEnablingState", params: "DevEui=" + devEUI + " IsEnable=false"},
	{by: "alice", action: "GetNodeGroup", params: "NodeGroupId=$group"},
	{by: "alice", action: "ListNodeGroups", params: "Offset=0 Limit=10"},
	{by: "alice", action: "CountNodeGroups"},
	{by: "alice", action: "RemoveNodeFromGroup", params: "NodeGroupId=$group DevEui=" + devEUI},
	{by: "alice", action: "UnbindJoinPermissionFromNodeGroup", params: "NodeGroupId=$group JoinPermissionId=$own"},
	{by: "alice", action: "DeleteNodeGroup", params: "NodeGroupId=$group"},
	{by: "alice", action: "CreateGateway", params: "GwEui=" + gwEUI + " PinCode=" + pin + " Name=roof FreqBandPlanGroupId=101 CommunicationMode=HALF_DUPLEX " +
		"City=杭州 District=滨江区 Address=1 GisCoordinateSystem=WGS_84 Longitude=120.125 Latitude=30.25 AddressCode=330108"},
	{by: "alice", action: "UpdateGateway", params: "GwEui=" + gwEUI + " Name=chimney"},
	{by: "alice", action: "UpdateGatewayEnablingState", params: "GwEui=" + gwEUI + " Enabled=false"},
	{by: "alice", action: "GetGateway", params: "GwEui=" + gwEUI},
	{by: "alice", action: "ListGateways", params: "Offset=0 Limit=10"},
	{by: "alice", action: "CountGateways"},
	{by: "alice", action: "ListGatewaysGisInfo"},
	{by: "alice", action: "ListActiveGateways"},
	{by: "alice", action: "GetGatewayStatusStat", params: "GwEui=" + gwEUI},
	{by: "alice", action: "ListGatewayOnlineRecords", params: "GwEui=" + gwEUI + " OffSet=0 Limit=10"},
	{by: "alice", action: "DeleteGateway", params: "GwEui=" + gwEUI},
	{by: "alice", action: "CountNotifications"},
	{by: "bob", action: "ListNotifications", params: "Offset=0 Limit=10 Category=JOIN_PERMISSION_AUTH_APPLYING HandleState=UNHANDLED", save: "notices"},
	{by: "bob", action: "GetNotification", params: "NotificationId=$notice"},
	{by: "bob", action: "UpdateNotificationsHandleState", params: "NotificationId=$notice TargetHandleState=HANDLED"},
	{by: "alice", action: "GetUserLicense"},
	{by: "alice", action: "SendUnicastCommand", params: "DevEui=" + devEUI + " FPort=1 Content=AA", code: "InvalidAction.NotFound"},
}

const (
	devEUI = "d896e0ffff010001"
	gwEUI  = "0102030405060708"
	pin    = "123456"
)

func TestStory(t *testing.T) {
	p := start(t)
	clients := map[string]*linkwan.Client{}
	saved := map[string]string{}
	for _, name := range []string{"alice", "bob"} {
		account := p.account(t, name)
		client, err := linkwan.NewClientWithAccessKey("cn-shanghai", account.AccessKeyID, account.AccessKeySecret)
		if err != nil {
			t.Fatal(err)
		}
		clients[name], saved[name] = client, account.AccountID
	}
	p.importNode(t)
	shapes := responseShapes(t)
	for _, s := range story {
		t.Run(s.action, func(t *testing.T) {
			if missing := s.unsaved(saved); missing != "" {
				t.Fatalf("$%s was not saved: its step has failed", missing)
			}
			answer, code := call(t, clients[s.by], p.api, s.action, expand(s.params, saved))
			if code != s.code {
				t.Fatalf("code %q, want %q", code, s.code)
			}
			if code == "" {
				checkShape(t, shapes[s.action], answer)
				keep(t, saved, s.save, answer)
			}
		})
	}
}

// unsaved names a variable of the step that no step before it has saved.
func (s step) unsaved(saved map[string]string) string {
	for pair := range strings.FieldsSeq(s.params) {
		_, value, _ := strings.Cut(pair, "=")
		if variable, ok := strings.CutPrefix(value, "$"); ok && saved[variable] == "" {
			return variable
		}
	}
	return ""
}

func expand(params string, saved map[string]string) map[string]string {
	all := map[string]string{}
	for pair := range strings.FieldsSeq(params) {
		name, value, _ := strings.Cut(pair, "=")
		if variable, ok := strings.CutPrefix(value, "$"); ok {
			value = saved[variable]
		}
		all[name] = value
	}
	return all
}

// keep saves the Data of an answer, and of a list of notifications the first id.
func keep(t *testing.T, saved map[string]string, name, answer string) {
	var body struct{ Data any }
	decoder := json.NewDecoder(strings.NewReader(answer))
	decoder.UseNumber()
	if err := decoder.Decode(&body); err != nil {
		t.Fatal(err)
	}
	if saved[name] = fmt.Sprint(body.Data); name == "notices" {
		list := body.Data.(map[string]any)["List"].([]any)
		if len(list) == 0 {
			t.Fatal("no notification")
		}
		saved["notice"] = list[0].(map[string]any)["NotificationId"].(string)
	}
}

// call makes a typed request of the SDK and calls the client's method for it, so
// that the SDK's own decoding of the answer is part of the test.
func call(t *testing.T, client *linkwan.Client, api, action string, params map[string]string) (answer, code string) {
	t.Helper()
	method := reflect.ValueOf(client).MethodByName(action)
	if !method.IsValid() {
		t.Fatalf("the SDK has no %s", action)
	}
	request := reflect.New(method.Type().In(0).Elem())
	rpc := &requests.RpcRequest{}
	request.Elem().FieldByName("RpcRequest").Set(reflect.ValueOf(rpc))
	rpc.InitWithApiInfo("LinkWAN", "2019-03-01", action, "linkwan", "openAPI")
	rpc.Method, rpc.Domain = requests.POST, api
	for name, value := range params {
		field := request.Elem().FieldByName(name)
		if field.Kind() == reflect.Pointer {
			field.Set(reflect.ValueOf(&[]string{value}))
		} else {
			field.SetString(value)
		}
	}
	result := method.Call([]reflect.Value{request})
	if err, failed := result[1].Interface().(error); failed {
		var refusal *sdkerrors.ServerError
		if !errors.As(err, &refusal) || refusal.RequestId() == "" {
			t.Fatalf("%v", err)
		}
		return "", refusal.ErrorCode()
	}
	response := result[0].Elem()
	if !response.FieldByName("Success").Bool() || response.FieldByName("RequestId").String() == "" {
		t.Errorf("the SDK decoded %+v", response.Interface())
	}
	return result[0].Interface().(interface{ GetHttpContentString() string }).GetHttpContentString(), ""
}

// responseShapes reads names and types of all answers.
func responseShapes(t *testing.T) map[string]any {
	shapes := map[string]any{}
	for _, file := range []string{"../actions.json", "../extra.json"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var contract struct {
			Actions map[string]struct{ Response any }
		}
		if err := json.Unmarshal(text, &contract); err != nil {
			t.Fatal(err)
		}
		for name, action := range contract.Actions {
			shapes[name] = action.Response
		}
	}
	return shapes
}

func checkShape(t *testing.T, shape any, answer string) {
	var got any
	decoder := json.NewDecoder(strings.NewReader(answer))
	decoder.UseNumber()
	if err := decoder.Decode(&got); err != nil {
		t.Fatal(err)
	}
	if err := match("", shape, got); err != nil {
		t.Errorf("%v in %s", err, answer)
	}
}

func match(path string, want, got any) error {
	switch got := got.(type) {
	case map[string]any:
		declared, _ := want.(map[string]any)
		for name, value := range got {
			if declared[name] == nil {
				return fmt.Errorf("%s.%s is not declared", path, name)
			}
			if err := match(path+"."+name, declared[name], value); err != nil {
				return err
			}
		}
		return nil
	case []any:
		items, _ := want.([]any)
		for _, value := range got {
			if len(items) == 0 {
				return fmt.Errorf("%s is a list", path)
			}
			if err := match(path+"[]", items[0], value); err != nil {
				return err
			}
		}
		return nil
	case string:
		return matchKind(path, want, "string")
	case bool:
		return matchKind(path, want, "boolean")
	case json.Number:
		if _, err := got.Int64(); err != nil {
			return matchKind(path, want, "number")
		}
		return matchKind(path, want, "integer", "number")
	}
	return fmt.Errorf("%s is %v", path, got)
}

func matchKind(path string, want any, kinds ...string) error {
	declared, _ := want.(string)
	for _, kind := range kinds {
		if strings.HasPrefix(declared, kind) {
			return nil
		}
	}
	return fmt.Errorf("%s is a %s, not a %s", path, kinds[0], want)
}
