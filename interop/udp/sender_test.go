package udp

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	coredns "github.com/coredns/coredns/plugin/pkg/proxyproto"
	"github.com/coredns/coredns/request"
	"github.com/miekg/dns"
	pires "github.com/pires/go-proxyproto"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed2e8fe8ee/proxyproto"
	"github.com/seed2e8fe8ee/proxyproto/interop/internal/proxies"
	"github.com/seed2e8fe8ee/proxyproto/proxyudp"
)

// exchangeWithHeader asks addr over UDP with a header in front of the query. A lost datagram is
// sent again.
func exchangeWithHeader(h *proxyproto.Header, addr string, query *dns.Msg) (*dns.Msg, error) {
	c, err := net.Dial("udp", addr)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	payload, err := query.Pack()
	if err != nil {
		return nil, err
	}
	datagram, err := proxyudp.AppendPacket(nil, h, payload, 1232)
	if err != nil {
		return nil, err
	}
	b := make([]byte, 2048)
	for range 20 {
		c.SetDeadline(time.Now().Add(500 * time.Millisecond))
		if _, err = c.Write(datagram); err != nil {
			continue
		}
		var n int
		if n, err = c.Read(b); err == nil {
			reply := new(dns.Msg)
			return reply, reply.Unpack(b[:n])
		}
	}
	return nil, err
}

// CoreDNS's receiver, with the library that it uses, behind our sender.
func TestCoreDNSBehindOurSender(t *testing.T) {
	inner, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	receiver := &coredns.PacketConn{
		PacketConn:  inner,
		CaptureTLVs: true,
		ConnPolicy:  func(pires.ConnPolicyOptions) (pires.Policy, error) { return pires.REQUIRE, nil },
	}
	defer receiver.Close()
	go func() { // it answers with whom it takes the sender for, and the length of the TLVs
		b := make([]byte, 2048)
		for {
			_, addr, err := receiver.ReadFrom(b)
			if err != nil {
				return
			}
			answer := addr.String()
			if a, ok := addr.(*coredns.Addr); ok {
				answer += fmt.Sprintf(" and %d", len(a.RawTLVs()))
			}
			receiver.WriteTo([]byte(answer), addr)
		}
	}()
	each(t, "our sender to CoreDNS", 2000, func(i int) (is, seen string, err error) {
		h := testHeader(i)
		is = fmt.Sprintf("%v and %d", h.Source, len(h.TLVs))
		c, err := net.Dial("udp", inner.LocalAddr().String())
		if err != nil {
			return is, "", err
		}
		defer c.Close()
		datagram, err := proxyudp.AppendPacket(nil, &h, []byte("hello"), 200)
		if err != nil {
			return is, "", err
		}
		c.SetDeadline(time.Now().Add(proxies.Timeout))
		if _, err := c.Write(datagram); err != nil {
			return is, "", err
		}
		b := make([]byte, 200)
		n, err := c.Read(b)
		return is, string(b[:n]), err
	})
}

// CoreDNS's request finds address, family and transport of a client in the address that ReadFrom
// returns, which is the type that its plugins look for, whether the client came by a proxy or not.
func TestCoreDNSKnowsOurAddress(t *testing.T) {
	inner, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	defer inner.Close()
	pc, err := proxyudp.NewPacketConn(inner, &proxyudp.Config{
		Policy: proxyproto.Always(proxyproto.Optional),
	})
	require.NoError(t, err)
	for i := range 4 {
		client, datagram := inner.LocalAddr().(*net.UDPAddr).AddrPort(), []byte("direct")
		if i < 3 {
			h := testHeader(i)
			client = h.Source
			datagram, err = proxyudp.AppendPacket(nil, &h, nil, 0)
			require.NoError(t, err)
		}
		_, err = inner.WriteTo(datagram, inner.LocalAddr())
		require.NoError(t, err)
		_, addr, err := pc.ReadFrom(make([]byte, 10))
		require.NoError(t, err)
		assert.IsType(t, (*net.UDPAddr)(nil), addr)
		r := request.Request{W: remote{addr: addr}}
		assert.Equal(t, client.Addr().String(), r.IP())
		assert.Equal(t, fmt.Sprint(client.Port()), r.Port())
		assert.Equal(t, "udp", r.Proto())
		assert.Equal(t, map[bool]int{true: 1, false: 2}[client.Addr().Is4()], r.Family())
	}
}

// remote is a ResponseWriter that knows nothing but whom it writes to.
type remote struct {
	dns.ResponseWriter
	addr net.Addr
}

func (r remote) RemoteAddr() net.Addr { return r.addr }

// kdig sends the header with its query, to each of four addresses of a server on all, and takes
// answers only from the one that it asked.
func TestKdig(t *testing.T) {
	kdig := proxies.Need(t, "kdig")
	hosts := []string{"127.0.0.1", "127.0.0.2", "127.0.0.3", "::1"}
	b := serveDNS(t, "", hosts[0], false)
	_, port, err := net.SplitHostPort(b.addr)
	require.NoError(t, err)
	const n = 60
	for network, flag := range map[string]string{"udp": "+notcp", "tcp": "+tcp"} {
		each(t, "kdig over "+network, n, func(i int) (is, seen string, err error) {
			h := testHeader(i)
			out, err := proxies.Run(kdig, "@"+hosts[i%len(hosts)], "-p", port, flag, "+short",
				"+time=10", "+retry=3", fmt.Sprintf("+proxy=%s-%s", knot(h.Source), knot(h.Destination)),
				"-b", map[bool]string{true: "127.0.0.1", false: "::1"}[i%len(hosts) < 3],
				fmt.Sprintf("q%d.test.", i), "TXT")
			return h.Source.String(), strings.Trim(strings.TrimSpace(out), `"`), err
		})
	}
	assert.GreaterOrEqual(t, b.packets.Stats().V2, uint64(n))
	assert.GreaterOrEqual(t, b.conns.Stats().V2, uint64(n))
	assert.Zero(t, dropped(b.packets.Stats())+dropped(b.conns.Stats()))
}

// knot is how kdig wants an address and port.
func knot(ap netip.AddrPort) string { return fmt.Sprintf("%v#%d", ap.Addr(), ap.Port()) }
