package interop

import (
	"crypto/tls"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"
	"unicode/utf16"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed2e8fe8ee/proxyproto"
	"github.com/seed2e8fe8ee/proxyproto/interop/internal/proxies"
)

// What it says of TLS that ends there.
func TestNginxV2TLS(t *testing.T) {
	if !nginxWritesV2(t) {
		return
	}
	name := func(s string) pkix.Name { return pkix.Name{CommonName: s} }
	for _, keys := range []struct {
		algorithm       proxies.KeyAlgorithm
		tls             uint16
		version, cipher string
		sig, key        []string
	}{
		{proxies.RSA2048, tls.VersionTLS12, "TLSv1.2", "ECDHE-RSA-AES128-GCM-SHA256",
			[]string{`SSL_SIG_ALG "RSA-SHA256"`}, []string{`SSL_KEY_ALG "RSA2048"`}},
		{proxies.P256, tls.VersionTLS13, "TLSv1.3", "TLS_AES_128_GCM_SHA256",
			[]string{`SSL_SIG_ALG "ecdsa-with-SHA256"`}, []string{`SSL_KEY_ALG "EC256"`}},
		{proxies.Ed25519, tls.VersionTLS13, "TLSv1.3", "TLS_AES_128_GCM_SHA256",
			[]string{`SSL_SIG_ALG "ED25519"`}, nil},
	} {
		ca, stranger := proxies.NewCA(t, keys.algorithm), proxies.NewCA(t, proxies.P256)
		other := proxies.NewCA(t, proxies.RSA2048) // whose algorithms aren't the server's
		if keys.algorithm == proxies.RSA2048 {
			other = proxies.NewCA(t, proxies.P256)
		}
		files := map[string]string{
			"server.pem": proxies.PEM(t, ca.Server(t, serverName)),
			"ca.pem":     ca.PEM() + other.PEM(),
		}
		for _, c := range []struct {
			name  string
			edit  func(cfg *tls.Config)
			flags string
			cn    []string
			alone bool // the TLVs besides SSL
		}{
			{"no certificate", func(*tls.Config) {}, "SSL 0x01, verify 1", nil, false},
			{"neither name nor protocol", func(cfg *tls.Config) {
				cfg.ServerName, cfg.NextProtos, cfg.InsecureSkipVerify = "", nil, true
			}, "SSL 0x01, verify 1", nil, true},
			{"a certificate", func(cfg *tls.Config) {
				cfg.Certificates = []tls.Certificate{other.Client(t, "alice")}
			}, "SSL 0x07, verify 0", []string{`SSL_CN "alice"`}, false},
			{"a certificate without a name", func(cfg *tls.Config) {
				cfg.Certificates = []tls.Certificate{other.ClientNamed(t, nil, name(""))}
			}, "SSL 0x07, verify 0", nil, false},
			{"an untrusted certificate", func(cfg *tls.Config) {
				cfg.Certificates = []tls.Certificate{stranger.Client(t, "mallory")}
			}, "SSL 0x07, verify 21", []string{`SSL_CN "mallory"`}, false},
			{"a long name", func(cfg *tls.Config) {
				cfg.Certificates = []tls.Certificate{other.Client(t, strings.Repeat("long", 700))}
			}, "SSL 0x07, verify 0", []string{`SSL_CN "` + strings.Repeat("long", 700) + `"`},
				false},
			{"a name in an old encoding", func(cfg *tls.Config) {
				cfg.Certificates = []tls.Certificate{other.ClientNamed(t, bmpName(t, "牯潴"),
					pkix.Name{})}
			}, "SSL 0x07, verify 0", []string{`SSL_CN "牯潴"`}, false},
		} {
			t.Run(fmt.Sprintf("keys %d, %s, %s", keys.algorithm, keys.version, c.name), func(t *testing.T) {
				cfg := &tls.Config{
					RootCAs: ca.Pool(), ServerName: serverName, NextProtos: []string{"h2"},
					MinVersion: keys.tls, MaxVersion: keys.tls,
					CipherSuites: []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256},
				}
				c.edit(cfg)
				sent := nginxClient{network: "tcp", listen: listenIPv4, also: "ssl", tls: cfg,
					files: files, options: "ssl_certificate server.pem; ssl_certificate_key " +
						"server.pem; ssl_alpn h2;ssl_verify_client optional_no_ca; " +
						"ssl_client_certificate ca.pem; " +
						"ssl_conf_command Ciphersuites TLS_AES_128_GCM_SHA256;"}.send(t)
				assert.Equal(t, sent.source, sent.remote)
				want := []string{fmt.Sprintf("AUTHORITY %q", serverName), `ALPN "h2"`}
				if c.alone {
					want = nil
				}
				want = append(want, c.flags, fmt.Sprintf("SSL_VERSION %q", keys.version))
				want = append(want, c.cn...)
				want = append(want, fmt.Sprintf("SSL_CIPHER %q", keys.cipher))
				// the server's, whoever the client is
				want = append(append(want, keys.sig...), keys.key...)
				assert.Equal(t, append(want, "CRC32C"), said(sent.header.TLVs))
				ssl, ok := sent.header.TLVs.SSL()
				assert.True(t, ok && ssl.TLS())
				assert.Equal(t, strings.HasSuffix(c.flags, "verify 0"), ssl.Verified())
			})
		}
	}
}

