// Package clientcert gives the certificate of a client whose TLS ended at the proxy, as an
// *x509.Certificate. It is a package of its own so that programs which don't want one aren't
// linked with crypto/x509.
package clientcert

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"

	"github.com/seed2e8fe8ee/proxyproto"
)

// ErrNone: the header has no client certificate that the proxy verified.
var ErrNone = errors.New("clientcert: no verified client certificate")

// Parse returns the client's certificate from a header's SSL TLV (section 2.2.6 of the spec), if
// the proxy verified it: see [proxyproto.SSL.Verified]. Otherwise, also if h is nil, the error is
// [ErrNone]; other errors say that the proxy sent something else than a certificate. Few proxies send it.
//
// It is parsed anew by each call. The certificate shares no memory with h.
func Parse(h *proxyproto.Header) (*x509.Certificate, error) {
	if h == nil {
		return nil, ErrNone
	}
	ssl, _ := h.TLVs.SSL()
	der, ok := ssl.ClientCert()
	if !ok {
		return nil, ErrNone
	}
	cert, err := x509.ParseCertificate(bytes.Clone(der))
	if err != nil {
		return nil, fmt.Errorf("clientcert: %w", err)
	}
	return cert, nil
}
