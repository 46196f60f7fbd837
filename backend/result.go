package backend

import "joingate/joinserver"

// Result is a result code of TS002-1.1.0, section 23.5. The zero Result is none.
type Result uint8

// The result codes, in the order of the document's table.
const (
	Success Result = iota + 1
	NoAction
	MICFailed
	FrameReplayed
	JoinReqFailed
	NoRoamingAgreement
	DevRoamingDisallowed
	RoamingActDisallowed
	ActivationDisallowed
	UnknownDevEUI
	UnknownDevAddr
	UnknownSender
	UnknownReceiver
	Deferred
	XmitFailed
	InvalidFPort
	InvalidProtocolVersion
	StaleDeviceProfile
	MalformedRequest
	FrameSizeError
	Other
)

// results has the texts of the codes by protocol version, and why a code cannot
// occur here. An empty text of 1.0 means that the code came with 1.1.
var results = [...]struct{ text10, text11, never string }{
	Success:              {"Success", "Success", ""},
	NoAction:             {"", "NoAction", "answers a message between network servers that needs no answer"},
	MICFailed:            {"MICFailed", "MICFailed", ""},
	FrameReplayed:        {"JoinReqFailed", "FrameReplayed", ""},
	JoinReqFailed:        {"JoinReqFailed", "JoinReqFailed", ""},
	NoRoamingAgreement:   {"NoRoamingAgreement", "NoRoamingAgreement", ""},
	DevRoamingDisallowed: {"DevRoamingDisallowed", "DevRoamingDisallowed", "whether a device may roam is its home network server's to say"},
	RoamingActDisallowed: {"RoamingActDisallowed", "RoamingActDisallowed", "whether a device may be activated while it roams is its home network server's to say"},
	ActivationDisallowed: {"ActivationDisallowed", "ActivationDisallowed", ""},
	UnknownDevEUI:        {"UnknownDevEUI", "UnknownDevEUI", ""},
	UnknownDevAddr:       {"UnknownDevAddr", "UnknownDevAddr", "no request to a join server names a device by its DevAddr"},
	UnknownSender:        {"UnknownSender", "UnknownSender", ""},
	// Both versions of the document spell it so, and so do those that implement it.
	UnknownReceiver:        {"UnkownReceiver", "UnkownReceiver", ""},
	Deferred:               {"Deferred", "Deferred", "puts off passive roaming, which is between network servers"},
	XmitFailed:             {"XmitFailed", "XmitFailed", "answers XmitDataReq, which is between network servers"},
	InvalidFPort:           {"InvalidFPort", "InvalidFPort", "answers XmitDataReq, which is between network servers"},
	InvalidProtocolVersion: {"InvalidProtocolVersion", "InvalidProtocolVersion", ""},
	StaleDeviceProfile:     {"StaleDeviceProfile", "StaleDeviceProfile", "answers HRStartReq, which is between network servers"},
	MalformedRequest:       {"MalformedRequest", "MalformedMessage", ""},
	FrameSizeError:         {"FrameSizeError", "FrameSizeError", ""},
	Other:                  {"Other", "Other", ""},
}

// text is the code as the protocol version writes it.
func (r Result) text(version string) string {
	if version == version10 {
		return results[r].text10
	}
	return results[r].text11
}

// String gives the code as TS002-1.1.0 writes it, and "" for none: the metric
// label and the log field.
func (r Result) String() string { return results[r].text11 }

// Results lists all result codes.
func Results() []Result {
	all := make([]Result, 0, len(results)-1)
	for r := Success; int(r) < len(results); r++ {
		all = append(all, r)
	}
	return all
}

// resultOf tells a network server of a refused join. What TS002 has no word for
// is JoinReqFailed; the description has ours. UnknownReceiver would say that this
// server does not know the JoinEUI, so a device with the wrong one is no case of it.
func resultOf(reason joinserver.Reason) Result {
	switch reason {
	case joinserver.Malformed:
		return MalformedRequest
	case joinserver.UnknownDevice:
		return UnknownDevEUI
	case joinserver.DeviceDisabled, joinserver.NoPermission, joinserver.PermissionDisabled:
		return ActivationDisallowed
	case joinserver.BadMIC:
		return MICFailed
	case joinserver.DevNonceReplayed:
		return FrameReplayed
	default:
		return JoinReqFailed
	}
}
