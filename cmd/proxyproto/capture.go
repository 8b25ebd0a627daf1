package main

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/ip4defrag"
	"github.com/gopacket/gopacket/ip6defrag"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
)

// The first bytes of capture files: pcap in both byte orders with microseconds and nanoseconds,
// and pcapng.
var captureMagic = [][]byte{
	{0xa1, 0xb2, 0xc3, 0xd4}, {0xd4, 0xc3, 0xb2, 0xa1},
	{0xa1, 0xb2, 0x3c, 0x4d}, {0x4d, 0x3c, 0xb2, 0xa1}, pcapngMagic,
}

var pcapngMagic = []byte{0x0a, 0x0d, 0x0d, 0x0a}

var gzipMagic = []byte{0x1f, 0x8b}

// uncompressed returns in, or what it has packed if it begins as gzip does.
func uncompressed(in *bufio.Reader) (*bufio.Reader, error) {
	if head, _ := in.Peek(len(gzipMagic)); !bytes.Equal(head, gzipMagic) {
		return in, nil
	}
	z, err := gzip.NewReader(in)
	if err != nil {
		return nil, fmt.Errorf("the compressed input: %w", err)
	}
	return bufio.NewReader(z), nil
}

// openCapture returns a reader of packets if in begins as a capture file does, and nil if it
// doesn't. It takes no bytes then.
func openCapture(in *bufio.Reader) (packets, error) {
	head, _ := in.Peek(len(pcapngMagic))
	for _, magic := range captureMagic {
		if !bytes.Equal(head, magic) {
			continue
		}
		if bytes.Equal(magic, pcapngMagic) {
			r, err := pcapgo.NewNgReader(in, pcapgo.NgReaderOptions{
				WantMixedLinkType: true, SkipUnknownVersion: true,
			})
			if err != nil {
				return nil, captureError(0, err)
			}
			return func() ([]byte, gopacket.CaptureInfo, layers.LinkType, error) {
				b, ci, err := r.ReadPacketData()
				if err != nil {
					return nil, ci, 0, err
				}
				return b, ci, ci.AncillaryData[0].(layers.LinkType), nil
			}, nil
		}
		r, err := pcapgo.NewReader(in)
		if err != nil {
			return nil, captureError(0, err)
		}
		return func() ([]byte, gopacket.CaptureInfo, layers.LinkType, error) {
			b, ci, err := r.ReadPacketData()
			return b, ci, r.LinkType(), err
		}, nil
	}
	return nil, nil
}

// packets returns the next packet of a capture, in bytes that it doesn't use again.
type packets func() ([]byte, gopacket.CaptureInfo, layers.LinkType, error)

// captureError says how far a capture could be read: number is its last good packet.
func captureError(number int, err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("the capture is cut off after packet %d", number)
	}
	return fmt.Errorf("the capture can't be read beyond packet %d: %w", number, err)
}

// firstLayers are the link types that can be read.
var firstLayers = map[layers.LinkType]gopacket.LayerType{
	layers.LinkTypeEthernet:  layers.LayerTypeEthernet,
	layers.LinkTypeNull:      layers.LayerTypeLoopback,
	layers.LinkTypeLoop:      layers.LayerTypeLoopback,
	layers.LinkTypeLinuxSLL:  layers.LayerTypeLinuxSLL,
	layers.LinkTypeLinuxSLL2: layers.LayerTypeLinuxSLL2,
	layers.LinkTypeIPv4:      layers.LayerTypeIPv4,
	layers.LinkTypeIPv6:      layers.LayerTypeIPv6,
	layers.LinkTypeRaw:       0, // by the IP version
	layerRawBSD:              0,
	layerRawOpenBSD:          0,
}

// What libpcap calls LINKTYPE_RAW in files of some systems.
const (
	layerRawBSD     layers.LinkType = 12
	layerRawOpenBSD layers.LinkType = 14
)

// maxFragments is how many bytes of packets with fragments are kept at most. Then what isn't
// complete is forgotten.
const maxFragments = 64 << 20

// unpacker takes packets apart down to TCP and UDP, and puts fragments together.
type unpacker struct {
	container gopacket.DecodingLayerContainer
	parsers   map[gopacket.LayerType]*gopacket.DecodingLayerParser
	defrag4   *ip4defrag.IPv4Defragmenter
	defrag6   *ip6defrag.IPv6Defragmenter
	fragments int // bytes of packets that the two may have
	decoded   []gopacket.LayerType

	ip4       layers.IPv4
	ip6       layers.IPv6
	fragment6 layers.IPv6Fragment
	tcp       layers.TCP
	udp       layers.UDP
}

// A segment is what a packet has of TCP or UDP. It is valid until the next.
type segment struct {
	source, destination netip.AddrPort
	net                 gopacket.Flow
	tcp                 *layers.TCP // nil for UDP
	payload             []byte
	truncated           bool // the capture doesn't have all of it
}

