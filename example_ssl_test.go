package proxyproto_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net/netip"
	"strings"

	"github.com/seed2e8fe8ee/proxyproto"
)

// A server decides who the client is by the certificate that the client showed to the proxy.
func ExampleSSL() {
	h := headerFromProxy()

	ssl, ok := h.TLVs.SSL()
	switch {
	case !ok || !ssl.TLS():
		fmt.Println("in the clear, or the proxy doesn't say")
	case !ssl.Verified():
		fmt.Println("over TLS, but nobody we know")
	default:
		version, _ := ssl.Version()
		name, _ := ssl.CommonName()
		fmt.Printf("%s, client %q\n", version, name)
	}
	// Output: TLSv1.3, client "client.example"
}

// The certificate is DER, so that programs which don't need it aren't linked with crypto/x509.
func ExampleSSL_ClientCert() {
	h := headerFromProxy()

	ssl, _ := h.TLVs.SSL()
	der, ok := ssl.ClientCert()
	if !ok {
		fmt.Println("no verified client certificate")
		return
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(cert.Subject, cert.DNSNames)
	// Output: CN=client.example [client.example]
}

// A proxy that ends TLS tells the server after it about the client's connection.
func ExampleSSL_AppendTo() {
	state := tls.ConnectionState{
		Version:     tls.VersionTLS13,
		CipherSuite: tls.TLS_AES_128_GCM_SHA256,
	}

	ssl := proxyproto.SSL{Client: proxyproto.ClientSSL, Verify: proxyproto.Unverified}
	if len(state.PeerCertificates) > 0 {
		ssl.Client |= proxyproto.ClientCertSess
		if !state.DidResume {
			ssl.Client |= proxyproto.ClientCertConn
		}
		if len(state.VerifiedChains) > 0 {
			ssl.Verify = 0
		}
		name := state.PeerCertificates[0].Subject.CommonName
		ssl.TLVs, _ = ssl.TLVs.Append(proxyproto.SubtypeSSLCN, []byte(name))
	}
	version := strings.Replace(tls.VersionName(state.Version), "TLS ", "TLSv", 1) // as OpenSSL's
	ssl.TLVs, _ = ssl.TLVs.Append(proxyproto.SubtypeSSLVersion, []byte(version))
	cipher := tls.CipherSuiteName(state.CipherSuite)
	ssl.TLVs, _ = ssl.TLVs.Append(proxyproto.SubtypeSSLCipher, []byte(cipher))

	h := proxyproto.Header{
		Version:     proxyproto.V2,
		Command:     proxyproto.Proxy,
		Protocol:    proxyproto.TCP4,
		Source:      netip.MustParseAddrPort("192.0.2.7:56324"),
		Destination: netip.MustParseAddrPort("198.51.100.1:443"),
	}
	var err error
	if h.TLVs, err = ssl.AppendTo(h.TLVs); err != nil {
		fmt.Println(err)
		return
	}
	b, err := h.AppendTo(nil)
	fmt.Printf("%q %v\n", b[28:], err)
	// Output: " \x00(\x01\x00\x00\x00\x01!\x00\aTLSv1.3#\x00\x16TLS_AES_128_GCM_SHA256" <nil>
}

// headerFromProxy returns what a server gets from a proxy that passes on client certificates.
func headerFromProxy() proxyproto.Header {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: "client.example"},
		DNSNames:     []string{"client.example"},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		panic(err)
	}
	ssl := proxyproto.SSL{Client: proxyproto.ClientSSL | proxyproto.ClientCertConn | proxyproto.ClientCertSess}
	ssl.TLVs, _ = ssl.TLVs.Append(proxyproto.SubtypeSSLVersion, []byte("TLSv1.3"))
	ssl.TLVs, _ = ssl.TLVs.Append(proxyproto.SubtypeSSLCN, []byte("client.example"))
	ssl.TLVs, _ = ssl.TLVs.Append(proxyproto.SubtypeSSLClientCert, der)
	h := proxyproto.Header{Version: proxyproto.V2, Command: proxyproto.Proxy, Protocol: proxyproto.TCP4}
	h.TLVs, err = ssl.AppendTo(nil)
	if err != nil {
		panic(err)
	}
	return h
}
