package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed2e8fe8ee/proxyproto"
	"github.com/seed2e8fe8ee/proxyproto/internal/program"
)

func TestMain(m *testing.M) { program.Main(m) }

// echo is a server that speaks first: it tells each client in a line what its header said. Then it
// sends back what it gets, and a last word when the client has ended.
func echo(t *testing.T) *proxyproto.Listener {
	t.Helper()
	ln := program.Listen(t)
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				fmt.Fprintln(c, program.Describe(c))
				io.Copy(c, c)
				io.WriteString(c, "bye")
			}()
		}
	}()
	return ln
}

// converse talks to echo as the client with this number, and returns its own addresses and the
// line that echo said.
func converse(t *testing.T, i int, addr, header string) (own, said string) {
	t.Helper()
	c := program.Dial(t, i, addr, header)
	r := bufio.NewReader(c)
	said, err := r.ReadString('\n')
	require.NoError(t, err)
	payload := make([]byte, 1<<20)
	rand.NewChaCha8([32]byte{byte(i)}).Read(payload)
	var wg sync.WaitGroup
	wg.Go(func() {
		_, err := c.Write(payload)
		assert.NoError(t, err)
		assert.NoError(t, c.CloseWrite())
	})
	got, err := io.ReadAll(r)
	wg.Wait()
	require.NoError(t, err)
	assert.True(t, bytes.Equal(append(payload, "bye"...), got), "%d bytes came back", len(got))
	return fmt.Sprintf("%v -> %v", c.LocalAddr(), c.RemoteAddr()), said
}

func TestClientsAreTold(t *testing.T) {
	for _, version := range []string{"1", "2"} {
		t.Run("v"+version, func(t *testing.T) {
			ln := echo(t)
			relay := program.Start(t, "-to", ln.Addr().String(), "-version", version)
			var wg sync.WaitGroup
			for i := range 8 {
				wg.Go(func() {
					own, said := converse(t, i, relay, "")
					assert.Equal(t, "v"+version+" PROXY "+own+", TLVs \n", said)
				})
			}
			wg.Wait()
			assert.Equal(t, uint64(8), ln.Stats().Accepted)
		})
	}
}

// Of two relays in a row the second one passes on the first one's clients.
func TestTwoRelays(t *testing.T) {
	for _, versions := range [][2]string{{"1", "2"}, {"2", "1"}, {"2", "2"}} {
		t.Run(versions[0]+" then "+versions[1], func(t *testing.T) {
			ln := echo(t)
			second := program.Start(t, "-to", ln.Addr().String(), "-version", versions[1],
				"-trust", "127.0.0.1")
			first := program.Start(t, "-to", second, "-version", versions[0])
			for i := range 3 {
				own, said := converse(t, i, first, "")
				assert.Equal(t, "v"+versions[1]+" PROXY "+own+", TLVs \n", said)
			}
		})
	}
}

func TestHeadersOfProxyInFront(t *testing.T) {
	ln := echo(t)
	relay := program.Start(t, "-to", ln.Addr().String(), "-trust", "10.0.0.0/8,127.0.0.0/8")
	t.Run("v1", func(t *testing.T) {
		_, said := converse(t, 0, relay, "PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n")
		assert.Equal(t, "v2 PROXY 192.0.2.7:56324 -> 198.51.100.1:443, TLVs \n", said)
	})
	t.Run("TLVs", func(t *testing.T) {
		h := proxyproto.NewHeader(&net.TCPAddr{IP: net.ParseIP("2001:db8::7"), Port: 56324},
			&net.TCPAddr{IP: net.ParseIP("2001:db8::1"), Port: 443}, proxyproto.V2)
		h.TLVs = proxyproto.TLVs("\x05\x00\x02id\x04\x00\x01\x00\xea\x00\x02\x01v")
		header, err := h.AppendTo(nil)
		require.NoError(t, err)
		_, said := converse(t, 0, relay, string(header))
		assert.Equal(t, "v2 PROXY [2001:db8::7]:56324 -> [2001:db8::1]:443, TLVs 0500026964ea00020176\n",
			said)
	})
	t.Run("LOCAL", func(t *testing.T) {
		header, err := (&proxyproto.Header{Version: proxyproto.V2}).AppendTo(nil)
		require.NoError(t, err)
		own, said := converse(t, 0, relay, string(header))
		assert.Equal(t, "v2 PROXY "+own+", TLVs \n", said)
	})
	t.Run("none", func(t *testing.T) {
		before := ln.Stats().Accepted
		assertEnds(t, program.Dial(t, 0, relay, "GET / HTTP/1.0\r\n\r\n"))
		assert.Equal(t, before, ln.Stats().Accepted)
	})
}

