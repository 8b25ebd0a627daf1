package servertest

import (
	"bytes"
	"io"
	"math"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	. "github.com/seed2e8fe8ee/proxyproto"
)

func TestPitfallTruncatedAddressBlock(t *testing.T) {
	for _, protocol := range []Protocol{TCP4, UDP4, TCP6, UDP6, UnixStream, UnixDatagram} {
		for length := range 16 {
			wire := signatureV2 + "\x21" + string(rune(protocol)) + "\x00" + string(rune(length)) +
				strings.Repeat("\x01", length)
			_, _, err := Parse([]byte(wire))
			if length >= lenIPv4 && (protocol == TCP4 || protocol == UDP4) {
				continue // the rest are TLVs, good or bad
			}
			assert.ErrorIs(t, err, ErrMalformed, "%v with a block of %d", protocol, length)
		}
	}
}

func TestPitfallUndefinedFamily(t *testing.T) {
	for protocol := range 256 {
		defined := protocol>>4 <= 3 && protocol&0x0f <= 2 // family and transport, section 2.2
		cfg := &Config{Policy: Always(Require)}
		h := testHeader()
		wire := []byte(encode(t, h) + strings.Repeat("\x00", lenUnix-lenIPv4))
		wire[13], wire[15] = byte(protocol), lenUnix
		client, server := net.Pipe()
		defer client.Close()
		go client.Write(wire)
		c, err := NewConn(server, cfg)
		require.NoError(t, err)
		err = c.ReadHeader(t.Context())
		assert.Equal(t, !defined, err != nil, "0x%02x: %v", protocol, err)
		assert.NotNil(t, c.RemoteAddr())
		assert.NotNil(t, c.LocalAddr())
		c.Close()
	}
}

func TestPitfallLocalWithAddressesBelieved(t *testing.T) {
	h := testHeader()
	wire := []byte(encode(t, h))
	wire[12] = 0x20
	ln := listen(t, &Config{Policy: Always(Require)})
	client := dial(t, ln, string(wire)+"ping")
	c := accept(t, ln)
	assertSocket(t, c, client)
	conn, ok := FromConn(c)
	require.True(t, ok)
	assert.Equal(t, &Header{Version: V2, Command: Local}, conn.Header())
	assert.Equal(t, "ping", readString(t, c, 4))
}

func TestPitfallLocalBlockParsed(t *testing.T) {
	// A health check as AWS sends it: LOCAL, TCP4, and TLVs without an address block before them.
	block := "\x03\x00\x04\xa9\xb8\x7e\x8f" + "\x04\x00\x4a" + strings.Repeat("\x00", 0x4a)
	require.Len(t, block, 0x54)
	ln := listen(t, &Config{Policy: Always(Require)})
	client := dial(t, ln, signatureV2+"\x20\x11\x00\x54"+block+"ping")
	c := accept(t, ln)
	assertSocket(t, c, client)
	assert.Equal(t, "ping", readString(t, c, 4))
	assert.Equal(t, uint64(1), ln.Stats().Local)
}

func TestPitfallLocalWrittenAgain(t *testing.T) {
	h, n, err := Parse([]byte(signatureV2 + "\x20\x11\x00\x04abcd"))
	require.NoError(t, err)
	assert.Equal(t, 20, n)
	assert.Equal(t, signatureV2+"\x20\x00\x00\x00", encode(t, h))
}

func TestPitfallChecksumIgnored(t *testing.T) {
	h := testHeader(byte(TypeCRC32C), 0, 4, 0, 0, 0, 0)
	wire := []byte(encode(t, h))
	_, _, err := Parse(wire)
	require.NoError(t, err)
	for i := 16; i < len(wire); i++ { // any bit of the block
		if i >= 28 && i < 31 {
			continue // the TLV's own head
		}
		wire[i] ^= 0x10
		_, _, err := Parse(wire)
		assert.ErrorIs(t, err, ErrMalformed, "byte %d changed", i)
		wire[i] ^= 0x10
	}
}

func TestPitfallTLVLeaksIntoPayload(t *testing.T) {
	h := testHeader()
	h.TLVs, _ = h.TLVs.Append(TypeAuthority, []byte("example.com"))
	h.TLVs, _ = h.TLVs.Append(TypeNoop, make([]byte, 300))
	ln := listen(t, &Config{Policy: Always(Require)})
	dial(t, ln, encode(t, h)+"payload").CloseWrite()
	payload, err := io.ReadAll(accept(t, ln))
	require.NoError(t, err)
	assert.Equal(t, "payload", string(payload))
}

