package clientcert

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed2e8fe8ee/proxyproto"
)

func newCertificate(t *testing.T) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: "client.example"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	return der
}

func header(t *testing.T, verify uint32, cert []byte) *proxyproto.Header {
	t.Helper()
	ssl := proxyproto.SSL{Client: proxyproto.ClientSSL | proxyproto.ClientCertConn, Verify: verify}
	var err error
	if cert != nil {
		ssl.TLVs, err = ssl.TLVs.Append(proxyproto.SubtypeSSLClientCert, cert)
		require.NoError(t, err)
	}
	h := &proxyproto.Header{Version: proxyproto.V2}
	h.TLVs, err = ssl.AppendTo(nil)
	require.NoError(t, err)
	return h
}

func TestParse(t *testing.T) {
	der := newCertificate(t)
	h := header(t, 0, der)
	cert, err := Parse(h)
	require.NoError(t, err)
	assert.Equal(t, "client.example", cert.Subject.CommonName)
	clear(h.TLVs)
	assert.Equal(t, der, cert.Raw, "the certificate must not alias the header")

	for name, h := range map[string]*proxyproto.Header{
		"no header":    nil,
		"no SSL TLV":   {},
		"not sent":     header(t, 0, nil),
		"not verified": header(t, proxyproto.Unverified, der),
	} {
		cert, err := Parse(h)
		assert.Nil(t, cert, name)
		assert.ErrorIs(t, err, ErrNone, name)
	}
	cert, err = Parse(header(t, 0, der[:len(der)-1]))
	assert.Nil(t, cert)
	assert.ErrorContains(t, err, "clientcert: x509")
	assert.NotErrorIs(t, err, ErrNone)
}
