//go:build !race

package clientip

import (
	"context"
	"net"
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed2e8fe8ee/proxyproto"
)

// A request through one proxy costs its copy and its RemoteAddr; one whose RemoteAddr is right,
// the copy alone. More proxies cost their list.
func TestAllocs(t *testing.T) {
	next := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if addr, ok := FromContext(r.Context()); !ok || Scheme(r.Context()) == "" {
			t.Fatal(addr)
		}
	})
	ctx := context.WithValue(t.Context(), http.LocalAddrContextKey, net.Addr(&net.TCPAddr{}))
	for _, test := range []struct {
		name, remote, field, value string
		want                       float64
	}{
		{"direct", "192.0.2.7:1234", "X-Forwarded-For", "203.0.113.66", 1},
		{"X-Forwarded-For", "10.0.0.1:1234", "X-Forwarded-For", "203.0.113.66, 192.0.2.7", 2},
		{"X-Forwarded-For, IPv6", "10.0.0.1:1234", "X-Forwarded-For", "2001:db8:1:2:3:4:5:6", 2},
		{"X-Forwarded-For, two proxies", "10.0.0.1:1234", "X-Forwarded-For", "192.0.2.7, 10.0.0.2",
			3},
		{"X-Forwarded-For, four proxies", "10.0.0.1:1234", "X-Forwarded-For",
			"192.0.2.7, 10.0.0.2, 10.0.0.3, 10.0.0.4", 3},
		{"Forwarded", "10.0.0.1:1234", "Forwarded",
			`for=192.0.2.9, for="[2001:db8::7]:99";proto=https`, 2},
		{"X-Real-IP", "10.0.0.1:1234", "X-Real-Ip", "192.0.2.7", 2},
	} {
		h := newHandler(t, next, &Config{Trust: prefixes(t, "10.0.0.0/8"), Field: test.field})
		r := &http.Request{RemoteAddr: test.remote, Header: http.Header{test.field: {test.value}}}
		r = r.WithContext(ctx)
		assert.Equal(t, test.want, testing.AllocsPerRun(100, func() { h.ServeHTTP(nil, r) }),
			test.name)
	}
}

// Nor does PROXY cost more: not from a proxy that is asked for by its socket, either.
func TestAllocsHeader(t *testing.T) {
	ln := listen(t, "tcp", "127.0.0.1:0", false)
	defer ln.Close()
	client, err := net.Dial("tcp", ln.Addr().String())
	require.NoError(t, err)
	defer client.Close()
	_, err = client.Write([]byte(line("192.0.2.7")))
	require.NoError(t, err)
	server, err := ln.Accept()
	require.NoError(t, err)
	defer server.Close()

	var proxied bool
	h := newHandler(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		client, _ := ClientFromContext(r.Context())
		proxied = client.Proxied
	}), &Config{Trust: prefixes(t, "127.0.0.1"), Field: "X-Forwarded-For"})
	r := &http.Request{RemoteAddr: server.RemoteAddr().String(),
		Header: http.Header{"X-Forwarded-For": {"192.0.2.7"}}}
	r = r.WithContext(proxyproto.ConnContext(t.Context(), server))
	assert.Equal(t, 1., testing.AllocsPerRun(100, func() { h.ServeHTTP(nil, r) }))
	assert.True(t, proxied)
}
