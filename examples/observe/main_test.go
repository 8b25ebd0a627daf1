package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed2e8fe8ee/proxyproto"
)

func TestLogDropsIsNoFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		onDrop := logDrops(slog.New(slog.NewTextHandler(&out, nil)))
		lines := func() int {
			defer out.Reset()
			return strings.Count(out.String(), "\n")
		}
		offender := func(port uint16) netip.AddrPort {
			return netip.AddrPortFrom(netip.MustParseAddr("192.0.2.66"), port)
		}

		for port := range uint16(1000) {
			onDrop(offender(port), errors.New("no good"))
		}
		assert.Contains(t, out.String(), `level=WARN msg="connection dropped" peer=192.0.2.66 err="no good"`)
		assert.Equal(t, 1, lines(), "of one peer in one minute")

		time.Sleep(time.Minute)
		for port := range uint16(1000) {
			onDrop(offender(port), errors.New("no good"))
		}
		assert.Equal(t, 1, lines(), "of the same peer in the next minute")

		time.Sleep(time.Minute)
		addr := netip.MustParseAddr("2001:db8::")
		for range 20_000 {
			addr = addr.Next()
			onDrop(netip.AddrPortFrom(addr, 1), errors.New("no good"))
		}
		n := lines()
		assert.LessOrEqual(t, n, 256, "of 20,000 peers")
		assert.Greater(t, n, 100, "of 20,000 peers: some must be seen")
	})
}

// What the Listener tells the log and the expvar, connection by connection.
func TestObserve(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	told := make(chan string, 16)
	ln, err := proxyproto.NewListener(inner, &proxyproto.Config{
		Policy: proxyproto.Always(proxyproto.Require),
		OnDrop: logDrops(slog.New(slog.NewTextHandler(chanWriter(told), nil))),
	})
	require.NoError(t, err)
	srv := &http.Server{Handler: http.HandlerFunc(hello)}
	go srv.Serve(ln)
	t.Cleanup(func() { srv.Close() })

	const request = "GET / HTTP/1.0\r\n\r\n"
	assert.Contains(t, ask(t, ln, "PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n"+request), "hello 192.0.2.7:56324")
	for range 3 {
		assert.Empty(t, ask(t, ln, ""))
		assert.Empty(t, ask(t, ln, request))
	}

	var vars struct {
		Accepted, V1, Probes uint64
		Dropped              map[string]uint64
	}
	require.Eventually(t, func() bool {
		vars.Dropped = nil
		require.NoError(t, json.Unmarshal([]byte(counts(ln).String()), &vars))
		return vars.Probes+vars.Dropped["no header"] == 6
	}, time.Minute, time.Millisecond)
	assert.Equal(t, uint64(7), vars.Accepted)
	assert.Equal(t, uint64(1), vars.V1)
	assert.Equal(t, uint64(3), vars.Probes)
	assert.Equal(t, uint64(3), vars.Dropped["no header"])
	assert.Contains(t, vars.Dropped, "malformed", "reasons that haven't come up are there as well")

	assert.Contains(t, <-told, "not a PROXY protocol header")
	assert.Empty(t, told, "three drops and three probes must make one record")
}

// chanWriter sends what is written.
type chanWriter chan<- string

func (w chanWriter) Write(p []byte) (int, error) {
	w <- string(p)
	return len(p), nil
}

// ask connects, sends, and returns all that comes back.
func ask(t *testing.T, ln net.Listener, send string) string {
	t.Helper()
	c, err := net.Dial("tcp", ln.Addr().String())
	require.NoError(t, err)
	defer c.Close()
	require.NoError(t, c.SetDeadline(time.Now().Add(time.Minute)))
	_, err = io.WriteString(c, send)
	require.NoError(t, err)
	require.NoError(t, c.(*net.TCPConn).CloseWrite())
	got, _ := io.ReadAll(c) // a dropped connection may end in a reset
	return string(got)
}
