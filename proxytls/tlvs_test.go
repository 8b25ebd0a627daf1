package proxytls

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed2e8fe8ee/proxyproto"
)

// certificate makes one that is signed by its own key.
func certificate(t testing.TB, key crypto.Signer, subject pkix.Name) tls.Certificate {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: subject, DNSNames: []string{"server.test"},
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	leaf, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

func ecKey(t testing.TB, curve elliptic.Curve) crypto.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	require.NoError(t, err)
	return key
}

// handshake returns the server's side of a connection.
func handshake(t testing.TB, server, client *tls.Config) *tls.ConnectionState {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	done := make(chan error, 1)
	go func() {
		c, err := tls.Dial("tcp", ln.Addr().String(), client)
		if err == nil {
			c.Read(make([]byte, 1)) // takes the session's ticket
			c.Close()
		}
		done <- err
	}()
	inner, err := ln.Accept()
	require.NoError(t, err)
	defer inner.Close()
	require.NoError(t, inner.SetDeadline(time.Now().Add(time.Minute)))
	conn := tls.Server(inner, server)
	require.NoError(t, conn.Handshake())
	_, err = conn.Write([]byte{1})
	require.NoError(t, err)
	require.NoError(t, <-done)
	state := conn.ConnectionState()
	return &state
}

// values are the TLVs as text, by type, and how many there are.
func values(t testing.TB, tlvs proxyproto.TLVs) map[proxyproto.TLVType]string {
	t.Helper()
	got := map[proxyproto.TLVType]string{}
	for typ, value := range tlvs.All() {
		_, twice := got[typ]
		require.False(t, twice, "%v twice", typ)
		got[typ] = string(value)
	}
	return got
}

func TestSetTLVs(t *testing.T) {
	ca := certificate(t, ecKey(t, elliptic.P256()), pkix.Name{CommonName: "alice"})
	roots := x509.NewCertPool()
	roots.AddCert(ca.Leaf)
	server := &tls.Config{
		Certificates: []tls.Certificate{ca}, NextProtos: []string{"h2"},
		ClientCAs: roots, ClientAuth: tls.VerifyClientCertIfGiven,
	}
	client := &tls.Config{
		RootCAs: roots, ServerName: "server.test", NextProtos: []string{"h2"},
		Certificates:       []tls.Certificate{ca},
		ClientSessionCache: tls.NewLRUClientSessionCache(1),
		CurvePreferences:   []tls.CurveID{tls.X25519},
	}
	nobody := client.Clone()
	nobody.Certificates, nobody.ClientSessionCache = nil, nil
	anybody := server.Clone()
	anybody.ClientAuth = tls.RequireAnyClientCert
	old := nobody.Clone()
	old.MaxVersion, old.NextProtos, old.ServerName = tls.VersionTLS12, nil, ""
	old.InsecureSkipVerify = true
	const both = proxyproto.ClientCertConn | proxyproto.ClientCertSess
	in := map[proxyproto.TLVType]string{
		proxyproto.SubtypeSSLVersion: "TLSv1.3",
		proxyproto.SubtypeSSLCipher:  "TLS_AES_128_GCM_SHA256",
		proxyproto.SubtypeSSLGroup:   "x25519", proxyproto.SubtypeSSLCN: "alice",
	}
	without := map[proxyproto.TLVType]string{
		proxyproto.SubtypeSSLVersion: "TLSv1.3",
		proxyproto.SubtypeSSLCipher:  "TLS_AES_128_GCM_SHA256",
		proxyproto.SubtypeSSLGroup:   "x25519",
	}
	for _, test := range []struct {
		name           string
		server, client *tls.Config
		flags          proxyproto.ClientFlags
		verified       bool
		inside         map[proxyproto.TLVType]string
		alpn, sni      string
	}{
		{"verified", server, client, proxyproto.ClientSSL | both, true, in, "h2", "server.test"},
		{"resumed", server, client, proxyproto.ClientSSL | proxyproto.ClientCertSess, true, in,
			"h2", "server.test"},
		{"no certificate", server, nobody, proxyproto.ClientSSL, false, without, "h2",
			"server.test"},
		{"not verified", anybody, client, proxyproto.ClientSSL | both, false, in, "h2",
			"server.test"},
		{"TLS 1.2", server, old, proxyproto.ClientSSL, false, map[proxyproto.TLVType]string{
			proxyproto.SubtypeSSLVersion: "TLSv1.2", proxyproto.SubtypeSSLGroup: "x25519",
			proxyproto.SubtypeSSLCipher: "ECDHE-ECDSA-AES128-GCM-SHA256",
		}, "", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			state := handshake(t, test.server, test.client)
			if state.CipherSuite == tls.TLS_CHACHA20_POLY1305_SHA256 { // no AES in this processor
				test.inside[proxyproto.SubtypeSSLCipher] = "TLS_CHACHA20_POLY1305_SHA256"
			}
			// What the hop before said, which mustn't be heard any more.
			theirs, err := proxyproto.SSL{Client: proxyproto.ClientSSL | both,
				TLVs: proxyproto.TLVs("\x22\x00\x04root")}.AppendTo(
				proxyproto.TLVs("\x05\x00\x02id"))
			require.NoError(t, err)
			for _, typ := range []proxyproto.TLVType{proxyproto.TypeALPN,
				proxyproto.TypeAuthority} {
				theirs, err = theirs.Append(typ, []byte("theirs"))
				require.NoError(t, err)
			}
			before := string(theirs)
			tlvs, err := SetTLVs(theirs, state)
			require.NoError(t, err)
			assert.Equal(t, before, string(theirs))
			got := values(t, tlvs)
			assert.Equal(t, test.alpn, got[proxyproto.TypeALPN])
			assert.Equal(t, test.sni, got[proxyproto.TypeAuthority])
			assert.Equal(t, "id", got[proxyproto.TypeUniqueID])
			ssl, ok := tlvs.SSL()
			require.True(t, ok)
			assert.Equal(t, test.flags, ssl.Client)
			assert.Equal(t, test.verified, ssl.Verified())
			assert.Equal(t, test.inside, values(t, ssl.TLVs))
		})
	}
}

