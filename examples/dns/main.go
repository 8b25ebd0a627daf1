// Dns answers each client's TXT queries with the client's own address, behind a proxy that puts
// PROXY headers before its datagrams and connections, as dnsdist with useProxyProtocol does.
//
// It listens on every address of the host, and answers from the one that was asked.
//
//	go run . -listen :5353 -trust 127.0.0.0/8
//	kdig +proxy=192.0.2.7#1234-192.0.2.1#53 @127.0.0.2 -p 5353 whoami.test TXT
package main

import (
	"errors"
	"flag"
	"log"
	"net"
	"strings"
	"time"

	"github.com/miekg/dns"

	"github.com/seed2e8fe8ee/proxyproto"
	"github.com/seed2e8fe8ee/proxyproto/proxyudp"
)

func main() {
	listen := flag.String("listen", ":5353", "address to listen on, by UDP and TCP")
	trust := flag.String("trust", "",
		"whose headers to believe: addresses and CIDR ranges, with commas")
	flag.Parse()

	policy, err := proxyproto.ParseTrust(strings.Split(*trust, ",")...)
	if err != nil {
		log.Fatal("-trust: ", err)
	}
	tcp, err := net.Listen("tcp", *listen)
	if err != nil {
		log.Fatal(err)
	}
	conns, err := proxyproto.NewListener(tcp, &proxyproto.Config{
		Policy: policy,
		OnDrop: proxyproto.LogDrops(nil),
	})
	if err != nil {
		log.Fatal(err)
	}
	udp, err := net.ListenPacket("udp", tcp.Addr().String())
	if err != nil {
		log.Fatal(err)
	}
	packets, err := proxyudp.NewPacketConn(udp, &proxyudp.Config{
		Policy: policy,
		OnDrop: proxyproto.LogDrops(nil),
	})
	if err != nil {
		log.Fatal(err)
	}

	log.Printf("listening on %v", packets.LocalAddr())
	failed := make(chan error)
	go func() { failed <- dns.ActivateAndServe(patient{conns}, nil, dns.HandlerFunc(whoami)) }()
	go func() { failed <- dns.ActivateAndServe(nil, packets, dns.HandlerFunc(whoami)) }()
	log.Fatal(<-failed)
}

// A patient listener waits a moment after an error, such as too many open files: dns.Server tries
// again at once, for as long as it lasts.
type patient struct{ net.Listener }

func (l patient) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil && !errors.Is(err, net.ErrClosed) {
		log.Printf("accept: %v; trying again", err)
		time.Sleep(100 * time.Millisecond)
	}
	return c, err
}

// whoami answers through the proxy that the query came from: w writes to RemoteAddr, which has
// the way back.
func whoami(w dns.ResponseWriter, query *dns.Msg) {
	reply := new(dns.Msg).SetReply(query)
	if len(query.Question) == 0 { // whatever its head says
		reply.Rcode = dns.RcodeFormatError
	} else if q := query.Question[0]; q.Qtype == dns.TypeTXT {
		reply.Answer = append(reply.Answer, &dns.TXT{
			Hdr: dns.RR_Header{Name: q.Name, Rrtype: dns.TypeTXT, Class: dns.ClassINET},
			Txt: []string{"you are " + w.RemoteAddr().String()},
		})
	}
	if err := w.WriteMsg(reply); err != nil {
		log.Printf("answering %v: %v", w.RemoteAddr(), err)
	}
}
