package interop

import (
	"crypto/tls"
	"crypto/x509/pkix"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed2e8fe8ee/proxyproto"
	"github.com/seed2e8fe8ee/proxyproto/interop/internal/proxies"
)

// TLS ends at HAProxy, which tells everything it can about it. Each client has a server name, an
// ALPN protocol and a certificate of its own, or none: each connection's header is compared with
// what its client knows.
func TestHAProxyTLVs(t *testing.T) {
	for _, test := range []struct {
		name           string
		keys           proxies.KeyAlgorithm
		tls            uint16
		suite          uint16 // 0: whatever is negotiated
		version        string
		keyAlg, sigAlg string
	}{
		{"TLS 1.3, ECDSA", proxies.P256, tls.VersionTLS13, 0, "TLSv1.3", "EC256",
			"ecdsa-with-SHA256"},
		{"TLS 1.2, RSA", proxies.RSA2048, tls.VersionTLS12,
			tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, "TLSv1.2", "RSA2048", "RSA-SHA256"},
	} {
		t.Run(test.name, func(t *testing.T) {
			ca := proxies.NewCA(t, test.keys)
			b := listen(t)
			b.serveConns(t, b, answerHeader)
			addr := proxies.FreeAddr(t)
			proxies.StartHAProxy(t, fmt.Sprintf(`
frontend tls
	bind %s ssl crt server.pem ca-file ca.pem verify optional alpn h2,http/1.1
	unique-id-format id-%%ci:%%cp
	default_backend tls

backend tls
	server backend %s send-proxy-v2 proxy-v2-options ssl,cert-cn,ssl-cipher,cert-sig,cert-key,authority,crc32c,unique-id
`, addr, b.addr), map[string]string{
				"server.pem": proxies.PEM(t, ca.Server(t, "*.interop.test")),
				"ca.pem":     ca.PEM(),
			})

			certs := make([]tls.Certificate, 8)
			for i := range certs {
				certs[i] = ca.Client(t, commonName(i))
			}
			dialSome(t, "haproxy v2 with TLVs, "+test.name, connections/2, addr, func(c net.Conn, i int, want string) error {
				cfg := &tls.Config{
					RootCAs:          ca.Pool(),
					ServerName:       fmt.Sprintf("name-%d.interop.test", i),
					MinVersion:       test.tls,
					MaxVersion:       test.tls,
					CurvePreferences: []tls.CurveID{tls.X25519}, // the cheapest
					NextProtos:       [][]string{{"h2", "http/1.1"}, {"http/1.1"}, nil}[i%3],
				}
				if test.suite != 0 {
					cfg.CipherSuites = []uint16{test.suite}
				}
				var cn string
				if i%4 != 3 {
					cfg.Certificates = certs[i%len(certs) : i%len(certs)+1]
					cn = commonName(i % len(certs))
				}
				tc := tls.Client(c, cfg)
				var saw sawHeader
				if err := json.NewDecoder(tc).Decode(&saw); err != nil {
					return err
				}
				state := tc.ConnectionState()
				return errors.Join(
					same(saw.Pair, want),
					saw.TLVs.has(proxyproto.TypeALPN, state.NegotiatedProtocol),
					saw.TLVs.has(proxyproto.TypeAuthority, cfg.ServerName),
					saw.TLVs.has(proxyproto.TypeUniqueID, "id-"+c.LocalAddr().String()),
					saw.TLVs.hasCRC32C(),
					saw.TLVs.hasSSL(cn != "", map[proxyproto.TLVType]string{
						proxyproto.SubtypeSSLVersion: test.version,
						proxyproto.SubtypeSSLCN:      cn,
						proxyproto.SubtypeSSLCipher:  openSSLName(state.CipherSuite),
						proxyproto.SubtypeSSLSigAlg:  test.sigAlg,
						proxyproto.SubtypeSSLKeyAlg:  test.keyAlg,
					}),
				)
			})
			b.accepted(t, proxyproto.V2, connections/2)
		})
	}
}

func commonName(i int) string { return fmt.Sprintf("client-%d.interop.test", i) }

// sawHeader is what the server answers, in JSON.
type sawHeader struct {
	Pair string
	TLVs tlvs
}

type tlvs proxyproto.TLVs

