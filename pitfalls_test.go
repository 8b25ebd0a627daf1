package proxyproto

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"math"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Each test here is named after something that has bitten users of other implementations.

func TestPitfallSilentPeerStallsAccept(t *testing.T) {
	ln := listen(t, &Config{Policy: Always(Require)})
	for range 3 {
		dial(t, ln, "")
		dial(t, ln, "PROXY TC")
	}
	dial(t, ln, testLineV1)
	assertTestClient(t, accept(t, ln))
}

func TestPitfallRemoteAddrBlocks(t *testing.T) {
	ln := listen(t, &Config{Policy: Always(Require), Lazy: true})
	client := dial(t, ln, "")
	assertSocket(t, accept(t, ln), client)
}

// badCloser is a connection whose Close fails.
type badCloser struct{ net.Conn }

func (c badCloser) Close() error {
	c.Conn.Close()
	return errors.New("close failed")
}

type badCloserListener struct{ net.Listener }

func (ln badCloserListener) Accept() (net.Conn, error) {
	c, err := ln.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return badCloser{c}, nil
}

func TestPitfallPeerErrorEscapesAccept(t *testing.T) {
	for _, wrap := range []func(net.Listener) net.Listener{
		func(ln net.Listener) net.Listener { return ln },
		func(ln net.Listener) net.Listener { return badCloserListener{ln} },
	} {
		inner, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		good := netip.MustParseAddr("127.0.0.1")
		ln, err := NewListener(wrap(inner), &Config{
			Policy: func(p Peer) Action {
				if p.Addr.Addr() != good {
					return Reject
				}
				return Require
			},
			Validate: func(_ Peer, h *Header) error {
				if h.Protocol == TCP6 {
					return errors.New("no IPv6 here")
				}
				return nil
			},
		})
		require.NoError(t, err)
		defer ln.Close()

		dial(t, ln, "")                                       // silent
		dial(t, ln, "").Close()                               // a probe
		reset(t, dial(t, ln, ""))                             // another
		reset(t, dial(t, ln, "PROXY TCP4 1."))                // broken
		dial(t, ln, "PROXY TCP4 1.").CloseWrite()             // incomplete
		dial(t, ln, "GET / HTTP/1.1\r\n\r\n")                 // no header
		dial(t, ln, "PROXY TCP4 1.2.3.4 1.2.3.4 0 x\r\n")     // malformed
		dial(t, ln, "PROXY TCP6 ::1 ::1 0 0\r\n")             // not valid here
		dial(t, ln, "\r\n\r\n\x00\r\nQUIT\n\x21\x11\xff\xff") // too large
		other := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}
		rejected, err := other.Dial("tcp", ln.Addr().String())
		require.NoError(t, err)
		defer rejected.Close()
		dial(t, ln, testLineV1)
		assertTestClient(t, accept(t, ln))
	}
}

func TestPitfallEndlessLine(t *testing.T) {
	cfg := &Config{Policy: Always(Require)}
	drops := logDrops(cfg)
	ln := listen(t, cfg)
	go ln.Accept()
	client := dial(t, ln, "PROXY UNKNOWN ")
	for err := error(nil); err == nil; { // until the connection is closed under it
		_, err = client.Write(bytes.Repeat([]byte("a"), 1<<16))
	}
	drop := drops.next(t)
	var fault *FormatError
	require.ErrorAs(t, drop, &fault)
	assert.Equal(t, 105, fault.Offset)
	assert.Len(t, drop.Bytes, 16)
}

func TestPitfallNoHeaderTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner := newPipeListener()
		cfg := &Config{Policy: Always(Require)}
		drops := logDrops(cfg)
		ln, err := NewListener(inner, cfg)
		require.NoError(t, err)
		defer ln.Close()
		go ln.Accept()

		start := time.Now()
		client := inner.dial()
		go io.WriteString(client, "PROXY TCP4 192.0.")
		drop := drops.next(t)
		assert.Equal(t, 5*time.Second, time.Since(start))
		assert.Equal(t, ReasonTimeout, drop.Reason)
		assert.True(t, drop.Timeout())
		assertClosed(t, client)
		assert.Equal(t, uint64(1), ln.Stats().Dropped[ReasonTimeout])
	})
}

