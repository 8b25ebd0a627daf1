package proxytls

import (
	"crypto/tls"
	"crypto/x509"
	"strings"
)

// What OpenSSL calls things.

var versionNames = map[uint16]string{
	tls.VersionTLS10: "TLSv1", tls.VersionTLS11: "TLSv1.1",
	tls.VersionTLS12: "TLSv1.2", tls.VersionTLS13: "TLSv1.3",
}

var groupNames = map[tls.CurveID]string{
	tls.CurveP256: "secp256r1", tls.CurveP384: "secp384r1", tls.CurveP521: "secp521r1",
	tls.X25519: "x25519", tls.X25519MLKEM768: "X25519MLKEM768",
	tls.SecP256r1MLKEM768: "SecP256r1MLKEM768", tls.SecP384r1MLKEM1024: "SecP384r1MLKEM1024",
}

var sigAlgNames = map[x509.SignatureAlgorithm]string{
	x509.SHA1WithRSA: "RSA-SHA1", x509.SHA256WithRSA: "RSA-SHA256",
	x509.SHA384WithRSA: "RSA-SHA384", x509.SHA512WithRSA: "RSA-SHA512",
	x509.SHA256WithRSAPSS: "RSASSA-PSS", x509.SHA384WithRSAPSS: "RSASSA-PSS",
	x509.SHA512WithRSAPSS: "RSASSA-PSS", x509.ECDSAWithSHA1: "ecdsa-with-SHA1",
	x509.ECDSAWithSHA256: "ecdsa-with-SHA256", x509.ECDSAWithSHA384: "ecdsa-with-SHA384",
	x509.ECDSAWithSHA512: "ecdsa-with-SHA512", x509.PureEd25519: "ED25519",
}

// cipherName makes OpenSSL's name of the one in the RFCs: TLS 1.3's are the same, and of the others
// TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 is ECDHE-RSA-AES128-GCM-SHA256.
func cipherName(suite uint16) string {
	name := tls.CipherSuiteName(suite)
	exchange, cipher, found := strings.Cut(strings.TrimPrefix(name, "TLS_"), "_WITH_")
	switch {
	case strings.HasPrefix(name, "0x"):
		return "" // unknown to crypto/tls
	case !found:
		return name
	}
	cipher = strings.NewReplacer("AES_128_CBC", "AES128", "AES_256_CBC", "AES256",
		"AES_128", "AES128", "AES_256", "AES256", "RC4_128", "RC4", "3DES_EDE_CBC", "DES-CBC3",
		"CHACHA20_POLY1305_SHA256", "CHACHA20-POLY1305").Replace(cipher)
	if exchange != "RSA" { // OpenSSL doesn't name it
		cipher = exchange + "_" + cipher
	}
	return strings.ReplaceAll(cipher, "_", "-")
}
