package proxyhttp

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed2e8fe8ee/proxyproto"
)

// What a request of one of 16 clients costs through a Transport, beside a connect for each request,
// and beside an http.Transport that sends no headers and mixes the clients.
func BenchmarkTransport(b *testing.B) {
	for _, withTLS := range []bool{false, true} {
		scheme := map[bool]string{false: "http", true: "https"}[withTLS]
		for _, name := range []string{"kept", "connect each", "no headers"} {
			b.Run(scheme+"/"+name, func(b *testing.B) { benchTransport(b, withTLS, name) })
		}
	}
}

func benchTransport(b *testing.B, withTLS bool, name string) {
	backend := newBackend(b, withTLS)
	backend.SetPolicy(proxyproto.Always(proxyproto.Optional)) // for the one without headers
	backend.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "hello")
	})
	base := &http.Transport{MaxIdleConnsPerHost: 100, DisableKeepAlives: name == "connect each"}
	if withTLS {
		base.TLSClientConfig = backend.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
		base.TLSClientConfig.NextProtos = nil
	}
	var transport http.RoundTripper = base
	if name != "no headers" {
		transport = newTransport(b, base, headerV2)
	}
	defer base.CloseIdleConnections()
	local := backend.Listener.Addr()
	requests := make([]*http.Request, 16)
	for i := range requests {
		ctx := context.WithValue(b.Context(), http.LocalAddrContextKey, net.Addr(local))
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, backend.URL, nil)
		require.NoError(b, err)
		r.RemoteAddr = fmt.Sprintf("192.0.2.%d:1000", i)
		requests[i] = r
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		resp, err := transport.RoundTrip(requests[i%len(requests)])
		if err != nil {
			b.Fatal(err)
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}
}

// What a client's session costs before its first connection.
func BenchmarkSessionMemory(b *testing.B) {
	transport := newTransport(b, nil, headerV2)
	var before, after runtime.MemStats
	var all []*session
	runtime.GC()
	runtime.ReadMemStats(&before)
	for i := 0; b.Loop(); i++ {
		wire := fmt.Appendf(nil, "%d", i)
		all = append(all, transport.sessions.acquire(wire, string(wire),
			func(s *session) *http.Transport {
				return transport.transport(s, &proxyproto.Header{})
			}))
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/float64(len(all)), "B/session")
	runtime.KeepAlive(all)
}
