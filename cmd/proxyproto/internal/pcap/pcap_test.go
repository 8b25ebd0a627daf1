package pcap

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const (
	flagPSH = 0x08
	limit   = 1000
)

// handshake and what the client says, and an answer.
func conversation(client, server netip.AddrPort) [][]byte {
	return [][]byte{
		tcp(client, server, flagSYN, 99, 0, ""),
		tcp(server, client, flagSYN|flagACK, 499, 100, ""),
		tcp(client, server, flagACK, 100, 500, ""),
		tcp(client, server, flagACK|flagPSH, 100, 500, "hello"),
		tcp(server, client, flagACK|flagPSH, 500, 105, "answer"),
		tcp(client, server, flagACK|flagPSH, 105, 506, " world"),
		udp(client, server, "datagram"),
	}
}

func wantConversation(client, server netip.AddrPort) []Flow {
	return []Flow{
		{Transport: "tcp", Source: client, Destination: server, Packet: 4, Payload: []byte("hello world"), Opened: true},
		{Transport: "udp", Source: client, Destination: server, Packet: 7, Payload: []byte("datagram")},
	}
}

func read(t *testing.T, file []byte) []Flow {
	t.Helper()
	require.True(t, Is(file))
	flows, err := Flows(bytes.NewReader(file), limit)
	require.NoError(t, err)
	return flows
}

func TestFormats(t *testing.T) {
	for _, link := range []uint32{
		linkNull, linkEthernet, linkRawBSD, linkRawOBSD, linkRaw, linkLoop, linkSLL, linkIPv4, linkSLL2,
	} {
		for _, ends := range [][2]netip.AddrPort{{client4, server4}, {client6, server6}} {
			want := wantConversation(ends[0], ends[1])
			var frames [][]byte
			for _, p := range conversation(ends[0], ends[1]) {
				frames = append(frames, frame(link, p))
			}
			for _, order := range []binary.AppendByteOrder{binary.LittleEndian, binary.BigEndian} {
				name := fmt.Sprint(link, order)
				assert.Equal(t, want, read(t, classic(order, magicMicroseconds, link, frames...)), name)
				assert.Equal(t, want, read(t, classic(order, magicNanoseconds, link, frames...)), name)
				for _, kind := range []uint32{blockEnhancedPacket, blockSimplePacket, blockPacket} {
					assert.Equal(t, want, read(t, ng(order, kind, link, frames...)), "%s, block %d", name, kind)
				}
			}
		}
	}
	// The checksum's length stands above the link type.
	file := classic(binary.LittleEndian, magicMicroseconds, 0x14000000|linkRaw, conversation(client4, server4)...)
	assert.Equal(t, wantConversation(client4, server4), read(t, file))
}

// TestTcpdump reads what tcpdump 4.99.3 captured on Linux's loopback interface, as each of three
// link types: a connection with a header of version 2, one with version 1, and a datagram.
func TestTcpdump(t *testing.T) {
	for _, name := range []string{"ethernet", "sll", "sll2"} {
		file, err := os.ReadFile("testdata/" + name + ".pcap")
		require.NoError(t, err)
		flows := read(t, file)
		require.Len(t, flows, 4, name) // the fourth is the answer to the datagram
		assert.True(t, strings.HasPrefix(string(flows[0].Payload), "\r\n\r\n\x00\r\nQUIT\n\x21\x11"), name)
		assert.True(t, strings.HasSuffix(string(flows[0].Payload), "GET / HTTP/1.0\r\n\r\n"), name)
		assert.Equal(t, "PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\nGET / HTTP/1.0\r\n\r\n", string(flows[1].Payload), name)
		assert.True(t, strings.HasPrefix(string(flows[2].Payload), "\r\n\r\n\x00\r\nQUIT\n\x21\x12"), name)
		assert.True(t, strings.HasSuffix(string(flows[2].Payload), "query\n"), name)
		assert.Equal(t, "query\n", string(flows[3].Payload), name)
		for i, f := range flows {
			assert.Equal(t, i < 2, f.Opened, name)
			assert.False(t, f.Cut, name)
		}
	}
}

