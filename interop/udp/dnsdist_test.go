package udp

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/stretchr/testify/assert"

	"github.com/seed2e8fe8ee/proxyproto"
	"github.com/seed2e8fe8ee/proxyproto/interop/internal/proxies"
)

// startDnsdist starts a dnsdist with the given configuration; it is ready when it answers at
// addr over UDP.
func startDnsdist(t *testing.T, addr, config string, ready func() error) {
	t.Helper()
	dir := proxies.Dir(t, map[string]string{"dnsdist.conf": fmt.Sprintf(`
setLocal('%s')
setSecurityPollSuffix('') -- no look-ups on the net
setACL({'127.0.0.0/8'})
%s
`, addr, config)})
	proxies.Start(t, proxies.Spec{
		Program: "dnsdist",
		Args:    []string{"--supervised", "--disable-syslog", "-C", dir + "/dnsdist.conf"},
		Dir:     dir,
		Ready:   ready,
	})
}

// dnsdist before a DNS server, on a socket that is bound to one address and on those of all
// addresses in each family: every client's address and port are right, over both networks, and
// the server takes part in the health checks, without which dnsdist asks it nothing. The
// server is asked by an address that the kernel wouldn't choose for a reply.
func TestDnsdistInFront(t *testing.T) {
	for _, c := range []struct {
		host, ask string
		quic      bool
		n         int // clients
	}{
		{"127.0.0.1", "127.0.0.1", false, 2000},
		{"0.0.0.0", "127.0.0.3", false, 500},
		{"0.0.0.0", "127.0.0.3", true, 100},
		{"::1", "::1", false, 100},
		{"::", "::1", false, 100},
		{"", "127.0.0.3", false, 500},
		{"", "::1", false, 100},
		{"", "127.0.0.3", true, 100},
	} {
		t.Run(fmt.Sprintf("bound to %q, asked by %s, QUICConn %v", c.host, c.ask, c.quic),
			func(t *testing.T) { testDnsdist(t, serveDNS(t, c.host, c.ask, c.quic), c.n) })
	}
}

func testDnsdist(t *testing.T, b *dnsBackend, clients int) {
	addr := proxies.FreeAddr(t)
	server := fmt.Sprintf(`newServer({address='%s', useProxyProtocol=true, checkInterval=1})`, b.addr)
	startDnsdist(t, addr, server, answersUDP(addr))
	b.awaitCheck(t, "udp")

	for network, n := range map[string]int{"udp": clients, "tcp": clients / 4} {
		each(t, "dnsdist over "+network, n, func(i int) (is, seen string, err error) {
			return ask(network, proxies.ClientAddr(i), addr, fmt.Sprintf("q%d.%s.test.", i, network))
		})
	}
	packets, conns := b.packets.Stats(), b.conns.Stats()
	t.Logf("datagrams: %d with a client's header, %d LOCAL; connections: %d",
		packets.V2, packets.Local, conns.V2)
	assert.GreaterOrEqual(t, packets.V2, uint64(clients))
	assert.NotZero(t, packets.Local, "health checks")
	assert.Equal(t, packets.Accepted, packets.V2+packets.Local)
	assert.GreaterOrEqual(t, conns.V2, uint64(clients/4))
	assert.Zero(t, dropped(packets)+dropped(conns))
}

// dnsdist that turns UDP into TCP: the header says UDP, on a connection.
func TestDnsdistForwardsUDPOverTCP(t *testing.T) {
	b := serveDNS(t, "127.0.0.1", "127.0.0.1", false)
	addr := proxies.FreeAddr(t)
	server := fmt.Sprintf(`newServer({address='%s', useProxyProtocol=true, tcpOnly=true})`, b.addr)
	startDnsdist(t, addr, server, answersUDP(addr))
	b.awaitCheck(t, "tcp")
	each(t, "dnsdist from udp to tcp", 300, func(i int) (is, seen string, err error) {
		return ask("udp", proxies.ClientAddr(i), addr, fmt.Sprintf("q%d.test.", i))
	})
	assert.NotZero(t, b.conns.Stats().Local, "health checks")
	assert.Zero(t, b.packets.Stats().Accepted)
}

// answersUDP succeeds when a name server answers at addr.
func answersUDP(addr string) func() error {
	return func() error {
		client := dns.Client{Timeout: 200 * time.Millisecond}
		reply, _, err := client.Exchange(new(dns.Msg).SetQuestion("ready.test.", dns.TypeTXT), addr)
		if err == nil && reply.Rcode != dns.RcodeSuccess {
			err = fmt.Errorf("answered %s", dns.RcodeToString[reply.Rcode])
		}
		return err
	}
}

// dnsdist behind our sender answers with the client's address that it read in our header.
func TestDnsdistBehindOurSender(t *testing.T) {
	addr := proxies.FreeAddr(t)
	send := func(i int) (is, seen string, err error) {
		h := testHeader(i)
		reply, err := exchangeWithHeader(&h, addr, new(dns.Msg).SetQuestion("a.test.", addressType(h.Source.Addr())))
		if err != nil {
			return h.Source.String(), "", err
		}
		if len(reply.Answer) != 1 {
			return h.Source.String(), "", fmt.Errorf("no address in the answer: %v", reply)
		}
		switch a := reply.Answer[0].(type) {
		case *dns.A:
			seen = a.A.String()
		case *dns.AAAA:
			seen = a.AAAA.String()
		}
		return h.Source.Addr().String(), seen, nil
	}
	startDnsdist(t, addr, `
setProxyProtocolACL({'127.0.0.0/8'})
addAction(AllRule(), LuaAction(function(dq) return DNSAction.Spoof, dq.remoteaddr:toString() end))
`, func() error { _, _, err := send(0); return err })
	each(t, "our sender to dnsdist", 500, send)
}

// testHeader is what a proxy says of the client with index i, in all that a sender can choose.
func testHeader(i int) proxyproto.Header {
	h := proxyproto.Header{
		Version:     proxyproto.V2,
		Command:     proxyproto.Proxy,
		Protocol:    proxyproto.UDP4,
		Source:      netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i)}), uint16(1024+i)),
		Destination: netip.MustParseAddrPort("192.0.2.1:53"),
	}
	if i%3 == 1 {
		ip := netip.MustParseAddr("2001:db8::").As16()
		ip[14], ip[15] = byte(i>>8), byte(i)
		h.Protocol = proxyproto.UDP6
		h.Source = netip.AddrPortFrom(netip.AddrFrom16(ip), uint16(1024+i))
		h.Destination = netip.MustParseAddrPort("[2001:db8::53]:53")
	}
	if i%2 == 1 {
		h.TLVs, _ = h.TLVs.Append(proxyproto.TypeCRC32C, make([]byte, 4))
		h.TLVs, _ = h.TLVs.Append(proxyproto.TypeUniqueID, fmt.Appendf(nil, "client-%d", i))
	}
	return h
}

func addressType(ip netip.Addr) uint16 {
	if ip.Is4() {
		return dns.TypeA
	}
	return dns.TypeAAAA
}
