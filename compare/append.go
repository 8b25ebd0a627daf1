package main

import (
	"bufio"
	"bytes"

	mastercactapus "github.com/mastercactapus/proxyprotocol"
	pires "github.com/pires/go-proxyproto"

	"github.com/seed2e8fe8ee/proxyproto"
)

// appendWorks has each contender parse a header and write it again, into memory that it keeps; one
// that doesn't write the same bytes has no figure.
func appendWorks() []work {
	var all []work
	for _, p := range parsings {
		if p.refused || p.name == "v1 UNKNOWN, 107 bytes" {
			continue
		}
		h, _, err := proxyproto.Parse(p.wire)
		check(err)
		do := func(by string, run func(n int)) {
			all = append(all, work{task{Work: appendName(p), By: by}, run})
		}
		do(nameOurs, func(n int) {
			room := make([]byte, 0, 512)
			for range n {
				kept.wire, _ = h.AppendTo(room)
			}
		})
		if h, err := pires.Read(bufio.NewReader(bytes.NewReader(p.wire))); err == nil {
			if b, err := h.Format(); err == nil && bytes.Equal(b, p.wire) {
				do(namePires, func(n int) {
					for range n {
						kept.wire, _ = h.Format()
					}
				})
			}
		}
		if h, err := mastercactapus.Parse(bufio.NewReader(bytes.NewReader(p.wire))); err == nil {
			var b bytes.Buffer
			if _, err := h.WriteTo(&b); err == nil && bytes.Equal(b.Bytes(), p.wire) {
				do(nameMastercactapus, func(n int) {
					for range n {
						b.Reset()
						h.WriteTo(&b)
					}
				})
			}
		}
	}
	return all
}

// appendName is a parsing's name without what is done to the header later.
func appendName(p parsing) string {
	if p.walk {
		return p.name[:len(p.name)-len(", walked")]
	}
	return p.name
}
