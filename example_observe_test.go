package proxyproto_test

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"

	"github.com/seed2e8fe8ee/proxyproto"
)

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