func TestPitfallTruncatedAddressBlock(t *testing.T) {
	for _, protocol := range []Protocol{TCP4, UDP4, TCP6, UDP6, UnixStream, UnixDatagram} {
		for length := range 16 {
			wire := signatureV2 + "\x21" + string(rune(protocol)) + "\x00" + string(rune(length)) + strings.Repeat("\x01", length)
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
		assert.Equal(t, !Protocol(protocol).valid(), err != nil, "0x%02x: %v", protocol, err)
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

func TestPitfallSecondHeaderBelieved(t *testing.T) {
	const second = "PROXY TCP4 127.0.0.1 127.0.0.1 1 1\r\n"
	ln := listen(t, &Config{Policy: Always(Require)})
	client := dial(t, ln, testLineV1+second)
	c := accept(t, ln)
	assert.Equal(t, second, readString(t, c, len(second)))
	assertTestClient(t, c)
	_, err := io.WriteString(client, second) // and in a later segment
	require.NoError(t, err)
	assert.Equal(t, second, readString(t, c, len(second)))
	assertTestClient(t, c)
}

func TestPitfallTrustMissesMappedAddress(t *testing.T) {
	inner, err := net.Listen("tcp", "[::]:0") // dual-stack: an IPv4 client's address is mapped
	require.NoError(t, err)
	ln, err := NewListener(inner, &Config{Policy: Trust(netip.MustParsePrefix("127.0.0.0/8"))})
	require.NoError(t, err)
	defer ln.Close()
	_, port, err := net.SplitHostPort(inner.Addr().String())
	require.NoError(t, err)
	client, err := net.Dial("tcp4", "127.0.0.1:"+port)
	require.NoError(t, err)
	defer client.Close()
	_, err = io.WriteString(client, testLineV1)
	require.NoError(t, err)
	c := accept(t, ln)
	assertTestClient(t, c)
}

func TestPitfallLoopbackClaimed(t *testing.T) {
	cfg := &Config{
		Policy: Always(Require),
		Validate: func(p Peer, h *Header) error {
			if h.Source.Addr().Unmap().IsLoopback() && h.Command == Proxy {
				return fmt.Errorf("%v claims to speak for %v", p.Addr.Addr(), h.Source)
			}
			return nil
		},
	}
	drops := logDrops(cfg)
	ln := listen(t, cfg)
	for _, source := range []string{"TCP4 127.0.0.1 127.0.0.1", "TCP6 ::1 ::1", "TCP6 ::ffff:127.0.0.1 ::1"} {
		dial(t, ln, "PROXY "+source+" 1 1\r\n")
	}
	dial(t, ln, testLineV1)
	assertTestClient(t, accept(t, ln))
	for range 3 {
		drop := drops.next(t)
		assert.Equal(t, ReasonInvalid, drop.Reason)
		assert.ErrorContains(t, drop, "127.0.0.1 claims to speak for")
	}
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

func TestPitfallDeadlinesMixedUp(t *testing.T) {
	newLazy := func(t *testing.T) (client net.Conn, c *Conn) {
		client, server := net.Pipe()
		c, err := NewConn(server, &Config{Policy: Always(Require)})
		require.NoError(t, err)
		return client, c
	}
	t.Run("a later deadline doesn't extend the header's time", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			client, c := newLazy(t)
			start := time.Now()
			go io.WriteString(client, "P")
			var server sync.WaitGroup
			server.Go(func() {
				for range 9 { // as one does that moves its deadline all the time
					c.SetReadDeadline(time.Now().Add(time.Hour))
					time.Sleep(time.Second)
				}
			})
			defer server.Wait()
			_, err := c.Read(make([]byte, 1))
			assert.Equal(t, 5*time.Second, time.Since(start))
			var drop *DropError
			require.ErrorAs(t, err, &drop)
			assert.Equal(t, ReasonTimeout, drop.Reason)
			_, err = client.Write([]byte("P"))
			assert.Error(t, err, "the connection must be closed")
		})
	})
	t.Run("no deadline doesn't end the header's time", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			client, c := newLazy(t)
			start := time.Now()
			go io.WriteString(client, "P")
			time.AfterFunc(time.Second, func() { c.SetReadDeadline(time.Time{}) })
			_, err := c.Read(make([]byte, 1))
			assert.Error(t, err)
			assert.Equal(t, 5*time.Second, time.Since(start))
		})
	})
	t.Run("a deadline stays when the header has come", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			client, c := newLazy(t)
			start := time.Now()
			require.NoError(t, c.SetReadDeadline(start.Add(7*time.Second)))
			go io.WriteString(client, testLineV1)
			_, err := c.Read(make([]byte, 1))
			assert.Equal(t, 7*time.Second, time.Since(start))
			timeout, ok := err.(net.Error)
			assert.True(t, ok && timeout.Timeout())
			assertTestClient(t, c)
		})
	})
	t.Run("a deadline during the header is recoverable", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			client, c := newLazy(t)
			for i := range testLineV1 {
				require.NoError(t, c.SetReadDeadline(time.Now().Add(time.Millisecond)))
				if i > 0 {
					go io.WriteString(client, testLineV1[i-1:i])
				}
				_, err := c.Read(make([]byte, 1))
				timeout, ok := err.(net.Error)
				require.True(t, ok && timeout.Timeout(), "%v", err)
			}
			assert.Nil(t, c.Header())
			require.NoError(t, c.SetReadDeadline(time.Time{}))
			go io.WriteString(client, testLineV1[len(testLineV1)-1:]+"x")
			assert.Equal(t, "x", readString(t, c, 1))
			assertTestClient(t, c)
		})
	})
}