func TestStrangersAreRejected(t *testing.T) {
	ln := echo(t)
	relay := program.Start(t, "-to", ln.Addr().String(), "-trust", "10.0.0.0/8")
	assertEnds(t, program.Dial(t, 0, relay, "PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n"))
	assert.Zero(t, ln.Stats().Accepted)
}

// Without -trust a header is the client's payload, which stands behind the relay's own.
func TestHeaderOfClientIsPayload(t *testing.T) {
	ln := echo(t)
	relay := program.Start(t, "-to", ln.Addr().String())
	c := program.Dial(t, 0, relay, "PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n")
	r := bufio.NewReader(c)
	said, err := r.ReadString('\n')
	require.NoError(t, err)
	assert.Contains(t, said, c.LocalAddr().String())
	came, err := r.ReadString('\n')
	require.NoError(t, err)
	assert.Equal(t, "PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n", came)
}

func TestClientEndsWithServer(t *testing.T) {
	t.Run("down", func(t *testing.T) {
		ln := program.Listen(t)
		ln.Close()
		assertEnds(t, program.Dial(t, 0, program.Start(t, "-to", ln.Addr().String()), ""))
	})
	t.Run("reset", func(t *testing.T) {
		ln := program.Listen(t)
		relay := program.Start(t, "-to", ln.Addr().String())
		c := program.Dial(t, 0, relay, "")
		server, err := ln.Accept()
		require.NoError(t, err)
		conn, _ := proxyproto.FromConn(server)
		require.NoError(t, conn.NetConn().(*net.TCPConn).SetLinger(0))
		require.NoError(t, server.Close())
		assertEnds(t, c)
	})
}

// A server that has no more to say still hears all that the client has.
func TestServerEndsFirst(t *testing.T) {
	ln := program.Listen(t)
	relay := program.Start(t, "-to", ln.Addr().String())
	c := program.Dial(t, 0, relay, "")
	accepted, err := ln.Accept()
	require.NoError(t, err)
	defer accepted.Close()
	server := accepted.(*proxyproto.Conn)
	require.NoError(t, server.CloseWrite())
	_, err = c.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF)
	sent := bytes.Repeat([]byte("later"), 100_000)
	go func() {
		c.Write(sent)
		c.CloseWrite()
	}()
	got, err := io.ReadAll(server)
	require.NoError(t, err)
	assert.True(t, bytes.Equal(sent, got), "%d bytes arrived", len(got))
}

// assertEnds checks that the connection is closed, both ways, without a byte and before its
// deadline.
func assertEnds(t *testing.T, c net.Conn) {
	t.Helper()
	b, err := io.ReadAll(c)
	assert.Empty(t, b)
	assert.NotErrorIs(t, err, os.ErrDeadlineExceeded)
	for err = nil; err == nil; { // the first may still go out
		_, err = c.Write(make([]byte, 1))
	}
	assert.NotErrorIs(t, err, os.ErrDeadlineExceeded)
}

func TestFlags(t *testing.T) {
	for _, flags := range [][]string{{"-version", "3"}, {"-trust", "10.0.0.0/8,nonsense"}} {
		out, err := program.Run(flags...)
		assert.Error(t, err)
		assert.Contains(t, out, flags[0]+": ")
	}
}

// Too many open files, say, end nothing: those who come afterwards are served.
func TestServeOutlivesErrors(t *testing.T) {
	ln := &failingListener{errs: []error{syscall.EMFILE, io.ErrUnexpectedEOF}}
	err := serve(ln, func(net.Conn) {})
	assert.ErrorIs(t, err, net.ErrClosed)
	assert.Empty(t, ln.errs)
}

type failingListener struct {
	net.Listener
	errs []error
}

func (l *failingListener) Accept() (net.Conn, error) {
	if len(l.errs) == 0 {
		return nil, net.ErrClosed
	}
	err := l.errs[0]
	l.errs = l.errs[1:]
	return nil, err
}
