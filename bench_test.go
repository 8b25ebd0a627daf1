package proxyproto

import (
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// These are for work on the package; compare/ measures the same beside others.

// benchHeaders are headers that Parse accepts and AppendTo writes.
func benchHeaders() []wireCase {
	const inet6 = "PROXY TCP6 2001:db8:4137:9e76:1cc2:3fa2:8d4b:5e01 2001:db8:85a3:1b6e:7c3f:8a2e:4370:7334 56324 443\r\n"
	crc, _ := wireCRC(wireTLV(0x02, strings.Repeat("a", 62)), "")
	return []wireCase{
		{name: "v1 TCP4", wire: []byte("PROXY TCP4 203.0.113.189 198.51.100.217 56324 443\r\n")},
		{name: "v1 TCP6", wire: []byte(inet6)},
		{name: "v1 TCP6 compressed", wire: []byte("PROXY TCP6 2001:db8::5e01 2001:db8:0:1::7334 56324 443\r\n")},
		{name: "v1 UNKNOWN", wire: []byte("PROXY UNKNOWN\r\n")},
		{name: "v2 TCP4", wire: []byte(wireV2(0x21, 0x11, wireInet4))},
		{name: "v2 TCP6", wire: []byte(wireV2(0x21, 0x21, wireInet6))},
		{name: "v2 UNIX", wire: []byte(wireV2(0x21, 0x31, wireUnix("/run/client", "/run/server")))},
		{name: "v2 four TLVs", wire: []byte(wireV2(0x21, 0x11, wireInet4, wireTLV(0x01, "h2"), wireTLV(0x02, "www.example.com"),
			wireTLV(0x05, "0123456789abcdef"), wireTLV(0xea, "\x01vpce-08d2bf15fac5001c9")))},
		{name: "v2 SSL", wire: []byte(wireV2(0x21, 0x11, wireInet4, wireTLV(0x20, "\x05\x00\x00\x00\x00"+
			wireTLV(0x21, "TLSv1.3")+wireTLV(0x22, "client.example.com")+wireTLV(0x23, "TLS_AES_256_GCM_SHA384"))))},
		{name: "v2 CRC32C", wire: []byte(crc)},
		{name: "v2 LOCAL", wire: []byte(wireV2(0x20, 0x00))},
	}
}

func BenchmarkParse(b *testing.B) {
	for _, c := range benchHeaders() {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, _, err := Parse(c.wire); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkParseRefused(b *testing.B) {
	wrong, _ := wireCRC(wireTLV(0x02, strings.Repeat("a", 62)), "")
	for _, c := range []wireCase{
		{name: "HTTP", wire: []byte("GET / HTTP/1.1\r\nHost: www.example.com\r\n\r\n"), err: ErrNoHeader},
		{name: "wrong CRC32C", wire: []byte(wrong[:len(wrong)-1] + "!"), err: ErrMalformed},
		{name: "line without end", wire: []byte("PROXY UNKNOWN " + strings.Repeat("f", 107-14)), err: ErrMalformed},
		{name: "wrong port", wire: []byte("PROXY TCP4 203.0.113.189 198.51.100.217 56324 65536\r\n"), err: ErrMalformed},
	} {
		b.Run(c.name, func(b *testing.B) {
			_, _, err := Parse(c.wire)
			require.ErrorIs(b, err, c.err)
			b.ReportAllocs()
			for b.Loop() {
				if _, _, err := Parse(c.wire); err == nil {
					b.Fatal("accepted")
				}
			}
		})
	}
}

func BenchmarkTLVs(b *testing.B) {
	for _, c := range benchHeaders() {
		h, _, err := Parse(c.wire)
		require.NoError(b, err)
		if len(h.TLVs) == 0 {
			continue
		}
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				n := 0
				for _, value := range h.TLVs.All() {
					n += len(value)
				}
			}
		})
	}
}

func BenchmarkAppendTo(b *testing.B) {
	for _, c := range benchHeaders() {
		h, _, err := Parse(c.wire)
		require.NoError(b, err)
		b.Run(c.name, func(b *testing.B) {
			room := make([]byte, 0, len(c.wire))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := h.AppendTo(room); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkPolicy(b *testing.B) {
	local := netip.MustParseAddrPort("198.51.100.1:443")
	for _, size := range []int{1, 100, 10_000} {
		random := rand.New(rand.NewPCG(1, 2))
		address := func(last byte) netip.Addr {
			return netip.AddrFrom4([4]byte{byte(1 + random.IntN(220)), byte(random.IntN(256)), byte(random.IntN(256)), last})
		}
		prefixes := make([]netip.Prefix, size)
		for i := range prefixes {
			prefixes[i] = netip.PrefixFrom(address(0), 24)
		}
		// Half of the peers are in a prefix, and no order helps the CPU to foresee which.
		peers := make([]netip.AddrPort, 4096)
		for i := range peers {
			addr := address(byte(i))
			if i%2 == 0 {
				addr = prefixes[random.IntN(size)].Addr().Next()
			}
			peers[i] = netip.AddrPortFrom(addr, 56324)
		}
		policy := Trust(prefixes...)
		b.Run(strconv.Itoa(size), func(b *testing.B) {
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				policy(peers[i%len(peers)], local)
				i++
			}
		})
	}
}

// BenchmarkShortConn is a whole connection, from dial to close, with client and server in this
// process. The bare listener's user reads the header as if it were payload.
func BenchmarkShortConn(b *testing.B) {
	for _, c := range []struct {
		name string
		cfg  *Config
	}{{"bare", nil}, {"eager", &Config{Policy: Always(Require)}}, {"lazy", &Config{Policy: Always(Require), Lazy: true}}} {
		b.Run(c.name, func(b *testing.B) { benchShortConn(b, c.cfg) })
	}
}

func benchShortConn(b *testing.B, cfg *Config) {
	const answer = "an answer"
	header := wireV2(0x21, 0x11, wireInet4)
	first := []byte(header + strings.Repeat("p", 32))
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(b, err)
	ln, want := inner, len(first)
	if cfg != nil {
		ln, err = NewListener(inner, cfg)
		require.NoError(b, err)
		want -= len(header)
	}
	defer ln.Close()
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				if _, err := io.ReadFull(c, make([]byte, want)); err == nil && c.RemoteAddr() != nil {
					io.WriteString(c, answer)
				}
			}()
		}
	}()
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		buf := make([]byte, len(answer)+1)
		for pb.Next() {
			c, err := net.Dial("tcp", inner.Addr().String())
			if err != nil {
				b.Error(err)
				return
			}
			c.Write(first)
			if n, _ := io.ReadFull(c, buf); n != len(answer) {
				b.Errorf("%d bytes of an answer", n)
			}
			c.(*net.TCPConn).SetLinger(0) // nothing stays in TIME_WAIT
			c.Close()
		}
	})
}
