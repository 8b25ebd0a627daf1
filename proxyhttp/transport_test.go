package proxyhttp

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed2e8fe8ee/proxyproto"
)

// Clients that keep their connections to the proxy alive, and send requests side by side, are
// always told their own address by the server after it.
func TestClientsNeverShareAnAddress(t *testing.T) {
	used := http.DefaultTransport.(*http.Transport).Clone()
	// As x/net/http2's ConfigureTransport leaves it: whatever it does, its connections are shared.
	configured := &http.Transport{TLSNextProto: map[string]func(string, *tls.Conn) http.RoundTripper{
		"h2": func(string, *tls.Conn) http.RoundTripper {
			assert.Fail(t, "the base's own HTTP/2 was used")
			return http.DefaultTransport
		},
	}}
	both := new(http.Protocols)
	both.SetHTTP1(true)
	both.SetHTTP2(true)
	for _, test := range []struct {
		name              string
		base              *http.Transport
		clientTLS, srvTLS bool
		proto             string
	}{
		{"default", nil, false, false, "HTTP/1.1"},
		{"TLS and HTTP/2 from the clients", nil, true, false, "HTTP/1.1"},
		{"TLS and HTTP/2 to the server", &http.Transport{ForceAttemptHTTP2: true}, false, true, "HTTP/2.0"},
		{"HTTP/2 by Protocols", &http.Transport{Protocols: both}, true, true, "HTTP/2.0"},
		{"TLS to the server", new(http.Transport), false, true, "HTTP/1.1"},
		{"a base that has spoken HTTP/2", used, true, true, "HTTP/2.0"},
		{"HTTP/2 of its own", configured, true, true, "HTTP/2.0"},
		{"no HTTP/2", &http.Transport{
			TLSNextProto: map[string]func(string, *tls.Conn) http.RoundTripper{},
		}, true, true, "HTTP/1.1"},
		{"one connection at a time", &http.Transport{MaxConnsPerHost: 1}, false, false, "HTTP/1.1"},
		{"two sessions", &http.Transport{MaxIdleConns: 2}, false, false, "HTTP/1.1"},
	} {
		t.Run(test.name, func(t *testing.T) {
			backend := newBackend(t, test.srvTLS)
			if test.srvTLS {
				trusting := backend.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
				trusting.NextProtos = []string{"h2", "http/1.1"}
				test.base.TLSClientConfig = trusting
			}
			proxy := newProxy(t, backend, newTransport(t, test.base, headerV2), test.clientTLS)
			var wg sync.WaitGroup
			for i := range 4 {
				c := client(t, proxy, i)
				for range 3 {
					wg.Go(func() {
						for range 8 {
							answer, from, _ := get(t, c, proxy.URL)
							assertMine(t, test.proto, answer, from, proxy)
						}
					})
				}
			}
			wg.Wait()
		})
	}
}

// What the transport is there to prevent: with a Dialer in an ordinary one, a client is given
// another's address.
func TestOrdinaryTransportMixesClients(t *testing.T) {
	backend := newBackend(t, false)
	type requestKey struct{}
	ordinary := &http.Transport{
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			h, err := headerV2(ctx.Value(requestKey{}).(*http.Request))
			if err != nil {
				return nil, err
			}
			return new(proxyproto.Dialer).DialHeader(ctx, network, address, h)
		},
	}
	defer ordinary.CloseIdleConnections()
	proxy := newProxy(t, backend, roundTripFunc(func(r *http.Request) (*http.Response, error) {
		return ordinary.RoundTrip(r.WithContext(context.WithValue(r.Context(), requestKey{}, r)))
	}), false)
	clients := []*http.Client{client(t, proxy, 0), client(t, proxy, 1)}
	for i := 0; ; i++ {
		answer, from, _ := get(t, clients[i%2], proxy.URL)
		if !strings.Contains(answer, from) {
			return
		}
		require.Less(t, i, 1000, "the clients were never mixed up")
	}
}

func TestHeaderFunctionDecides(t *testing.T) {
	backend := newBackend(t, false)
	for version, says := range map[proxyproto.Version]string{
		proxyproto.V1: "HTTP/1.1 v1 127.0.0.1:", proxyproto.V2: "HTTP/1.1 v2 127.0.0.1:",
	} {
		own := &proxyproto.Header{Version: version, Command: proxyproto.Local}
		c := &http.Client{Transport: newTransport(t, nil, headerOf(own, nil))}
		for range 3 {
			answer, _, _ := get(t, c, backend.URL)
			assert.Contains(t, answer, says)
		}
	}
	assert.Equal(t, uint64(2), backend.Stats().Accepted, "a connection for each")

	failure := errors.New("not this one")
	for name, test := range map[string]struct {
		h    *proxyproto.Header
		err  error
		says string
	}{
		"error":        {nil, failure, failure.Error()},
		"nothing":      {nil, nil, "no header"},
		"no wire form": {&proxyproto.Header{Version: 3}, nil, "version"},
	} {
		t.Run(name, func(t *testing.T) {
			base := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
				assert.Fail(t, "a connection was made")
				return nil, failure
			}}
			body := &closeNoted{Reader: strings.NewReader("body")}
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, backend.URL, body)
			require.NoError(t, err)
			_, err = newTransport(t, base, headerOf(test.h, test.err)).RoundTrip(req)
			assert.ErrorContains(t, err, test.says)
			assert.True(t, body.closed)
		})
	}
}