// A client that resumes its session has shown its certificate before, not on this connection.
func TestNginxV2Resumed(t *testing.T) {
	if !nginxWritesV2(t) {
		return
	}
	ca := proxies.NewCA(t, proxies.P256)
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			sent := nginxClient{network: "tcp", listen: listenIPv4, also: "ssl", again: true,
				tls: &tls.Config{
					RootCAs: ca.Pool(), ServerName: serverName, MinVersion: version,
					MaxVersion:         version,
					Certificates:       []tls.Certificate{ca.Client(t, "alice")},
					ClientSessionCache: tls.NewLRUClientSessionCache(1),
				},
				options: "ssl_certificate server.pem; ssl_certificate_key server.pem;" +
					"ssl_verify_client on; ssl_client_certificate ca.pem;",
				files: map[string]string{"server.pem": proxies.PEM(t, ca.Server(t, serverName)),
					"ca.pem": ca.PEM()},
			}.send(t)
			h, _, err := proxyproto.Parse(sent.wire)
			require.NoError(t, err)
			ssl, ok := h.TLVs.SSL()
			require.True(t, ok)
			assert.Equal(t, proxyproto.ClientSSL|proxyproto.ClientCertSess, ssl.Client)
			assert.True(t, ssl.Verified())
			name, ok := ssl.CommonName()
			assert.True(t, ok)
			assert.Equal(t, "alice", string(name))
		})
	}
}

// nginx connects, and closes without a byte, for a client whose header would be too long.
func TestNginxV2TooLong(t *testing.T) {
	if !nginxWritesV2(t) {
		return
	}
	ca := proxies.NewCA(t, proxies.P256)
	b := listen(t)
	b.serveConns(t, b, whoamiConn)
	addr := proxies.FreeAddr(t)
	proxies.StartNginx(t, nginxServer(addr+" ssl", b.addr,
		"proxy_protocol v2; ssl_certificate server.pem;"+
			"ssl_certificate_key server.pem; ssl_verify_client on; ssl_client_certificate ca.pem;"),
		map[string]string{"server.pem": proxies.PEM(t, ca.Server(t, serverName)),
			"ca.pem": ca.PEM()})
	c, err := tls.Dial("tcp", addr, &tls.Config{
		RootCAs: ca.Pool(), ServerName: serverName,
		Certificates: []tls.Certificate{ca.Client(t, strings.Repeat("long", 1024))},
	})
	require.NoError(t, err)
	defer c.Close()
	require.NoError(t, c.SetDeadline(time.Now().Add(proxies.Timeout)))
	answer, _ := io.ReadAll(c)
	assert.Empty(t, answer)
	require.Eventually(t, func() bool { return b.Stats().Probes == 1 }, proxies.Timeout,
		time.Millisecond)
}

// bmpName is a subject with one common name, in the encoding that has two bytes a character.
func bmpName(t *testing.T, s string) []byte {
	t.Helper()
	var utf []byte
	for _, unit := range utf16.Encode([]rune(s)) {
		utf = append(utf, byte(unit>>8), byte(unit))
	}
	type attribute struct {
		Type  asn1.ObjectIdentifier
		Value asn1.RawValue
	}
	type attributeSET []attribute
	der, err := asn1.Marshal([]attributeSET{{{
		Type:  asn1.ObjectIdentifier{2, 5, 4, 3},
		Value: asn1.RawValue{Tag: asn1.TagBMPString, Bytes: utf},
	}}})
	require.NoError(t, err)
	return der
}
