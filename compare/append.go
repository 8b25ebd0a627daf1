package main

import (
	"bufio"
	"bytes"
	"io"

	mastercactapus "github.com/mastercactapus/proxyprotocol"
	pires "github.com/pires/go-proxyproto"
	"github.com/seed2e8fe8ee/proxyproto"
)

// measureAppend has each contender parse a header and write it again; one that doesn't write the
// same bytes has no figure.
func measureAppend(e effort) []work {
	var all []work
	for _, p := range parsings {
		if p.refused || p.do == keep || p.name == "v1 UNKNOWN, 107 bytes" {
			continue
		}
		h, _, err := proxyproto.Parse(p.wire)
		check(err)
		room := make([]byte, 0, 512)
		contenders := []contender{{nameOurs, func(n int) {
			for range n {
				b, err := h.AppendTo(room)
				if err != nil {
					sink++
				}
				sink += len(b)
			}
		}}}
		if other, err := pires.Read(bufio.NewReader(bytes.NewReader(p.wire))); err == nil {
			if b, err := other.Format(); err == nil && bytes.Equal(b, p.wire) {
				contenders = append(contenders, contender{namePires, func(n int) {
					for range n {
						b, _ := other.Format()
						sink += len(b)
					}
				}})
			}
		}
		if other, err := mastercactapus.Parse(bufio.NewReader(bytes.NewReader(p.wire))); err == nil {
			var b bytes.Buffer
			if _, err := other.WriteTo(&b); err == nil && bytes.Equal(b.Bytes(), p.wire) {
				contenders = append(contenders, contender{nameMastercactapus, func(n int) {
					for range n {
						size, _ := other.WriteTo(io.Discard)
						sink += int(size)
					}
				}})
			}
		}
		all = append(all, work{name: appendName(p), contenders: contenders})
	}
	return compete(e, all)
}

// appendName is a parsing's name without what is done to the header later.
func appendName(p parsing) string {
	if p.do == walk {
		return p.name[:len(p.name)-len(", walked")]
	}
	return p.name
}
