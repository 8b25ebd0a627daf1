package proxies

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
	"encoding/pem"
	"math/big"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// KeyAlgorithm is what a CA's key and those of its certificates are.
type KeyAlgorithm int

const (
	P256 KeyAlgorithm = iota
	RSA2048
	Ed25519
)

// CA signs the certificates of one test.
type CA struct {
	algorithm KeyAlgorithm
	cert      *x509.Certificate
	key       crypto.Signer
}

// NewCA makes a certificate authority.
func NewCA(t testing.TB, algorithm KeyAlgorithm) *CA {
	t.Helper()
	ca := &CA{algorithm: algorithm}
	ca.key = ca.newKey(t)
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: "interop CA"},
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign,
	}
	der := ca.sign(t, template, template, ca.key)
	cert, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	ca.cert = cert
	return ca
}

// Server makes the certificate of a server with these names.
func (ca *CA) Server(t testing.TB, names ...string) tls.Certificate {
	t.Helper()
	return ca.issue(t, &x509.Certificate{
		Subject:     pkix.Name{CommonName: names[0]},
		DNSNames:    names,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
}

// Client makes the certificate of a client whose common name is name.
func (ca *CA) Client(t testing.TB, name string) tls.Certificate {
	t.Helper()
	return ca.ClientNamed(t, nil, pkix.Name{CommonName: name})
}

// ClientNamed makes the certificate of a client with any subject: raw, in DER, or else name.
func (ca *CA) ClientNamed(t testing.TB, raw []byte, name pkix.Name) tls.Certificate {
	t.Helper()
	return ca.issue(t, &x509.Certificate{
		RawSubject:  raw,
		Subject:     name,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
}

// Pool has the authority's own certificate in it.
func (ca *CA) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(ca.cert)
	return pool
}

// PEM is the authority's certificate for a file.
func (ca *CA) PEM() string { return pemBlock("CERTIFICATE", ca.cert.Raw) }

// PEM is the certificate and its private key for a file, in the order that HAProxy wants.
func PEM(t testing.TB, cert tls.Certificate) string {
	t.Helper()
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	require.NoError(t, err)
	return pemBlock("CERTIFICATE", cert.Certificate[0]) + pemBlock("PRIVATE KEY", key)
}

func (ca *CA) issue(t testing.TB, template *x509.Certificate) tls.Certificate {
	t.Helper()
	key := ca.newKey(t)
	template.KeyUsage = x509.KeyUsageDigitalSignature
	return tls.Certificate{
		Certificate: [][]byte{ca.sign(t, template, ca.cert, key)},
		PrivateKey:  key,
	}
}

func (ca *CA) sign(t testing.TB, template, parent *x509.Certificate, key crypto.Signer) []byte {
	t.Helper()
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	require.NoError(t, err)
	template.SerialNumber = serial
	template.NotBefore = time.Now().Add(-time.Hour)
	template.NotAfter = time.Now().Add(24 * time.Hour)
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), ca.key)
	require.NoError(t, err)
	return der
}

func (ca *CA) newKey(t testing.TB) crypto.Signer {
	t.Helper()
	var key crypto.Signer
	var err error
	switch ca.algorithm {
	case RSA2048:
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	case Ed25519:
		_, key, err = ed25519.GenerateKey(rand.Reader)
	default:
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	}
	require.NoError(t, err)
	return key
}

func pemBlock(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}
