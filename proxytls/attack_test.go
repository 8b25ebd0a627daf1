package proxytls

import (
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed2e8fe8ee/proxyproto"
)

// named makes a certificate whose common name is a string of an ASN.1 type, whatever its bytes.
func named(t *testing.T, tag int, value string) (*x509.Certificate, error) {
	t.Helper()
	marshal := func(v any) []byte {
		b, err := asn1.Marshal(v)
		require.NoError(t, err)
		return b
	}
	attribute := marshal(struct {
		Type  asn1.ObjectIdentifier
		Value asn1.RawValue
	}{oidCommonName, asn1.RawValue{Tag: tag, Bytes: []byte(value)}})
	set := marshal(asn1.RawValue{Tag: asn1.TagSet, IsCompound: true, Bytes: attribute})
	public, key, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour),
		RawSubject: marshal(asn1.RawValue{Tag: asn1.TagSequence, IsCompound: true, Bytes: set}),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, public, key)
	require.NoError(t, err)
	return x509.ParseCertificate(der)
}

// withClient is the state of a connection whose client has shown the certificate.
func withClient(cert *x509.Certificate) *tls.ConnectionState {
	return &tls.ConnectionState{
		HandshakeComplete: true, Version: tls.VersionTLS13, CipherSuite: tls.TLS_AES_128_GCM_SHA256,
		PeerCertificates: []*x509.Certificate{cert}, VerifiedChains: [][]*x509.Certificate{{cert}},
	}
}

// A name is read by its ASN.1 type, never as other text that has the same bytes; what crypto/x509
// can't read, no handshake gets past.
func TestCommonNameOfEachStringType(t *testing.T) {
	const utf8, printable, t61, ia5, bmp = 12, 19, 20, 22, 30
	for _, test := range []struct {
		tag         int
		value, want string
	}{
		{utf8, "Zoë", "Zoë"}, {printable, "bob", "bob"}, {ia5, "a@b", "a@b"},
		{bmp, "root", "牯潴"}, {bmp, "\x00b\x00o\x00b", "bob"}, {bmp, "\x00\x00\x00a", ""},
		{t61, "caf\xe9", "café"}, {utf8, "root\x00.example", ""}, {utf8, "", ""},
	} {
		cert, err := named(t, test.tag, test.value)
		require.NoError(t, err)
		tlvs, err := SetTLVs(nil, withClient(cert))
		require.NoError(t, err)
		ssl, _ := tlvs.SSL()
		got, ok := ssl.CommonName()
		assert.Equal(t, test.want, string(got))
		assert.Equal(t, test.want != "", ok)
	}
	for _, bad := range []struct {
		tag   int
		value string
	}{{utf8, "\xff"}, {bmp, "odd"}, {bmp, "\xd8\x3d\xde\x00"}} {
		_, err := named(t, bad.tag, bad.value)
		assert.Error(t, err)
	}
}

var anAddr = netip.MustParseAddrPort("192.0.2.7:1")

// What doesn't fit in a header is an error, of which the TLVs that were there don't suffer.
func TestTLVsTooLarge(t *testing.T) {
	large, err := named(t, 12, strings.Repeat("x", 60_000))
	require.NoError(t, err)
	larger, err := named(t, 12, strings.Repeat("x", 65_536))
	require.NoError(t, err)
	for _, test := range []struct {
		name    string
		details Details
		state   *tls.ConnectionState
		fits    bool
	}{
		{"a name of 60,000 bytes", Details{}, withClient(large), true},
		{"and its certificate", Details{ClientCert: true}, withClient(large), false},
		{"a larger name", Details{}, withClient(larger), false},
		{"an ALPN of 300 bytes", Details{}, &tls.ConnectionState{HandshakeComplete: true,
			NegotiatedProtocol: strings.Repeat("x", 300)}, true},
		{"an ALPN of 70,000 bytes", Details{}, &tls.ConnectionState{HandshakeComplete: true,
			NegotiatedProtocol: strings.Repeat("x", 70_000)}, false},
		{"a server's name of 70,000 bytes", Details{}, &tls.ConnectionState{HandshakeComplete: true,
			ServerName: strings.Repeat("x", 70_000)}, false},
	} {
		theirs := proxyproto.TLVs("\x05\x00\x02id\x02\x00\x01x")
		tlvs, err := test.details.SetTLVs(theirs, test.state)
		if test.fits {
			require.NoError(t, err, test.name)
			id, _ := tlvs.UniqueID()
			assert.Equal(t, "id", string(id), test.name)
			b, err := (&proxyproto.Header{Version: proxyproto.V2, Command: proxyproto.Proxy,
				TLVs: tlvs, Protocol: proxyproto.TCP4, Source: anAddr,
				Destination: anAddr}).AppendTo(nil)
			require.NoError(t, err, test.name)
			_, _, err = proxyproto.Parse(b)
			assert.NoError(t, err, test.name)
		} else {
			assert.ErrorContains(t, err, "65535", test.name)
			assert.Nil(t, tlvs, test.name)
		}
		assert.Equal(t, "\x05\x00\x02id\x02\x00\x01x", string(theirs), test.name)
	}
}

// What has no name here isn't said, and what is said beside it is.
func TestUnknownStates(t *testing.T) {
	tlvs, err := Details{Certificate: new(x509.Certificate)}.SetTLVs(nil, &tls.ConnectionState{
		HandshakeComplete: true, Version: 0x7f1c, CipherSuite: 0xfafa, CurveID: 0xfafa,
		PeerCertificates: []*x509.Certificate{{}}, DidResume: true,
	})
	require.NoError(t, err)
	ssl, ok := tlvs.SSL()
	require.True(t, ok)
	assert.Equal(t, proxyproto.ClientSSL|proxyproto.ClientCertSess, ssl.Client)
	assert.False(t, ssl.Verified())
	assert.Empty(t, ssl.TLVs)
}

// Each version of TLS that crypto/tls can be asked for has OpenSSL's name.
func TestOldVersions(t *testing.T) {
	cert := certificate(t, ecKey(t, elliptic.P256()), pkix.Name{CommonName: "server"})
	for version, want := range map[uint16]string{
		tls.VersionTLS10: "TLSv1", tls.VersionTLS11: "TLSv1.1",
		tls.VersionTLS12: "TLSv1.2", tls.VersionTLS13: "TLSv1.3",
	} {
		state := handshake(t,
			&tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS10},
			&tls.Config{InsecureSkipVerify: true, MinVersion: version, MaxVersion: version})
		tlvs, err := SetTLVs(nil, state)
		require.NoError(t, err)
		ssl, _ := tlvs.SSL()
		got, ok := ssl.Version()
		assert.True(t, ok)
		assert.Equal(t, want, string(got))
	}
}
