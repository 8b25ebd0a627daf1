package main

import (
	"errors"
	"net/netip"
	"slices"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/reassembly"

	"github.com/seed2e8fe8ee/proxyproto"
)

// New makes the stream of a connection, which this packet is the first of.
func (f *flows) New(_, _ gopacket.Flow, _ *layers.TCP,
	ac reassembly.AssemblerContext) reassembly.Stream {
	now := ac.(packetContext)
	s := now.segment
	c := &connection{flows: f, id: now.id, endpoints: s.endpoints()}
	c.halves[0] = &half{connection: c, source: s.source, destination: s.destination}
	c.halves[1] = &half{connection: c, source: s.destination, destination: s.source}
	f.conns[c.endpoints] = c
	f.connections++
	return c
}

// connection is a TCP connection in a capture.
type connection struct {
	flows     *flows
	id        int
	endpoints endpoints
	halves    [2]*half // the first is of whoever sent the first packet
	opened    bool     // its beginning is in the capture
	late      bool     // counted as begun before the capture
	shown     bool

	client  *half       // known once its handshake is
	first   uint32      // the client's first byte has this sequence number
	sent    bool        // a byte, if not by the server
	options []tcpOption // of the client's handshake
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
func (c *connection) Accept(tcp *layers.TCP, _ gopacket.CaptureInfo,
	dir reassembly.TCPFlowDirection,
	next reassembly.Sequence, start *bool, _ reassembly.AssemblerContext,
) bool {
	h := c.half(dir)
	switch {
	case tcp.SYN && !c.late:
		c.opened = true
		if tcp.ACK {
			c.client, c.first = c.half(!dir), tcp.Ack
			h.finish() // a server's
		} else {
			c.client, c.first = h, tcp.Seq+1
			c.half(!dir).finish()
		}
	case len(tcp.Payload) > 0 && next < 0:
		*start = true // although its SYN isn't there
		if !c.opened && !c.late {
			c.late = true
			c.flows.before++
		}
	}
	if h == c.client && (tcp.SYN || tcp.Seq == c.first) {
		c.option(tcp)
	}
	if tcp.RST {
		// The assembler ends only the half that sent it.
		c.half(!dir).decide(true)
	}
	return true
}

// over reports whether a SYN begins another connection between the same ports: it isn't this one's,
// whose end may have been a reset, or not be in the capture.
func (c *connection) over(syn *layers.TCP) bool {
	return c.late || c.client != nil && c.first != syn.Seq+1
}

// option notes what options a packet of the client's handshake has; of the same ones the first.
func (c *connection) option(tcp *layers.TCP) {
	const fixed = 20 // bytes of the TCP header
	for _, o := range toaOptions(tcp.Contents[fixed:], c.flows.now.number) {
		same := func(other tcpOption) bool {
			return other.Kind == o.Kind && other.Length == o.Length && other.Source == o.Source
		}
		if slices.ContainsFunc(c.options, same) {
			continue
		}
		if len(c.options) == 0 {
			c.flows.optioned++
		}
		c.options = append(c.options, o)
	}
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
		h.cut = ctx.segment.truncated
	}
	h.decide(end || h.cut)
}

// ReassemblyComplete is the end of both halves.
func (c *connection) ReassemblyComplete(reassembly.AssemblerContext) bool {
	if c.flows.conns[c.endpoints] == c {
		delete(c.flows.conns, c.endpoints)
	}
	for _, h := range c.halves {
		h.decide(true)
	}
	switch {
	case !c.opened || c.sent:
	case len(c.options) > 0:
		r := &report{Verdict: none, Flow: c.client.flow()}
		r.Flow.Packet = c.options[0].Packet
		c.flows.show(r)
	default:
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
		r.Flow.Second, r.Flow.TCPOptions = true, nil
		h.connection.flows.show(r)
	}
	h.finish()
}

func (h *half) flow() *flow {
	f := &flow{Packet: h.packet, Transport: "tcp", Source: h.source.String(),
		Destination: h.destination.String(), Opened: h.connection.opened, Cut: h.cut}
	if h == h.connection.client {
		f.TCPOptions = h.connection.options
	}
	return f
}

// finish lets the bytes go.
func (h *half) finish() {
	h.done, h.bytes = true, nil
	delete(h.connection.flows.undecided, h)
}
