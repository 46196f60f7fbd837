// Package sim simulates what stands in front of a join server: LoRaWAN devices,
// gateways behind a ChirpStack Gateway Bridge, and the air between them.
//
// A Device holds real root keys: it makes its join-request, opens its receive
// windows, verifies, decrypts and applies the join-accept, and refuses what a
// careful device would refuse. A Bridge is one MQTT connection that carries
// many Gateways and speaks v4 or v3, protobuf or JSON. The Air carries frames
// between them, with copies, ghosts, loss and delay. Simulate puts all three
// together for a list of devices.
//
// Load sends join-requests at a given rate, as cheaply as it can, and measures what
// comes back. Storm is a radio model in simulated time: how long a district takes to
// join after a power cut, by what an Answerer decides.
//
// The package imports nothing else of this module and has its own cryptography
// and its own region tables, so that a mistake of the server cannot cancel
// itself out here.
//
// Units. Frequency and bandwidth: Hz. Delay: time.Duration from the end of the
// uplink. A data rate is an index of its region.
//
// Known to be missing: data frames, rejoin-requests, class B and C, FSK and
// LR-FHSS joins, a Basics Station behind the bridge, and the mix-up of two open
// downlinks whose ids are equal modulo 65536 (it is counted, not played). A storm
// leaves out that spreading factors disturb each other a little, that several weak
// frames add up, and other networks.
package sim