func TestPitfallHalfCloseLost(t *testing.T) {
	ln := listen(t, &Config{Policy: Always(Require)})
	client := dial(t, ln, testLineV1)
	c := accept(t, ln).(*Conn)
	_, err := io.WriteString(c, "response")
	require.NoError(t, err)
	require.NoError(t, c.CloseWrite())
	got, err := io.ReadAll(client)
	require.NoError(t, err)
	assert.Equal(t, "response", string(got))
	_, err = io.WriteString(client, "still here")
	require.NoError(t, err)
	assert.Equal(t, "still here", readString(t, c, 10))

	pipe, _ := net.Pipe()
	c, err = NewConn(pipe, &Config{Policy: Always(Skip)})
	require.NoError(t, err)
	assert.ErrorIs(t, c.CloseWrite(), errors.ErrUnsupported)
}

func TestPitfallResponseCutOffByReset(t *testing.T) {
	// The server answers before it has read the request's body, and closes. Only a half-close and a
	// wait before keep the reset that the unread bytes cause from overtaking the answer.
	answer := strings.Repeat("a", 1<<20)
	ln := listen(t, &Config{Policy: Always(Require)})
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Connection", "close")
		w.Header().Set("Content-Length", strconv.Itoa(len(answer)))
		io.WriteString(w, answer)
	})}
	go server.Serve(ln)
	defer server.Close()
	client := dial(t, ln, testLineV1+"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\n\r\n")
	io.CopyN(client, strings.NewReader(strings.Repeat("b", 1<<20)), 1<<20)
	got, err := io.ReadAll(client)
	assert.NoError(t, err)
	assert.True(t, strings.HasSuffix(string(got), answer), "%d bytes came", len(got))
}

func TestPitfallDeadlineRace(t *testing.T) {
	// The race detector is the judge.
	ln := listen(t, &Config{Policy: Always(Require), Lazy: true})
	for range 50 {
		client := dial(t, ln, "")
		c := accept(t, ln)
		var all sync.WaitGroup
		for _, f := range []func(){
			func() { io.WriteString(client, testLineV1+"x") },
			func() { c.SetDeadline(time.Now().Add(time.Hour)) },
			func() { c.SetReadDeadline(time.Now().Add(time.Hour)) },
			func() { c.SetWriteDeadline(time.Now().Add(time.Hour)) },
			func() { c.Read(make([]byte, 1)) },
			func() { c.(*Conn).ReadHeader(context.Background()) },
			func() { _ = c.RemoteAddr().String() + c.LocalAddr().String() },
			func() { c.(*Conn).Header() },
			func() { c.Write([]byte("y")) },
		} {
			all.Go(f)
		}
		all.Wait()
		assertTestClient(t, c)
		c.Close()
	}
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

func TestPitfallHealthChecksLogged(t *testing.T) {
	cfg := &Config{Policy: Always(Require)}
	drops := logDrops(cfg)
	ln := listen(t, cfg)
	var logged bytes.Buffer
	server := &http.Server{ErrorLog: log.New(&logged, "", 0)}
	go server.Serve(ln)
	const checks = 20
	for i := range checks {
		c := dial(t, ln, "")
		if i%2 == 0 {
			reset(t, c)
		} else {
			c.Close()
		}
	}
	for ln.Stats().Probes < checks {
		time.Sleep(time.Millisecond)
	}
	server.Close()
	drops.empty(t)
	assert.Zero(t, ln.Stats().TotalDropped())
	assert.Empty(t, logged.String())
}

func TestPitfallServerSpeaksFirst(t *testing.T) {
	ln := listen(t, &Config{Policy: Always(Require), Lazy: true})
	client := dial(t, ln, "")
	c := accept(t, ln)
	_, err := io.WriteString(c, "220 ready\r\n")
	require.NoError(t, err)
	readString(t, client, 11) // only then does the client speak, and the balancer with it
	_, err = io.WriteString(client, testLineV1+"EHLO x\r\n")
	require.NoError(t, err)
	assert.Equal(t, "EHLO x\r\n", readString(t, c, 8))
	assertTestClient(t, c)
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
		assert.Len(t, ssl, lenSSL+lenTLV+size)
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