func TestNGSections(t *testing.T) {
	packets := conversation(client4, server4)
	var frames [][]byte
	for _, p := range packets[3:] {
		frames = append(frames, frame(linkEthernet, p))
	}
	// The second section has another byte order and link type.
	file := append(ng(binary.BigEndian, blockEnhancedPacket, linkRaw, packets[:3]...),
		ng(binary.LittleEndian, blockEnhancedPacket, linkEthernet, frames...)...)
	assert.Equal(t, wantConversation(client4, server4), read(t, file))
}

func TestNGSnapLen(t *testing.T) {
	order := binary.LittleEndian
	file := ng(order, blockSimplePacket, linkRaw)
	// An interface that keeps 32 bytes, so that a simple block doesn't say how many it has.
	i := bytes.Index(file, block(order, blockInterface, make([]byte, 8))[:8])
	binary.LittleEndian.PutUint32(file[i+12:], 32)
	p := udp(client4, server4, "datagram")
	body := append(order.AppendUint32(nil, uint32(len(p))), p[:32]...)
	flows := read(t, append(file, block(order, blockSimplePacket, body)...))
	require.Len(t, flows, 1)
	assert.Equal(t, "data", string(flows[0].Payload))
	assert.True(t, flows[0].Cut)
}

var streamCases = []struct {
	name    string
	packets [][]byte
	want    []Flow
}{
	{
		"out of order, once more, overlapping",
		[][]byte{
			tcp(client4, server4, flagSYN, 99, 0, ""),
			tcp(client4, server4, flagACK, 106, 0, "world"),
			tcp(client4, server4, flagACK, 104, 0, "o world!"),
			tcp(client4, server4, flagACK, 100, 0, "hel"),
			tcp(client4, server4, flagACK, 100, 0, "hel"),
			tcp(client4, server4, flagACK, 101, 0, "ell"),
		},
		[]Flow{{Packet: 2, Payload: []byte("hello world!"), Opened: true}},
	},
	{
		"a segment is missing",
		[][]byte{
			tcp(client4, server4, flagSYN, 99, 0, ""),
			tcp(client4, server4, flagACK, 100, 0, "hello"),
			tcp(client4, server4, flagACK, 106, 0, "world"),
		},
		[]Flow{{Packet: 2, Payload: []byte("hello"), Opened: true, Cut: true}},
	},
	{
		"the first segment is missing",
		[][]byte{
			tcp(client4, server4, flagSYN, 99, 0, ""),
			tcp(client4, server4, flagACK, 106, 0, "world"),
		},
		[]Flow{{Packet: 2, Opened: true, Cut: true}},
	},
	{
		"numbers that wrap around",
		[][]byte{
			tcp(client4, server4, flagSYN, 0xFFFFFFFD, 0, ""),
			tcp(client4, server4, flagACK, 3, 0, "world"),
			tcp(client4, server4, flagACK, 0xFFFFFFFE, 0, "hello"),
		},
		[]Flow{{Packet: 2, Payload: []byte("helloworld"), Opened: true}},
	},
	{
		"data with the SYN",
		[][]byte{
			tcp(client4, server4, flagSYN, 99, 0, "hel"),
			tcp(client4, server4, flagACK, 103, 0, "lo"),
		},
		[]Flow{{Packet: 1, Payload: []byte("hello"), Opened: true}},
	},
	{
		"the SYN twice",
		[][]byte{
			tcp(client4, server4, flagSYN, 99, 0, ""),
			tcp(client4, server4, flagACK, 100, 0, "hel"),
			tcp(client4, server4, flagSYN, 99, 0, ""),
			tcp(client4, server4, flagACK, 103, 0, "lo"),
		},
		[]Flow{{Packet: 2, Payload: []byte("hello"), Opened: true}},
	},
	{
		"the same ports again",
		[][]byte{
			tcp(client4, server4, flagSYN, 99, 0, ""),
			tcp(client4, server4, flagACK, 100, 0, "first"),
			tcp(client4, server4, flagSYN, 7000, 0, ""),
			tcp(client4, server4, flagACK, 7001, 0, "second"),
		},
		[]Flow{
			{Packet: 2, Payload: []byte("first"), Opened: true},
			{Packet: 4, Payload: []byte("second"), Opened: true},
		},
	},
	{
		"only the answer to the SYN",
		[][]byte{
			tcp(server4, client4, flagSYN|flagACK, 499, 100, "banner"),
			tcp(client4, server4, flagACK, 103, 500, "lo"),
			tcp(client4, server4, flagACK, 100, 500, "hel"),
		},
		[]Flow{{Packet: 2, Payload: []byte("hello"), Opened: true}},
	},
	{
		"from the middle",
		[][]byte{
			tcp(client4, server4, flagACK, 100, 500, ""),
			tcp(client4, server4, flagACK, 100, 500, "hel"),
			tcp(client4, server4, flagACK, 103, 500, "lo"),
		},
		[]Flow{{Packet: 2, Payload: []byte("hello")}},
	},
	{
		"more than the limit",
		[][]byte{
			tcp(client4, server4, flagSYN, 99, 0, ""),
			tcp(client4, server4, flagACK, 1400, 0, "c"),
			tcp(client4, server4, flagACK, 100, 0, strings.Repeat("a", 600)),
			tcp(client4, server4, flagACK, 700, 0, strings.Repeat("b", 600)),
			tcp(client4, server4, flagACK, 1300, 0, "d"),
		},
		[]Flow{{Packet: 2, Payload: []byte(strings.Repeat("a", 600) + strings.Repeat("b", 400)), Opened: true}},
	},
	{
		"captured in part, and no more",
		[][]byte{
			tcp(client4, server4, flagSYN, 99, 0, ""),
			tcp(client4, server4, flagACK, 100, 0, "hello")[:20+24+3],
		},
		[]Flow{{Packet: 2, Payload: []byte("hel"), Opened: true, Cut: true}},
	},
	{
		"captured in part",
		[][]byte{
			tcp(client4, server4, flagSYN, 99, 0, ""),
			tcp(client4, server4, flagACK, 100, 0, "hello")[:20+24+3],
			tcp(client4, server4, flagACK, 105, 0, "world"),
			udp(client4, server4, "datagram")[:20+8],
		},
		[]Flow{
			{Packet: 2, Payload: []byte("hel"), Opened: true, Cut: true},
			{Transport: "udp", Packet: 4, Payload: []byte{}, Cut: true},
		},
	},
}

