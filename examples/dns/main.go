// Dns answers each client's TXT queries with the client's own address, behind a proxy that puts
// PROXY headers before its datagrams and connections, as dnsdist with useProxyProtocol does.
//
//	go run . -listen 127.0.0.1:5353 -trust 127.0.0.1
//	kdig +proxy=192.0.2.7#1234-192.0.2.1#53 @127.0.0.1 -p 5353 whoami.test TXT
package main

import (
	"flag"
	"log"
	"net"
	"strings"

	"github.com/miekg/dns"

	"github.com/seed2e8fe8ee/proxyproto"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:5353", "address to listen on, by UDP and TCP")
	trust := flag.String("trust", "", "whose headers to believe: addresses and CIDR ranges, with commas")
	flag.Parse()

	policy, err := proxyproto.ParseTrust(strings.Split(*trust, ",")...)
	if err != nil {
		log.Fatal("-trust: ", err)
	}
	cfg := &proxyproto.Config{Policy: policy}

	tcp, err := net.Listen("tcp", *listen)
	if err != nil {
		log.Fatal(err)
	}
	conns, err := proxyproto.NewListener(tcp, cfg)
	if err != nil {
		log.Fatal(err)
	}
	udp, err := net.ListenPacket("udp", tcp.Addr().String())
	if err != nil {
		log.Fatal(err)
	}
	packets, err := proxyproto.NewPacketConn(udp, cfg)
	if err != nil {
		log.Fatal(err)
	}

	log.Printf("listening on %v", packets.LocalAddr())
	failed := make(chan error)
	go func() { failed <- dns.ActivateAndServe(conns, nil, dns.HandlerFunc(whoami)) }()
	go func() { failed <- dns.ActivateAndServe(nil, packets, dns.HandlerFunc(whoami)) }()
	log.Fatal(<-failed)
}

// whoami answers through the proxy that the query came from: w writes to RemoteAddr, and that
// says which one it was.
func whoami(w dns.ResponseWriter, query *dns.Msg) {
	reply := new(dns.Msg).SetReply(query)
	if q := query.Question[0]; q.Qtype == dns.TypeTXT {
		reply.Answer = append(reply.Answer, &dns.TXT{
			Hdr: dns.RR_Header{Name: q.Name, Rrtype: dns.TypeTXT, Class: dns.ClassINET},
			Txt: []string{"you are " + w.RemoteAddr().String()},
		})
	}
	if err := w.WriteMsg(reply); err != nil {
		log.Printf("answering %v: %v", w.RemoteAddr(), err)
	}
}
