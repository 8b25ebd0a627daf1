package proxyproto_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/seed2e8fe8ee/proxyproto"
)

// startServer starts a server that expects headers, and prints whose connections it gets.
func startServer() (ln net.Listener, served <-chan bool) {
	ln, err := proxyproto.Listen("tcp", "127.0.0.1:0", &proxyproto.Config{
		Policy: proxyproto.Trust(netip.MustParsePrefix("127.0.0.0/8")),
	})
	if err != nil {
		panic(err)
	}
	one := make(chan bool)
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			conn, _ := proxyproto.FromConn(c)
			if h := conn.Header(); h.HasAddrs() {
				fmt.Println("a client:", c.RemoteAddr(), "came to", c.LocalAddr())
			} else {
				fmt.Println("a health check")
			}
			c.Close()
			one <- true
		}
	}()
	return ln, one
}

// A proxy that knows the client's addresses otherwise than by its connection: then HeaderFor does
// this.
func ExampleDialer() {
	ln, served := startServer()
	defer ln.Close()
	client := &net.TCPAddr{IP: net.IPv4(192, 0, 2, 7), Port: 56324}
	cameTo := &net.TCPAddr{IP: net.IPv4(198, 51, 100, 1), Port: 443}

	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	var dialer proxyproto.Dialer
	server, err := dialer.DialHeader(ctx, "tcp", ln.Addr().String(),
		proxyproto.NewHeader(client, cameTo, proxyproto.V2))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer server.Close()

	<-served
	// Output: a client: 192.0.2.7:56324 came to 198.51.100.1:443
}

// A health check has no client.
func ExampleDialer_healthCheck() {
	ln, served := startServer()
	defer ln.Close()

	checker := proxyproto.Dialer{Inner: &net.Dialer{Timeout: 2 * time.Second}}
	check := &proxyproto.Header{Version: proxyproto.V2, Command: proxyproto.Local}
	server, err := checker.DialHeader(context.Background(), "tcp", ln.Addr().String(), check)
	if err != nil {
		fmt.Println("down:", err)
		return
	}
	defer server.Close() // at once, it would be a probe, which Accept doesn't return

	<-served
	// Output: a health check
}

// Set says each thing once, whatever is there; Without takes out what isn't believed.
func ExampleTLVs_Set() {
	// What the proxy in front has sent.
	var theirs proxyproto.TLVs
	for typ, value := range map[proxyproto.TLVType]string{
		proxyproto.TypeAuthority: "admin.example", proxyproto.TypeUniqueID: "id-1",
	} {
		theirs, _ = theirs.Set(typ, []byte(value))
	}
	ours, err := theirs.Without(proxyproto.TypeUniqueID).
		Set(proxyproto.TypeAuthority, []byte("www.example"))
	for typ, value := range ours.All() {
		fmt.Println(typ, string(value), err)
	}
	// Output: AUTHORITY www.example <nil>
}

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
	ssl := proxyproto.SSL{
		Client: proxyproto.ClientSSL | proxyproto.ClientCertConn | proxyproto.ClientCertSess,
	}
	ssl.TLVs, _ = ssl.TLVs.Append(proxyproto.SubtypeSSLVersion, []byte("TLSv1.3"))
	ssl.TLVs, _ = ssl.TLVs.Append(proxyproto.SubtypeSSLCN, []byte("client.example"))
	ssl.TLVs, _ = ssl.TLVs.Append(proxyproto.SubtypeSSLClientCert, der)
	h := proxyproto.Header{
		Version:  proxyproto.V2,
		Command:  proxyproto.Proxy,
		Protocol: proxyproto.TCP4,
	}
	h.TLVs, err = ssl.AppendTo(nil)
	if err != nil {
		panic(err)
	}
	return h
}

// A proxy of one's own passes on who its client is, and says in its own word what it knows itself.
func ExampleHeaderFor() {
	inbound, _ := net.Pipe() // in a program, what Accept returned
	h, err := proxyproto.HeaderFor(inbound, proxyproto.V2)
	fmt.Println(h, err)

	h = proxyproto.NewHeader(&net.TCPAddr{IP: net.IPv4(192, 0, 2, 7), Port: 56324},
		&net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 443}, proxyproto.V2)
	h.TLVs, err = h.TLVs.Set(proxyproto.TypeALPN, []byte("h2"))
	fmt.Println(h, err)
	// Output:
	// v2 LOCAL UNSPEC <nil>
	// v2 PROXY TCP4 192.0.2.7:56324 -> 192.0.2.1:443, 5 bytes of TLVs <nil>
}