func TestStreams(t *testing.T) {
	for _, c := range streamCases {
		t.Run(c.name, func(t *testing.T) {
			for i := range c.want {
				if c.want[i].Transport == "" {
					c.want[i].Transport = "tcp"
				}
				c.want[i].Source, c.want[i].Destination = client4, server4
			}
			assert.Equal(t, c.want, read(t, capture(c.packets...)))
		})
	}
}

func TestPackets(t *testing.T) {
	hello := tcp(client6, server6, flagSYN, 99, 0, "hello")
	withHeaders := func(first byte, headers string) []byte {
		return ipv6(client6, server6, first, append([]byte(headers), hello[40:]...))
	}
	edit := func(p []byte, at int, with ...byte) []byte {
		p = bytes.Clone(p)
		copy(p[at:], with)
		return p
	}
	hello4 := tcp(client4, server4, flagSYN, 99, 0, "hello")
	datagram := udp(client4, server4, "datagram")
	for _, c := range []struct {
		name string
		link uint32
		data []byte
		want string // "" if no payload is to be found
		cut  bool
	}{
		{"IPv6 only", linkIPv6, hello, "hello", false},
		{"VLAN", linkEthernet, append(append(make([]byte, 12), 0x81, 0, 0, 7, 0x86, 0xDD), hello...), "hello", false},
		{"two VLANs", linkEthernet, append(append(make([]byte, 12), 0x88, 0xA8, 0, 7, 0x81, 0, 0, 7, 0x86, 0xDD), hello...), "hello", false},
		{"ARP", linkEthernet, append(append(make([]byte, 12), 0x08, 0x06), hello...), "", false},
		{"ARP on any", linkSLL, append(append(make([]byte, 14), 0x08, 0x06), hello...), "", false},
		{"padded", linkRaw, append(bytes.Clone(hello4), "padding"...), "hello", false},
		{"IPv6 padded", linkRaw, append(bytes.Clone(hello), "padding"...), "hello", false},
		{"to be cut by the network card", linkRaw, edit(hello4, 2, 0, 0), "hello", false},
		{"IPv6, to be cut by the network card", linkRaw, edit(hello, 4, 0, 0), "hello", false},
		{"hop-by-hop and destination options", linkRaw, withHeaders(0, "\x3C\x01......\x00\x00\x00\x00\x00\x00\x00\x00\x06\x00......"), "hello", false},
		{"a fragment that is all", linkRaw, withHeaders(44, "\x06\x00\x00\x00...."), "hello", false},
		{"a later fragment", linkRaw, withHeaders(44, "\x06\x00\x00\x08...."), "", false},
		{"options that are cut off", linkRaw, ipv6(client6, server6, 0, []byte("\x06\xFF......")), "", false},
		{"IPv4, a later fragment", linkRaw, edit(hello4, 6, 0x00, 0x01), "", false},
		{"IPv4, ICMP", linkRaw, edit(hello4, 9, 1), "", false},
		{"IPv6, ICMP", linkRaw, edit(hello, 6, 58), "", false},
		{"IPv4, the head too short", linkRaw, append(edit(hello4, 0, 0x44)[:16], hello4[20:]...), "", false},
		{"IPv4, the packet too short", linkRaw, edit(hello4, 2, 0, 19), "", false},
		{"IPv5", linkRaw, edit(hello4, 0, 0x55), "", false},
		{"TCP, the head too short", linkRaw, edit(hello4, 20+12, 0x10), "", false},
		{"TCP, the head too long", linkRaw, edit(hello4, 20+12, 0xF0), "", false},
		{"TCP, the packet too short for its head", linkRaw, edit(hello4, 2, 0, 30), "", false},
		{"UDP, the first of two fragments", linkRaw, edit(datagram, 20+4, 0, 99), "datagram", true},
		{"UDP, shorter than IP says", linkRaw, edit(datagram, 20+4, 0, 12), "data", false},
		{"UDP, no length", linkRaw, edit(datagram, 20+4, 0, 0), "datagram", false},
		{"half an IPv4 head", linkRaw, hello4[:19], "", false},
		{"half an IPv6 head", linkRaw, hello[:39], "", false},
		{"half a TCP head", linkRaw, hello4[:39], "", false},
		{"half an Ethernet head", linkEthernet, make([]byte, 13), "", false},
		{"nothing", linkNull, nil, "", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			flows := read(t, classic(binary.LittleEndian, magicMicroseconds, c.link, c.data))
			if c.want == "" {
				assert.Empty(t, flows)
				return
			}
			require.Len(t, flows, 1)
			assert.Equal(t, c.want, string(flows[0].Payload))
			assert.Equal(t, c.cut, flows[0].Cut)
		})
	}
}

