// Package proxytls makes the TLVs by which a proxy that ends its clients' TLS tells the next server
// of it: ALPN, AUTHORITY and SSL (sections 2.2.1, 2.2.2 and 2.2.6 of the spec). The names in them
// are OpenSSL's, which HAProxy sends and others compare with.
package proxytls

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"strconv"
	"unicode"
	"unicode/utf8"

	"github.com/seed2e8fe8ee/proxyproto"
)

// SetTLVs returns a copy of t, the TLVs of a header to be sent, with those of a client's TLS
// connection in place of any ALPN, AUTHORITY and SSL there: what the hop before said of its own
// client's TLS doesn't stand beside it. state is the server's side of that connection, of which
// HandshakeContext has returned; nil says that the client used no TLS.
//
//	header.TLVs, err = proxytls.SetTLVs(header.TLVs, &state)
//
// ALPN is what the client negotiated. If what follows the header is another protocol (an HTTP
// proxy may translate HTTP/2 to HTTP/1.1) take it out with Without([proxyproto.TypeALPN]).
//
// SSL has the TLS version, the cipher and the key exchange, and the common name of the client's
// certificate, the first if it has several, unless it isn't printable. The certificate is said to
// be verified only if crypto/tls has done so, and VerifiedChains has a chain: not if
// VerifyPeerCertificate or the caller does it instead.
//
// It is an error if the handshake isn't complete, or if the TLVs don't fit in a header.
func SetTLVs(t proxyproto.TLVs, state *tls.ConnectionState) (proxyproto.TLVs, error) {
	return Details{}.SetTLVs(t, state)
}

// Details are what the SSL TLV says besides what [SetTLVs] does. The zero value adds nothing.
type Details struct {
	// Certificate is the one that the proxy presented, of which the algorithms of its signature
	// and its key are sent. A ConnectionState doesn't have it. In TLS 1.3 with a key of ECDSA or
	// Ed25519 it also tells the scheme of the handshake's signature.
	Certificate *x509.Certificate

	// ClientCert says to send the client's certificate, as DER. That takes one or two thousand
	// bytes, for which the receiver must have room: nginx's stream module hasn't.
	ClientCert bool
}

// SetTLVs is the function [SetTLVs], with the details.
func (d Details) SetTLVs(
	t proxyproto.TLVs, state *tls.ConnectionState,
) (proxyproto.TLVs, error) {
	t = t.Without(proxyproto.TypeALPN, proxyproto.TypeAuthority, proxyproto.TypeSSL)
	ssl := proxyproto.SSL{Verify: proxyproto.Unverified}
	if state == nil {
		return ssl.AppendTo(t)
	}
	if !state.HandshakeComplete {
		return nil, errors.New("proxytls: the TLS handshake isn't complete")
	}
	w := writer{tlvs: t}
	w.text(proxyproto.TypeALPN, state.NegotiatedProtocol)
	w.text(proxyproto.TypeAuthority, state.ServerName)

	ssl.Client = proxyproto.ClientSSL
	inside := writer{}
	inside.text(proxyproto.SubtypeSSLVersion, versionNames[state.Version])
	if len(state.PeerCertificates) > 0 {
		cert := state.PeerCertificates[0]
		ssl.Client |= proxyproto.ClientCertSess
		if !state.DidResume {
			ssl.Client |= proxyproto.ClientCertConn
		}
		if len(state.VerifiedChains) > 0 {
			ssl.Verify = 0
		}
		inside.text(proxyproto.SubtypeSSLCN, commonName(cert))
		if d.ClientCert {
			inside.text(proxyproto.SubtypeSSLClientCert, string(cert.Raw))
		}
	}
	inside.text(proxyproto.SubtypeSSLCipher, cipherName(state.CipherSuite))
	inside.text(proxyproto.SubtypeSSLGroup, groupNames[state.CurveID])
	if d.Certificate != nil {
		inside.text(proxyproto.SubtypeSSLSigAlg, sigAlgNames[d.Certificate.SignatureAlgorithm])
		inside.text(proxyproto.SubtypeSSLKeyAlg, keyAlg(d.Certificate.PublicKey))
		if state.Version == tls.VersionTLS13 {
			inside.text(proxyproto.SubtypeSSLSigScheme, schemeOf(d.Certificate.PublicKey))
		}
	}
	if w.err == nil {
		w.err = inside.err
	}
	if w.err != nil {
		return nil, w.err
	}
	ssl.TLVs = inside.tlvs
	return ssl.AppendTo(w.tlvs)
}

// A writer appends TLVs until there is an error.
type writer struct {
	tlvs proxyproto.TLVs
	err  error
}

// text appends a TLV unless its value is empty.
func (w *writer) text(typ proxyproto.TLVType, value string) {
	if value != "" && w.err == nil {
		w.tlvs, w.err = w.tlvs.Append(typ, []byte(value))
	}
}

var oidCommonName = asn1.ObjectIdentifier{2, 5, 4, 3}

// commonName returns the first in a certificate's subject, as HAProxy does, and not the last, which
// is Subject.CommonName; or nothing if it may be read as another than it is.
func commonName(cert *x509.Certificate) string {
	for _, name := range cert.Subject.Names {
		if !name.Type.Equal(oidCommonName) {
			continue
		}
		s, ok := name.Value.(string)
		if !ok || !utf8.ValidString(s) {
			return ""
		}
		for _, r := range s {
			if !unicode.IsPrint(r) {
				return ""
			}
		}
		return s
	}
	return ""
}

// keyAlg returns what HAProxy calls a public key's algorithm and size.
func keyAlg(key any) string {
	switch key := key.(type) {
	case *rsa.PublicKey:
		return "RSA" + strconv.Itoa(key.N.BitLen())
	case *ecdsa.PublicKey:
		return "EC" + strconv.Itoa(key.Curve.Params().BitSize)
	}
	return ""
}

// schemeOf returns the only signature scheme that TLS 1.3 has for a key, or nothing if it has more.
func schemeOf(key any) string {
	switch key := key.(type) {
	case ed25519.PublicKey:
		return "ed25519"
	case *ecdsa.PublicKey:
		switch key.Curve.Params().BitSize {
		case 256:
			return "ecdsa_secp256r1_sha256"
		case 384:
			return "ecdsa_secp384r1_sha384"
		case 521:
			return "ecdsa_secp521r1_sha512"
		}
	}
	return ""
}