func TestDetails(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	for _, test := range []struct {
		key                    crypto.Signer
		sigAlg, keyAlg, scheme string
	}{
		{rsaKey, "RSA-SHA256", "RSA2048", ""},
		{ecKey(t, elliptic.P256()), "ecdsa-with-SHA256", "EC256", "ecdsa_secp256r1_sha256"},
		{ecKey(t, elliptic.P384()), "ecdsa-with-SHA384", "EC384", "ecdsa_secp384r1_sha384"},
		{ecKey(t, elliptic.P521()), "ecdsa-with-SHA512", "EC521", "ecdsa_secp521r1_sha512"},
		{edKey, "ED25519", "", "ed25519"},
	} {
		cert := certificate(t, test.key, pkix.Name{CommonName: "bob"})
		server := &tls.Config{Certificates: []tls.Certificate{cert},
			ClientAuth: tls.RequireAnyClientCert}
		client := &tls.Config{InsecureSkipVerify: true, Certificates: server.Certificates}
		for version, scheme := range map[uint16]string{
			tls.VersionTLS12: "", tls.VersionTLS13: test.scheme,
		} {
			client.MinVersion, client.MaxVersion = version, version
			state := handshake(t, server, client)
			tlvs, err := Details{Certificate: cert.Leaf, ClientCert: true}.SetTLVs(nil, state)
			require.NoError(t, err)
			ssl, _ := tlvs.SSL()
			got := values(t, ssl.TLVs)
			assert.Equal(t, test.sigAlg, got[proxyproto.SubtypeSSLSigAlg])
			assert.Equal(t, test.keyAlg, got[proxyproto.SubtypeSSLKeyAlg])
			assert.Equal(t, scheme, got[proxyproto.SubtypeSSLSigScheme])
			assert.Equal(t, string(cert.Leaf.Raw), got[proxyproto.SubtypeSSLClientCert])
			_, verified := ssl.ClientCert()
			assert.False(t, verified)
		}
	}
}

// Without TLS the edge's word is that there was none, whatever the hop before said.
func TestSetTLVsWithoutTLS(t *testing.T) {
	theirs, err := proxyproto.SSL{Client: proxyproto.ClientSSL | proxyproto.ClientCertConn}.AppendTo(nil)
	require.NoError(t, err)
	tlvs, err := SetTLVs(theirs, nil)
	require.NoError(t, err)
	ssl, ok := tlvs.SSL()
	assert.True(t, ok)
	assert.False(t, ssl.TLS() || ssl.Verified())
	assert.Len(t, values(t, tlvs), 1)

	_, err = SetTLVs(nil, new(tls.ConnectionState))
	assert.ErrorContains(t, err, "handshake")
	_, err = SetTLVs(make(proxyproto.TLVs, 65535/3*3), &tls.ConnectionState{
		HandshakeComplete: true, ServerName: strings.Repeat("x", 255)})
	assert.ErrorContains(t, err, "65535")
}

// A name is sent as it is or not at all.
func TestCommonNames(t *testing.T) {
	name := func(values ...any) *x509.Certificate {
		cert := new(x509.Certificate)
		for _, v := range values {
			cert.Subject.Names = append(cert.Subject.Names,
				pkix.AttributeTypeAndValue{Type: asn1.ObjectIdentifier{2, 5, 4, 10},
					Value: "an organization"},
				pkix.AttributeTypeAndValue{Type: oidCommonName, Value: v})
		}
		return cert
	}
	assert.Equal(t, "first", commonName(name("first", "last")))
	assert.Equal(t, "Zoë 例", commonName(name("Zoë 例")))
	for _, v := range []any{"root\x00.example", "a\nb", "\xff", "\u202eeve", "\u009b", 7} {
		assert.Empty(t, commonName(name(v)), "%q", v)
	}
	assert.Empty(t, commonName(name()))
}

// OpenSSL knows each of our names; it is asked, if it is installed, so that none is made up.
func TestCipherNames(t *testing.T) {
	assert.Equal(t, "TLS_AES_256_GCM_SHA384", cipherName(tls.TLS_AES_256_GCM_SHA384))
	assert.Equal(t, "ECDHE-RSA-CHACHA20-POLY1305",
		cipherName(tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256))
	assert.Equal(t, "AES128-SHA", cipherName(tls.TLS_RSA_WITH_AES_128_CBC_SHA))
	assert.Empty(t, cipherName(0xfafa))
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		require.Empty(t, os.Getenv("CI"), "no openssl to ask")
		t.Skip("no openssl to ask")
	}
	for _, suite := range append(tls.CipherSuites(), tls.InsecureCipherSuites()...) {
		if strings.Contains(suite.Name, "RC4") || strings.Contains(suite.Name, "3DES") {
			continue // Debian's build leaves them out
		}
		out, err := exec.Command(openssl, "ciphers", "-V", "ALL:@SECLEVEL=0").Output()
		require.NoError(t, err)
		assert.Regexp(t, `(?m)^\s*0x`+hex(suite.ID)+` - `+cipherName(suite.ID)+`\s`,
			string(out))
	}
}

func hex(id uint16) string {
	const digits = "0123456789ABCDEF"
	b := []byte{digits[id>>12], digits[id>>8&15], ',', '0', 'x', digits[id>>4&15], digits[id&15]}
	return string(b)
}