func TestDamagedFiles(t *testing.T) {
	order := binary.LittleEndian
	packets := conversation(client4, server4)
	whole := capture(packets...)
	wholeNG := ng(order, blockEnhancedPacket, linkRaw, packets...)
	network := block(order, blockInterface, append(order.AppendUint16(nil, linkRaw), 0, 0, 0, 0, 0, 0))
	head := wholeNG[:bytes.Index(wholeNG, network)]
	for name, c := range map[string]struct {
		file  []byte
		flows int
		err   string
	}{
		"empty":                  {nil, 0, "not a pcap or pcapng file"},
		"text":                   {[]byte("PROXY UNKNOWN\r\n"), 0, "not a pcap or pcapng file"},
		"no more than the magic": {whole[:4], 0, "is cut off"},
		"is cut off":             {whole[:len(whole)-1], 1, "is cut off"},
		"ends inside a head":     {append(bytes.Clone(whole), 1), 2, "is cut off"},
		"ends inside a block":    {wholeNG[:len(wholeNG)-1], 1, "is cut off"},
		"ends inside a section":  {wholeNG[:10], 0, "is cut off"},
		"ends behind a type":     {append(bytes.Clone(wholeNG), 6, 0, 0, 0), 2, "is cut off"},
		"a giant packet":         {append(bytes.Clone(whole), bytes.Repeat([]byte{0xFF}, 16)...), 2, "damaged"},
		"an unknown link type":   {classic(order, magicMicroseconds, 147, packets...), 0, "link type 147"},
		"an unknown byte order":  {append([]byte{10, 13, 13, 10, 28, 0, 0, 0}, "wxyz"...), 0, "not a pcap"},
		"a short section":        {append([]byte{10, 13, 13, 10, 12, 0, 0, 0}, 0x4D, 0x3C, 0x2B, 0x1A), 0, "damaged"},
		"a block of 8 bytes":     {append(bytes.Clone(head), 6, 0, 0, 0, 8, 0, 0, 0), 0, "length 8"},
		"a block of 13 bytes":    {append(bytes.Clone(head), 6, 0, 0, 0, 13, 0, 0, 0), 0, "length 13"},
		"a short interface":      {append(bytes.Clone(head), block(order, blockInterface, make([]byte, 4))...), 0, "type 1"},
		"no interface":           {append(bytes.Clone(head), block(order, blockEnhancedPacket, make([]byte, 20))...), 0, "type 6"},
		"no interface, simple":   {append(bytes.Clone(head), block(order, blockSimplePacket, make([]byte, 4))...), 0, "type 3"},
		"a short packet block":   {append(bytes.Clone(wholeNG), block(order, blockEnhancedPacket, make([]byte, 16))...), 2, "type 6"},
		"too long for its block": {append(bytes.Clone(wholeNG), block(order, blockSimplePacket, []byte{9, 0, 0, 0})...), 2, "type 3"},
	} {
		flows, err := Flows(bytes.NewReader(c.file), limit)
		assert.ErrorContains(t, err, c.err, name)
		assert.Len(t, flows, c.flows, name)
	}
}

