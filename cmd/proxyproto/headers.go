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

// The wires of probes. But for addresses and ports each is a row of the vectors of docs/vectors.md,
// which a test holds against them; "endless" is about time, as rows aren't.
var wires = map[string]wireFunc{
	"v2":      v2(nil),
	"v1":      v1,
	"unknown": func(*proxyproto.Header) ([]byte, error) { return []byte("PROXY UNKNOWN\r\n"), nil },
	"local": v2(func(h *proxyproto.Header) {
		*h = proxyproto.Header{Version: proxyproto.V2, Command: proxyproto.Local}
	}),
	"udp":     v2(func(h *proxyproto.Header) { h.Protocol++ }),
	"tcp":     v2(func(h *proxyproto.Header) { h.Protocol-- }),
	"tlv":     v2(func(h *proxyproto.Header) { h.TLVs = tlvOf(unassigned, "value") }),
	"bad-crc": badCRC,
	"endless": endless,
}

// wireFunc makes the bytes that a probe sends, of a header as a proxy would send it.
type wireFunc func(h *proxyproto.Header) ([]byte, error)

// basics are the probes that everything else depends on. Version 1 has no UDP.
func (c *checker) basics() []probe {
	if c.report.Protocol == overUDP {
		return []probe{plain("v2"), {name: "none"}}
	}
	return []probe{plain("v2"), plain("v1"), {name: "none"}}
}

// further are the probes of a server that takes headers. Datagrams come whole and at once, and
// silence opens nothing.
func (c *checker) further() []probe {
	whole := wires["v2"]
	if !c.accepts("v2") {
		whole = v1
	}
	second := probe{name: "second", wire: twice(whole)}
	if c.report.Protocol == overUDP {
		return []probe{plain("local"), plain("tcp"), plain("tlv"), plain("bad-crc"), second}
	}
	var all []probe
	if c.accepts("v1") {
		all = append(all, plain("unknown"), probe{name: "split-v1", wire: v1, split: true},
			probe{name: "endless", wire: endless, mute: true, limit: c.wait})
	}
	if c.accepts("v2") {
		all = append(all, plain("local"), plain("udp"), plain("tlv"), plain("bad-crc"),
			probe{name: "split-v2", wire: wires["v2"], split: true})
	}
	return append(all, second,
		probe{name: "late", wire: whole, late: patient},
		probe{name: "silence", mute: true, limit: c.patience})
}

// plain is a probe that sends what its name says, and asks.
func plain(name string) probe { return probe{name: name, wire: wires[name]} }

// twice is the same header again.
func twice(w wireFunc) wireFunc {
	return func(h *proxyproto.Header) ([]byte, error) {
		b, err := w(h)
		return append(b, b...), err
	}
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
func v2(change func(h *proxyproto.Header)) wireFunc {
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

// badCRC is a header whose checksum is 0, which the right one is once in 2^32 headers.
func badCRC(h *proxyproto.Header) ([]byte, error) {
	h.TLVs = tlvOf(proxyproto.TypeCRC32C, "\x00\x00\x00\x00")
	b, err := h.AppendTo(nil)
	if err == nil {
		clear(b[len(b)-4:])
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
	"tcp":      "a version 2 header that says TCP",
	"tlv":      fmt.Sprintf("a TLV of type 0x%X", uint8(unassigned)),
	"bad-crc":  "a wrong CRC32C",
	"split-v1": "a version 1 header in two segments",
	"split-v2": "a version 2 header in two segments",
	"second":   "two headers",
	"endless":  "a version 1 line without end",
	"late":     fmt.Sprintf("a header after %v", patient),
	"silence":  "nothing at all",
}
