package main

import (
	"encoding/binary"
	"fmt"
	"net/netip"
)

// tcpOption is a TCP option of a handshake that has the client's address (TOA): its kind and its
// length, then a port and an address in network order. docs/toa.md says what it is worth.
type tcpOption struct {
	Packet int    `json:"packet"`
	Kind   int    `json:"kind"`
	Length int    `json:"length"`
	Source string `json:"source"`
	First  bool   `json:"first"` // of all options in its packet, padding included
}

// toaWriters are the balancers that are known to write options of a kind and length.
var toaWriters = map[[2]byte]string{
	{254, 8}:  "LVS, DPVS, Alibaba, Huawei",
	{254, 20}: "DPVS",
	{253, 20}: "Huawei",
	{200, 8}:  "Tencent",
}

const (
	optionEnd = 0
	optionNop = 1
)

// toaOptions returns those among a packet's options. It ends, as the kernel does, at the first one
// whose length can't be.
func toaOptions(b []byte, packet int) (all []tcpOption) {
	for first := true; len(b) > 0 && b[0] != optionEnd; first = false {
		if b[0] == optionNop {
			b = b[1:]
			continue
		}
		if len(b) < 2 || b[1] < 2 || int(b[1]) > len(b) {
			break
		}
		kind, length := b[0], b[1]
		if _, ok := toaWriters[[2]byte{kind, length}]; ok {
			addr, _ := netip.AddrFromSlice(b[4:length])
			client := netip.AddrPortFrom(addr.Unmap(), binary.BigEndian.Uint16(b[2:]))
			all = append(all, tcpOption{packet, int(kind), int(length), client.String(), first})
		}
		b = b[length:]
	}
	return all
}

func (o *tcpOption) String() string {
	place := "after others"
	if o.First {
		place = "before all others"
	}
	return fmt.Sprintf("TCP option %d/%d in packet %d, %s: client %s (known from %s)",
		o.Kind, o.Length, o.Packet, place, o.Source,
		toaWriters[[2]byte{byte(o.Kind), byte(o.Length)}])
}
