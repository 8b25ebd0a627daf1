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

	"github.com/seed2e8fe8ee/proxyproto/internal/wiretest"
)

// These are for work on the package; compare/ measures the same beside others.

// benchHeader is a header to parse and write.
type benchHeader struct{ name, wire string }

func benchHeaders() []benchHeader {
	const inet4 = wiretest.Inet4
	tlv := wiretest.TLV
	crc, _ := wiretest.CRC(tlv(0x02, strings.Repeat("a", 62)), "")
	return []benchHeader{
		{"v1 TCP4", "PROXY TCP4 203.0.113.189 198.51.100.217 56324 443\r\n"},
		{"v1 TCP6", "PROXY TCP6 2001:db8:4137:9e76:1cc2:3fa2:8d4b:5e01 " +
			"2001:db8:85a3:1b6e:7c3f:8a2e:4370:7334 56324 443\r\n"},
		{"v1 TCP6 compressed", "PROXY TCP6 2001:db8::5e01 2001:db8:0:1::7334 56324 443\r\n"},
		{"v1 mixed", "PROXY TCP6 2001:db8::5e01 198.51.100.217 56324 443\r\n"},
		{"v1 UNKNOWN", "PROXY UNKNOWN\r\n"},
		{"v2 TCP4", wiretest.V2(0x21, 0x11, inet4)},
		{"v2 TCP6", wiretest.V2(0x21, 0x21, wiretest.Inet6)},
		{"v2 UNIX", wiretest.V2(0x21, 0x31, wiretest.Unix("/run/client", "/run/server"))},
		{"v2 four TLVs", wiretest.V2(0x21, 0x11, inet4, tlv(0x01, "h2"),
			tlv(0x02, "www.example.com"), tlv(0x05, "0123456789abcdef"),
			tlv(0xea, "\x01vpce-08d2bf15fac5001c9"))},
		{"v2 SSL", wiretest.V2(0x21, 0x11, inet4, wiretest.SSL(0x05, 0, tlv(0x21, "TLSv1.3"),
			tlv(0x22, "client.example.com"), tlv(0x23, "TLS_AES_256_GCM_SHA384")))},
		{"v2 CRC32C", crc},
		{"v2 LOCAL", wiretest.V2(0x20, 0x00)},
	}
}

func BenchmarkParse(b *testing.B) {
	for _, h := range benchHeaders() {
		b.Run(h.name, func(b *testing.B) {
			wire := []byte(h.wire)
			b.ReportAllocs()
			for b.Loop() {
				if _, _, err := Parse(wire); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkParseRefused(b *testing.B) {
	wrong, _ := wiretest.CRC(wiretest.TLV(0x02, strings.Repeat("a", 62)), "")
	for _, c := range []struct {
		name, wire string
		err        error
	}{
		{"HTTP", "GET / HTTP/1.1\r\nHost: www.example.com\r\n\r\n", ErrNoHeader},
		{"wrong CRC32C", wrong[:len(wrong)-1] + "!", ErrMalformed},
		{"line without end", "PROXY UNKNOWN " + strings.Repeat("f", 107-14), ErrMalformed},
		{"wrong port", "PROXY TCP4 203.0.113.189 198.51.100.217 56324 65536\r\n", ErrMalformed},
	} {
		b.Run(c.name, func(b *testing.B) {
			wire := []byte(c.wire)
			_, _, err := Parse(wire)
			require.ErrorIs(b, err, c.err)
			b.ReportAllocs()
			for b.Loop() {
				if _, _, err := Parse(wire); err == nil {
					b.Fatal("accepted")
				}
			}
		})
	}
}

func BenchmarkTLVs(b *testing.B) {
	for _, c := range benchHeaders() {
		h, _, err := Parse([]byte(c.wire))
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
		h, _, err := Parse([]byte(c.wire))
		require.NoError(b, err)
		b.Run(c.name, func(b *testing.B) {
			room := make([]byte, 0, maxHeader)
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
			return netip.AddrFrom4([4]byte{
				byte(1 + random.IntN(220)), byte(random.IntN(256)), byte(random.IntN(256)), last,
			})
		}
		prefixes := make([]netip.Prefix, size)
		for i := range prefixes {
			prefixes[i] = netip.PrefixFrom(address(0), 24)
		}
		// Half of the peers are in a prefix, and no order helps the CPU to foresee which.
		peers := make([]Peer, 4096)
		for i := range peers {
			addr := address(byte(i))
			if i%2 == 0 {
				addr = prefixes[random.IntN(size)].Addr().Next()
			}
			peers[i] = Peer{Addr: netip.AddrPortFrom(addr, 56324), Local: local}
		}
		policy := Trust(prefixes...)
		b.Run(strconv.Itoa(size), func(b *testing.B) {
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				policy(peers[i%len(peers)])
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
	}{
		{"bare", nil},
		{"eager", &Config{Policy: Always(Require)}},
		{"lazy", &Config{Policy: Always(Require), Lazy: true}},
	} {
		b.Run(c.name, func(b *testing.B) { benchShortConn(b, c.cfg) })
	}
}

func benchShortConn(b *testing.B, cfg *Config) {
	const answer = "an answer"
	header := wiretest.V2(0x21, 0x11, wiretest.Inet4)
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
				_, err := io.ReadFull(c, make([]byte, want))
				if err == nil && c.RemoteAddr() != nil {
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
