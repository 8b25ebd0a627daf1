package proxyproto_test

import (
	"bufio"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"os"
	"runtime"
	"strings"

	"github.com/seed2e8fe8ee/proxyproto"
)

// A server behind a proxy at 127.0.0.1, and what a client of that proxy gets.
func Example() {
	trust, err := proxyproto.ParseTrust("127.0.0.1", "10.0.0.0/8")
	if err != nil {
		log.Fatal(err)
	}
	ln, err := proxyproto.Listen("tcp", "127.0.0.1:0", &proxyproto.Config{
		Policy: trust,
		OnDrop: proxyproto.LogDrops(nil),
	})
	if err != nil {
		log.Fatal(err)
	}
	defer ln.Close()
	go http.Serve(ln, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "you are %s\n", r.RemoteAddr)
	}))

	// What the proxy does:
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	io.WriteString(c, "PROXY TCP4 192.0.2.7 192.0.2.1 56324 80\r\n")
	io.WriteString(c, "GET / HTTP/1.0\r\n\r\n")
	response, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		log.Fatal(err)
	}
	io.Copy(os.Stdout, response.Body)
	// Output: you are 192.0.2.7:56324
}

// Listen is net.Listen and NewListener in one.
func ExampleListen() {
	ln, err := proxyproto.Listen("tcp", "127.0.0.1:0", &proxyproto.Config{
		Policy: proxyproto.Trust(netip.MustParsePrefix("10.0.0.0/8")),
		OnDrop: proxyproto.LogDrops(nil),
	})
	if err != nil {
		log.Fatal(err)
	}
	defer ln.Close()

	_, err = proxyproto.Listen("tcp", "127.0.0.1:0", &proxyproto.Config{})
	fmt.Println(err)
	// Output: proxyproto: Config has no Policy: say whose headers to trust, with Trust for example
}

func ExampleParse() {
	h, n, err := proxyproto.Parse([]byte("PROXY TCP4 192.0.2.7 192.0.2.1 56324 443\r\npayload"))
	fmt.Println(h, n, err)

	_, _, err = proxyproto.Parse([]byte("PROXY TCP4 192.0.2.7 192.0."))
	fmt.Println(err)

	_, _, err = proxyproto.Parse([]byte("PROXY TCP4 192.0.2.700"))
	fmt.Println(err)

	_, _, err = proxyproto.Parse([]byte("GET / HTTP/1.1\r\n"))
	fmt.Println(err)
	// Output:
	// v1 PROXY TCP4 192.0.2.7:56324 -> 192.0.2.1:443 42 <nil>
	// proxyproto: incomplete PROXY protocol header
	// proxyproto: malformed v1 header at byte 21: a number of an IPv4 address is over 255 (section 2.1)
	// proxyproto: not a PROXY protocol header
}

func ExampleHeader_AppendTo() {
	h := proxyproto.Header{
		Version:     proxyproto.V2,
		Command:     proxyproto.Proxy,
		Protocol:    proxyproto.TCP4,
		Source:      netip.MustParseAddrPort("192.0.2.7:56324"),
		Destination: netip.MustParseAddrPort("192.0.2.1:443"),
	}
	h.TLVs, _ = h.TLVs.Append(proxyproto.TypeAuthority, []byte("example.com"))
	h.TLVs, _ = h.TLVs.Append(proxyproto.TypeCRC32C, make([]byte, 4)) // AppendTo computes it
	b, err := h.AppendTo(nil)
	fmt.Printf("%x %v\n", b, err)
	// Output: 0d0a0d0a000d0a515549540a21110021c0000207c0000201dc0401bb02000b6578616d706c652e636f6d0300046532f916 <nil>
}

// Pods talk to each other without a header, the balancer sends one, and nobody else may connect.
func ExampleRules() {
	policy := proxyproto.Rules(proxyproto.Reject,
		proxyproto.Rule{Prefix: netip.MustParsePrefix("10.0.0.0/16"), Action: proxyproto.Require},
		proxyproto.Rule{Prefix: netip.MustParsePrefix("10.244.0.0/16"), Action: proxyproto.Skip},
	)
	for _, peer := range []string{"10.0.3.4:1234", "10.244.3.4:1234", "192.0.2.1:1234"} {
		fmt.Println(peer, policy(proxyproto.Peer{Addr: netip.MustParseAddrPort(peer)}))
	}
	// Output:
	// 10.0.3.4:1234 require
	// 10.244.3.4:1234 skip
	// 192.0.2.1:1234 reject
}

// A server that speaks first, behind a balancer that sends the header only with the client's
// first bytes.
func ExampleConfig_lazy() {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	ln, err := proxyproto.NewListener(inner, &proxyproto.Config{
		Policy: proxyproto.Trust(netip.MustParsePrefix("127.0.0.1/32")),
		Lazy:   true,
	})
	if err != nil {
		log.Fatal(err)
	}
	defer ln.Close()
	go func() {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		fmt.Fprint(c, "220 ready\r\n")
		line, err := bufio.NewReader(c).ReadString('\n') // reads the header first
		if err != nil {
			return
		}
		fmt.Fprintf(c, "250 %v said %q\r\n", c.RemoteAddr(), line)
	}()

	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	r := bufio.NewReader(c)
	banner, _ := r.ReadString('\n')
	fmt.Println(strings.TrimSpace(banner))
	fmt.Fprint(c, "PROXY TCP4 192.0.2.7 192.0.2.1 56324 25\r\nEHLO client\r\n")
	answer, _ := r.ReadString('\n')
	fmt.Println(strings.TrimSpace(answer))
	// Output:
	// 220 ready
	// 250 192.0.2.7:56324 said "EHLO client\r\n"
}

