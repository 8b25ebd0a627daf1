package pcap

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
)

// Flow is what one end sent first on a TCP connection, or a UDP datagram.
type Flow struct {
	Transport           string // "tcp" or "udp"
	Source, Destination netip.AddrPort

	// Packet is the number of the first packet with payload, from 1, as tools show it.
	Packet int

	// Payload is what was sent, in order and each byte once.
	Payload []byte

	// Opened is whether the capture has the packet with which Source opened the TCP connection. If
	// not, Payload may be from its middle.
	Opened bool

	// Cut is whether the capture lacks what follows Payload.
	Cut bool
}

// maxEarly is how many segments of a flow may wait for one that comes before them.
const maxEarly = 256

// Flows returns the flows of a capture that have payload, in the order in which they began: of
// each TCP connection up to limit bytes of what its client sent (or each end, if the capture
// doesn't tell who opened it), and every UDP datagram. If the file is damaged the error comes with
// the flows before that.
func Flows(r io.Reader, limit int) ([]Flow, error) {
	c := conversations{limit: limit, tcp: map[ends]*stream{}}
	f, err := newFile(r)
	for err == nil {
		var p packet
		p, err = f.next()
		if err != nil {
			break
		}
		if !known(p.link) {
			err = fmt.Errorf("packet %d has the link type %d: captures of Ethernet, loopback, Linux's "+
				"\"any\" interface and raw IP can be read", p.number, p.link)
			break
		}
		if s, ok := parseSegment(ip(p.link, p.data)); ok {
			c.add(s, p.number)
		}
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = errors.New("the capture file is cut off")
	}
	if err == io.EOF {
		err = nil
	}
	return c.flows(), err
}

type ends struct{ source, destination netip.AddrPort }

// conversations sorts segments into flows.
type conversations struct {
	limit   int
	tcp     map[ends]*stream // the latest connection between two ends, in one direction
	streams []*stream        // all
}

func (c *conversations) add(s segment, number int) {
	if s.protocol == protocolUDP {
		st := c.begin(s, "udp")
		st.Packet, st.Payload, st.Cut = number, bytes.Clone(s.payload), s.missing > 0
		return
	}
	way := ends{s.source, s.destination}
	st := c.tcp[way]
	if s.flags&flagSYN != 0 {
		if st == nil || !st.begun || st.first != s.seq {
			st = c.begin(s, "tcp")
			st.begun, st.first, st.next = true, s.seq, s.seq+1
			st.server = s.flags&flagACK != 0
			st.Opened = !st.server
			c.tcp[way] = st
		}
		back := ends{s.destination, s.source}
		if st.server && c.tcp[back] == nil { // the client's SYN isn't in the capture
			client := c.begin(segment{source: s.destination, destination: s.source}, "tcp")
			client.begun, client.first, client.next = true, s.ack-1, s.ack
			client.Opened = true
			c.tcp[back] = client
		}
		s.seq++
	}
	if len(s.payload)+s.missing == 0 {
		return
	}
	if st == nil {
		st = c.begin(s, "tcp")
		st.next = s.seq
		c.tcp[way] = st
	}
	st.add(s, number, c.limit)
}

func (c *conversations) begin(s segment, transport string) *stream {
	st := &stream{Flow: Flow{Transport: transport, Source: s.source, Destination: s.destination}}
	c.streams = append(c.streams, st)
	return st
}

// flows returns those that the caller of Flows wants.
func (c *conversations) flows() []Flow {
	var flows []Flow
	for _, st := range c.streams {
		if st.server || st.Packet == 0 {
			continue
		}
		st.Cut = st.Cut || len(st.early) > 0
		flows = append(flows, st.Flow)
	}
	slices.SortStableFunc(flows, func(a, b Flow) int { return a.Packet - b.Packet })
	return flows
}

// stream is a Flow in the making.
type stream struct {
	Flow
	begun  bool      // the capture has its SYN, or the answer to it
	server bool      // its source answered the connection
	first  uint32    // the sequence number of the SYN, if begun
	next   uint32    // the sequence number that follows Payload
	early  []segment // that came before the one that belongs at next
}

func (st *stream) add(s segment, number, limit int) {
	if st.Packet == 0 {
		st.Packet = number
	}
	if st.Cut || len(st.Payload) >= limit {
		return
	}
	if int32(s.seq-st.next) > 0 {
		if len(st.early) < maxEarly {
			s.payload = bytes.Clone(s.payload)
			st.early = append(st.early, s)
		}
		return
	}
	st.take(s, limit)
	for i := 0; i < len(st.early); {
		if s := st.early[i]; int32(s.seq-st.next) <= 0 {
			st.early = slices.Delete(st.early, i, i+1)
			st.take(s, limit)
			i = 0
			continue
		}
		i++
	}
	if len(st.Payload) >= limit {
		st.early = nil
	}
}

// take appends what is new in a segment that begins at next or before.
func (st *stream) take(s segment, limit int) {
	known := int(st.next - s.seq)
	if known > len(s.payload) {
		return
	}
	fresh := s.payload[known:]
	st.next += uint32(len(fresh))
	st.Payload = append(st.Payload, fresh[:min(len(fresh), max(0, limit-len(st.Payload)))]...)
	st.Cut = s.missing > 0
}
