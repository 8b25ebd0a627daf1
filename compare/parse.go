package main

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"time"

	armon "github.com/armon/go-proxyproto"
	mastercactapus "github.com/mastercactapus/proxyprotocol"
	pires "github.com/pires/go-proxyproto"
	"github.com/seed2e8fe8ee/proxyproto"
	"github.com/seed2e8fe8ee/proxyproto/compare/csample"
)

// The contenders, by the names that they have in the page.
const (
	nameOurs           = "proxyproto"
	namePires          = "pires"
	nameArmon          = "armon"
	nameMastercactapus = "mastercactapus"
	nameC              = "C sample"
	nameBare           = "bare"
)

// sink and kept keep the compiler from leaving work out.
var (
	sink int
	kept struct {
		ours  netip.AddrPort
		other net.Addr
	}
)

// A parser is a contender for parsing. once parses b, tells the source address that it found and
// whether it accepted b; loop does the same n times.
type parser struct {
	name string
	once func(b []byte, do then) (source string, ok bool)
	loop func(b []byte, do then, n int)
}

// then says what a loop does with a header that it has parsed.
type then int

const (
	leave then = iota // where the parser has put it
	keep              // a copy of the source address
	walk              // through all TLVs
)

var parsers = []parser{
	{nameOurs, parseOurs, loopOurs},
	{namePires, parsePires, loopPires},
	{nameArmon, parseArmon, loopArmon},
	{nameMastercactapus, parseMastercactapus, loopMastercactapus},
	{nameC, parseC, loopC},
}

func parseOurs(b []byte, _ then) (string, bool) {
	h, n, err := proxyproto.Parse(b)
	return sourceOf(h.SourceAddr()), err == nil && n == len(b)
}

func loopOurs(b []byte, do then, n int) {
	switch do {
	case leave:
		// As a C receiver leaves it in its sockaddr, and pires behind a pointer.
		for range n {
			_, size, _ := proxyproto.Parse(b)
			sink += size
		}
	case keep:
		for range n {
			h, size, _ := proxyproto.Parse(b)
			sink += size
			kept.ours = h.Source
		}
	case walk:
		for range n {
			h, size, _ := proxyproto.Parse(b)
			for typ, value := range h.TLVs.All() {
				size += int(typ) + len(value)
			}
			sink += size
		}
	}
}

func parsePires(b []byte, _ then) (string, bool) {
	h, err := pires.Read(bufio.NewReader(bytes.NewReader(b)))
	if err != nil {
		return "", false
	}
	return sourceOf(h.SourceAddr), true
}

// loopPires reads from a buffer of the size that the library gives its connections.
func loopPires(b []byte, do then, n int) {
	r := bytes.NewReader(nil)
	br := bufio.NewReaderSize(r, 256)
	for range n {
		r.Reset(b)
		br.Reset(r)
		h, err := pires.Read(br)
		if err == nil && do == keep {
			kept.other = h.SourceAddr
		}
		if err == nil && do == walk {
			tlvs, err := h.TLVs()
			for _, t := range tlvs {
				sink += int(t.Type) + len(t.Value)
			}
			if err != nil {
				sink++
			}
		}
		if err == nil {
			sink++
		}
	}
}

// armon has no function that parses: it takes a connection.
type bytesConn struct {
	net.Conn
	bytes.Reader
}

func (c *bytesConn) Read(p []byte) (int, error) { return c.Reader.Read(p) }
func (c *bytesConn) WriteTo(w interface{ Write([]byte) (int, error) }) (int64, error) {
	return c.Reader.WriteTo(w)
}
func (c *bytesConn) Close() error                    { return nil }
func (c *bytesConn) SetReadDeadline(time.Time) error { return nil }
func (c *bytesConn) RemoteAddr() net.Addr            { return nil }

func parseArmon(b []byte, _ then) (string, bool) {
	if b[0] != 'P' {
		return "", false // version 1 is all that it knows
	}
	inner := new(bytesConn)
	inner.Reset(b)
	addr := armon.NewConn(inner, 0).RemoteAddr()
	return sourceOf(addr), addr != nil
}

func loopArmon(b []byte, _ then, n int) {
	inner := new(bytesConn)
	for range n {
		inner.Reset(b)
		if armon.NewConn(inner, 0).RemoteAddr() != nil {
			sink++
		}
	}
}

