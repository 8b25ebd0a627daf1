package main

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// wire makes packets of connections from one client to one server, at one time after the other.
type wire struct {
	t                *testing.T
	client, server   net.IP
	ether            []gopacket.SerializableLayer // in front of IP
	clientSeq, srvSq uint32
	port             layers.TCPPort
}

func newWire(t *testing.T, client, server string) *wire {
	w := &wire{t: t, client: net.ParseIP(client), server: net.ParseIP(server), port: 40000,
		clientSeq: 1000, srvSq: 5000}
	typ := layers.EthernetTypeIPv6
	if w.client.To4() != nil {
		typ = layers.EthernetTypeIPv4
	}
	w.ether = []gopacket.SerializableLayer{&layers.Ethernet{SrcMAC: make([]byte, 6),
		DstMAC: make([]byte, 6), EthernetType: typ}}
	return w
}

// vlan puts two tags between Ethernet and IP.
func (w *wire) vlan() *wire {
	e := w.ether[0].(*layers.Ethernet)
	inner := &layers.Dot1Q{VLANIdentifier: 7, Type: e.EthernetType}
	w.ether = []gopacket.SerializableLayer{
		&layers.Ethernet{SrcMAC: e.SrcMAC, DstMAC: e.DstMAC, EthernetType: layers.EthernetTypeQinQ},
		&layers.Dot1Q{VLANIdentifier: 9, Type: layers.EthernetTypeDot1Q}, inner,
	}
	return w
}

func (w *wire) ip(from, to net.IP, protocol layers.IPProtocol) gopacket.SerializableLayer {
	if from.To4() != nil {
		return &layers.IPv4{Version: 4, TTL: 64, Id: 7, Protocol: protocol, SrcIP: from, DstIP: to}
	}
	return &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: protocol, SrcIP: from, DstIP: to}
}

func (w *wire) pack(parts ...gopacket.SerializableLayer) []byte {
	b := gopacket.NewSerializeBuffer()
	require.NoError(w.t, gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true},
		append(w.ether[:len(w.ether):len(w.ether)], parts...)...))
	return bytes.Clone(b.Bytes())
}

// tcp is a segment of the client's at an offset in its stream.
func (w *wire) tcp(flags string, offset int, payload string) []byte {
	return w.segment(w.client, w.server, w.port, 80, w.clientSeq, flags, offset, payload)
}

// answer is one of the server's.
func (w *wire) answer(flags string, offset int, payload string) []byte {
	return w.segment(w.server, w.client, 80, w.port, w.srvSq, flags, offset, payload)
}

func (w *wire) segment(from, to net.IP, src, dst layers.TCPPort, isn uint32, flags string,
	offset int, payload string) []byte {
	tcp := &layers.TCP{SrcPort: src, DstPort: dst, Seq: isn + 1 + uint32(offset), Window: 1000,
		SYN: strings.Contains(flags, "S"), ACK: strings.Contains(flags, "A"),
		FIN: strings.Contains(flags, "F"), RST: strings.Contains(flags, "R")}
	if tcp.SYN {
		tcp.Seq--
	}
	return w.pack(w.ip(from, to, layers.IPProtocolTCP), tcp, gopacket.Payload(payload))
}

func (w *wire) udp(payload string) []byte {
	return w.pack(w.ip(w.client, w.server, layers.IPProtocolUDP), &layers.UDP{SrcPort: 5353,
		DstPort: 53}, gopacket.Payload(payload))
}

// open is the handshake.
func (w *wire) open() [][]byte {
	return [][]byte{w.tcp("S", 0, ""), w.answer("SA", 0, ""), w.tcp("A", 0, "")}
}

var captureStart = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

// pcapOf is a capture file of packets a millisecond apart.
func pcapOf(t testing.TB, link layers.LinkType, packets ...[]byte) []byte {
	t.Helper()
	var file bytes.Buffer
	w := pcapgo.NewWriter(&file)
	require.NoError(t, w.WriteFileHeader(65535, link))
	for i, p := range packets {
		require.NoError(t, w.WritePacket(infoOf(i, p), p))
	}
	return file.Bytes()
}

func infoOf(i int, p []byte) gopacket.CaptureInfo {
	return gopacket.CaptureInfo{Timestamp: captureStart.Add(time.Duration(i) * time.Millisecond),
		CaptureLength: len(p), Length: len(p)}
}

// pcapngOf is the same as pcapng.
func pcapngOf(t testing.TB, packets ...[]byte) []byte {
	t.Helper()
	var file bytes.Buffer
	w, err := pcapgo.NewNgWriter(&file, layers.LinkTypeEthernet)
	require.NoError(t, err)
	for i, p := range packets {
		require.NoError(t, w.WritePacket(infoOf(i, p), p))
	}
	require.NoError(t, w.Flush())
	return file.Bytes()
}

// decoded runs decode on a capture, in this process, and returns its reports and what it says.
func decoded(t *testing.T, file []byte) (reports []report, stderr string, code int) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run([]string{"decode", "--json"}, bytes.NewReader(file), &out, &errs)
	for line := range strings.Lines(out.String()) {
		var r report
		require.NoError(t, json.Unmarshal([]byte(line), &r))
		reports = append(reports, r)
	}
	return reports, errs.String(), code
}

