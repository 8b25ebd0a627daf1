package proxyproto_test

import (
	"hash/maphash"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed2e8fe8ee/proxyproto"
)

// A peer that is dropped again and again is logged once a minute, a probe never, and 256 lines
// a minute are the most that any number of peers can cause: all of them are counted in Stats.
func ExampleConfig_slog() {
	var told sync.WaitGroup // for this example to end when all is told

	logger := slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{ReplaceAttr: dropTime}))
	var logged [256]atomic.Int64 // the minute when a peer of this hash was logged
	seed, start := maphash.MakeSeed(), time.Now()

	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	ln, err := proxyproto.NewListener(inner, &proxyproto.Config{
		Policy: proxyproto.Trust(netip.MustParsePrefix("127.0.0.0/8")),
		OnDrop: func(peer netip.AddrPort, err error) {
			defer told.Done()
			minute := int64(time.Since(start)/time.Minute) + 1
			if logged[maphash.Comparable(seed, peer.Addr())%256].Swap(minute) != minute {
				logger.Warn("connection dropped", "peer", peer.Addr(), "err", err)
			}
		},
	})
	if err != nil {
		panic(err)
	}
	defer ln.Close()
	go http.Serve(ln, http.NotFoundHandler())

	told.Add(3)
	for range 3 {
		knock(ln, "")                       // a health check
		knock(ln, "GET / HTTP/1.0\r\n\r\n") // and one that forgot the header
	}
	told.Wait()

	// Output:
	// level=WARN msg="connection dropped" peer=127.0.0.1 err="proxyproto: not a PROXY protocol header (sent \"GET / HTTP/1.0\\r\\n\")"
}

// dropTime takes the time out of a record.
func dropTime(_ []string, a slog.Attr) slog.Attr {
	if a.Key == slog.TimeKey {
		return slog.Attr{}
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
