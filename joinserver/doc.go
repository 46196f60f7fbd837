// Package joinserver is the domain of a LoRaWAN join server: the policy that
// decides a join, the reasons for refusing one, and the handler that answers
// join-requests, and the rejoin-requests of LoRaWAN 1.1, with join-accepts.
//
// The package knows no broker, no database and no HTTP: a network server can
// embed it by giving a [Handler] what finds policies ([Policies]) and what commits
// joins ([Joins]), and the band plan groups that it uses:
//
//	handler, err := joinserver.NewHandler(joinserver.Config{
//		Policies: cache,  // asked first, may be stale
//		Record:   record, // the truth
//		Joins:    record,
//		Sessions: record, // for rejoin-requests; may be left out
//		Bands:    band.Standard(),
//		NetID:    joinserver.NetID{0x00, 0x00, 0x13},
//		Now:      time.Now,
//	})
//
// Each uplink for which [IsJoin] is true then goes to [Handler.Join] with all its
// copies, or to [Handler.Prepare] with the first copy and to [Handler.Answer] when no
// more are waited for:
//
//	downlink, err := handler.Join(ctx, joinserver.Uplink{PHYPayload: frame, Receptions: copies})
//	var refused *joinserver.Rejection
//	switch {
//	case errors.Is(err, joinserver.ErrLateCopy): // swallow it
//	case errors.As(err, &refused): // silence on the air; refused.Reason says why
//	case err != nil: // a fault of ours; the device tries again
//	default: // send downlink.PHYPayload through downlink.Routes[0], in RX1 or RX2
//	}
//
// What the network server goes on with is in the Claim and the Grant of the
// [Downlink]: DevAddr, nonces, RxDelay, DLSettings, CFList, and the session keys by
// [Claim.SessionKeys]. The example below is a whole program, with a record in memory.
//
// A network server that sends join-accepts itself asks by [Handler.JoinFor].
//
// # Airtime
//
// With [Config.Airtime], each join-accept is given its place before it costs a nonce:
// the handler lists the windows of the gateways that may send it, the best first, and
// the ledger books one that is free. A refused transmission goes on with
// [Downlink.Ways].
//
// # Conventions
//
// Units. Frequency: Hz. Delay: time.Duration from the end of the uplink. SNR and
// margin: dB. RSSI and power: dBm. Identifiers are held in the order in which they
// are written, not the one of the air.
//
// What is exported stays: names and meanings do not change, [Reason] grows at its
// end, events have a version.
//
// Sources: TS001-1.0.4 and LoRaWAN 1.1 for frames and nonces, RP002-1.0.4 for
// windows (package band), TS002-1.1.0 for NetIDs and requests of network servers.
//
// Known to be missing: what a network server has told a device by MAC commands within
// a session (channels of NewChannelReq and DlChannelReq, the windows of
// RXParamSetupReq) is not known to the answer of a rejoin-request, and within a
// session that has an RX1DROffset it is sent in RX2 alone.
package joinserver
