package interop

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"runtime"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed2e8fe8ee/proxyproto"
	"github.com/seed2e8fe8ee/proxyproto/interop/internal/proxies"
)

// A failing listener fails when it is told to.
type failing struct {
	net.Listener
	calls atomic.Int64
	fail  func(call int64) error
}

func (f *failing) Accept() (net.Conn, error) {
	if err := f.fail(f.calls.Add(1)); err != nil {
		return nil, err
	}
	return f.Listener.Accept()
}

func acceptError(err error) error { return &net.OpError{Op: "accept", Net: "tcp", Err: err} }

// An inner listener that fails for a while costs nobody a connection: net/http waits and goes on.
func TestFaultInnerListenerFailsForAWhile(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	temporary := []error{syscall.ECONNABORTED, syscall.EMFILE, syscall.ENFILE}
	f := &failing{Listener: inner, fail: func(call int64) error {
		if call%10 < 3 { // three times in a row
			return acceptError(temporary[call%10])
		}
		return nil
	}}
	ln, err := proxyproto.NewListener(f, &proxyproto.Config{Policy: proxyproto.Trust(netip.MustParsePrefix("127.0.0.1/32"))})
	require.NoError(t, err)
	server := &http.Server{Handler: http.HandlerFunc(whoami), ErrorLog: log.New(io.Discard, "", 0)}
	served := make(chan error, 1)
	go func() { served <- server.Serve(ln) }()
	silent, err := proxies.DialFrom(netip.MustParseAddr(proxies.Proxy), inner.Addr().String()) // so that it also accepts aside
	require.NoError(t, err)
	defer silent.Close()
	const clients = 300
	each(t, "an inner listener that fails", clients, 8, func(i int) (netip.Addr, error) {
		return directly(inner.Addr().String(), i)
	})
	assert.Equal(t, uint64(clients), ln.Stats().V1)
	assert.NoError(t, server.Close())
	assert.ErrorIs(t, <-served, http.ErrServerClosed)
}

// directly connects as the trusted proxy would, on behalf of client i.
func directly(addr string, i int) (client netip.Addr, err error) {
	client = proxies.ClientAddr(i)
	c, err := proxies.DialFrom(netip.MustParseAddr(proxies.Proxy), addr)
	if err != nil {
		return client, err
	}
	defer c.Close()
	fmt.Fprintf(c, "PROXY TCP4 %v 192.0.2.2 %d 443\r\n", client, 1+i)
	return client, askHTTP(c, fmt.Sprintf("%v:%d -> 192.0.2.2:443", client, 1+i))
}

// An inner listener that fails for good ends the server and what waits for a header, and nothing else.
func TestFaultInnerListenerFailsForGood(t *testing.T) {
	for name, final := range map[string]error{
		"closed by somebody else":  acceptError(net.ErrClosed),
		"an error nobody foresaw":  acceptError(syscall.ENOTSOCK),
		"one without a type of it": errors.New("the listener is broken"),
	} {
		t.Run(name, func(t *testing.T) {
			goroutines := runtime.NumGoroutine()
			inner, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(t, err)
			var broken atomic.Bool
			f := &failing{Listener: inner, fail: func(int64) error {
				if broken.Load() {
					return final
				}
				return nil
			}}
			ln, err := proxyproto.NewListener(f, &proxyproto.Config{Policy: proxyproto.Trust(netip.MustParsePrefix("127.0.0.1/32")), HeaderTimeout: time.Hour})
			require.NoError(t, err)
			server := &http.Server{Handler: http.HandlerFunc(whoami), ErrorLog: log.New(io.Discard, "", 0)}
			served := make(chan error, 1)
			go func() { served <- server.Serve(ln) }()

			proxy := netip.MustParseAddr(proxies.Proxy)
			var silent []net.Conn
			for range 10 {
				c, err := proxies.DialFrom(proxy, inner.Addr().String())
				require.NoError(t, err)
				defer c.Close()
				silent = append(silent, c)
			}
			kept, err := proxies.DialFrom(proxy, inner.Addr().String())
			require.NoError(t, err)
			defer kept.Close()
			// Answered once, so that Accept has returned it.
			fmt.Fprintf(kept, "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\nGET / HTTP/1.1\r\nHost: interop.test\r\n\r\n")
			resp, err := http.ReadResponse(bufio.NewReader(kept), nil)
			require.NoError(t, err)
			require.NoError(t, checkResponse(resp, "192.0.2.1:1 -> 192.0.2.2:2"))
			require.Eventually(t, func() bool { return ln.Stats().Pending == 10 && ln.Stats().V1 == 1 }, proxies.Timeout, time.Millisecond)

			broken.Store(true)
			last, err := proxies.DialFrom(proxy, inner.Addr().String()) // the one that is being waited for
			require.NoError(t, err)
			defer last.Close()
			silent = append(silent, last)
			got := <-served
			assert.ErrorIs(t, got, final)
			for _, c := range silent { // Serve closes its listener
				b, _ := io.ReadAll(c)
				assert.Empty(t, b)
			}
			assert.NoError(t, askHTTP(kept, "192.0.2.1:1 -> 192.0.2.2:2"))
			_, err = ln.Accept()
			assert.ErrorIs(t, err, net.ErrClosed)
			require.NoError(t, server.Close())
			require.Eventually(t, func() bool { return ln.Stats().Pending == 0 && runtime.NumGoroutine() <= goroutines+1 }, proxies.Timeout, time.Millisecond)
			assert.Equal(t, uint64(len(silent)), ln.Stats().Dropped[proxyproto.ReasonClosed])
		})
	}
}

