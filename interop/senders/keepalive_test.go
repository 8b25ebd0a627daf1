package senders

import (
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed2e8fe8ee/proxyproto"
	"github.com/seed2e8fe8ee/proxyproto/internal/program"
	"github.com/seed2e8fe8ee/proxyproto/interop/internal/proxies"
)

// What a request of one of 16 clients costs that keep their connections to a reverse proxy, in a
// process of its own, when the proxy keeps one to the server for each client too, and when the
// server makes it connect for each request. "no headers" is the same Caddy with neither: for many
// clients on one connection.
//
//	for i in 1 2 3 4 5; do go test -run '^$' -bench KeepAlive -benchtime 5000x .; done
func BenchmarkKeepAlive(b *testing.B) {
	for _, way := range []string{"kept", "connect each"} {
		for _, proxy := range []string{"proxyhttp", "Caddy", "Caddy, no headers"} {
			b.Run(way+"/"+proxy, func(b *testing.B) { benchKeepAlive(b, proxy, way == "kept") })
		}
	}
}

func benchKeepAlive(b *testing.B, proxy string, keep bool) {
	ln, err := proxyproto.Listen("tcp", "127.0.0.1:0",
		&proxyproto.Config{Policy: proxyproto.Always(proxyproto.Optional)})
	require.NoError(b, err)
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !keep {
			w.Header().Set("Connection", "close")
		}
		io.WriteString(w, "hello")
	})}
	go srv.Serve(ln)
	defer srv.Close()
	front := proxies.FreeAddr(b)
	switch proxy {
	case "proxyhttp":
		path, err := program.Build(b.TempDir(),
			"github.com/seed2e8fe8ee/proxyproto/examples/reverseproxy")
		require.NoError(b, err)
		front = program.StartBinary(b, path, "-to", "http://"+ln.Addr().String())
	case "Caddy":
		startCaddy(b, front, ln.Addr().String(), proxyproto.V2, "")
	default:
		startCaddy(b, front, ln.Addr().String(), 0, "")
	}

	const clients = 16
	var all [clients]*http.Client
	for i := range all {
		all[i] = client(proxies.ClientAddr(i))
		defer all[i].CloseIdleConnections()
	}
	askMany(b, all[:], front, 1_600) // the proxy is new
	before := ln.Stats().Accepted
	b.ResetTimer()
	askMany(b, all[:], front, b.N)
	b.StopTimer()
	b.ReportMetric(float64(ln.Stats().Accepted-before)/float64(b.N), "connects/op")
}

// askMany has the clients ask so often in all.
func askMany(b *testing.B, all []*http.Client, front string, requests int) {
	var left atomic.Int64
	left.Store(int64(requests))
	var wg sync.WaitGroup
	for _, c := range all {
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				askOnce(b, c, front)
			}
		})
	}
	wg.Wait()
}

func askOnce(b *testing.B, c *http.Client, front string) {
	resp, err := c.Get("http://" + front + "/")
	if !assert.NoError(b, err) {
		return
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	assert.NoError(b, err)
	assert.Equal(b, http.StatusOK, resp.StatusCode)
}