func TestPitfallBytesLostWithoutHeader(t *testing.T) {
	const payload = "PROXIES ARE FINE" // as long as possible like a header
	for _, action := range []Action{Optional, Ignore} {
		for split := range len(payload) {
			ln := listen(t, &Config{Policy: Always(action)})
			client := dial(t, ln, payload[:split])
			go func() {
				io.WriteString(client, payload[split:])
				client.CloseWrite()
			}()
			c := accept(t, ln)
			got, err := io.ReadAll(c)
			require.NoError(t, err)
			assert.Equal(t, payload, string(got))
			assertSocket(t, c, client)
			assert.Equal(t, uint64(1), ln.Stats().Bare)
			ln.Close()
		}
	}
	// What might have begun a header, if more had come, is payload when no more comes.
	ln := listen(t, &Config{Policy: Always(Optional)})
	dial(t, ln, "PRO").CloseWrite()
	got, err := io.ReadAll(accept(t, ln))
	require.NoError(t, err)
	assert.Equal(t, "PRO", string(got))
}

func TestPitfallSplitLineRefused(t *testing.T) {
	for split := 1; split < len(testLineV1); split++ {
		ln := listen(t, &Config{Policy: Always(Require)})
		client := dial(t, ln, testLineV1[:split])
		accepted := make(chan net.Conn)
		go func() {
			c, _ := ln.Accept()
			accepted <- c
		}()
		for ln.Stats().Pending == 0 { // until the first part has been read apart
			time.Sleep(time.Microsecond)
		}
		_, err := io.WriteString(client, testLineV1[split:])
		require.NoError(t, err)
		c := <-accepted
		require.NotNil(t, c)
		assertTestClient(t, c)
		c.Close()
		ln.Close()
	}
}

func TestPitfallShortFirstRead(t *testing.T) {
	hello := strings.Repeat("h", lenBuffer-defaultMaxHeaderSize)
	h := testHeader()
	h.TLVs, _ = h.TLVs.Append(TypeNoop, make([]byte, defaultMaxHeaderSize-len(encode(t, h))-lenTLV))
	require.Len(t, encode(t, h), defaultMaxHeaderSize)
	ln := listen(t, &Config{Policy: Always(Require), Lazy: true})
	dial(t, ln, encode(t, h)+hello)
	n, err := accept(t, ln).Read(make([]byte, 1<<14))
	require.NoError(t, err)
	assert.Equal(t, len(hello), n)
}

func TestPitfallUnknownGivesNoAddress(t *testing.T) {
	for _, wire := range []string{
		"PROXY UNKNOWN\r\n",
		"PROXY UNKNOWN ::1 ::2 3 4\r\n",
		signatureV2 + "\x20\x00\x00\x00",
		signatureV2 + "\x21\x00\x00\x00",
		signatureV2 + "\x21\x10\x00\x0cabcdabcdabcd",
	} {
		ln := listen(t, &Config{Policy: Always(Require)})
		client := dial(t, ln, wire)
		assertSocket(t, accept(t, ln), client)
	}
}

func TestPitfallTLVRefused(t *testing.T) {
	for typ := range 256 {
		if TLVType(typ) == TypeCRC32C || TLVType(typ) == TypeSSL {
			continue // which have a form of their own
		}
		for _, length := range []int{0, 1, 128} {
			h := testHeader()
			h.TLVs, _ = h.TLVs.Append(TLVType(typ), make([]byte, length))
			got, _, err := Parse([]byte(encode(t, h)))
			require.NoError(t, err)
			assert.Equal(t, h, got)
		}
	}
}

func TestPitfallCertificateTLVRefused(t *testing.T) {
	for _, size := range []int{1 << 10, 2 << 10, 3 << 10} {
		var sub TLVs
		sub, err := sub.Append(SubtypeSSLClientCert, bytes.Repeat([]byte{0x30}, size))
		require.NoError(t, err)
		h := testHeader()
		h.TLVs, err = h.TLVs.Append(TypeSSL, append([]byte{7, 0, 0, 0, 0}, sub...))
		require.NoError(t, err)
		ln := listen(t, &Config{Policy: Always(Require)})
		dial(t, ln, encode(t, h))
		c, ok := FromConn(accept(t, ln))
		require.True(t, ok)
		ssl, ok := c.Header().TLVs.Lookup(TypeSSL)
		assert.True(t, ok)
		assert.Len(t, ssl, len("\x07\x00\x00\x00\x00")+lenTLV+size)
	}
}

func TestPitfallLargestHeader(t *testing.T) {
	h := testHeader()
	h.TLVs, _ = h.TLVs.Append(TypeNoop, make([]byte, math.MaxUint16-lenIPv4-lenTLV))
	wire := encode(t, h)
	require.Len(t, wire, maxHeader)
	ln := listen(t, &Config{Policy: Always(Require), MaxHeaderSize: maxHeader})
	client := dial(t, ln, "")
	go io.WriteString(client, wire+"payload")
	c := accept(t, ln)
	assertTestClient(t, c)
	assert.Equal(t, "payload", readString(t, c, 7))
}
