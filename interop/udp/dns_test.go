package udp

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed2e8fe8ee/proxyproto"
	"github.com/seed2e8fe8ee/proxyproto/interop/internal/proxies"
	"github.com/seed2e8fe8ee/proxyproto/proxyudp"
)

const concurrency = 16

// dnsBackend is a DNS server that answers TXT queries with the address that it takes the client
// for, over UDP and TCP at one port, for proxies that must send headers.
type dnsBackend struct {
	addr    string // with the first of the addresses that it is asked by
	packets *proxyudp.PacketConn
	conns   *proxyproto.Listener

	mu    sync.Mutex
	noted []string
	// checked is closed when a query came from the proxy itself, by network.
	checked map[string]chan struct{}
}

// serveDNS starts a server on a socket that is bound to host; ask is the address that it is asked
// by. quic says that its datagrams come by a QUICConn.
func serveDNS(t *testing.T, host, ask string, quic bool) *dnsBackend {
	t.Helper()
	b := &dnsBackend{checked: map[string]chan struct{}{
		"udp": make(chan struct{}), "tcp": make(chan struct{}),
	}}
	policy, err := proxyproto.ParseTrust(proxies.Proxy, "::1")
	require.NoError(t, err)
	onDrop := func(p proxyproto.Peer, drop *proxyproto.DropError) {
		b.note("dropped %v: %v", p, drop)
	}
	stream, datagram := listenBoth(t, host)
	_, port, err := net.SplitHostPort(stream.Addr().String())
	require.NoError(t, err)
	b.addr = net.JoinHostPort(ask, port)
	cfg := &proxyudp.Config{Policy: policy, OnDrop: onDrop}
	served := net.PacketConn(nil)
	if quic {
		c, err := proxyudp.NewQUICConn(datagram, cfg)
		require.NoError(t, err)
		b.packets, served = c.PacketConn, c
	} else {
		b.packets, err = proxyudp.NewPacketConn(datagram, cfg)
		require.NoError(t, err)
		served = b.packets
	}
	b.conns, err = proxyproto.NewListener(stream, &proxyproto.Config{
		Policy:        policy,
		HeaderTimeout: proxies.Timeout, // a busy machine isn't what is tested here
		OnDrop:        onDrop,
	})
	require.NoError(t, err)

	for _, srv := range []*dns.Server{{PacketConn: served}, {Listener: b.conns}} {
		srv.Handler = dns.HandlerFunc(b.answer)
		srv.MsgInvalidFunc = func(m []byte, err error) { b.note("invalid query %q: %v", m, err) }
		started := make(chan struct{})
		srv.NotifyStartedFunc = func() { close(started) }
		served := make(chan error, 1)
		go func() { served <- srv.ActivateAndServe() }()
		<-started
		t.Cleanup(func() {
			assert.NoError(t, srv.Shutdown())
			assert.NoError(t, <-served)
		})
	}
	t.Cleanup(func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		assert.Empty(t, b.noted, "what went wrong at the server")
	})
	return b
}

// listenBoth listens at one port of both networks.
func listenBoth(t *testing.T, host string) (net.Listener, *net.UDPConn) {
	t.Helper()
	family := "" // ":0" is every address of both, "0.0.0.0:0" of IPv4 alone
	if ip, err := netip.ParseAddr(host); err == nil {
		family = map[bool]string{true: "4", false: "6"}[ip.Is4()]
	}
	for {
		ln, err := net.Listen("tcp"+family, net.JoinHostPort(host, "0"))
		if err != nil && family == "6" {
			t.Skipf("no IPv6 here: %v", err)
		}
		require.NoError(t, err)
		_, port, err := net.SplitHostPort(ln.Addr().String())
		require.NoError(t, err)
		pc, err := net.ListenPacket("udp"+family, net.JoinHostPort(host, port))
		if err != nil { // taken by another
			ln.Close()
			continue
		}
		t.Cleanup(func() { ln.Close(); pc.Close() })
		udp := pc.(*net.UDPConn)
		udp.SetReadBuffer(1 << 20) // for bursts, as any DNS server does
		return ln, udp
	}
}

func (b *dnsBackend) note(format string, args ...any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.noted = append(b.noted, fmt.Sprintf(format, args...))
}

