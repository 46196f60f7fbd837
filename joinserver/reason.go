package joinserver

import "fmt"

// Reason says why a join was refused. It is the log field, the metric label,
// the event and the test expectation. The list only grows.
type Reason uint8

// The reasons up to Overloaded, in the order in which they take precedence; but
// RateLimited, TooLate and NoAirtime are found before the commit, and hide what the
// commit would have found. Those after it came later: the list only grows. They come
// before BadMIC, WrongParameters after it.
const (
	Malformed          Reason = iota + 1 // not the octets of a join- or rejoin-request of major version R1
	UnknownDevice                        // nobody registered the DevEUI
	DeviceDisabled                       // the node is switched off
	NoPermission                         // the node is in no group, or its group is bound to no permission
	PermissionDisabled                   // the join permission is switched off
	WrongJoinEUI                         // the request names another JoinEUI than the permission
	WrongBandPlan                        // no copy came on a join channel of the permission's band plan group
	GatewayNotAllowed                    // no receiving gateway may serve the permission
	BadMIC                               // the sender does not hold the root key
	DevNonceReplayed                     // the DevNonce was used before, or went back
	JoinNonceExhausted                   // all 2^24-1 JoinNonces of the device are used
	RateLimited                          // more requests than the limits allow
	TooLate                              // neither window can be reached any more
	NoAirtime                            // no gateway that may serve it can send in either window
	Overloaded                           // more requests than can be answered in time
	NoSession                            // a rejoin-request of a device that has no live session of LoRaWAN 1.1
	WrongNetID                           // the rejoin-request names another network
	WrongParameters                      // a network server asks for other parameters than the permission requires
)

var reasons = [...]struct{ text, remedy string }{
	Malformed:          {"malformed", "the frame is no join- or rejoin-request; look at the device's radio stack"},
	UnknownDevice:      {"unknown_device", "register the device: joingate node import, then AddNodeToGroup"},
	DeviceDisabled:     {"device_disabled", "enable the node: UpdateNodeEnablingState or joingate node set --enabled=true"},
	NoPermission:       {"no_permission", "put the node into a group and bind the group to a join permission"},
	PermissionDisabled: {"permission_disabled", "enable the permission: UpdateOwnedLocalJoinPermissionEnablingState"},
	WrongJoinEUI:       {"wrong_join_eui", "give device and join permission the same JoinEUI"},
	WrongBandPlan:      {"wrong_band_plan", "compare the device's channels with joingate band show of the permission's group"},
	GatewayNotAllowed:  {"gateway_not_allowed", "register the gateway with the permission's owner, enabled and in the permission's band plan group"},
	BadMIC:             {"bad_mic", "compare the device's root key with the imported one"},
	DevNonceReplayed:   {"dev_nonce_replayed", "the device repeats DevNonces: mend its counter, or joingate node reset-nonces"},
	JoinNonceExhausted: {"join_nonce_exhausted", "the device joined 16,777,215 times: give it a new DevEUI and key"},
	RateLimited:        {"rate_limited", "look for the cause of the failures or joins before it, or raise the limit ([limits]) that the detail names"},
	TooLate:            {"too_late", "look at the delay between gateway and server"},
	NoAirtime:          {"no_airtime", "add gateways: the ones in reach are busy sending"},
	Overloaded:         {"overloaded", "look at the server's load; the device tries again"},
	NoSession:          {"no_session", "the device has to join: its session was replaced or revoked, or it is no LoRaWAN 1.1 device"},
	WrongNetID:         {"wrong_net_id", "the device is in another network's session: it has to join, or that network to answer"},
	WrongParameters:    {"wrong_parameters", "give network server and join permission the same RxDelay and RX2 data rate"},
}

// String gives the stable text of the reason.
func (r Reason) String() string {
	if r == 0 || int(r) >= len(reasons) {
		return fmt.Sprintf("Reason(%d)", uint8(r))
	}
	return reasons[r].text
}

// Remedy tells an operator what to do about the reason.
func (r Reason) Remedy() string {
	if r == 0 || int(r) >= len(reasons) {
		return ""
	}
	return reasons[r].remedy
}

// Reasons lists all reasons, in the order of the list above.
func Reasons() []Reason {
	all := make([]Reason, 0, len(reasons)-1)
	for r := Malformed; int(r) < len(reasons); r++ {
		all = append(all, r)
	}
	return all
}

// Rejection is the refusal of a join: a value, not a fault.
type Rejection struct {
	Reason  Reason
	DevEUI  EUI64
	JoinEUI EUI64
	Account AccountID // of the node; 0: not known
	Detail  string    // what a person should know beyond the reason; may be empty
}

// Error gives reason, device and detail. Of a Malformed frame no device is known.
func (r *Rejection) Error() string {
	s := "join of " + r.DevEUI.String() + " refused: " + r.Reason.String()
	if r.Reason == Malformed {
		s = "join refused: " + r.Reason.String()
	}
	if r.Detail != "" {
		s += " (" + r.Detail + ")"
	}
	return s
}
