package servertest

import (
	"bytes"
	"crypto/tls"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	. "github.com/seed2e8fe8ee/proxyproto"
	"github.com/seed2e8fe8ee/proxyproto/internal/wiretest"
)

// What someone who wants to be 127.0.0.1 would like to be believed.
const forgedV1 = "PROXY TCP4 127.0.0.1 127.0.0.1 1 1\r\n"

func forged(t testing.TB) map[string]string {
	h := testHeader()
	h.Source = netip.MustParseAddrPort("127.0.0.1:1")
	return map[string]string{"v1": forgedV1, "v2": encode(t, h),
		"local": signatureV2 + "\x20\x00\x00\x00"}
}

// A second header is payload, whatever the first one is and wherever the bytes are split.
func TestAttackSecondHeader(t *testing.T) {
	h := testHeader()
	firsts := map[string]string{
		"v1": testLineV1, "v2": encode(t, h),
		"local": signatureV2 + "\x20\x00\x00\x00", "unknown": "PROXY UNKNOWN\r\n",
	}
	for firstName, first := range firsts {
		for secondName, second := range forged(t) {
			t.Run(firstName+" then "+secondName, func(t *testing.T) {
				for split := range len(first + second) {
					client, server := net.Pipe()
					c, err := NewConn(server, &Config{Policy: Always(Require)})
					require.NoError(t, err)
					go func() {
						io.WriteString(client, (first + second)[:split])
						io.WriteString(client, (first + second)[split:])
						client.Close()
					}()
					require.NoError(t, c.ReadHeader(t.Context()))
					remote, local := c.RemoteAddr(), c.LocalAddr()
					payload, err := io.ReadAll(c)
					require.NoError(t, err)
					assert.Equal(t, second, string(payload), "split at %d", split)
					assert.Equal(t, remote, c.RemoteAddr())
					assert.Equal(t, local, c.LocalAddr())
					assert.NotContains(t, c.RemoteAddr().String(), "127.0.0.1")
				}
			})
		}
	}
}

// A real server gets the second header as a request, and answers that it is none.
func TestAttackSecondHeaderAtHTTPServer(t *testing.T) {
	ln := listen(t, &Config{Policy: Always(Require)})
	server := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, r.RemoteAddr)
		}),
		ErrorLog: log.New(io.Discard, "", 0),
	}
	go server.Serve(ln)
	defer server.Close()
	const request = "GET / HTTP/1.1\r\nHost: x\r\n\r\n"
	for name, second := range forged(t) {
		// Behind the header, and behind a request on the same connection.
		for _, before := range []string{"", request} {
			client := dial(t, ln, testLineV1+before)
			_, err := io.WriteString(client, second+request)
			require.NoError(t, err)
			require.NoError(t, client.CloseWrite())
			answer, err := io.ReadAll(client)
			require.NoError(t, err)
			assert.Contains(t, string(answer), "400 Bad Request", name)
			assert.NotContains(t, string(answer), "127.0.0.1", name)
			assert.Equal(t, before != "", strings.Contains(string(answer), testSource), name)
		}
	}
}

