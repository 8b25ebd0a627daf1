package main

import (
	"bytes"
	"fmt"
	"strings"
	"time"

	"github.com/seed2e8fe8ee/proxyproto"
)

// patient is how long the spec wants a receiver to wait for the header at least (section 2), less
// what the way there may take.
const patient = 2900 * time.Millisecond

// further are the probes of a server that takes headers.
func (c *checker) further() []probe {
	var all []probe
	whole := v2(nil)
	if !c.accepts("v2") {
		whole = v1
	}
	if c.accepts("v1") {
		all = append(all,
			probe{name: "unknown", wire: func(*proxyproto.Header) ([]byte, error) { return []byte("PROXY UNKNOWN\r\n"), nil }},
			probe{name: "split-v1", wire: v1, split: true},
			probe{name: "endless", wire: endless, mute: true, limit: c.wait})
	}
	if c.accepts("v2") {
		all = append(all,
			probe{name: "local", wire: v2(func(h *proxyproto.Header) {
				*h = proxyproto.Header{Version: proxyproto.V2, Command: proxyproto.Local}
			})},
			probe{name: "udp", wire: v2(func(h *proxyproto.Header) { h.Protocol++ })},
			probe{name: "tlv", wire: v2(func(h *proxyproto.Header) { h.TLVs = tlvOf(unassigned, "check") })},
			probe{name: "bad-crc", wire: badCRC},
			probe{name: "split-v2", wire: v2(nil), split: true})
	}
	return append(all,
		probe{name: "second", wire: func(h *proxyproto.Header) ([]byte, error) {
			b, err := whole(h)
			return append(b, b...), err
		}},
		probe{name: "late", wire: whole, late: patient},
		probe{name: "silence", mute: true, limit: c.patience})
}

// unassigned is a type in the range for anybody's own use (section 2.2.7).
const unassigned proxyproto.TLVType = 0xEF

func tlvOf(typ proxyproto.TLVType, value string) proxyproto.TLVs {
	t, err := proxyproto.TLVs(nil).Append(typ, []byte(value))
	if err != nil {
		return nil // can't be: it is short
	}
	return t
}

// v2 is a version 2 header, with a change.
func v2(change func(h *proxyproto.Header)) func(h *proxyproto.Header) ([]byte, error) {
	return func(h *proxyproto.Header) ([]byte, error) {
		if change != nil {
			change(h)
		}
		return h.AppendTo(nil)
	}
}

func v1(h *proxyproto.Header) ([]byte, error) {
	h.Version = proxyproto.V1
	return h.AppendTo(nil)
}

// badCRC is a header whose checksum is wrong in its last bit.
func badCRC(h *proxyproto.Header) ([]byte, error) {
	h.TLVs = tlvOf(proxyproto.TypeCRC32C, "\x00\x00\x00\x00")
	b, err := h.AppendTo(nil)
	if err == nil {
		b[len(b)-1] ^= 1
	}
	return b, err
}

// endless is more of a line than any may have, without its end (section 2.1).
func endless(h *proxyproto.Header) ([]byte, error) {
	b, err := v1(h)
	if err != nil {
		return nil, err
	}
	return append(bytes.TrimSuffix(b, []byte("\r\n")), strings.Repeat("1", 2*107)...), nil
}

// names are the probes in words.
var names = map[string]string{
	"v2":       "a version 2 header",
	"v1":       "a version 1 header",
	"none":     "no header",
	"unknown":  "version 1's UNKNOWN",
	"local":    "version 2's LOCAL",
	"udp":      "a version 2 header that says UDP",
	"tlv":      fmt.Sprintf("a TLV of type 0x%X", uint8(unassigned)),
	"bad-crc":  "a wrong CRC32C",
	"split-v1": "a version 1 header in two segments",
	"split-v2": "a version 2 header in two segments",
	"second":   "two headers",
	"endless":  "a version 1 line without end",
	"late":     fmt.Sprintf("a header after %v", patient),
	"silence":  "nothing at all",
}
