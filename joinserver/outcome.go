package joinserver

import "time"

// OutcomeEvent tells an account what became of the join-accept of one of its
// devices. It follows the JoinEvent with the same ID, and it is news, not a record:
// it may be missing.
type OutcomeEvent struct {
	Version   int         `json:"version"` // OutcomeEventVersion
	ID        string      `json:"id"`      // of the JoinEvent
	Time      time.Time   `json:"time"`
	AccountID AccountID   `json:"accountId,string"`
	DevEUI    EUI64       `json:"devEui"`
	JoinNonce uint32      `json:"joinNonce"`
	DevAddr   DevAddr     `json:"devAddr"`
	Gateway   EUI64       `json:"gateway,omitzero"` // that has sent it, or was the last one asked
	Window    WindowName  `json:"window"`
	Status    Outcome     `json:"status"`
	Acks      []TxAckSeen `json:"acks"`
}

// OutcomeEventVersion is the version of OutcomeEvent.
const OutcomeEventVersion = 1

// Outcome is what became of a join-accept.
type Outcome string

// The outcomes.
const (
	OutcomeSent    Outcome = "sent"    // a gateway has taken it for a window
	OutcomeRefused Outcome = "refused" // every gateway that could be asked has refused it
	OutcomeUnknown Outcome = "unknown" // a gateway got it and did not say
	OutcomeUnsent  Outcome = "unsent"  // it reached no gateway in time
)

// WindowName names a receive window in events; empty: none, or not known.
type WindowName string

// The receive windows.
const (
	WindowRX1 WindowName = "rx1"
	WindowRX2 WindowName = "rx2"
)

// TxAckSeen is what one gateway has said, by the windows it was offered.
type TxAckSeen struct {
	Gateway  EUI64    `json:"gateway"`
	Statuses []string `json:"statuses"` // OK, TOO_LATE, COLLISION_PACKET, …
}

// Outcome gives the event of what became of the join-accept.
func (d Downlink) Outcome(status Outcome, gateway EUI64, window WindowName, acks []TxAckSeen, at time.Time) OutcomeEvent {
	if acks == nil {
		acks = []TxAckSeen{}
	}
	return OutcomeEvent{
		Version:   OutcomeEventVersion,
		ID:        eventID(d.Claim.Request.DevEUI, d.Grant),
		Time:      at.UTC(),
		AccountID: d.Claim.Policy.Node.Account,
		DevEUI:    d.Claim.Request.DevEUI,
		JoinNonce: d.Grant.JoinNonce,
		DevAddr:   d.Grant.DevAddr,
		Gateway:   gateway,
		Window:    window,
		Status:    status,
		Acks:      acks,
	}
}
