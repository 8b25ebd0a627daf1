package main

import (
	"errors"
	"fmt"
	"hash/maphash"
	"net/netip"
	"slices"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/reassembly"

	"github.com/seed2e8fe8ee/proxyproto"
)

const (
	// How long, in the capture's own time, a gap may last before what follows is looked at, and
	// a silent connection is remembered.
	gapPatience, idlePatience = time.Minute, 10 * time.Minute

	// Bounds for what waits for missing segments, in pages of 1,900 bytes, and for the flows of
	// datagrams that are remembered.
	pagesOfOne, pagesOfAll = 64, 16 << 10
	maxUDPFlows            = 1 << 16
)

// flows follows what a capture has of TCP and UDP, and reports what their headers are as soon as
// that can be said. It keeps the beginnings of connections, and of datagrams nothing.
type flows struct {
	report    func(*report) error
	unpacker  *unpacker
	assembler *reassembly.Assembler
	now       packetContext
	sweep     time.Time
	undecided map[*half]bool
	udp       map[[2]netip.AddrPort]uint64 // the hash of the header that was reported
	seed      maphash.Seed

	last   []*report // those of the end, to be put in order
	ending bool
	err    error // of report

	shown, worst int // connections and datagrams that were reported, and their exit code

	connections, empty, before, bare, headed int // counts: bare and headed are datagrams
	foreign                                  map[layers.LinkType]int
}

// packetContext is what the assembler is told about a packet.
type packetContext struct {
	number    int
	truncated bool
	info      gopacket.CaptureInfo
}

func (c packetContext) GetCaptureInfo() gopacket.CaptureInfo { return c.info }

func newFlows(report func(*report) error) *flows {
	f := &flows{
		report: report, unpacker: newUnpacker(), worst: exitNoHeader, seed: maphash.MakeSeed(),
		undecided: map[*half]bool{}, udp: map[[2]netip.AddrPort]uint64{}, foreign: map[layers.LinkType]int{},
	}
	f.assembler = reassembly.NewAssembler(reassembly.NewStreamPool(f))
	f.assembler.MaxBufferedPagesPerConnection = pagesOfOne
	f.assembler.MaxBufferedPagesTotal = pagesOfAll
	return f
}

// add takes the next packet. It returns an error if a report can't be printed.
func (f *flows) add(b []byte, info gopacket.CaptureInfo, link layers.LinkType) error {
	f.now = packetContext{number: f.now.number + 1, info: info}
	if _, ok := firstLayers[link]; !ok {
		f.foreign[link]++
		return nil
	}
	s := f.unpacker.unpack(b, info, link)
	switch {
	case s == nil:
	case s.tcp != nil:
		f.now.truncated = s.truncated
		f.assembler.AssembleWithContext(s.net, s.tcp, f.now)
	case len(s.payload) > 0:
		f.datagram(s)
	}
	if t := info.Timestamp; t.Sub(f.sweep) > gapPatience/4 {
		f.sweep = t
		f.unpacker.forget(t.Add(-gapPatience))
		f.assembler.FlushWithOptions(reassembly.FlushOptions{T: t.Add(-gapPatience), TC: t.Add(-idlePatience)})
	}
	return f.err
}

// finish reports what is still undecided, in the order of the packets.
func (f *flows) finish() error {
	f.ending = true
	f.assembler.FlushAll()
	for h := range f.undecided {
		h.decide(true)
	}
	slices.SortFunc(f.last, func(a, b *report) int { return a.Flow.Packet - b.Flow.Packet })
	for _, r := range f.last {
		if f.err == nil {
			f.err = f.report(r)
		}
	}
	return f.err
}

// show reports a flow.
func (f *flows) show(r *report) {
	if !r.Flow.Second {
		f.shown++
		f.worst = worse(f.worst, r.code())
	}
	switch {
	case f.ending:
		f.last = append(f.last, r)
	case f.err == nil:
		f.err = f.report(r)
	}
}

// worse returns the exit code that says more about a capture of connections with both.
func worse(a, b int) int {
	for _, code := range []int{exitMalformed, exitIncomplete, exitOK} {
		if a == code || b == code {
			return code
		}
	}
	return exitNoHeader
}

// datagram reports the header of a datagram, unless its flow has had the same one.
func (f *flows) datagram(s *segment) {
	_, n, err := proxyproto.Parse(s.payload)
	if err == proxyproto.ErrNoHeader || err == proxyproto.ErrIncomplete && len(s.payload) < len(signature) {
		f.bare++
		return
	}
	f.headed++
	shown := s.payload
	if err == nil {
		shown = shown[:n]
	}
	key := [2]netip.AddrPort{s.source, s.destination}
	sum := maphash.Bytes(f.seed, shown)
	if last, ok := f.udp[key]; ok && last == sum {
		return
	}
	if len(f.udp) == maxUDPFlows {
		clear(f.udp)
	}
	f.udp[key] = sum
	r := examine(s.payload)
	r.Flow = &flow{Packet: f.now.number, Transport: "udp", Source: s.source.String(),
		Destination: s.destination.String(), Cut: s.truncated}
	f.show(r)
}

const signature = "\r\n\r\n\x00\r\nQUIT\n"

// New makes the stream of a connection, which this packet is the first of.
func (f *flows) New(net, _ gopacket.Flow, tcp *layers.TCP, _ reassembly.AssemblerContext) reassembly.Stream {
	s := segment{net: net}
	s.setPorts(uint16(tcp.SrcPort), uint16(tcp.DstPort))
	c := &connection{flows: f}
	c.halves[0] = &half{connection: c, source: s.source, destination: s.destination}
	c.halves[1] = &half{connection: c, source: s.destination, destination: s.source}
	return c
}

