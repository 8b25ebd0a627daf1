package interop

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed2e8fe8ee/proxyproto"
	"github.com/seed2e8fe8ee/proxyproto/interop/internal/proxies"
	"github.com/seed2e8fe8ee/proxyproto/proxytls"
)

// endTLS ends a client's TLS in Go, and returns the header that tells of it.
func endTLS(t *testing.T, server, client *tls.Config) *proxyproto.Header {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	dialed := make(chan error, 1)
	go func() {
		c, err := proxies.Dial(0, ln.Addr().String())
		if err == nil {
			defer c.Close()
			err = tls.Client(c, client).Handshake()
		}
		dialed <- err
	}()
	inner, err := ln.Accept()
	require.NoError(t, err)
	defer inner.Close()
	c := tls.Server(inner, server)
	require.NoError(t, c.Handshake())
	require.NoError(t, <-dialed)
	h, err := proxyproto.HeaderFor(c, proxyproto.V2)
	require.NoError(t, err)
	state := c.ConnectionState()
	own, err := x509.ParseCertificate(server.Certificates[0].Certificate[0])
	require.NoError(t, err)
	h.TLVs, err = proxytls.Details{Certificate: own}.SetTLVs(h.TLVs, &state)
	require.NoError(t, err)
	return h
}

// What a proxy in Go says of a client's TLS is what HAProxy says of the same client, byte for byte,
// but for the key exchange and the handshake's signature, which HAProxy 2.6 doesn't send.
func TestTLSSaidAsHAProxySaysIt(t *testing.T) {
	for _, keys := range []proxies.KeyAlgorithm{proxies.P256, proxies.RSA2048} {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			for _, withCert := range []bool{false, true} {
				name := fmt.Sprintf("keys %d, %s, certificate %t", keys, tls.VersionName(version), withCert)
				t.Run(name, func(t *testing.T) { compareWithHAProxy(t, keys, version, withCert) })
			}
		}
	}
}

func compareWithHAProxy(t *testing.T, keys proxies.KeyAlgorithm, version uint16, withCert bool) {
	ca := proxies.NewCA(t, keys)
	cert := ca.Server(t, serverName)
	b := listen(t)
	b.serveConns(t, b, answerHeader)
	addr := proxies.FreeAddr(t)
	proxies.StartHAProxy(t, fmt.Sprintf(`
frontend tls
	bind %s ssl crt server.pem ca-file ca.pem verify optional alpn h2,http/1.1
	default_backend tls

backend tls
	server backend %s send-proxy-v2 proxy-v2-options ssl,cert-cn,ssl-cipher,cert-sig,cert-key,authority
`, addr, b.addr), map[string]string{"server.pem": proxies.PEM(t, cert), "ca.pem": ca.PEM()})

	client := &tls.Config{
		RootCAs: ca.Pool(), ServerName: serverName, NextProtos: []string{"h2"},
		MinVersion: version, MaxVersion: version,
		CipherSuites: []uint16{tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
			tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384},
	}
	if withCert {
		client.Certificates = []tls.Certificate{ca.Client(t, "alice")}
	}
	inner, err := proxies.Dial(0, addr)
	require.NoError(t, err)
	defer inner.Close()
	c := tls.Client(inner, client)
	var saw sawHeader
	require.NoError(t, json.NewDecoder(c).Decode(&saw))

	server := &tls.Config{
		Certificates: []tls.Certificate{cert}, NextProtos: []string{"h2", "http/1.1"},
		ClientCAs: ca.Pool(), ClientAuth: tls.VerifyClientCertIfGiven,
	}
	ours := endTLS(t, server, client)
	theirs := proxyproto.TLVs(saw.TLVs)
	for _, typ := range []proxyproto.TLVType{proxyproto.TypeALPN, proxyproto.TypeAuthority} {
		want, _ := theirs.Lookup(typ)
		got, _ := ours.TLVs.Lookup(typ)
		assert.Equal(t, string(want), string(got), typ)
	}
	want, ok := theirs.SSL()
	require.True(t, ok)
	got, ok := ours.TLVs.SSL()
	require.True(t, ok)
	assert.Equal(t, want.Client, got.Client)
	assert.Equal(t, want.Verified(), got.Verified())
	assert.Equal(t, withCert, got.Verified())
	if withCert { // without one HAProxy says 0, which the spec has for verified certificates
		assert.Equal(t, want.Verify, got.Verify)
	}
	for _, typ := range []proxyproto.TLVType{
		proxyproto.SubtypeSSLVersion, proxyproto.SubtypeSSLCN, proxyproto.SubtypeSSLSigAlg,
		proxyproto.SubtypeSSLKeyAlg, proxyproto.SubtypeSSLCipher,
	} {
		if typ == proxyproto.SubtypeSSLCipher && version == tls.VersionTLS13 {
			continue // each side's own choice: both have one name for it in TLS 1.3
		}
		want, _ := want.TLVs.Lookup(typ)
		got, _ := got.TLVs.Lookup(typ)
		assert.Equal(t, string(want), string(got), typ)
	}
}

// HAProxy, nginx and varnish take the header and name the client, and varnish has all of what it says.
func TestReceiversReadTLS(t *testing.T) {
	ca := proxies.NewCA(t, proxies.P256)
	server := &tls.Config{
		Certificates: []tls.Certificate{ca.Server(t, serverName)}, NextProtos: []string{"h2"},
		ClientCAs: ca.Pool(), ClientAuth: tls.VerifyClientCertIfGiven,
	}
	client := &tls.Config{
		RootCAs: ca.Pool(), ServerName: serverName, NextProtos: []string{"h2"},
		Certificates: []tls.Certificate{ca.Client(t, "alice")},
	}
	h := endTLS(t, server, client)
	ssl, ok := h.TLVs.SSL()
	require.True(t, ok)
	cipher, _ := ssl.Cipher()
	for _, srv := range servers {
		t.Run(srv.name, func(t *testing.T) {
			addr := proxies.FreeAddr(t)
			ask := srv.start(t, addr)
			said := sendHeader(t, srv, addr, ask, sentHeader{"TLS", h})
			t.Logf("%s %s | %s", srv.name, printedVersion(t, srv.version), said)
		})
	}
	t.Run("varnish, all", func(t *testing.T) {
		addr := proxies.FreeAddr(t)
		proxies.StartVarnish(t, addr, `
import proxy;
sub vcl_recv { return (synth(200)); }
sub vcl_synth {
	set resp.body = proxy.alpn() + "|" + proxy.authority() + "|" + proxy.is_ssl() + "|" +
		proxy.client_has_cert_conn() + "|" + proxy.client_has_cert_sess() + "|" + proxy.ssl_verify_result() + "|" +
		proxy.ssl_version() + "|" + proxy.client_cert_cn() + "|" + proxy.ssl_cipher() + "|" +
		proxy.cert_sign() + "|" + proxy.cert_key();
	return (deliver);
}
`)
		c, err := new(proxyproto.Dialer).DialHeader(t.Context(), "tcp", addr, h)
		require.NoError(t, err)
		defer c.Close()
		body, err := get(bufio.NewReader(c), c, "/", "close")
		require.NoError(t, err)
		assert.Equal(t, "h2|"+serverName+"|true|true|true|0|TLSv1.3|alice|"+string(cipher)+
			"|ecdsa-with-SHA256|EC256", strings.TrimSpace(body))
	})
}