// A header inside TLS is payload where the proxy speaks outside of it, and one outside is none
// where the proxy speaks inside.
func TestAttackHeaderInsideTLS(t *testing.T) {
	certificate, roots := testCertificate(t)
	config := &tls.Config{Certificates: []tls.Certificate{certificate}}
	clientConfig := &tls.Config{RootCAs: roots, ServerName: "127.0.0.1"}
	t.Run("header outside", func(t *testing.T) {
		ln := listen(t, &Config{Policy: Always(Require)})
		outer := tls.NewListener(ln, config)
		for name, second := range forged(t) {
			client := tls.Client(dial(t, ln, testLineV1), clientConfig)
			go func() {
				io.WriteString(client, second)
				client.Close()
			}()
			c := accept(t, outer)
			payload, err := io.ReadAll(c)
			require.NoError(t, err)
			assert.Equal(t, second, string(payload), name)
			assertTestClient(t, c)
		}
		// Behind the header and before the handshake it breaks the handshake.
		client := dial(t, ln, testLineV1+forgedV1)
		c := accept(t, outer)
		assert.Error(t, c.(*tls.Conn).HandshakeContext(t.Context()))
		assertTestClient(t, c)
		client.Close()
	})
	t.Run("header inside", func(t *testing.T) {
		inner, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		cfg := &Config{Policy: Always(Require)}
		drops := logDrops(cfg)
		ln, err := NewListener(tls.NewListener(inner, config), cfg)
		require.NoError(t, err)
		defer ln.Close()
		dial(t, ln, forgedV1).CloseWrite() // in the clear
		client := tls.Client(dial(t, ln, ""), clientConfig)
		defer client.Close()
		go io.WriteString(client, testLineV1+forgedV1)
		c := accept(t, ln)
		assert.Equal(t, forgedV1, readString(t, c, len(forgedV1)))
		assertTestClient(t, c)
		drops.next(t)
		assert.Equal(t, uint64(1), ln.Stats().TotalDropped()+ln.Stats().Probes)
	})
}

// Half a header that is never completed is no payload, and its second half comes too late: under no
// Action is either served.
func TestAttackLateHalf(t *testing.T) {
	for _, action := range []Action{Require, Optional, Ignore} {
		for name, wire := range forged(t) {
			for _, lazy := range []bool{false, true} {
				t.Run(action.String()+" "+name, func(t *testing.T) {
					for split := 1; split < len(wire); split++ {
						lateHalf(t, action, lazy, wire, split)
					}
				})
			}
		}
	}
}

func lateHalf(t *testing.T, action Action, lazy bool, wire string, split int) {
	synctest.Test(t, func(t *testing.T) {
		inner := newPipeListener()
		cfg := &Config{Policy: Always(action), HeaderTimeout: 3 * time.Second, Lazy: lazy}
		drops := logDrops(cfg)
		ln, err := NewListener(inner, cfg)
		require.NoError(t, err)
		defer ln.Close()
		served := make(chan string, 1)
		go func() {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			payload, _ := io.ReadAll(c)
			served <- string(payload)
		}()
		client := inner.dial()
		_, err = io.WriteString(client, wire[:split])
		require.NoError(t, err)
		time.Sleep(3*time.Second + 1) // of the bubble's time
		synctest.Wait()
		_, err = io.WriteString(client, wire[split:])
		assert.Error(t, err, "the second half was taken, split at %d", split)
		assert.Equal(t, ReasonTimeout, drops.next(t).Reason)
		synctest.Wait()
		select {
		case payload := <-served:
			assert.True(t, lazy || action == Ignore)
			assert.Empty(t, payload)
		default:
			assert.False(t, lazy || action == Ignore)
		}
	})
}

// hasBegun reports whether b has all that tells a header from other protocols.
func hasBegun(b []byte) bool {
	return bytes.HasPrefix(b, []byte("PROXY ")) || bytes.HasPrefix(b, []byte(signatureV2))
}

// What has begun as a header is never payload, broken or cut off, under no Action.
func TestAttackBrokenHeaderAsPayload(t *testing.T) {
	refused := 0
	for _, row := range wiretest.Rows() {
		if row.Err == nil || row.Err == wiretest.ErrNoHeader || !hasBegun(row.Wire) {
			continue
		}
		for _, action := range []Action{Require, Optional, Ignore} {
			client, server := net.Pipe()
			c, err := NewConn(server, &Config{Policy: Always(action), MaxHeaderSize: maxHeader})
			require.NoError(t, err)
			go func() {
				client.Write(row.Wire)
				client.Close()
			}()
			payload, err := io.ReadAll(c)
			assert.Empty(t, payload, row.Name)
			var drop *DropError
			assert.ErrorAs(t, err, &drop, row.Name)
			refused++
		}
	}
	assert.Greater(t, refused, 500)
}

