package main

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"encoding/hex"
	"strings"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// bare returns a connection's packets without Ethernet.
func bare(t *testing.T, client, server string) [][]byte {
	t.Helper()
	w := newWire(t, client, server)
	w.ether = nil
	return append(w.open(), w.tcp("A", 0, goodV2))
}

// behindHead puts these bytes, in hexadecimal, in front of each packet.
func behindHead(t *testing.T, head string, packets [][]byte) [][]byte {
	t.Helper()
	var all [][]byte
	for _, p := range packets {
		all = append(all, append(fromHex(t, head), p...))
	}
	return all
}

// oneHeader is what a capture of a connection with goodV2 comes to.
func oneHeader(t *testing.T, file []byte, name string) {
	t.Helper()
	reports, stderr, code := decoded(t, file)
	if assert.Len(t, reports, 1, "%s: %s", name, stderr) {
		assert.Equal(t, valid, reports[0].Verdict, name)
		assert.Equal(t, "192.0.2.7:56324", reports[0].Header.Source, name)
		assert.True(t, reports[0].Flow.Opened, name)
	}
	assert.Equal(t, exitOK, code, name)
	assert.NotContains(t, stderr, "can't", name)
}

// TestLinkTypes: what is in front of IP, byte by byte.
func TestLinkTypes(t *testing.T) {
	v4, v6 := bare(t, "127.0.0.1", "127.0.0.2"), bare(t, "2001:db8::1", "2001:db8::2")
	const macs = "020000000001020000000002"
	const sll, sll2 = "0000 0001 0006 0200000000010000", "0000 00000002 0001 00 06 0200000000010000"
	for name, c := range map[string]struct {
		link    layers.LinkType
		head    string
		packets [][]byte
	}{
		"Ethernet":             {layers.LinkTypeEthernet, macs + "0800", v4},
		"802.1Q":               {layers.LinkTypeEthernet, macs + "8100 0007 0800", v4},
		"802.1ad":              {layers.LinkTypeEthernet, macs + "88a8 0009 8100 0007 86dd", v6},
		"SLL":                  {layers.LinkTypeLinuxSLL, sll + "0800", v4},
		"SLL, IPv6":            {layers.LinkTypeLinuxSLL, sll + "86dd", v6},
		"SLL, 802.1Q":          {layers.LinkTypeLinuxSLL, sll + "8100 0007 0800", v4},
		"SLL2":                 {layers.LinkTypeLinuxSLL2, "0800" + sll2, v4},
		"SLL2, IPv6":           {layers.LinkTypeLinuxSLL2, "86dd" + sll2, v6},
		"SLL2, 802.1Q":         {layers.LinkTypeLinuxSLL2, "8100" + sll2 + "0007 0800", v4},
		"loopback of BSD":      {layers.LinkTypeNull, "02000000", v4},
		"the same, big-endian": {layers.LinkTypeNull, "00000002", v4},
		"loopback, IPv6":       {layers.LinkTypeNull, "1e000000", v6},
		"loopback of OpenBSD":  {layers.LinkTypeLoop, "00000002", v4},
		"raw":                  {layers.LinkTypeRaw, "", v4},
		"raw, IPv6":            {layers.LinkTypeRaw, "", v6},
		"raw of BSD":           {layerRawBSD, "", v4},
		"raw of OpenBSD, IPv6": {layerRawOpenBSD, "", v6},
		"IPv4 alone":           {layers.LinkTypeIPv4, "", v4},
		"IPv6 alone":           {layers.LinkTypeIPv6, "", v6},
	} {
		oneHeader(t, pcapOf(t, c.link, behindHead(t, c.head, c.packets)...), name)
	}
}