func (b *dnsBackend) answer(w dns.ResponseWriter, query *dns.Msg) {
	client := w.RemoteAddr()
	reply := new(dns.Msg).SetReply(query)
	switch q := query.Question[0]; {
	case fromProxy(client):
		b.mu.Lock()
		if c := b.checked[client.Network()]; c != nil {
			close(c)
			b.checked[client.Network()] = nil
		}
		b.mu.Unlock()
	case q.Qtype == dns.TypeTXT:
		reply.Answer = []dns.RR{&dns.TXT{
			Hdr: dns.RR_Header{Name: q.Name, Rrtype: dns.TypeTXT, Class: dns.ClassINET},
			Txt: []string{client.String()},
		}}
	}
	if err := w.WriteMsg(reply); err != nil {
		b.note("%v: %v", client, err)
	}
}

// fromProxy reports whether it is the proxy's own query, which has a LOCAL header.
func fromProxy(client net.Addr) bool {
	switch a := client.(type) {
	case *net.UDPAddr:
		r, ok := proxyudp.RouteOf(a)
		return ok && !r.Destination.IsValid()
	case *net.TCPAddr:
		return a.IP.String() == proxies.Proxy || a.IP.String() == "::1"
	}
	return false
}

// dropped is how many were dropped for any Reason.
func dropped(s proxyproto.Stats) (n uint64) {
	for _, of := range s.Dropped {
		n += of
	}
	return n
}

// awaitCheck waits until the proxy has asked for itself over the network.
func (b *dnsBackend) awaitCheck(t *testing.T, network string) {
	t.Helper()
	b.mu.Lock()
	c := b.checked[network]
	b.mu.Unlock()
	if c == nil {
		return
	}
	select {
	case <-c:
	case <-time.After(proxies.Timeout):
		require.FailNow(t, "no health check came", "over %s", network)
	}
}

// ask asks addr from a client's address and returns what the client is, and what the server
// took it for. A lost datagram is sent again.
func ask(network string, from netip.Addr, addr, name string) (is, seen string, err error) {
	local := net.Addr(net.UDPAddrFromAddrPort(netip.AddrPortFrom(from, 0)))
	if network == "tcp" {
		local = net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0))
	}
	client := dns.Client{Net: network, Dialer: &net.Dialer{LocalAddr: local}, Timeout: 5 * time.Second}
	conn, err := client.Dial(addr)
	if err != nil {
		return "", "", err
	}
	defer conn.Close()
	query := new(dns.Msg).SetQuestion(name, dns.TypeTXT)
	for range 5 {
		var reply *dns.Msg
		if reply, _, err = client.ExchangeWithConn(query, conn); err == nil {
			seen, err = txt(reply)
			return conn.LocalAddr().String(), seen, err
		}
	}
	return conn.LocalAddr().String(), "", err
}

func txt(reply *dns.Msg) (string, error) {
	if reply.Rcode == dns.RcodeSuccess && len(reply.Answer) == 1 {
		if answer, ok := reply.Answer[0].(*dns.TXT); ok {
			return strings.Join(answer.Txt, ""), nil
		}
	}
	return "", errors.New("no TXT in the answer: " + reply.String())
}

// each calls do for n clients, some at a time; it returns what the client is and what the
// server took it for.
func each(t *testing.T, what string, n int, do func(i int) (is, seen string, err error)) {
	t.Helper()
	var (
		mu      sync.Mutex
		next    int
		wrong   []string
		clients = map[string]bool{}
		wg      sync.WaitGroup
	)
	take := func() (int, bool) {
		mu.Lock()
		defer mu.Unlock()
		next++
		return next - 1, next <= n
	}
	for range concurrency {
		wg.Go(func() {
			for i, ok := take(); ok; i, ok = take() {
				is, seen, err := do(i)
				mu.Lock()
				if err == nil && is != seen {
					err = fmt.Errorf("the server saw %q", seen)
				}
				if err != nil {
					wrong = append(wrong, fmt.Sprintf("client %d, %s: %v", i, is, err))
				}
				clients[is] = true
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	t.Logf("%s: %d, %d attributed, %d client addresses and ports", what, n, n-len(wrong), len(clients))
	if len(wrong) > 0 {
		t.Errorf("the first of %d that went wrong:\n%s", len(wrong), strings.Join(wrong[:min(5, len(wrong))], "\n"))
	}
}