// Under Optional the first bytes decide for good: what looks like a header behind them is payload.
func TestAttackHeaderBehindOptionalPayload(t *testing.T) {
	for name, wire := range forged(t) {
		for _, action := range []Action{Optional, Ignore} {
			for _, before := range []string{"x", "\n", "\r\n\r\n", "PROX", "PROXx",
				signatureV2[:11], "GET / HTTP/1.1\r\n\r\n"} {
				ln := listen(t, &Config{Policy: Always(action)})
				client := dial(t, ln, before+wire)
				require.NoError(t, client.CloseWrite())
				c := accept(t, ln)
				payload, err := io.ReadAll(c)
				require.NoError(t, err)
				assert.Equal(t, before+wire, string(payload), "%s behind %q", name, before)
				assertSocket(t, c, client)
				assert.Nil(t, c.(*Conn).Header())
			}
		}
	}
}

// A peer that nobody trusts, under each Action: nothing it says is believed but under the two
// Actions that are for peers one trusts.
func TestAttackByUntrustedPeer(t *testing.T) {
	for action, want := range map[Action]struct {
		served, believed bool
		payload          func(wire string) string
	}{
		Reject:  {served: false},
		Skip:    {served: true, payload: func(wire string) string { return wire + "hi" }},
		Ignore:  {served: true, payload: func(string) string { return "hi" }},
		Require: {served: true, believed: true, payload: func(string) string { return "hi" }},

		Optional: {served: true, believed: true, payload: func(string) string { return "hi" }},
	} {
		for _, lazy := range []bool{false, true} {
			for name, wire := range forged(t) {
				if name == "local" {
					continue
				}
				inner, err := net.Listen("tcp", "127.0.0.1:0")
				require.NoError(t, err)
				policy := Rules(action,
					Rule{Prefix: netip.MustParsePrefix("192.0.2.0/24"), Action: Require})
				ln, err := NewListener(inner, &Config{Policy: policy, Lazy: lazy})
				require.NoError(t, err)
				t.Cleanup(func() { ln.Close() })
				if !want.served {
					go ln.Accept()
					assertClosed(t, dial(t, ln, wire+"hi"))
					settle(t, "it is counted",
						func() bool { return ln.Stats().Dropped[ReasonRejected] == 1 })
					continue
				}
				client := dial(t, ln, wire+"hi")
				require.NoError(t, client.CloseWrite())
				c := accept(t, ln)
				payload, err := io.ReadAll(c)
				require.NoError(t, err)
				assert.Equal(t, want.payload(wire), string(payload), "%v", action)
				_, ok := HeaderFromContext(ConnContext(t.Context(), c))
				assert.Equal(t, want.believed, ok, "%v", action)
				if !want.believed {
					assertSocket(t, c, client)
					continue
				}
				assert.Equal(t, "127.0.0.1:1", c.RemoteAddr().String())
			}
		}
	}
}

// What has been refused is told to OnDrop in a form that is fit for a log line.
func TestAttackOnTheLog(t *testing.T) {
	cfg := &Config{Policy: Always(Require)}
	drops := logDrops(cfg)
	ln := listen(t, cfg)
	go ln.Accept()
	for _, send := range []string{
		"\n2026/11/21 forged log line\x1b[2J\r\n",
		"PROXY TCP4 1.2.3.4\n2026/11/21 forged\x1b[2J 1 2\r\n",
		signatureV2 + "\x21\x11\x00\x10\x1b[2J\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n",
	} {
		dial(t, ln, send)
		said := drops.next(t).Error()
		assert.Equal(t, -1, bytes.IndexFunc([]byte(said),
			func(r rune) bool { return r < ' ' || r > '~' }), "%q", said)
		assert.Less(t, len(said), 300)
	}
}