type closeNoted struct {
	io.Reader
	closed bool
}

func (c *closeNoted) Close() error {
	c.closed = true
	return nil
}

// The header is the function's own again as soon as it has returned: a later connection of its
// session begins with what it was.
func TestHeaderMayBeChangedAfterwards(t *testing.T) {
	backend := newBackend(t, false)
	h := proxyproto.NewHeader(&net.TCPAddr{IP: net.IPv4(192, 0, 2, 7), Port: 1},
		&net.TCPAddr{IP: net.IPv4(192, 0, 2, 9), Port: 2}, proxyproto.V2)
	h.TLVs = proxyproto.TLVs("\x05\x00\x02id")
	same := h.Clone()
	transport := newTransport(t, &http.Transport{DisableKeepAlives: true},
		func(*http.Request) (*proxyproto.Header, error) {
			defer func() { h = same }()
			return h, nil
		})
	for first := h; ; copy(first.TLVs[3:], "XX") {
		answer, _, _ := get(t, &http.Client{Transport: transport}, backend.URL)
		assert.Equal(t, "HTTP/1.1 v2 192.0.2.7:1 192.0.2.9:2 0500026964", answer)
		if string(first.TLVs[3:]) == "XX" {
			break
		}
	}
	assert.Equal(t, uint64(2), backend.Stats().Accepted)
}

// Connections are made as the base makes them, in whichever of the fields that is said, and the
// base stays as it was.
func TestBaseIsRespected(t *testing.T) {
	var dialed atomic.Int32
	dial := func(network, address string) (net.Conn, error) {
		dialed.Add(1)
		return net.Dial(network, address)
	}
	dialContext := func(_ context.Context, network, address string) (net.Conn, error) {
		return dial(network, address)
	}
	for name, base := range map[string]*http.Transport{
		"Dial": {Dial: dial}, "DialContext": {DialContext: dialContext},
		"both": {DialContext: dialContext, Dial: func(string, string) (net.Conn, error) {
			return nil, errors.New("DialContext goes before")
		}},
	} {
		t.Run(name, func(t *testing.T) {
			dialed.Store(0)
			base.Proxy = func(*http.Request) (*url.URL, error) { return url.Parse("http://127.0.0.1:1") }
			backend := newBackend(t, false)
			proxy := newProxy(t, backend, newTransport(t, base, headerV2), false)
			for range 3 {
				answer, from, _ := get(t, client(t, proxy, 0), proxy.URL)
				assertMine(t, "HTTP/1.1", answer, from, proxy)
			}
			assert.EqualValues(t, 3, dialed.Load())
			assert.Nil(t, base.Protocols)
			assert.Zero(t, base.IdleConnTimeout)
			assert.NotNil(t, base.Proxy)
		})
	}
}

// A base that makes TLS connections itself gets the header inside them.
func TestBaseThatDialsTLS(t *testing.T) {
	borrowed := httptest.NewUnstartedServer(nil) // for its certificate
	borrowed.StartTLS()
	defer borrowed.Close()
	inner := tls.NewListener(listenTCP(t), &tls.Config{Certificates: borrowed.TLS.Certificates})
	ln, err := proxyproto.NewListener(inner,
		&proxyproto.Config{Policy: proxyproto.Always(proxyproto.Require)})
	require.NoError(t, err)
	srv := &http.Server{Handler: http.HandlerFunc(whoami), ConnContext: proxyproto.ConnContext}
	go srv.Serve(ln)
	defer srv.Close()
	d := tls.Dialer{Config: borrowed.Client().Transport.(*http.Transport).TLSClientConfig}
	for name, base := range map[string]*http.Transport{
		"DialTLSContext": {DialTLSContext: d.DialContext},
		"DialTLS":        {DialTLS: d.Dial},
	} {
		t.Run(name, func(t *testing.T) {
			b := backend{&httptest.Server{URL: "https://" + ln.Addr().String()}, ln}
			proxy := newProxy(t, b, newTransport(t, base, headerV2), false)
			before := ln.Stats().Accepted
			for i := range 4 {
				c := client(t, proxy, i%2)
				answer, from, _ := get(t, c, proxy.URL)
				assertMine(t, "HTTP/1.1", answer, from, proxy)
				again, _, reused := get(t, c, proxy.URL)
				assert.Equal(t, answer, again)
				assert.True(t, reused)
			}
			assert.Equal(t, before+4, ln.Stats().Accepted)
		})
	}
}

func listenTCP(t testing.TB) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	return ln
}

func TestNewTransportRefuses(t *testing.T) {
	_, err := NewTransport(nil, nil)
	assert.ErrorContains(t, err, "function")

	standard := http.DefaultTransport
	http.DefaultTransport = roundTripFunc(nil)
	defer func() { http.DefaultTransport = standard }()
	_, err = NewTransport(nil, headerV2)
	assert.ErrorContains(t, err, "http.DefaultTransport")
}

// Programs that speak no HTTP shall not link it: that is what this package is for.
func TestRootDoesNotLinkHTTP(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "..").Output()
	require.NoError(t, err)
	assert.NotContains(t, strings.Fields(string(out)), "net/http")
}
