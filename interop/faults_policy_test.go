package interop

import (
	"io"
	"net"
	"net/netip"
	"runtime"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed2e8fe8ee/proxyproto"
	"github.com/seed2e8fe8ee/proxyproto/interop/internal/proxies"
)

// The Policy is replaced all the time while HAProxy sends clients. Each of these is served under its
// own address or not at all: no moment of any replacement serves one under the proxy's, or believes
// nobody for good.
func TestPolicyReplacedUnderLoad(t *testing.T) {
	trust := proxyproto.Trust(netip.MustParsePrefix(proxies.Proxy + "/32"))
	var rejected atomic.Uint64
	ln, err := proxyproto.Listen("tcp", "127.0.0.1:0", &proxyproto.Config{
		Policy:        trust,
		HeaderTimeout: proxies.Timeout,
		OnDrop: func(_ proxyproto.Peer, drop *proxyproto.DropError) {
			if assert.Equal(t, proxyproto.ReasonRejected, drop.Reason, "%v", drop) {
				rejected.Add(1)
			}
		},
	})
	require.NoError(t, err)
	b := &backend{Listener: ln, addr: ln.Addr().String()}
	b.serveConns(t, ln, whoamiConn)
	addr := proxies.FreeAddr(t)
	proxies.StartHAProxy(t, haproxyListen("policy", addr, b.addr, "send-proxy-v2"), nil)

	stop, stopped := make(chan bool), make(chan uint64)
	go func() {
		var n uint64
		for {
			select {
			case <-stop:
				stopped <- n
				return
			default:
			}
			ln.SetPolicy([]proxyproto.Policy{
				proxyproto.Trust(), trust, nil, proxyproto.Always(proxyproto.Require),
			}[n%4])
			n++
			runtime.Gosched()
		}
	}()
	var served, refused atomic.Uint64
	each(t, "with policies that change", connections, concurrency, func(i int) (netip.Addr, error) {
		from := proxies.ClientAddr(i)
		c, err := proxies.DialFrom(from, addr)
		if err != nil {
			return from, err
		}
		defer c.Close()
		answer, err := io.ReadAll(c)
		if err != nil || len(answer) == 0 { // HAProxy tries again, and gives up
			refused.Add(1)
			return from, nil
		}
		served.Add(1)
		return from, same(string(answer), pair(c.LocalAddr(), c.RemoteAddr()))
	})
	close(stop)
	t.Logf("%d policies, %d served, %d refused", <-stopped, served.Load(), refused.Load())
	assert.NotZero(t, served.Load())
	assert.NotZero(t, rejected.Load())

	ln.SetPolicy(trust)
	dialSome(t, "afterwards", 100, addr, func(c net.Conn, _ int, want string) error {
		return askConn(c, want)
	})
	s := ln.Stats()
	assert.Equal(t, rejected.Load(), s.Dropped[proxyproto.ReasonRejected])
	assert.Equal(t, s.Accepted, s.V2+s.Probes+s.Dropped[proxyproto.ReasonRejected])
}
