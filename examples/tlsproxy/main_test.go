package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed2e8fe8ee/proxyproto"
	"github.com/seed2e8fe8ee/proxyproto/internal/program"
)

func TestMain(m *testing.M) { program.Main(m) }

// files makes a certificate that signs itself, as files, and as one to use.
func files(t *testing.T, name string) (cert, key string, pair tls.Certificate) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name},
		DNSNames: []string{name}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	require.NoError(t, err)
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	require.NoError(t, err)
	cert, key = filepath.Join(t.TempDir(), "cert.pem"), filepath.Join(t.TempDir(), "key.pem")
	for path, block := range map[string]*pem.Block{
		cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: pkcs8},
	} {
		require.NoError(t, os.WriteFile(path, pem.EncodeToMemory(block), 0o600))
	}
	pair, err = tls.LoadX509KeyPair(cert, key)
	require.NoError(t, err)
	return cert, key, pair
}

// tell starts a server that tells each client what it knows of it.
func tell(t *testing.T) *proxyproto.Listener {
	ln := program.Listen(t)
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			conn, _ := proxyproto.FromConn(c)
			tlvs := conn.Header().TLVs
			authority, _ := tlvs.Authority()
			alpn, _ := tlvs.ALPN()
			count := 0
			for range tlvs.All() {
				count++
			}
			ssl, _ := tlvs.SSL()
			name, _ := ssl.CommonName()
			version, _ := ssl.Version()
			fmt.Fprintf(c, "%v %s %s %s %t %q %d", c.RemoteAddr(), authority, alpn, version,
				ssl.Verified(), name, count)
			c.Close()
		}
	}()
	return ln
}

func TestServerKnowsTheClient(t *testing.T) {
	cert, key, server := files(t, "www.example")
	ca, _, alice := files(t, "alice")
	_, _, eve := files(t, "alice") // of an authority of her own
	roots := x509.NewCertPool()
	roots.AddCert(server.Leaf)
	args := []string{"-to", tell(t).Addr().String(), "-cert", cert, "-key", key, "-clients", ca}
	direct := program.Start(t, args...)
	chained := program.Start(t, append(args, "-trust", "127.0.0.0/8")...)

	// A hop in front whose word about its own client's TLS isn't this client's.
	theirs, err := proxyproto.SSL{
		Client: proxyproto.ClientSSL | proxyproto.ClientCertConn,
		TLVs:   proxyproto.TLVs("\x22\x00\x05admin"),
	}.AppendTo(nil)
	require.NoError(t, err)
	h := &proxyproto.Header{Version: proxyproto.V2, Command: proxyproto.Proxy, Protocol: proxyproto.TCP4,
		TLVs: theirs}
	h.Source, h.Destination = netip.MustParseAddrPort("192.0.2.7:1"), netip.MustParseAddrPort("192.0.2.9:2")
	header, err := h.AppendTo(nil)
	require.NoError(t, err)

	for name, test := range map[string]struct {
		addr, send string
		certs      []tls.Certificate
		want       string // after the client's address
	}{
		"a certificate":       {direct, "", []tls.Certificate{alice}, `www.example h2 TLSv1.3 true "alice" 3`},
		"none":                {direct, "", nil, `www.example h2 TLSv1.3 false "" 3`},
		"behind another":      {chained, string(header), nil, `www.example h2 TLSv1.3 false "" 3`},
		"another, with alice": {chained, string(header), []tls.Certificate{alice}, `www.example h2 TLSv1.3 true "alice" 3`},
	} {
		t.Run(name, func(t *testing.T) {
			inner := program.Dial(t, 0, test.addr, test.send)
			c := tls.Client(inner, &tls.Config{RootCAs: roots, ServerName: "www.example",
				Certificates: test.certs, NextProtos: []string{"h2"}})
			b, err := io.ReadAll(c)
			require.NoError(t, err)
			client := inner.LocalAddr().String()
			if test.send != "" {
				client = "192.0.2.7:1"
			}
			assert.Equal(t, client+" "+test.want, string(b))
		})
	}
	c := tls.Client(program.Dial(t, 0, direct, ""), &tls.Config{RootCAs: roots, ServerName: "www.example",
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &eve, nil }})
	b, err := io.ReadAll(c)
	assert.Error(t, err)
	assert.Empty(t, b)
}
