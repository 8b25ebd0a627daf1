package main

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed2e8fe8ee/proxyproto"
)

var client = proxyproto.Header{
	Version:     proxyproto.V2,
	Command:     proxyproto.Proxy,
	Protocol:    proxyproto.TCP4,
	Source:      netip.MustParseAddrPort("192.0.2.7:56324"),
	Destination: netip.MustParseAddrPort("198.51.100.1:443"),
}

func TestTLSEndsHere(t *testing.T) {
	borrowed := httptest.NewUnstartedServer(nil) // for its certificate
	borrowed.StartTLS()
	t.Cleanup(borrowed.Close)
	ln := listen(t)
	srv := newServer()
	srv.TLSConfig = &tls.Config{Certificates: borrowed.TLS.Certificates}
	go srv.ServeTLS(ln, "", "")
	t.Cleanup(func() { srv.Close() })

	trusting := borrowed.Client().Transport.(*http.Transport).TLSClientConfig
	for _, http2 := range []bool{false, true} {
		tr := transport(ln, client)
		tr.TLSClientConfig = trusting
		tr.Protocols.SetHTTP1(!http2)
		tr.Protocols.SetHTTP2(http2)
		want := "hello 192.0.2.7:56324, you came by HTTP/1.1, over TLS: true\n"
		if http2 {
			want = "hello 192.0.2.7:56324, you came by HTTP/2.0, over TLS: true\n"
		}
		assert.Equal(t, want, get(t, tr, "https://example.com/"))
	}
}

func TestTLSEndsAtBalancer(t *testing.T) {
	ln := listen(t)
	srv := newServer()
	go srv.Serve(ln)
	t.Cleanup(func() { srv.Close() })

	clear, overTLS, named := client, client, client
	clear.TLVs = ssl(t, 0) // as HAProxy says it
	overTLS.TLVs = ssl(t, proxyproto.ClientSSL)
	var err error
	named.TLVs, err = proxyproto.SSL{Client: proxyproto.ClientSSL | proxyproto.ClientCertSess,
		TLVs: proxyproto.TLVs("\x22\x00\x05alice")}.AppendTo(nil)
	require.NoError(t, err)

	for _, row := range []struct {
		header proxyproto.Header
		http2  bool
		want   string
	}{
		{client, false, "hello 192.0.2.7:56324, you came by HTTP/1.1, over TLS: false\n"},
		{clear, false, "hello 192.0.2.7:56324, you came by HTTP/1.1, over TLS: false\n"},
		{overTLS, false, "hello 192.0.2.7:56324, you came by HTTP/1.1, over TLS: true\n"},
		{named, false, "hello 192.0.2.7:56324, you came by HTTP/1.1, over TLS: true\n" +
			"your certificate says \"alice\"\n"},
		{client, true, "hello 192.0.2.7:56324, you came by HTTP/2.0, over TLS: false\n"},
		{overTLS, true, "hello 192.0.2.7:56324, you came by HTTP/2.0, over TLS: true\n"},
	} {
		tr := transport(ln, row.header)
		tr.Protocols.SetHTTP1(!row.http2)
		tr.Protocols.SetUnencryptedHTTP2(row.http2)
		assert.Equal(t, row.want, get(t, tr, "http://example.com/"))
	}
}

func ssl(t *testing.T, flags proxyproto.ClientFlags) proxyproto.TLVs {
	t.Helper()
	tlvs, err := proxyproto.SSL{Client: flags, Verify: proxyproto.Unverified}.AppendTo(nil)
	require.NoError(t, err)
	return tlvs
}

func listen(t *testing.T) *proxyproto.Listener {
	t.Helper()
	ln, err := proxyproto.Listen("tcp", "127.0.0.1:0",
		&proxyproto.Config{Policy: proxyproto.Always(proxyproto.Require)})
	require.NoError(t, err)
	return ln
}

// transport is a balancer: it sends the header before anything else.
func transport(ln net.Listener, h proxyproto.Header) *http.Transport {
	return &http.Transport{
		Protocols: new(http.Protocols),
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(proxyproto.Dialer).DialHeader(ctx, network, ln.Addr().String(), &h)
		},
	}
}

func get(t *testing.T, tr *http.Transport, url string) string {
	t.Helper()
	defer tr.CloseIdleConnections()
	resp, err := (&http.Client{Transport: tr}).Get(url)
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return string(body)
}