// connection is a TCP connection in a capture.
type connection struct {
	flows  *flows
	halves [2]*half // the first is of whoever sent the first packet
	began  bool     // counted, which the last ACK of one that has ended isn't
	opened bool     // its beginning is in the capture
	late   bool     // counted as begun before the capture
	shown  bool
	sent   bool // a byte
}

// half is what one end of a connection sent.
type half struct {
	connection          *connection
	source, destination netip.AddrPort
	packet              int    // the first with bytes
	bytes               []byte // what it began with, as long as that may say more
	header              int    // of these, how many are the header that was reported
	done                bool
	cut                 bool // the capture lacks what follows
}

func (c *connection) half(dir reassembly.TCPFlowDirection) *half {
	if dir == reassembly.TCPDirServerToClient {
		return c.halves[1]
	}
	return c.halves[0]
}

// Accept sees each packet before it is put in order.
func (c *connection) Accept(tcp *layers.TCP, _ gopacket.CaptureInfo, dir reassembly.TCPFlowDirection,
	next reassembly.Sequence, start *bool, _ reassembly.AssemblerContext,
) bool {
	h := c.half(dir)
	if !c.began && (tcp.SYN || len(tcp.Payload) > 0) {
		c.began = true
		c.flows.connections++
	}
	switch {
	case tcp.SYN && !c.late:
		c.opened = true
		if tcp.ACK {
			h.finish() // a server's
		} else {
			c.half(!dir).finish()
		}
	case len(tcp.Payload) > 0 && next < 0:
		*start = true // although its SYN isn't there
		if !c.opened && !c.late {
			c.late = true
			c.flows.before++
		}
	}
	if tcp.RST {
		// The assembler ends only the half that sent it.
		c.half(!dir).decide(true)
	}
	return true
}

// ReassembledSG takes bytes that are in order.
func (c *connection) ReassembledSG(sg reassembly.ScatterGather, ac reassembly.AssemblerContext) {
	dir, _, end, skipped := sg.Info()
	h := c.half(dir)
	if h.done {
		return
	}
	ctx := ac.(packetContext)
	n, _ := sg.Lengths()
	if skipped > 0 {
		h.cut = true
		h.decide(true)
	}
	if n > 0 && !h.done {
		c.sent = true
		if len(h.bytes) == 0 {
			h.packet = ctx.number
			c.flows.undecided[h] = true
		}
		h.bytes = append(h.bytes, sg.Fetch(n)...)
		h.cut = ctx.truncated
	}
	h.decide(end || h.cut)
}

// ReassemblyComplete is the end of both halves.
func (c *connection) ReassemblyComplete(reassembly.AssemblerContext) bool {
	for _, h := range c.halves {
		h.decide(true)
	}
	if c.opened && !c.sent {
		c.flows.empty++
	}
	return true
}

// decide reports the half if there is something to say about it; final says that no more bytes
// come.
func (h *half) decide(final bool) {
	if h.done || len(h.bytes) == 0 {
		h.done = h.done || final
		return
	}
	if h.header > 0 {
		h.second(final)
		return
	}
	_, n, err := proxyproto.Parse(h.bytes)
	if err == proxyproto.ErrIncomplete && !final {
		return
	}
	r := examine(h.bytes)
	c := h.connection
	if !c.opened && (r.Verdict == none || r.Verdict == incomplete && r.version == "") {
		h.finish() // an answer, or from the middle of a connection
		return
	}
	if !c.shown && c.late {
		c.flows.before--
	}
	c.shown = true
	r.Flow = h.flow()
	c.flows.show(r)
	if err != nil || r.Note != "" || final {
		h.finish()
		return
	}
	h.header = n
}

// second reports another header, which came later than the first.
func (h *half) second(final bool) {
	payload := h.bytes[h.header:]
	_, _, err := proxyproto.Parse(payload)
	if err == proxyproto.ErrIncomplete && !final {
		return
	}
	if r := examine(payload); err == nil || errors.Is(err, proxyproto.ErrMalformed) {
		r.Flow = h.flow()
		r.Flow.Second = true
		h.connection.flows.show(r)
	}
	h.finish()
}

func (h *half) flow() *flow {
	return &flow{Packet: h.packet, Transport: "tcp", Source: h.source.String(),
		Destination: h.destination.String(), Opened: h.connection.opened, Cut: h.cut}
}

// finish lets the bytes go.
func (h *half) finish() {
	h.done, h.bytes = true, nil
	delete(h.connection.flows.undecided, h)
}

// summary counts what there was.
func (f *flows) summary() string {
	said := count(f.now.number, "packet", ", ") + count(f.connections, "connection", "")
	for _, c := range []struct {
		n    int
		what string
		more string
	}{
		{f.before, "connection", " that began before the capture, so that its first bytes aren't in it"},
		{f.empty, "connection", " that ended without a byte"},
		{f.headed, "datagram", " with a header"},
		{f.bare, "datagram", " without one"},
	} {
		if c.n > 0 {
			said += "; " + count(c.n, c.what, c.more)
		}
	}
	for link, n := range f.foreign {
		said += "; " + count(n, "packet", fmt.Sprintf(" of link type %d, which can't be read", link))
	}
	return said
}

// count is a number of things with what is said about them.
func count(n int, what, more string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s%s", n, what, more)
}
