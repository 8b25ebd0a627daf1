package main

import (
	"fmt"
	"hash/maphash"
	"maps"
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

	// Bounds for what waits for missing segments, in pages of 1,900 bytes, and for how many
	// connections and flows of datagrams are remembered.
	pagesOfOne, pagesOfAll = 64, 16 << 10
	maxConnections         = 1 << 16
	maxUDPFlows            = 1 << 16
)

// flows follows what a capture has of TCP and UDP, and reports what their headers are as soon as
// that can be said. It keeps the beginnings of connections, and of datagrams nothing.
type flows struct {
	report    func(*report) error
	unpacker  *unpacker
	assembler *reassembly.Assembler
	now       packetContext
	sweep     time.Time // when it was looked for what is old
	unswept   int       // packets since
	conns     map[endpoints]*connection
	most      int // of conns
	undecided map[*half]bool
	udp       map[endpoints]uint64 // the hash of the header that was reported
	seed      maphash.Seed

	last   []*report // those of the end, to be put in order
	ending bool
	err    error // of report

	shown, worst int // connections and datagrams that were reported, and their exit code

	ids int // how many connections have been told apart

	connections, empty, before, optioned int                     // counts of connections
	bare, headed                         int                     // counts of datagrams
	foreign                              map[layers.LinkType]int // of packets
}

// endpoints are a flow's source and destination.
type endpoints [2]netip.AddrPort

// packetContext is what the assembler is told about a packet.
type packetContext struct {
	number  int
	segment *segment
	id      int // of its connection
	info    gopacket.CaptureInfo
}

func (c packetContext) GetCaptureInfo() gopacket.CaptureInfo { return c.info }

func newFlows(report func(*report) error) *flows {
	f := &flows{
		report: report, unpacker: newUnpacker(), worst: exitNoHeader, seed: maphash.MakeSeed(),
		conns: map[endpoints]*connection{}, most: maxConnections, undecided: map[*half]bool{},
		udp: map[endpoints]uint64{}, foreign: map[layers.LinkType]int{},
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
		f.assemble(s)
	case len(s.payload) > 0:
		f.datagram(s)
	}
	f.flush(info.Timestamp)
	return f.err
}

// assemble passes a segment on to its connection. The assembler tells connections apart by their
// addresses and ports alone: so that those that use a port again don't get mixed up, each is given
// addresses of a type of its own.
func (f *flows) assemble(s *segment) {
	c := f.conns[s.endpoints()]
	switch {
	case c == nil && !s.tcp.SYN && len(s.payload) == 0:
		return // the end of a connection that is done with, or of one from before the capture
	case c == nil, s.tcp.SYN && !s.tcp.ACK && c.over(s.tcp):
		f.ids++
		f.now.id = f.ids
	default:
		f.now.id = c.id
	}
	f.now.segment = s
	src, dst := s.net.Endpoints()
	flow := gopacket.NewFlow(gopacket.EndpointType(f.now.id), src.Raw(), dst.Raw())
	f.assembler.AssembleWithContext(flow, s.tcp, f.now)
}

// flush looks at what has waited long for a missing segment, and forgets what was silent for long.
func (f *flows) flush(t time.Time) {
	f.unswept++
	switch {
	case f.unswept < len(f.conns): // it takes as long as all these packets did
	case t.Sub(f.sweep) > gapPatience/4:
		f.sweep, f.unswept = t, 0
		f.unpacker.forget(t.Add(-gapPatience))
		f.forget(t, idlePatience)
	case f.sweep.Sub(t) > idlePatience: // the time of a packet before was a lie
		f.sweep = t
	}
	if len(f.conns) < f.most {
		return
	}
	for patience := gapPatience; len(f.conns) > f.most/2; patience /= 4 {
		if patience == 0 { // their times say nothing
			f.assembler.FlushAll()
			break
		}
		f.forget(t, patience)
	}
}

func (f *flows) forget(t time.Time, patience time.Duration) {
	f.assembler.FlushWithOptions(reassembly.FlushOptions{
		T: t.Add(-min(gapPatience, patience)), TC: t.Add(-patience),
	})
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
	if err == proxyproto.ErrNoHeader || err == proxyproto.ErrIncomplete &&
		len(s.payload) < len(signature) {
		f.bare++
		return
	}
	f.headed++
	shown := s.payload
	if err == nil {
		shown = shown[:n]
	}
	key := endpoints{s.source, s.destination}
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

// summary counts what there was.
func (f *flows) summary() string {
	said := count(f.now.number, "packet", ", ") + count(f.connections, "connection", "")
	for _, c := range []struct {
		n    int
		what string
		more string
	}{
		{f.before, "connection", " that began before the capture, so that its first bytes aren't " +
			"in it"},
		{f.empty, "connection", " without a byte of the client's"},
		{f.optioned, "connection", " with the client's address in a TCP option"},
		{f.headed, "datagram", " with a header"},
		{f.bare, "datagram", " without one"},
	} {
		if c.n > 0 {
			said += "; " + count(c.n, c.what, c.more)
		}
	}
	for _, link := range slices.Sorted(maps.Keys(f.foreign)) {
		said += "; " + count(f.foreign[link], "packet",
			fmt.Sprintf(" of link type %d, which can't be read", link))
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
