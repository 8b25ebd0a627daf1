package proxyproto_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/seed2e8fe8ee/proxyproto"
)

// Rules as a configuration file has them, and one that nobody can misspell without being told.
func ExampleRule() {
	var rules []proxyproto.Rule
	err := json.Unmarshal([]byte(`[
		{"prefix": "10.0.0.0/16", "action": "require"},
		{"prefix": "10.244.0.0/16", "action": "skip"}
	]`), &rules)
	if err != nil {
		log.Fatal(err)
	}
	policy := proxyproto.Rules(proxyproto.Reject, rules...)
	fmt.Println(policy(proxyproto.Peer{Addr: netip.MustParseAddrPort("10.244.3.4:1234")}))

	err = json.Unmarshal([]byte(`[{"prefix": "10.0.0.0/16", "action": "requires"}]`), &rules)
	fmt.Println(err)
	// Output:
	// skip
	// proxyproto: there is no action "requires": expected reject, require, skip, optional, ignore
}

// A deny list that wins at any length: Rules alone would let the longer prefix win.
func ExamplePolicy_deny() {
	deny, err := proxyproto.ParsePrefixes("10.1.0.0/16")
	if err != nil {
		log.Fatal(err)
	}
	allow, err := proxyproto.ParseTrust("10.0.0.0/8", "10.1.2.3")
	if err != nil {
		log.Fatal(err)
	}
	policy := func(p proxyproto.Peer) proxyproto.Action {
		contains := func(prefix netip.Prefix) bool { return prefix.Contains(p.Addr.Addr()) }
		if slices.ContainsFunc(deny, contains) {
			return proxyproto.Reject
		}
		return allow(p)
	}
	for _, peer := range []string{"10.2.0.1:1", "10.1.2.3:1"} {
		fmt.Println(peer, policy(proxyproto.Peer{Addr: netip.MustParseAddrPort(peer)}))
	}
	// Output:
	// 10.2.0.1:1 require
	// 10.1.2.3:1 reject
}

// A proxy on a Unix socket has no address: it is trusted by the socket, whose file's mode says who
// may connect. Pipes and file descriptors that are no sockets get nothing.
func ExamplePolicy_unixSocket() {
	trust, err := proxyproto.ParseTrust("10.0.0.0/8")
	if err != nil {
		log.Fatal(err)
	}
	policy := func(p proxyproto.Peer) proxyproto.Action {
		if _, ok := p.Conn.(*net.UnixConn); ok {
			return proxyproto.Require
		}
		return trust(p)
	}
	pipe, _ := net.Pipe()
	fmt.Println(policy(proxyproto.Peer{Conn: pipe}))
	fmt.Println(policy(proxyproto.Peer{Conn: new(net.UnixConn)}))
	// Output:
	// reject
	// require
}

