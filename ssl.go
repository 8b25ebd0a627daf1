package proxyproto

import (
	"encoding/binary"
	"unicode"
	"unicode/utf8"
)

// The value of an SSL TLV, section 2.2.6:
//
//	 0        1                 5
//	+--------+-----------------+----------------+
//	| client | verify, in      | TLVs of        |
//	| flags  | network order   | the SSL types  |
//	+--------+-----------------+----------------+

// ClientFlags say what a client used on its connection to the proxy (section 2.2.6).
type ClientFlags uint8

const (
	ClientSSL      ClientFlags = 0x01 // it connected over TLS
	ClientCertConn ClientFlags = 0x02 // it presented a certificate on this connection
	ClientCertSess ClientFlags = 0x04 // it presented one at least once in its TLS session
)

// Unverified is an SSL.Verify for senders that have no number to say why: OpenSSL's
// X509_V_ERR_UNSPECIFIED.
const Unverified = 1

// SSL is what an SSL TLV says of the TLS connection between the client and the proxy (section
// 2.2.6). The zero value says that there was none.
//
// It is the proxy's word and no proof: it is worth as much as the [Policy] by which the header was
// believed. If the proxy passes on TLVs that it received itself, it is the word of whoever sent
// them. And neither part means what it seems to mean by itself:
//
//   - That there is an SSL TLV doesn't say that the client used TLS: HAProxy sends one without
//     [ClientSSL] for connections in the clear. Ask [SSL.TLS].
//   - Verify is 0 when the proxy verified a certificate, but HAProxy also sends 0 when the client
//     presented none (nginx sends 1). Ask [SSL.Verified].
//   - Proxies send the name, and may send the certificate, of a client whose certificate failed
//     verification too, if they let it in. [SSL.CommonName] and [SSL.ClientCert] don't return
//     those.
type SSL struct {
	// Client are the flags, with those that the spec doesn't know.
	Client ClientFlags

	// Verify is the result of the certificate's verification; what the numbers mean is up to the
	// proxy. OpenSSL's X509_V_ERR constants are what HAProxy sends.
	Verify uint32

	// TLVs are those inside, with types such as [SubtypeSSLVersion].
	TLVs TLVs
}

// SSL returns the SSL TLV, and whether there is exactly one: see [TLVs.ALPN]. Its TLVs alias t. A
// header has none if the proxy wasn't told to send it.
func (t TLVs) SSL() (SSL, bool) {
	value, ok := t.only(TypeSSL)
	if !ok || len(value) < lenSSL {
		return SSL{}, false
	}
	return SSL{
		Client: ClientFlags(value[0]),
		Verify: binary.BigEndian.Uint32(value[1:]),
		TLVs:   TLVs(value[lenSSL:]),
	}, true
}

// TLS reports whether the client connected to the proxy over TLS.
func (s SSL) TLS() bool { return s.Client&ClientSSL != 0 }

// Verified reports whether the client presented a certificate over TLS and the proxy verified
// it, on this connection or on an earlier one whose TLS session this one resumes.
//
// What a verified certificate allows its owner is still to be decided: the proxy may accept
// certificates of more authorities than those that name your users.
func (s SSL) Verified() bool {
	return s.TLS() && s.Client&(ClientCertConn|ClientCertSess) != 0 && s.Verify == 0
}

// CommonName returns the common name in the subject of the client's certificate, in UTF-8 (section
// 2.2.6), and whether there is exactly one, it is printable, and the certificate is verified: see
// [SSL.Verified]. It is for logs and for people.
//
// Don't authorize by it: ask the certificate, which [SSL.ClientCert] returns if the proxy sends it,
// for its DNS names, or another field that its authority answers for. The name needn't be unique,
// nor a host name. And HAProxy copies its bytes without their encoding: a name of two Chinese
// characters in an old form, BMPString, can have the bytes of "root". (nginx converts them.)
//
// The name in a certificate that isn't verified is whatever the client likes. It is available from
// TLVs, as [SubtypeSSLCN].
func (s SSL) CommonName() ([]byte, bool) {
	name, ok := s.identity(SubtypeSSLCN)
	if !ok || !printable(name) {
		return nil, false
	}
	return name, true
}