func parseMastercactapus(b []byte, _ then) (string, bool) {
	h, err := mastercactapus.Parse(bufio.NewReader(bytes.NewReader(b)))
	if err != nil {
		return "", false
	}
	return sourceOf(h.SrcAddr()), true
}

func loopMastercactapus(b []byte, do then, n int) {
	r := bytes.NewReader(nil)
	br := bufio.NewReader(r)
	for range n {
		r.Reset(b)
		br.Reset(r)
		h, err := mastercactapus.Parse(br)
		if err == nil {
			sink++
		}
		if err == nil && do == keep {
			kept.other = h.SrcAddr()
		}
	}
}

func parseC(b []byte, do then) (string, bool) {
	size, source, _ := csample.Parse(b, do == walk)
	if size != len(b) {
		return "", false
	}
	if !source.IsValid() {
		return "", true
	}
	return source.String(), true
}

func loopC(b []byte, do then, n int) { csample.Loop(b, do == walk, n) }

func sourceOf(a net.Addr) string {
	switch a := a.(type) {
	case *net.TCPAddr:
		if a == nil || a.IP == nil {
			return ""
		}
		ap := a.AddrPort()
		return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port()).String()
	case *net.UnixAddr:
		return a.Name
	}
	return ""
}

// parsing is a piece of work: bytes that are accepted, or refused.
type parsing struct {
	name    string
	wire    []byte
	source  string
	refused bool
	do      then
}

var parsings = []parsing{
	{name: "v1 TCP4", wire: wires.v1TCP4, source: source4.String()},
	{name: "v1 TCP6", wire: wires.v1TCP6, source: source6.String()},
	{name: "v1 TCP6, compressed", wire: wires.v1TCP6Short, source: source6short.String()},
	{name: "v1 UNKNOWN", wire: wires.v1Unknown},
	{name: "v1 UNKNOWN, 107 bytes", wire: wires.v1LongUnknown},
	{name: "v2 TCP4", wire: wires.v2TCP4, source: source4.String()},
	{name: "v2 TCP6", wire: wires.v2TCP6, source: source6.String()},
	{name: "v2 TCP4, source kept", wire: wires.v2TCP4, source: source4.String(), do: keep},
	{name: "v2 TCP6, source kept", wire: wires.v2TCP6, source: source6.String(), do: keep},
	{name: "v2 UNIX", wire: wires.v2Unix, source: "/run/haproxy/frontend.sock"},
	{name: "v2 four TLVs, walked", wire: wires.v2TLVs, source: source4.String(), do: walk},
	{name: "v2 SSL with sub-TLVs, walked", wire: wires.v2SSL, source: source4.String(), do: walk},
	{name: "v2 100 bytes with CRC32C", wire: wires.v2CRC, source: source4.String()},
	{name: "v2 100 bytes without", wire: wires.v2NoCRC, source: source4.String()},
	{name: "v2 LOCAL", wire: wires.v2Local},
	{name: "refuse an HTTP request", wire: wires.httpRequest, refused: true},
	{name: "refuse a wrong CRC32C", wire: wires.v2WrongCRC, refused: true},
	{name: "refuse 107 bytes without end", wire: wires.v1Endless, refused: true},
}

// able reports whether a contender gets out of p what is in it; one that doesn't has no figure.
func (p parsing) able(c parser) bool {
	source, ok := c.once(bytes.Clone(p.wire), p.do)
	switch {
	case p.refused:
		return !ok
	case c.name == nameC && p.name == "v2 UNIX":
		return ok // it is recognized and skipped, as section 9 does
	}
	return ok && source == p.source
}

func measureParse(e effort) []work {
	var all []work
	for _, p := range parsings {
		var contenders []contender
		for _, c := range parsers {
			// armon's refusals log; what it and the C sample don't know they can't refuse.
			if !p.able(c) || p.refused && c.name == nameArmon || p.name == "refuse a wrong CRC32C" && c.name == nameC {
				continue
			}
			wire := bytes.Clone(p.wire)
			contenders = append(contenders, contender{c.name, func(n int) { c.loop(wire, p.do, n) }})
		}
		if len(contenders) == 0 || contenders[0].name != nameOurs {
			panic(fmt.Sprintf("%s: the library itself fails", p.name))
		}
		all = append(all, work{name: p.name, contenders: contenders})
	}
	return compete(e, all)
}