// TestExtensionHeaders: IPv6's, one after the other, whole and inside fragments.
func TestExtensionHeaders(t *testing.T) {
	w := newWire(t, "2001:db8::1", "2001:db8::2")
	const padding = "00 0104 00000000" // behind the next header's number: 8 bytes in all
	extend := func(packet []byte, numbers ...layers.IPProtocol) []byte {
		p := gopacket.NewPacket(packet, layers.LayerTypeEthernet, gopacket.Default)
		ip := *p.Layer(layers.LayerTypeIPv6).(*layers.IPv6)
		var b []byte
		for i, n := range numbers {
			next := ip.NextHeader
			if i+1 < len(numbers) {
				next = numbers[i+1]
			}
			body := padding
			if n == layers.IPProtocolIPv6Routing {
				body = "00 0400 00000000" // a type without a meaning, and nothing left of it
			}
			b = append(append(b, byte(next)), fromHex(t, body)...)
		}
		ip.NextHeader = numbers[0]
		// Not by way of layers.IPv6, which would make another hop-by-hop header.
		head := append([]byte{0x60, 0, 0, 0, 0, 0, byte(numbers[0]), 64}, ip.SrcIP...)
		head = append(head, ip.DstIP...)
		binary.BigEndian.PutUint16(head[4:], uint16(len(b)+len(ip.Payload)))
		return w.pack(gopacket.Payload(append(append(head, b...), ip.Payload...)))
	}
	segment := w.tcp("A", 0, goodV2)
	for _, numbers := range [][]layers.IPProtocol{
		{layers.IPProtocolIPv6HopByHop},
		{layers.IPProtocolIPv6Routing},
		{layers.IPProtocolIPv6Destination},
		{layers.IPProtocolIPv6HopByHop, layers.IPProtocolIPv6Destination, layers.IPProtocolIPv6Routing,
			layers.IPProtocolIPv6Destination},
	} {
		oneHeader(t, pcapOf(t, layers.LinkTypeEthernet, append(w.open(), extend(segment, numbers...))...),
			numbers[0].String())
	}

	inside := extend(segment, layers.IPProtocolIPv6Destination)
	parts := fragments6(w, inside)
	for _, p := range parts {
		p[14+40] = byte(layers.IPProtocolIPv6Destination) // what the fragments' headers say of the whole
	}
	parts[0], parts[1] = parts[1], parts[0]
	oneHeader(t, pcapOf(t, layers.LinkTypeEthernet, append(w.open(), parts...)...), "in fragments")
}

// TestFragmentsOfDatagrams, in any order and twice, and one whose part is missing.
func TestFragmentsOfDatagrams(t *testing.T) {
	w := newWire(t, "127.0.0.1", "127.0.0.2")
	parts := fragments4(w, w.udp(goodV2+"and a long query"))
	for _, order := range [][]int{{0, 1, 2, 3}, {3, 2, 1, 0}, {1, 1, 3, 0, 0, 2}} {
		var packets [][]byte
		for _, i := range order {
			packets = append(packets, parts[i])
		}
		reports, stderr, code := decoded(t, pcapOf(t, layers.LinkTypeEthernet, packets...))
		if assert.Len(t, reports, 1, "%v: %s", order, stderr) {
			assert.Equal(t, "192.0.2.7:56324", reports[0].Header.Source)
		}
		assert.Equal(t, exitOK, code)
	}
	reports, _, code := decoded(t, pcapOf(t, layers.LinkTypeEthernet, parts[0], parts[1], parts[3]))
	assert.Empty(t, reports)
	assert.Equal(t, exitNoHeader, code)
}

// TestFragmentsAreNotKept: of many that don't become whole a bounded number is kept.
func TestFragmentsAreNotKept(t *testing.T) {
	f := newFlows(func(*report) error { return nil })
	w := newWire(t, "127.0.0.1", "127.0.0.2")
	part := fragments4(w, w.udp(strings.Repeat("x", 100)))[1]
	part = append(part, make([]byte, 1<<16)...) // Ethernet's padding, if that had a limit
	for i := range 4 * maxFragments / len(part) {
		binary.BigEndian.PutUint16(part[14+4:], uint16(i))
		require.NoError(t, f.add(bytes.Clone(part), infoOf(i, part), layers.LinkTypeEthernet))
		require.LessOrEqual(t, f.unpacker.fragments, maxFragments)
	}
}

