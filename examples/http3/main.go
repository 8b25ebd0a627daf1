// Http3 answers each client with its own address over HTTP/3, behind a proxy that puts PROXY
// headers before its datagrams. ../udprelay is such a proxy.
//
//	go run . -listen :8443 -trust 127.0.0.1
//	go run ../udprelay -listen 127.0.0.1:9443 -to 127.0.0.1:8443
//	curl --http3-only -k https://127.0.0.1:9443/
//
// Its certificate is made for this run, and nobody knows it.
package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"flag"
	"fmt"
	"log"
	"math/big"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"

	"github.com/seed2e8fe8ee/proxyproto"
	"github.com/seed2e8fe8ee/proxyproto/proxyudp"
)

func main() {
	listen := flag.String("listen", ":8443", "address to listen on")
	trust := flag.String("trust", "",
		"whose headers to believe: addresses and CIDR ranges, with commas")
	flag.Parse()

	policy, err := proxyproto.ParseTrust(strings.Split(*trust, ",")...)
	if err != nil {
		log.Fatal("-trust: ", err)
	}
	inner, err := net.ListenPacket("udp", *listen)
	if err != nil {
		log.Fatal(err)
	}
	packets, err := proxyudp.NewQUICConn(inner.(*net.UDPConn), &proxyudp.Config{Policy: policy})
	if err != nil {
		log.Fatal(err)
	}
	packets.Remember(10_000, 5*time.Minute) // proxies close the sockets of silent clients sooner

	certificate, err := newCertificate()
	if err != nil {
		log.Fatal(err)
	}
	transport := &quic.Transport{Conn: packets}
	ln, err := transport.ListenEarly(http3.ConfigureTLSConfig(&tls.Config{
		Certificates: []tls.Certificate{certificate},
	}), nil)
	if err != nil {
		log.Fatal(err)
	}
	log.Printf("listening on %v", packets.LocalAddr())
	server := &http3.Server{Handler: http.HandlerFunc(whoami)}
	log.Fatal(server.ServeListener(ln))
}

func whoami(w http.ResponseWriter, r *http.Request) {
	fmt.Fprintf(w, "you are %s", r.RemoteAddr)
	client, _ := r.Context().Value(http3.RemoteAddrContextKey).(net.Addr)
	if route, ok := proxyudp.RouteOf(client); ok {
		fmt.Fprintf(w, ", through %v to %v", route.Peer.Addr(), route.Destination)
	}
	fmt.Fprintln(w)
}

func newCertificate() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		NotBefore:    now.Add(-time.Hour),
		NotAfter:     now.AddDate(0, 0, 30),
		DNSNames:     []string{"localhost"},
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}
