package main

import (
	"encoding/binary"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// fromHex reads hexadecimal digits with spaces between them.
func fromHex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	require.NoError(t, err)
	return b
}

// rawCapture is a pcap file of IPv4 packets without a link layer, written byte by byte.
func rawCapture(t testing.TB, packets ...[]byte) []byte {
	t.Helper()
	file := fromHex(t, "d4c3b2a1 0200 0400 00000000 00000000 ffff0000 65000000")
	for i, p := range packets {
		head := fromHex(t, "0060 2469 00000000 00000000 00000000")
		binary.LittleEndian.PutUint32(head[4:], uint32(i))
		binary.LittleEndian.PutUint32(head[8:], uint32(len(p)))
		binary.LittleEndian.PutUint32(head[12:], uint32(len(p)))
		file = append(append(file, head...), p...)
	}
	return file
}

// rawTCP is an IPv4 packet from the balancer, 10.0.0.5, port 40000, to 10.0.0.1, port 80: the
// sequence number, flags and options are in hexadecimal, and the options fill 32-bit words.
func rawTCP(t testing.TB, seq, flags, options, payload string) []byte {
	t.Helper()
	opts := fromHex(t, options)
	require.Zero(t, len(opts)%4)
	ip := fromHex(t, "4500 0000 0001 4000 4006 0000 0a000005 0a000001")
	tcp := fromHex(t, "9c40 0050"+seq+"00001389 00"+flags+"ffff 0000 0000")
	tcp[12] = byte(5+len(opts)/4) << 4
	p := append(append(append(ip, tcp...), opts...), payload...)
	binary.BigEndian.PutUint16(p[2:], uint16(len(p)))
	return p
}

// rawAnswer is one of the server's, likewise.
func rawAnswer(t testing.TB, flags, options string) []byte {
	p := rawTCP(t, "00001388", flags, options, "")
	copy(p[12:], fromHex(t, "0a000001 0a000005 0050 9c40 00001388 000003e9"))
	return p
}

const (
	toa4    = "fe08 dc04 c0000207"
	toa6    = "fe14 dc04 20010db8000000000000000000000007"
	elb6    = "fd14 dc04 20010db8000000000000000000000007"
	toaQQ   = "c808 dc04 c0000207"
	mapped  = "fe14 dc04 00000000000000000000ffffc0000207"
	stamps  = "0101 080a 00000001 00000002"
	request = "GET / HTTP/1.1\r\n"
)