// TestFileFormats: every form of file has the same in it, packed with gzip or not.
func TestFileFormats(t *testing.T) {
	w := newWire(t, "127.0.0.1", "127.0.0.2")
	packets := append(w.open(), w.tcp("A", 0, goodV2))
	var nanos bytes.Buffer
	nw := pcapgo.NewWriterNanos(&nanos)
	require.NoError(t, nw.WriteFileHeader(65535, layers.LinkTypeEthernet))
	for i, p := range packets {
		require.NoError(t, nw.WritePacket(infoOf(i, p), p))
	}
	for name, file := range map[string][]byte{
		"pcap":                   pcapOf(t, layers.LinkTypeEthernet, packets...),
		"pcap, big-endian":       bigEndian(t, pcapOf(t, layers.LinkTypeEthernet, packets...)),
		"pcap with nanoseconds":  nanos.Bytes(),
		"pcapng":                 pcapngOf(t, packets...),
		"pcapng of two sections": append(pcapngOf(t, packets[:2]...), pcapngOf(t, packets[2:]...)...),
		"pcapng of two links":    mixedLinks(t),
	} {
		oneHeader(t, file, name)
		oneHeader(t, packed(t, file), name+", packed")
	}
	// Packed bytes, or digits, are read too; and broken packs are said to be so.
	r := inProcess(string(packed(t, []byte(goodV2))), "decode", "--json")
	assert.Equal(t, exitOK, r.code, r.stderr)
	r = inProcess(string(packed(t, []byte(hex.EncodeToString([]byte(goodV2))))), "decode", "--hex",
		"--json")
	assert.Equal(t, exitOK, r.code, r.stderr)
	r = inProcess("\x1f\x8bnothing at all", "decode")
	assert.Equal(t, result{"", "proxyproto decode: the compressed input: gzip: invalid header\n",
		exitUsage}, r)
	whole := packed(t, pcapOf(t, layers.LinkTypeEthernet, packets...))
	r = inProcess(string(whole[:len(whole)-9]), "decode", "--json")
	assert.Equal(t, exitUsage, r.code)
	assert.Contains(t, r.stdout, `"verdict":"valid"`)
	assert.Contains(t, r.stderr, "the capture is cut off after packet 4\n")
}

func packed(t *testing.T, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	_, err := z.Write(b)
	require.NoError(t, err)
	require.NoError(t, z.Close())
	return out.Bytes()
}

// bigEndian turns around what a pcap file has in little-endian order.
func bigEndian(t *testing.T, file []byte) []byte {
	t.Helper()
	b := bytes.Clone(file)
	turn := func(at int, sizes ...int) {
		for _, n := range sizes {
			for i := range n / 2 {
				b[at+i], b[at+n-1-i] = b[at+n-1-i], b[at+i]
			}
			at += n
		}
	}
	turn(0, 4, 2, 2, 4, 4, 4, 4)
	for at := 24; at < len(b); {
		size := int(binary.LittleEndian.Uint32(b[at+8:]))
		turn(at, 4, 4, 4, 4)
		at += 16 + size
	}
	return b
}

// mixedLinks is a pcapng file of two interfaces, with and without Ethernet.
func mixedLinks(t *testing.T) []byte {
	t.Helper()
	var file bytes.Buffer
	w, err := pcapgo.NewNgWriter(&file, layers.LinkTypeEthernet)
	require.NoError(t, err)
	raw, err := w.AddInterface(pcapgo.NgInterface{LinkType: layers.LinkTypeRaw, SnapLength: 65535})
	require.NoError(t, err)
	plain := bare(t, "127.0.0.1", "127.0.0.2")
	ether := behindHead(t, "0200000000010200000000020800", plain)
	for i, p := range [][]byte{ether[0], plain[1], ether[2], plain[3]} {
		info := infoOf(i, p)
		if i%2 == 1 {
			info.InterfaceIndex = raw
		}
		require.NoError(t, w.WritePacket(info, p))
	}
	require.NoError(t, w.Flush())
	return file.Bytes()
}

