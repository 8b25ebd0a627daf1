package main

import (
	"bufio"
	"bytes"
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
	nameLazy           = "proxyproto, lazy" // with Config.Lazy
)

// kept is what the callers of the parsers and encoders keep, so that it is counted in.
var kept struct {
	ours           proxyproto.Header
	pires          *pires.Header
	mastercactapus mastercactapus.Header
	addr           net.Addr
	wire           []byte
	n              int
}

// A parser is a contender for parsing. once parses b, tells the source address that it found and
// whether it accepted b; loop parses it n times and keeps the header.
type parser struct {
	name string
	once func(b []byte, walk bool) (source string, ok bool)
	loop func(b []byte, walk bool, n int)
}

var parsers = []parser{
	{nameOurs, parseOurs, loopOurs},
	{namePires, parsePires, loopPires},
	{nameArmon, parseArmon, loopArmon},
	{nameMastercactapus, parseMastercactapus, loopMastercactapus},
	{nameC, parseC, loopC},
}

func parseOurs(b []byte, _ bool) (string, bool) {
	h, n, err := proxyproto.Parse(b)
	return sourceOf(h.SourceAddr()), err == nil && n == len(b)
}

func loopOurs(b []byte, walk bool, n int) {
	for range n {
		h, size, err := proxyproto.Parse(b)
		if err == nil {
			kept.ours = h
		}
		if walk {
			for typ, value := range kept.ours.TLVs.All() {
				size += int(typ) + len(value)
			}
		}
		kept.n += size
	}
}

func parsePires(b []byte, _ bool) (string, bool) {
	h, err := pires.Read(bufio.NewReader(bytes.NewReader(b)))
	if err != nil {
		return "", false
	}
	return sourceOf(h.SourceAddr), true
}

// loopPires reads from a buffer of the size that the library gives its connections.
func loopPires(b []byte, walk bool, n int) {
	r := bytes.NewReader(nil)
	br := bufio.NewReaderSize(r, 256)
	for range n {
		r.Reset(b)
		br.Reset(r)
		h, err := pires.Read(br)
		if err != nil {
			continue
		}
		kept.pires = h
		if walk {
			tlvs, _ := h.TLVs()
			for _, t := range tlvs {
				kept.n += int(t.Type) + len(t.Value)
			}
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

func parseArmon(b []byte, _ bool) (string, bool) {
	if b[0] != 'P' {
		return "", false // version 1 is all that it knows
	}
	inner := new(bytesConn)
	inner.Reset(b)
	addr := armon.NewConn(inner, 0).RemoteAddr()
	return sourceOf(addr), addr != nil
}

func loopArmon(b []byte, _ bool, n int) {
	inner := new(bytesConn)
	for range n {
		inner.Reset(b)
		kept.addr = armon.NewConn(inner, 0).RemoteAddr()
	}
}

func parseMastercactapus(b []byte, _ bool) (string, bool) {
	h, err := mastercactapus.Parse(bufio.NewReader(bytes.NewReader(b)))
	if err != nil {
		return "", false
	}
	return sourceOf(h.SrcAddr()), true
}

func loopMastercactapus(b []byte, _ bool, n int) {
	r := bytes.NewReader(nil)
	br := bufio.NewReader(r)
	for range n {
		r.Reset(b)
		br.Reset(r)
		if h, err := mastercactapus.Parse(br); err == nil {
			kept.mastercactapus = h
		}
	}
}

func parseC(b []byte, walk bool) (string, bool) {
	size, source, _ := csample.Parse(b, walk)
	if size != len(b) {
		return "", false
	}
	if !source.IsValid() {
		return "", true
	}
	return source.String(), true
}

func loopC(b []byte, walk bool, n int) { csample.Loop(b, walk, n) }

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
	walk    bool // through all TLVs afterwards
}

var parsings = []parsing{
	{name: "v1 TCP4", wire: wires.v1TCP4, source: source4.String()},
	{name: "v1 TCP6", wire: wires.v1TCP6, source: source6.String()},
	{name: "v1 TCP6, compressed", wire: wires.v1TCP6Short, source: source6short.String()},
	{name: "v1 UNKNOWN", wire: wires.v1Unknown},
	{name: "v1 UNKNOWN, 107 bytes", wire: wires.v1LongUnknown},
	{name: "v2 TCP4", wire: wires.v2TCP4, source: source4.String()},
	{name: "v2 TCP6", wire: wires.v2TCP6, source: source6.String()},
	{name: "v2 UNIX", wire: wires.v2Unix, source: "/run/haproxy/frontend.sock"},
	{name: "v2 four TLVs, walked", wire: wires.v2TLVs, source: source4.String(), walk: true},
	{name: "v2 SSL TLV, walked", wire: wires.v2SSL, source: source4.String(), walk: true},
	{name: "v2 100 bytes with CRC32C", wire: wires.v2CRC, source: source4.String()},
	{name: "v2 100 bytes without", wire: wires.v2NoCRC, source: source4.String()},
	{name: "v2 LOCAL", wire: wires.v2Local},
	{name: "refuse an HTTP request", wire: wires.httpRequest, refused: true},
	{name: refuseCRC, wire: wires.v2WrongCRC, refused: true},
	{name: "refuse 107 bytes without end", wire: wires.v1Endless, refused: true},
}

const refuseCRC = "refuse a wrong CRC32C"

// able reports whether a contender gets out of p what is in it; one that doesn't has no figure.
func (p parsing) able(c parser) bool {
	source, ok := c.once(bytes.Clone(p.wire), p.walk)
	switch {
	case p.refused && (c.name == nameArmon || p.name == refuseCRC && c.name == nameC):
		return false // what they don't know they can't refuse
	case p.refused:
		return !ok
	case c.name == nameC && p.name == "v2 UNIX":
		return ok // it is recognized and skipped, as section 9 does
	case c.name == nameMastercactapus && p.walk:
		return false
	}
	return ok && source == p.source
}

// parseWorks are all contenders at all parsings.
func parseWorks() []work {
	var all []work
	for _, p := range parsings {
		for _, c := range parsers {
			if !p.able(c) {
				continue
			}
			wire := bytes.Clone(p.wire)
			all = append(all, work{task{Work: p.name, By: c.name},
				func(n int) { c.loop(wire, p.walk, n) }})
		}
	}
	return all
}
