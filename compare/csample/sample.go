// Package csample is a receiver in C after the sample code of the PROXY protocol's section 9, as
// the limit of what parsing a header can cost.
package csample

/*
#cgo CFLAGS: -O2 -Wall
#include <arpa/inet.h>
#include <netinet/in.h>
#include "sample.h"
*/
import "C"

import (
	"encoding/binary"
	"net/netip"
	"unsafe"
)

// Parse returns the size of the header that b begins with, its source, and what the TLVs' types
// and lengths add up to if walk is set. A size below 1 is a refusal.
func Parse(b []byte, walk bool) (size int, source netip.AddrPort, walked int) {
	s := new(C.struct_sample)
	if walk {
		size = int(C.sample_walk((*C.char)(unsafe.Pointer(&b[0])), C.size_t(len(b)), s))
	} else {
		size = int(C.sample_parse((*C.char)(unsafe.Pointer(&b[0])), C.size_t(len(b)), s))
	}
	raw := (*[unsafe.Sizeof(s.from)]byte)(unsafe.Pointer(&s.from))[:]
	port := binary.BigEndian.Uint16(raw[2:])
	switch s.from.ss_family {
	case C.AF_INET:
		source = netip.AddrPortFrom(netip.AddrFrom4([4]byte(raw[4:])), port)
	case C.AF_INET6:
		source = netip.AddrPortFrom(netip.AddrFrom16([16]byte(raw[8:])), port)
	}
	return size, source, int(s.walked)
}

// Loop parses b n times, all of them in C, so that the way from Go to C and back counts once.
func Loop(b []byte, walk bool, n int) {
	s := new(C.struct_sample)
	if walk {
		C.sample_walk_loop((*C.char)(unsafe.Pointer(&b[0])), C.size_t(len(b)), s, C.long(n))
	} else {
		C.sample_parse_loop((*C.char)(unsafe.Pointer(&b[0])), C.size_t(len(b)), s, C.long(n))
	}
}
