package backend

import (
	"encoding/json"
	"net/http"

	"joingate/joinserver"
)

// answer is an answer of TS002. It may hold keys in the clear: it is written to
// its receiver and to nothing else.
type answer struct {
	ProtocolVersion string
	SenderID        string
	ReceiverID      string
	ReceiverNSID    string `json:",omitempty"`
	TransactionID   uint32
	MessageType     string `json:",omitempty"`
	ReceiverToken   string `json:",omitempty"`
	Result          resultObject

	// JoinAns and RejoinAns.
	PHYPayload  string    `json:",omitempty"`
	Lifetime    *int64    `json:",omitempty"` // seconds
	SNwkSIntKey *envelope `json:",omitempty"`
	FNwkSIntKey *envelope `json:",omitempty"`
	NwkSEncKey  *envelope `json:",omitempty"`
	NwkSKey     *envelope `json:",omitempty"` // in place of the three before: LoRaWAN 1.0.x

	// JoinAns, RejoinAns and AppSKeyAns.
	AppSKey      *envelope `json:",omitempty"`
	SessionKeyID string    `json:",omitempty"`

	DevEUI string `json:",omitempty"` // AppSKeyAns
	HNetID string `json:",omitempty"` // HomeNSAns
}

type resultObject struct {
	ResultCode  string
	Description string `json:",omitempty"`
}

// envelope is a KeyEnvelope: the key wrapped under the key that the label names,
// or without a label as it is.
type envelope struct {
	KEKLabel string `json:",omitempty"`
	AESKey   string
}

// outcome is what became of a message.
type outcome struct {
	answer    answer
	server    *NetworkServer // nil: not known
	result    Result         // 0: refused
	refused   *httpRefusal   // what was no message, or came when there was no room
	device    *joinserver.EUI64
	rejection *joinserver.Rejection // of a refused join
	err       error                 // for the log alone: a fault, or what is behind the result
	repeated  bool                  // answered from memory
}

// answer fills in what all answers have. The version is the sender's where it is
// one of ours.
func (m message) answer(kind, version string, code Result, description string) answer {
	return answer{
		ProtocolVersion: version, SenderID: m.receiver, ReceiverID: m.sender, ReceiverNSID: m.senderNSID,
		TransactionID: m.transaction, MessageType: kind, ReceiverToken: m.token,
		Result: resultObject{code.text(version), description},
	}
}

func (m message) succeed(server *NetworkServer) *outcome {
	return &outcome{server: server, result: Success, answer: m.answer(answerKind(m.kind), m.version, Success, "")}
}

// fail answers with another result than Success.
func (m message) fail(server *NetworkServer, code Result, description string) *outcome {
	version := m.version
	if version != version10 {
		version = version11
	}
	return &outcome{server: server, result: code, answer: m.answer(answerKind(m.kind), version, code, description)}
}

// faulty answers when something of ours does not work. The sender learns no more
// than that.
func (m message) faulty(server *NetworkServer, err error) *outcome {
	return m.fail(server, Other, "the join server could not do this now: its log says why").because(err)
}

// because adds what only the log shows.
func (o *outcome) because(err error) *outcome {
	o.err = err
	return o
}

func (o *outcome) of(device joinserver.EUI64) *outcome {
	o.device = &device
	return o
}

func writeJSON(w http.ResponseWriter, status int, a answer) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(a) // texts and numbers: only the connection can fail
}