// Local clients have privileges here, so no proxy may claim to speak for one.
func ExampleConfig_validate() {
	cfg := &proxyproto.Config{
		Policy: proxyproto.Trust(netip.MustParsePrefix("10.0.0.0/8")),
		Validate: func(peer proxyproto.Peer, h *proxyproto.Header) error {
			if source := h.Source.Addr().Unmap(); source.IsLoopback() ||
				source.IsLinkLocalUnicast() {
				return fmt.Errorf("%v claims to be %v", peer, source)
			}
			return nil
		},
	}
	peer := proxyproto.Peer{Addr: netip.MustParseAddrPort("10.0.0.1:5000")}
	h, _, _ := proxyproto.Parse([]byte("PROXY TCP4 127.0.0.1 127.0.0.1 1 22\r\n"))
	fmt.Println(cfg.Validate(peer, &h))
	// Output: 10.0.0.1:5000 claims to be 127.0.0.1
}

// What is logged of a peer that sends a broken header.
func ExampleConfig_onDrop() {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	dropped := make(chan error)
	ln, err := proxyproto.NewListener(inner, &proxyproto.Config{
		Policy: proxyproto.Trust(netip.MustParsePrefix("127.0.0.1/32")),
		OnDrop: func(peer proxyproto.Peer, drop *proxyproto.DropError) { dropped <- drop },
	})
	if err != nil {
		log.Fatal(err)
	}
	defer ln.Close()
	go ln.Accept()

	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	io.WriteString(c, "PROXY TCP4 10.0.0.1 10.0.0.2 65536 443\r\n")
	fmt.Println(<-dropped)
	// Output:
	// proxyproto: malformed v1 header at byte 33: a port is over 65535 (section 2.1) (sent "1 10.0.0.2 65536")
}

// An accept loop of one's own.
func ExampleNewConn() {
	cfg := &proxyproto.Config{Policy: proxyproto.Trust(netip.MustParsePrefix("127.0.0.1/32"))}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	defer ln.Close()
	go func() {
		c, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			log.Fatal(err)
		}
		defer c.Close()
		io.WriteString(c, "PROXY TCP4 192.0.2.7 192.0.2.1 56324 80\r\nhello")
	}()

	inner, err := ln.Accept()
	if err != nil {
		log.Fatal(err)
	}
	c, err := proxyproto.NewConn(inner, cfg)
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	b, err := io.ReadAll(c) // in the connection's own goroutine, where waiting hurts nobody
	fmt.Printf("%v says %q %v\n", c.RemoteAddr(), b, err)
	// Output: 192.0.2.7:56324 says "hello" <nil>
}

// client sends a header and a request as a proxy would, and prints the answer.
func client(address, header string) {
	c, err := net.Dial("tcp", address)
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	io.WriteString(c, header+"GET / HTTP/1.0\r\n\r\n")
	response, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		log.Fatal(err)
	}
	io.Copy(os.Stdout, response.Body)
}

// A handler that asks what the proxy said of the connection that its request came on.
func ExampleConnContext() {
	ln, err := proxyproto.Listen("tcp", "127.0.0.1:0", &proxyproto.Config{
		Policy: proxyproto.Trust(netip.MustParsePrefix("127.0.0.1/32")),
	})
	if err != nil {
		log.Fatal(err)
	}
	server := &http.Server{
		ConnContext: proxyproto.ConnContext,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			h, ok := proxyproto.HeaderFromContext(r.Context())
			if !ok || !h.HasAddrs() {
				fmt.Fprintln(w, "the proxy names no client")
				return
			}
			fmt.Fprintf(w, "%v connected to %v\n", h.Source, h.Destination)
		}),
	}
	defer server.Close()
	go server.Serve(ln)
	client(ln.Addr().String(), "PROXY TCP4 192.0.2.7 192.0.2.1 56324 80\r\n")
	client(ln.Addr().String(), "PROXY UNKNOWN\r\n")
	// Output:
	// 192.0.2.7:56324 connected to 192.0.2.1:80
	// the proxy names no client
}

func ExampleTLVs_All() {
	h, _, err := proxyproto.Parse([]byte("\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x1f" +
		"\xc0\x00\x02\x07\xc0\x00\x02\x01\xdc\x04\x01\xbb" +
		"\x01\x00\x02h2" + "\x02\x00\x0bexample.com"))
	for typ, value := range h.TLVs.All() {
		fmt.Printf("%v %q\n", typ, value)
	}
	fmt.Println(err)
	// Output:
	// ALPN "h2"
	// AUTHORITY "example.com"
	// <nil>
}

// Accept returned something around the Conn: a *tls.Conn, for example.
func ExampleFromConn() {
	inner, _ := net.Pipe()
	skip := &proxyproto.Config{Policy: proxyproto.Always(proxyproto.Skip)}
	c, err := proxyproto.NewConn(inner, skip)
	if err != nil {
		log.Fatal(err)
	}
	outer := tls.Server(c, &tls.Config{})
	found, ok := proxyproto.FromConn(outer)
	fmt.Println(found == c, ok, found.Header() == nil)
	// Output: true true true
}

// Stats are fields, and marshal as a whole.
func ExampleListener_Stats() {
	ln, err := proxyproto.Listen("tcp", "127.0.0.1:0", &proxyproto.Config{
		Policy: proxyproto.Always(proxyproto.Reject),
	})
	if err != nil {
		log.Fatal(err)
	}
	go ln.Accept()
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		log.Fatal(err)
	}
	c.Read(make([]byte, 1)) // returns when the connection has been closed
	for ln.Stats().TotalDropped() == 0 {
		runtime.Gosched()
	}
	b, err := json.Marshal(ln.Stats().Dropped)
	fmt.Println(string(b), err)
	// Output: {"rejected":1} <nil>
}