// fragments4 cuts an IPv4 packet behind Ethernet into fragments of 16 bytes.
func fragments4(w *wire, packet []byte) (all [][]byte) {
	p := gopacket.NewPacket(packet, layers.LayerTypeEthernet, gopacket.Default)
	ip := *p.Layer(layers.LayerTypeIPv4).(*layers.IPv4)
	payload := ip.Payload
	for at := 0; at < len(payload); at += 16 {
		part := ip
		part.FragOffset = uint16(at / 8)
		end := min(len(payload), at+16)
		if end < len(payload) {
			part.Flags |= layers.IPv4MoreFragments
		}
		all = append(all, w.pack(&part, gopacket.Payload(payload[at:end])))
	}
	return all
}

// fragments6 does so for IPv6, after a destination options header.
func fragments6(w *wire, packet []byte) (all [][]byte) {
	p := gopacket.NewPacket(packet, layers.LayerTypeEthernet, gopacket.Default)
	ip := *p.Layer(layers.LayerTypeIPv6).(*layers.IPv6)
	payload := ip.Payload
	for at := 0; at < len(payload); at += 16 {
		part := ip
		part.NextHeader = layers.IPProtocolIPv6Fragment
		end := min(len(payload), at+16)
		head := make([]byte, 8)
		head[0] = byte(layers.IPProtocolTCP)
		binary.BigEndian.PutUint16(head[2:], uint16(at))
		if end < len(payload) {
			head[3] |= 1
		}
		head[7] = 42
		all = append(all, w.pack(&part, gopacket.Payload(append(head, payload[at:end]...))))
	}
	return all
}

// TestCaptures: one header comes in many ways, and is always shown once.
func TestCaptures(t *testing.T) {
	v4, v6 := newWire(t, "127.0.0.1", "127.0.0.2"), newWire(t, "2001:db8::1", "2001:db8::2")
	conn := func(w *wire, rest ...[]byte) [][]byte { return append(w.open(), rest...) }
	// a destination options header of padding
	ext := []byte{byte(layers.IPProtocolTCP), 0, 1, 4, 0, 0, 0, 0}
	withExtension := func(w *wire, packet []byte) []byte {
		p := gopacket.NewPacket(packet, layers.LayerTypeEthernet, gopacket.Default)
		ip := *p.Layer(layers.LayerTypeIPv6).(*layers.IPv6)
		ip.NextHeader = layers.IPProtocolIPv6Destination
		return w.pack(&ip, gopacket.Payload(append(bytes.Clone(ext), ip.Payload...)))
	}
	tagged := newWire(t, "127.0.0.1", "127.0.0.2").vlan()
	for name, packets := range map[string][][]byte{
		"whole":         conn(v4, v4.tcp("A", 0, goodV2+"hello")),
		"IPv6":          conn(v6, v6.tcp("A", 0, goodV2)),
		"two VLAN tags": conn(tagged, tagged.tcp("A", 0, goodV2)),
		"split":         conn(v4, v4.tcp("A", 0, goodV2[:5]), v4.tcp("A", 5, goodV2[5:])),
		"reordered": conn(v4, v4.tcp("A", 5, goodV2[5:9]), v4.tcp("A", 9, goodV2[9:]),
			v4.tcp("A", 0, goodV2[:5])),
		"retransmitted": conn(v4, v4.tcp("A", 0, goodV2[:9]), v4.tcp("A", 0, goodV2[:5]),
			v4.tcp("A", 5, goodV2[5:]), v4.tcp("A", 0, goodV2)),
		"SYN twice": append(conn(v4), append(v4.open(), v4.tcp("A", 0, goodV2))...),
		"fragments": append(v4.open(), fragments4(v4, v4.tcp("A", 0, goodV2))...),
		"IPv6 fragments": append(v6.open(),
			fragments6(v6, v6.tcp("A", 0, goodV2))...),
		"extension":       append(v6.open(), withExtension(v6, v6.tcp("A", 0, goodV2))),
		"from its middle": {v4.tcp("A", 100, goodV2)},
		"with an answer": conn(v4, v4.tcp("A", 0, goodV2), v4.answer("A", 0, "HTTP/1.1 200 OK\r\n"),
			v4.tcp("FA", len(goodV2), ""), v4.answer("FA", 17, ""), v4.tcp("A", len(goodV2)+1, "")),
		"answer first":   conn(v4, v4.answer("A", 0, "220 mail\r\n"), v4.tcp("A", 0, goodV2)),
		"datagram":       {v4.udp(goodV2 + "query")},
		"same datagrams": {v4.udp(goodV2 + "one"), v4.udp(goodV2 + "two"), v4.udp("bare")},
		"IPv6 datagram":  {v6.udp(goodV2 + "query")},
	} {
		t.Run(name, func(t *testing.T) {
			for format, file := range map[string][]byte{"pcap": pcapOf(t, layers.LinkTypeEthernet,
				packets...), "pcapng": pcapngOf(t, packets...)} {
				reports, stderr, code := decoded(t, file)
				if assert.Len(t, reports, 1, "%s: %s", format, stderr) {
					assert.Equal(t, valid, reports[0].Verdict)
					assert.Equal(t, "192.0.2.7:56324", reports[0].Header.Source)
					assert.Equal(t, name != "from its middle" && !strings.Contains(name,
						"datagram"), reports[0].Flow.Opened)
				}
				assert.Equal(t, exitOK, code)
				assert.NotContains(t, stderr, "can't")
			}
		})
	}
}