func answerHeader(c net.Conn) (string, error) {
	pc, ok := proxyproto.FromConn(c)
	if !ok || pc.Header() == nil {
		return "", errors.New("a connection without header")
	}
	answer, err := json.Marshal(sawHeader{Pair: pair(c.RemoteAddr(), c.LocalAddr()),
		TLVs: tlvs(pc.Header().TLVs)})
	return string(answer), err
}

// has checks that there is exactly one TLV of the type with this value, or none if it is empty.
func (t tlvs) has(typ proxyproto.TLVType, want string) error {
	var values []string
	for got, value := range proxyproto.TLVs(t).All() {
		if got == typ {
			values = append(values, string(value))
		}
	}
	if want == "" && len(values) == 0 || len(values) == 1 && values[0] == want {
		return nil
	}
	return fmt.Errorf("TLV %#02x: the server has %q, the client %q", uint8(typ), values, want)
}

// hasCRC32C checks that there is a checksum. That it is right was a condition of Accept.
func (t tlvs) hasCRC32C() error {
	if sum, ok := proxyproto.TLVs(t).Lookup(proxyproto.TypeCRC32C); !ok || len(sum) != 4 {
		return fmt.Errorf("CRC32C: %x, %t", sum, ok)
	}
	return nil
}

// hasSSL checks the SSL TLV's flags and every one of its sub-TLVs, and that it has no others.
func (t tlvs) hasSSL(clientCert bool, want map[proxyproto.TLVType]string) error {
	ssl, ok := proxyproto.TLVs(t).Lookup(proxyproto.TypeSSL)
	if !ok || len(ssl) < 5 {
		return fmt.Errorf("SSL: %x, %t", ssl, ok)
	}
	const (
		overSSL, certConn, certSess = 1, 2, 4
	)
	flags := byte(overSSL)
	if clientCert {
		flags |= certConn | certSess
	}
	// HAProxy has a verify of zero for clients without a certificate too, which section 2.2.6
	// wants to be non-zero: a receiver has to look at the flags.
	if verify := binary.BigEndian.Uint32(ssl[1:]); ssl[0] != flags || verify != 0 {
		return fmt.Errorf("SSL: flags %#x, verify %d; want flags %#x", ssl[0], verify, flags)
	}
	subs := tlvs(ssl[5:])
	var errs []error
	for typ, value := range want {
		errs = append(errs, subs.has(typ, value))
	}
	for typ := range proxyproto.TLVs(subs).All() {
		if _, known := want[typ]; !known {
			errs = append(errs, fmt.Errorf("SSL: a sub-TLV %#02x", uint8(typ)))
		}
	}
	return errors.Join(errs...)
}

// openSSLName is what OpenSSL calls a cipher suite.
func openSSLName(suite uint16) string {
	if suite == tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 {
		return "ECDHE-RSA-AES128-GCM-SHA256"
	}
	return tls.CipherSuiteName(suite) // those of TLS 1.3 have one name
}

// HAProxy copies the bytes of a certificate's name whatever their encoding: this client's two
// Chinese characters have those of "root". (nginx converts them: see TestNginxV2TLS.)
func TestHAProxyNameInAnOldEncoding(t *testing.T) {
	ca := proxies.NewCA(t, proxies.P256)
	b := listen(t)
	b.serveConns(t, b, answerHeader)
	addr := proxies.FreeAddr(t)
	proxies.StartHAProxy(t, fmt.Sprintf(`
frontend tls
	bind %s ssl crt server.pem ca-file ca.pem verify required
	default_backend tls

backend tls
	server backend %s send-proxy-v2 proxy-v2-options ssl,cert-cn
`, addr, b.addr), map[string]string{
		"server.pem": proxies.PEM(t, ca.Server(t, serverName)),
		"ca.pem":     ca.PEM(),
	})
	c, err := tls.Dial("tcp", addr, &tls.Config{
		RootCAs: ca.Pool(), ServerName: serverName,
		Certificates: []tls.Certificate{ca.ClientNamed(t, bmpName(t, "牯潴"), pkix.Name{})},
	})
	require.NoError(t, err)
	defer c.Close()
	var saw sawHeader
	require.NoError(t, json.NewDecoder(c).Decode(&saw))
	ssl, ok := proxyproto.TLVs(saw.TLVs).SSL()
	require.True(t, ok)
	name, ok := ssl.CommonName()
	assert.True(t, ok)
	assert.Equal(t, "root", string(name))
}