// A peer may reset its connection at any byte of the header: it is dropped and nobody else notices.
func TestFaultPeersResetAtEveryByte(t *testing.T) {
	h := proxyproto.Header{
		Version: proxyproto.V2, Command: proxyproto.Proxy, Protocol: proxyproto.TCP6,
		Source: netip.MustParseAddrPort("[2001:db8::1]:1"), Destination: netip.MustParseAddrPort("[2001:db8::2]:2"),
	}
	h.TLVs, _ = h.TLVs.Append(proxyproto.TypeAuthority, []byte("example.com"))
	h.TLVs, _ = h.TLVs.Append(proxyproto.TypeCRC32C, make([]byte, 4))
	v2, err := h.AppendTo(nil)
	require.NoError(t, err)
	headers := [][]byte{[]byte("PROXY TCP6 2001:db8::1 2001:db8::2 1 2\r\n"), v2}
	for _, action := range []proxyproto.Action{proxyproto.Require, proxyproto.Optional} {
		for _, lazy := range []bool{false, true} {
			t.Run(fmt.Sprintf("%v lazy %v", action, lazy), func(t *testing.T) {
				goroutines := runtime.NumGoroutine()
				inner, err := net.Listen("tcp", "127.0.0.1:0")
				require.NoError(t, err)
				ln, err := proxyproto.NewListener(inner, &proxyproto.Config{Policy: proxyproto.Always(action), Lazy: lazy, HeaderTimeout: time.Hour})
				require.NoError(t, err)
				server := &http.Server{
					// Under Lazy net/http asks for RemoteAddr before the header is read.
					Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
						h, _ := proxyproto.HeaderFromContext(r.Context())
						io.WriteString(w, pair(h.SourceAddr(), h.DestinationAddr()))
					}),
					ConnContext: proxyproto.ConnContext,
					ErrorLog:    log.New(io.Discard, "", 0),
				}
				served := make(chan error, 1)
				go func() { served <- server.Serve(ln) }()
				resets, whole, good := 0, 0, 0
				for _, header := range headers {
					for n := range len(header) + 1 {
						for _, wait := range []bool{false, true} { // until it has been accepted, or not
							c, err := net.Dial("tcp", inner.Addr().String())
							require.NoError(t, err)
							_, err = c.Write(header[:n])
							require.NoError(t, err)
							resets++
							if n == len(header) {
								whole++
							}
							if wait {
								require.Eventually(t, func() bool { return ln.Stats().Accepted == uint64(resets+good) }, proxies.Timeout, 100*time.Microsecond)
							}
							require.NoError(t, c.(*net.TCPConn).SetLinger(0))
							require.NoError(t, c.Close())
						}
						if n%8 == 0 {
							good++
							_, err = directly(inner.Addr().String(), n)
							require.NoError(t, err)
						}
					}
				}
				require.Eventually(t, func() bool {
					s := ln.Stats()
					return s.Accepted == uint64(resets+good) && s.Accepted == s.V1+s.V2+s.Bare+s.Probes+s.TotalDropped() && s.Pending == 0
				}, proxies.Timeout, time.Millisecond, "%+v", ln.Stats())
				s := ln.Stats()
				t.Logf("%d resets: %d probes, %d dropped; %d good clients between them", resets, s.Probes, s.TotalDropped(), good)
				// A reset may overtake the whole header, but never makes one out of a part.
				assert.LessOrEqual(t, s.V1+s.V2, uint64(whole+good))
				assert.GreaterOrEqual(t, s.V1+s.V2, uint64(good))
				assert.Zero(t, s.Bare)
				assert.NoError(t, server.Close())
				assert.ErrorIs(t, <-served, http.ErrServerClosed)
				require.Eventually(t, func() bool { return runtime.NumGoroutine() <= goroutines+1 }, proxies.Timeout, time.Millisecond)
			})
		}
	}
}
