package joinserver

import "github.com/brocaar/lorawan"

// nwkAddrBits is the number of address bits that a NetID's type leaves to the
// network (TS002-1.1.0, section 13: table of DevAddr formats).
var nwkAddrBits = [8]uint{25, 24, 20, 17, 15, 13, 10, 7}

// AddressCount is how many DevAddrs the NetID's network has.
func (n NetID) AddressCount() uint32 { return 1 << nwkAddrBits[n[0]>>5] }

// Address gives the network's DevAddr number i, modulo AddressCount.
func (n NetID) Address(i uint32) DevAddr {
	i %= n.AddressCount()
	addr := lorawan.DevAddr{byte(i >> 24), byte(i >> 16), byte(i >> 8), byte(i)}
	addr.SetAddrPrefix(lorawan.NetID(n))
	return DevAddr(addr)
}