// TestOrder: flows come in the order of their first payload, whichever SYN came first.
func TestOrder(t *testing.T) {
	other := netip.AddrPortFrom(client4.Addr(), 1)
	flows := read(t, capture(
		tcp(client4, server4, flagSYN, 99, 0, ""),
		tcp(other, server4, flagSYN, 99, 0, "first"),
		tcp(client4, server4, flagACK, 100, 0, "second"),
	))
	require.Len(t, flows, 2)
	assert.Equal(t, other, flows[0].Source)
	assert.Equal(t, client4, flows[1].Source)
}

func TestIs(t *testing.T) {
	for name, b := range map[string]string{
		"v1": "PROXY TCP4", "v2": "\r\n\r\n\x00\r\nQUIT\n", "empty": "", "short": "\x0a\x0d\x0d",
	} {
		assert.False(t, Is([]byte(b)), name)
	}
}

// FuzzFlows: no file makes it panic, or keep more than it should.
func FuzzFlows(f *testing.F) {
	for _, c := range streamCases {
		f.Add(capture(c.packets...))
	}
	for _, link := range []uint32{linkEthernet, linkSLL2, linkNull} {
		var frames [][]byte
		for _, p := range conversation(client6, server6) {
			frames = append(frames, frame(link, p))
		}
		f.Add(classic(binary.BigEndian, magicNanoseconds, link, frames...))
		f.Add(ng(binary.LittleEndian, blockEnhancedPacket, link, frames...))
		f.Add(ng(binary.BigEndian, blockSimplePacket, link, frames...))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		flows, _ := Flows(bytes.NewReader(b), limit)
		last := 0
		for _, flow := range flows {
			assert.GreaterOrEqual(t, flow.Packet, last)
			last = flow.Packet
			if flow.Transport == "tcp" {
				assert.LessOrEqual(t, len(flow.Payload), limit)
			}
			assert.True(t, bytes.Contains(b, flow.Payload[:min(1, len(flow.Payload))]))
		}
	})
}