// printable reports whether b is UTF-8 for characters that can be seen, and spaces.
func printable(b []byte) bool {
	for len(b) > 0 {
		r, n := utf8.DecodeRune(b)
		if r == utf8.RuneError && n == 1 || !unicode.IsPrint(r) {
			return false
		}
		b = b[n:]
	}
	return true
}

// ClientCert returns the client's certificate in DER (section 2.2.6), for x509.ParseCertificate,
// and whether there is one and it is verified: see [SSL.Verified]. Few proxies send it.
//
// A certificate that the proxy didn't verify is available from TLVs, as [SubtypeSSLClientCert]. To
// verify it yourself, check that s.TLS() holds and that
// [ClientCertConn] or [ClientCertSess] is set, too: the certificate alone is public, and it is
// the TLS handshake with the proxy in which the client proves to have its key.
func (s SSL) ClientCert() ([]byte, bool) { return s.identity(SubtypeSSLClientCert) }

func (s SSL) identity(typ TLVType) ([]byte, bool) {
	if !s.Verified() {
		return nil, false
	}
	return s.TLVs.only(typ)
}

// Version returns the name of the TLS version (section 2.2.6), "TLSv1.3" in OpenSSL's words, and
// whether the proxy said so.
func (s SSL) Version() ([]byte, bool) { return s.TLVs.Lookup(SubtypeSSLVersion) }

// Cipher returns the name of the cipher (section 2.2.6), as in "ECDHE-RSA-AES128-GCM-SHA256".
func (s SSL) Cipher() ([]byte, bool) { return s.TLVs.Lookup(SubtypeSSLCipher) }

// SigAlg returns the name of the algorithm with which the certificate of the proxy, not the
// client's, is signed (section 2.2.6), as in "RSA-SHA256".
func (s SSL) SigAlg() ([]byte, bool) { return s.TLVs.Lookup(SubtypeSSLSigAlg) }

// KeyAlg returns the name of the algorithm of the proxy's key, not the client's (section 2.2.6), as
// in "RSA2048".
func (s SSL) KeyAlg() ([]byte, bool) { return s.TLVs.Lookup(SubtypeSSLKeyAlg) }

// Group returns the name of the key exchange (section 2.2.6), as in "secp256r1".
func (s SSL) Group() ([]byte, bool) { return s.TLVs.Lookup(SubtypeSSLGroup) }

// SigScheme returns the name of the algorithm with which the proxy signed the handshake (section
// 2.2.6), as in "rsa_pss_rsae_sha256".
func (s SSL) SigScheme() ([]byte, bool) { return s.TLVs.Lookup(SubtypeSSLSigScheme) }

// AppendTo appends an SSL TLV to t, for a header to be sent, and returns the extended vectors.
// Fill s.TLVs with [TLVs.Append]: the spec wants a [SubtypeSSLVersion] along with [ClientSSL], and
// a [SubtypeSSLCN] if there is a certificate with a name.
//
// It is an error, with t returned as it was, if s.TLVs aren't well-formed, if they would no longer
// fit in a header, or if Verify is 0 without a certificate: the spec asks for another number
// then ([Unverified], say), because receivers take 0 alone for a verified certificate. To pass on
// an SSL TLV as it was received give its value to TLVs.Append.
func (s SSL) AppendTo(t TLVs) (TLVs, error) {
	if s.Verify == 0 && !s.Verified() {
		return t, unencodable("SSL.Verify is 0 without a client certificate")
	}
	inside := 0
	for _, value := range s.TLVs.All() {
		inside += lenTLV + len(value)
	}
	if inside != len(s.TLVs) {
		return t, unencodable("a TLV inside the SSL TLV is cut off")
	}
	if len(t)+lenTLV+lenSSL+inside > maxHeader-lenV2 {
		return t, unencodable("the TLVs have more than 65535 bytes")
	}
	t = append(t, byte(TypeSSL))
	t = binary.BigEndian.AppendUint16(t, uint16(lenSSL+inside))
	t = append(t, byte(s.Client))
	t = binary.BigEndian.AppendUint32(t, s.Verify)
	return append(t, s.TLVs...), nil
}