// TestPortsUsedAgain: a client's port begins another connection after an end of any kind, or one
// that the capture doesn't have.
func TestPortsUsedAgain(t *testing.T) {
	for name, end := range map[string]func(w *wire) [][]byte{
		"both have ended": func(w *wire) [][]byte {
			return [][]byte{w.tcp("FA", len(goodV2), ""), w.answer("FA", 0, ""), w.tcp("A", len(goodV2)+1,
				"")}
		},
		"the client has reset": func(w *wire) [][]byte { return [][]byte{w.tcp("R", len(goodV2), "")} },
		"the server has reset": func(w *wire) [][]byte { return [][]byte{w.answer("RA", 0, "")} },
		"the end isn't there":  func(*wire) [][]byte { return nil },
		"half an end":          func(w *wire) [][]byte { return [][]byte{w.tcp("FA", len(goodV2), "")} },
		"only its end is there": func(w *wire) [][]byte {
			return [][]byte{w.answer("FA", 0, ""),
				w.tcp("A", 1, "")}
		},
		"it began before": func(w *wire) [][]byte { return [][]byte{w.tcp("A", 100, goodV2)} },
	} {
		w := newWire(t, "127.0.0.1", "127.0.0.2")
		packets := append(append(w.open(), w.tcp("A", 0, goodV2)), end(w)...)
		if name == "it began before" {
			packets = end(w)
		}
		if name == "only its end is there" {
			packets = end(w)
		}
		w.clientSeq, w.srvSq = 90000, 70000
		packets = append(append(packets, w.open()...), w.tcp("A", 0, goodV1))
		reports, stderr, _ := decoded(t, pcapOf(t, layers.LinkTypeEthernet, packets...))
		var versions []int
		for _, r := range reports {
			versions = append(versions, r.Header.Version)
		}
		want, said := []int{2, 1}, "2 connections\n"
		if name == "only its end is there" {
			want, said = []int{1}, "1 connection\n"
		}
		assert.Equal(t, want, versions, name)
		assert.Contains(t, stderr, said, name)
	}
}

// TestFastOpen: the header is in the SYN.
func TestFastOpen(t *testing.T) {
	w := newWire(t, "127.0.0.1", "127.0.0.2")
	oneHeader(t, pcapOf(t, layers.LinkTypeEthernet, w.tcp("S", 0, goodV2), w.answer("SA", 0, ""),
		w.tcp("A", len(goodV2), "GET / HTTP/1.1\r\n")), "at once")
	oneHeader(t, pcapOf(t, layers.LinkTypeEthernet, w.tcp("S", 0, goodV2[:9]), w.answer("SA", 0, ""),
		w.tcp("A", 9, goodV2[9:])), "in part")
	oneHeader(t, pcapOf(t, layers.LinkTypeEthernet, w.tcp("S", 0, goodV2), w.answer("SA", 0, ""),
		w.tcp("A", 0, goodV2)), "refused, and sent again")
}

// TestManyConnections: of a scan, or a flood, a bounded number is remembered, and the rest is told.
func TestManyConnections(t *testing.T) {
	for name, at := range map[string]func(i int) time.Time{
		"at one time":   func(int) time.Time { return captureStart },
		"with lies":     func(i int) time.Time { return captureStart.Add(time.Duration(i%3-1) * 1000 * time.Hour) },
		"in one minute": func(i int) time.Time { return captureStart.Add(time.Duration(i) * time.Millisecond / 2) },
	} {
		f := newFlows(func(*report) error { return nil })
		w := newWire(t, "127.0.0.1", "127.0.0.2")
		syn, part := w.tcp("S", 0, ""), w.tcp("A", 0, goodV2[:20])
		f.most = 1000
		const n = 3500
		for i := range n {
			for _, p := range [][]byte{bytes.Clone(syn), bytes.Clone(part)} {
				binary.BigEndian.PutUint32(p[14+12:], 0x0a000000+uint32(i)) // another client
				info := infoOf(i, p)
				info.Timestamp = at(i)
				require.NoError(t, f.add(p, info, layers.LinkTypeEthernet))
			}
			require.LessOrEqual(t, len(f.conns), f.most, name)
		}
		assert.Greater(t, f.shown, 0, name)
		require.NoError(t, f.finish())
		// One may be forgotten between its two packets, and be another then.
		assert.InDelta(t, n, f.shown, 10, name)
		assert.InDelta(t, n, f.connections, 10, name)
		assert.Empty(t, f.conns, name)
		assert.Empty(t, f.undecided, name)
	}
}