// A proxy that proves by a client certificate who it is, and sends its header inside TLS. The
// certificate is known when the header is: before, nobody has shaken hands.
func ExampleConfig_clientCertificate() {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	config := &tls.Config{ClientAuth: tls.RequireAndVerifyClientCert} // and ClientCAs, Certificates
	ln, err := proxyproto.NewListener(tls.NewListener(inner, config), &proxyproto.Config{
		Policy: proxyproto.Always(proxyproto.Require),
		Validate: func(p proxyproto.Peer, _ *proxyproto.Header) error {
			state := p.Conn.(*tls.Conn).ConnectionState()
			if len(state.VerifiedChains) == 0 ||
				state.VerifiedChains[0][0].VerifyHostname("proxy.internal") != nil {
				return errors.New("not our proxy's certificate")
			}
			return nil
		},
		OnDrop: proxyproto.LogDrops(nil),
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(ln.Close())
	// Output: <nil>
}

// Proxies that are known by a host name, looked up every minute. It costs safety: whoever answers
// for the name in DNS, or takes over an address that the name had a minute ago, is believed. Only
// for names and resolvers of your own.
func ExampleListener_SetPolicy() {
	ln, err := proxyproto.Listen("tcp", "127.0.0.1:0", &proxyproto.Config{
		Policy: proxyproto.Always(proxyproto.Reject), // until the first answer
		OnDrop: proxyproto.LogDrops(nil),
	})
	if err != nil {
		log.Fatal(err)
	}
	lookUp := func(ctx context.Context, host string) error {
		addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		if err != nil {
			return err // the last answer stays
		}
		var prefixes []netip.Prefix
		for _, addr := range addrs {
			addr = addr.Unmap().WithZone("")
			prefixes = append(prefixes, netip.PrefixFrom(addr, addr.BitLen()))
		}
		ln.SetPolicy(proxyproto.Trust(prefixes...))
		return nil
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		for every := time.Tick(time.Minute); ctx.Err() == nil; {
			if err := lookUp(ctx, "localhost"); err != nil {
				log.Print(err)
			}
			select {
			case <-every:
			case <-ctx.Done():
			}
		}
	}()
	cancel() // with the server
	fmt.Println(ln.Close())
	// Output: <nil>
}

// A peer that is dropped again and again is logged once a minute, and a probe never.
func ExampleLogDrops() {
	logger := slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{ReplaceAttr: fixed}))
	logDrop := proxyproto.LogDrops(logger)
	var told sync.WaitGroup // for this example to end when all is told
	told.Add(3)
	ln, err := proxyproto.Listen("tcp", "127.0.0.1:0", &proxyproto.Config{
		Policy: proxyproto.Trust(netip.MustParsePrefix("127.0.0.0/8")),
		OnDrop: func(p proxyproto.Peer, drop *proxyproto.DropError) {
			defer told.Done()
			logDrop(p, drop)
		},
	})
	if err != nil {
		panic(err)
	}
	defer ln.Close()
	go ln.Accept()

	for range 3 {
		knock(ln, "")                       // a health check
		knock(ln, "GET / HTTP/1.0\r\n\r\n") // and one that forgot the header
	}
	told.Wait()
	// Output:
	// level=WARN msg="PROXY connection dropped" peer=127.0.0.1:56324 reason="no header" err="proxyproto: not a PROXY protocol header but an HTTP request: the proxy sends no header (sent \"GET / HTTP/1.0\\r\\n\")"
}

// For another logger, or to tell the peers that the Policy rejects from the others.
func ExampleSampleDrops() {
	var told sync.WaitGroup // for this example to end when all is told
	told.Add(1)
	ln, err := proxyproto.Listen("tcp", "127.0.0.1:0", &proxyproto.Config{
		Policy: proxyproto.Trust(), // nobody
		OnDrop: proxyproto.SampleDrops(
			func(p proxyproto.Peer, drop *proxyproto.DropError, suppressed uint64) {
				defer told.Done()
				fmt.Println(p.Addr.Addr(), drop.Reason, suppressed)
			}),
	})
	if err != nil {
		panic(err)
	}
	defer ln.Close()
	go ln.Accept()

	knock(ln, "PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n")
	told.Wait()
	// Output: 127.0.0.1 rejected 0
}

// fixed takes the time out of a record, and makes the peer's port always the same.
func fixed(_ []string, a slog.Attr) slog.Attr {
	switch a.Key {
	case slog.TimeKey:
		return slog.Attr{}
	case "peer":
		host, _, _ := net.SplitHostPort(a.Value.String())
		return slog.String(a.Key, net.JoinHostPort(host, "56324"))
	}
	return a
}

// knock connects, sends, and waits until the server has closed the connection.
func knock(ln net.Listener, send string) {
	c, err := net.Dial(ln.Addr().Network(), ln.Addr().String())
	if err != nil {
		panic(err)
	}
	defer c.Close()
	io.WriteString(c, send)
	c.(*net.TCPConn).CloseWrite()
	io.Copy(io.Discard, c)
}
