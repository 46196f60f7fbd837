// Package linkwan is the admin API of Alibaba Link WAN, version 2019-03-01, over
// a record of ours: clients written for Link WAN work by changing the endpoint
// and the keys.
//
// A call is one HTTP request to path "/", as RPC: signature v1 (HMAC-SHA1
// parameters) or ACS3-HMAC-SHA256 headers, answers in JSON or XML. What each
// action takes and answers is data (actions.json, from Alibaba's published API
// metadata); an action adds one entry in table and one function over a Tx.
//
// Units. Times on the wire: UNIX milliseconds. RxDelay: whole seconds. Frequency
// of a band plan: MHz. A data rate is an index of its region.
//
// Promised: a call that fails changes nothing; one that succeeds is durable and
// in force for the next join; every answer carries a RequestId; no answer and no
// log line shows a key or a secret.
//
// Left to who opens the port: TLS, and how many connections there may be. Timeouts
// and the size of headers are NewHTTPServer's.
//
// Known to be missing: STS (a SecurityToken is signed, but not looked at), and
// the actions on data packets, key orders and downlink commands, which belong to
// other parts of a network server.
package linkwan