// TestTCPOptions: which options of a handshake say who the client is, and that no others do.
func TestTCPOptions(t *testing.T) {
	syn, synAck := rawTCP(t, "000003e8", "02", "020405b4", ""), rawAnswer(t, "12", "")
	ack := func(options string) []byte { return rawTCP(t, "000003e9", "10", options, "") }
	data := func(options string) []byte { return rawTCP(t, "000003e9", "18", options, request) }
	opened := func(rest ...[]byte) [][]byte { return append([][]byte{syn, synAck}, rest...) }
	const v4, v6 = "192.0.2.7:56324", "[2001:db8::7]:56324"
	for name, c := range map[string]struct {
		packets [][]byte
		want    []tcpOption
	}{
		"in the ACK":       {opened(ack(toa4), data("")), []tcpOption{{3, 254, 8, v4, true}}},
		"IPv6":             {opened(ack(toa6), data("")), []tcpOption{{3, 254, 20, v6, true}}},
		"IPv6 of kind 253": {opened(ack(elb6), data("")), []tcpOption{{3, 253, 20, v6, true}}},
		"kind 200":         {opened(ack(toaQQ), data("")), []tcpOption{{3, 200, 8, v4, true}}},
		"IPv4 as IPv6":     {opened(ack(mapped), data("")), []tcpOption{{3, 254, 20, v4, true}}},
		"after others": {opened(ack(stamps+toa4), data("")), []tcpOption{{3, 254, 8, v4,
			false}}},
		"after padding": {opened(ack("01010101"+toa4), data("")), []tcpOption{{3, 254, 8, v4,
			false}}},
		"in the first data": {opened(data(toa4)), []tcpOption{{3, 254, 8, v4, true}}},
		"in all packets":    {opened(ack(toa4), data(toa4)), []tcpOption{{3, 254, 8, v4, true}}},
		"in the SYN": {[][]byte{rawTCP(t, "000003e8", "02", toa4, ""), synAck, ack(""),
			data("")}, []tcpOption{{1, 254, 8, v4, true}}},
		"of the SYN's answer": {[][]byte{synAck, ack(toa4), data("")}, []tcpOption{{2, 254, 8, v4,
			true}}},
		"two that differ": {opened(ack(toa4+"fe08 0001 0a000001"), data("")), []tcpOption{{3, 254,
			8, v4, true}, {3, 254, 8, "10.0.0.1:1", false}}},
		"the server's": {[][]byte{syn, rawAnswer(t, "12", toa4), ack(""), data("")}, nil},
		"later": {opened(ack(""), data(""), rawTCP(t, "000003f9", "18", toa4, "Host")),
			nil},
		"of length 0":            {opened(ack("fe00 dc04 c0000207"), data("")), nil},
		"of length 1":            {opened(ack("fe01 dc04 c0000207"), data("")), nil},
		"longer than the rest":   {opened(ack("fe14 dc04 20010db8 00000000"), data("")), nil},
		"only its kind":          {opened(ack("010101fe"), data("")), nil},
		"after the end":          {opened(ack("00020101"+toa4), data("")), nil},
		"after one that is long": {opened(ack("03280101"+toa4), data("")), nil},
		"of other lengths": {opened(ack("fe04 0001 c80a 0000c0000207dc04 0101"), data("")),
			nil},
		"of other kinds": {opened(ack("fd08 dc04 c0000207 c9080000c0000207"), data("")),
			nil},
	} {
		t.Run(name, func(t *testing.T) {
			reports, stderr, code := decoded(t, rawCapture(t, c.packets...))
			require.Len(t, reports, 1, stderr)
			assert.Equal(t, none, reports[0].Verdict)
			assert.Equal(t, exitNoHeader, code)
			assert.Equal(t, c.want, reports[0].Flow.TCPOptions)
			assert.Equal(t, c.want != nil, strings.Contains(stderr,
				"1 connection with the client's address in a TCP option"))
		})
	}
}

// TestTCPOptionIsShown: what people see of it, beside a header, and of a client that says nothing.
func TestTCPOptionIsShown(t *testing.T) {
	silent := rawCapture(t, rawTCP(t, "000003e8", "02", "", ""), rawAnswer(t, "12", ""),
		rawTCP(t, "000003e9", "10", toa4, ""))
	header := rawCapture(t, rawTCP(t, "000003e8", "02", "", ""), rawAnswer(t, "12", ""),
		rawTCP(t, "000003e9", "10", stamps+toa6, ""), rawTCP(t, "000003e9", "18", "", goodV1))
	var text strings.Builder
	for _, file := range [][]byte{silent, header} {
		r := inProcess(string(file), "decode")
		text.WriteString(r.stdout + r.stderr)
	}
	golden(t, "tcpoption.golden", text.String())
}

// FuzzTCPOptions: no bytes make it fail, and what it finds is there whole.
func FuzzTCPOptions(f *testing.F) {
	for _, s := range []string{toa4, toa6, elb6, toaQQ, stamps + toa4, "fe", "fe08dc04c00002"} {
		f.Add(fromHex(f, s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, o := range toaOptions(b, 1) {
			assert.Contains(t, string(b), string([]byte{byte(o.Kind), byte(o.Length)}))
			assert.GreaterOrEqual(t, len(b), o.Length)
			assert.NotContains(t, o.String(), "invalid")
		}
	})
}