func newUnpacker() *unpacker {
	u := &unpacker{parsers: map[gopacket.LayerType]*gopacket.DecodingLayerParser{}}
	u.forgetFragments()
	u.container = gopacket.DecodingLayerMap(nil)
	for _, l := range []gopacket.DecodingLayer{
		new(layers.Ethernet), new(layers.Dot1Q), new(layers.LinuxSLL), new(layers.LinuxSLL2),
		new(layers.Loopback), new(layers.IPv6ExtensionSkipper),
		&u.ip4, &u.ip6, &u.fragment6, &u.tcp, &u.udp,
	} {
		u.container = u.container.Put(l)
	}
	return u
}

// unpack returns the TCP or UDP segment that a packet has or completes, or nil.
func (u *unpacker) unpack(b []byte, ci gopacket.CaptureInfo, link layers.LinkType) *segment {
	first := firstLayers[link]
	if first == 0 && len(b) > 0 {
		first = layers.LayerTypeIPv4
		if b[0]>>4 == 6 {
			first = layers.LayerTypeIPv6
		}
	}
	s, last := u.decode(first, b)
	switch {
	case s.truncated: // what is left of a fragment is none
	case last == layers.LayerTypeIPv4 && u.ip4.NextLayerType() == gopacket.LayerTypeFragment:
		u.keep(b)
		in := u.ip4
		out, err := u.defrag4.DefragIPv4WithTimestamp(&in, ci.Timestamp)
		if err != nil || out == nil {
			return nil
		}
		s, last = u.decode(out.NextLayerType(), out.Payload)
		s.net = out.NetworkFlow()
	case last == layers.LayerTypeIPv6Fragment:
		u.keep(b)
		ip, fragment := u.ip6, u.fragment6
		out := u.defrag6.DefragIPv6(&ip, &fragment)
		if out == nil {
			return nil
		}
		s, last = u.decode(out.NextLayerType(), out.Payload)
		s.net = out.NetworkFlow()
	}
	switch last {
	case layers.LayerTypeTCP:
		s.tcp, s.payload = &u.tcp, u.tcp.Payload
		s.setPorts(uint16(u.tcp.SrcPort), uint16(u.tcp.DstPort))
	case layers.LayerTypeUDP:
		s.payload = u.udp.Payload
		s.setPorts(uint16(u.udp.SrcPort), uint16(u.udp.DstPort))
	default:
		return nil
	}
	return s
}

// setPorts makes the endpoints of the segment.
func (s *segment) setPorts(source, destination uint16) {
	src, dst := s.net.Endpoints()
	a, _ := netip.AddrFromSlice(src.Raw())
	b, _ := netip.AddrFromSlice(dst.Raw())
	s.source, s.destination = netip.AddrPortFrom(a, source), netip.AddrPortFrom(b, destination)
}

// endpoints returns the segment's addresses, in the same order whichever way it goes.
func (s *segment) endpoints() endpoints {
	if s.source.Compare(s.destination) > 0 {
		return endpoints{s.destination, s.source}
	}
	return endpoints{s.source, s.destination}
}

// keep counts a packet with a fragment.
func (u *unpacker) keep(b []byte) {
	if u.fragments += len(b); u.fragments > maxFragments {
		u.forgetFragments()
		u.fragments = len(b)
	}
}

func (u *unpacker) forgetFragments() {
	u.defrag4, u.defrag6 = ip4defrag.NewIPv4Defragmenter(), ip6defrag.NewIPv6Defragmenter()
	u.fragments = 0
}

// forget drops IPv4 fragments that are older than a time in the capture: their numbers are used
// again soon. IPv6's are longer.
func (u *unpacker) forget(before time.Time) {
	u.defrag4.DiscardOlderThan(before)
}

// decode takes bytes apart, and returns the last layer that it could.
func (u *unpacker) decode(first gopacket.LayerType, b []byte) (*segment, gopacket.LayerType) {
	parser := u.parsers[first]
	if parser == nil {
		parser = gopacket.NewDecodingLayerParser(first)
		parser.IgnoreUnsupported = true
		parser.SetDecodingLayerContainer(u.container)
		u.parsers[first] = parser
	}
	u.decoded = u.decoded[:0]
	// What an error is about isn't among the decoded layers.
	_ = parser.DecodeLayers(b, &u.decoded)
	s := &segment{truncated: parser.Truncated}
	last := gopacket.LayerTypeZero
	for _, typ := range u.decoded {
		last = typ
		switch typ {
		case layers.LayerTypeIPv4:
			s.net = u.ip4.NetworkFlow()
		case layers.LayerTypeIPv6:
			s.net = u.ip6.NetworkFlow()
		}
	}
	return s, last
}
