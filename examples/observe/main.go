// Observe shows what a Listener does: the connections that it drops as log/slog records, of which
// neither probes nor repeated offenders can make a flood, and its counts as an expvar.
//
//	go run ./examples/observe
//	curl --haproxy-protocol http://127.0.0.1:8080/    # served
//	curl http://127.0.0.1:8080/                       # dropped: logged once a minute, counted each time
//	curl http://127.0.0.1:8081/debug/vars             # the counts
package main

import (
	"expvar"
	"fmt"
	"hash/maphash"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/seed2e8fe8ee/proxyproto"
)

func main() {
	policy, err := proxyproto.ParseTrust("127.0.0.1", "::1") // your load balancer
	if err != nil {
		log.Fatal(err)
	}
	inner, err := net.Listen("tcp", "127.0.0.1:8080")
	if err != nil {
		log.Fatal(err)
	}
	ln, err := proxyproto.NewListener(inner, &proxyproto.Config{
		Policy: policy,
		OnDrop: logDrops(slog.Default()),
	})
	if err != nil {
		log.Fatal(err)
	}
	expvar.Publish("proxyproto", counts(ln))
	go func() { log.Fatal(http.ListenAndServe("127.0.0.1:8081", expvar.Handler())) }()
	log.Fatal(http.Serve(ln, http.HandlerFunc(hello)))
}

func hello(w http.ResponseWriter, r *http.Request) { fmt.Fprintf(w, "hello %s\n", r.RemoteAddr) }

// logDrops returns a Config.OnDrop that logs a peer's first drop in each minute, and never more
// than 256 records a minute. OnDrop isn't told of probes, and all are counted in Stats.
func logDrops(logger *slog.Logger) func(peer netip.AddrPort, err error) {
	var logged [256]atomic.Int64 // the minute when a peer of this hash was logged
	seed, start := maphash.MakeSeed(), time.Now()
	return func(peer netip.AddrPort, err error) {
		minute := int64(time.Since(start)/time.Minute) + 1
		if logged[maphash.Comparable(seed, peer.Addr())%256].Swap(minute) != minute {
			logger.Warn("connection dropped", "peer", peer.Addr(), "err", err)
		}
	}
}

// counts returns the Stats of a Listener or PacketConn as a variable for /debug/vars.
func counts(of interface{ Stats() proxyproto.Stats }) expvar.Func {
	return func() any {
		stats := of.Stats()
		dropped := map[string]uint64{}
		for reason, n := range stats.Drops() {
			dropped[reason.String()] = n
		}
		return struct {
			proxyproto.Stats
			Dropped map[string]uint64
		}{stats, dropped}
	}
}
