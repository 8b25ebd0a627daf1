package main

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed2e8fe8ee/proxyproto"
	"github.com/seed2e8fe8ee/proxyproto/internal/program"
	"github.com/seed2e8fe8ee/proxyproto/proxyudp"
)

func TestMain(m *testing.M) { program.Main(m) }

func TestServer(t *testing.T) {
	addr, _ := program.StartCommand(t, program.Command("-listen", ":0", "-trust", "127.0.0.0/8,::1"))
	_, port, err := net.SplitHostPort(addr)
	require.NoError(t, err)

	for _, host := range []string{"127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4", "::1"} {
		for _, network := range []string{"udp", "tcp"} {
			answer := ask(t, network, net.JoinHostPort(host, port))
			assert.Equal(t, []string{"you are 192.0.2.7:1234"}, answer, "%s %s", network, host)
		}
	}
}

// ask asks as a proxy does. Its socket takes answers only from the address that it asked.
func ask(t *testing.T, network, addr string) []string {
	conn, err := net.Dial(network, addr)
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.SetDeadline(time.Now().Add(30*time.Second)))
	h := proxyproto.Header{
		Version: proxyproto.V2, Command: proxyproto.Proxy, Protocol: proxyproto.TCP4,
		Source:      netip.MustParseAddrPort("192.0.2.7:1234"),
		Destination: netip.MustParseAddrPort("192.0.2.1:53"),
	}
	c := &dns.Conn{Conn: conn}
	if network == "udp" {
		sender, err := proxyudp.NewSender(conn.(*net.UDPConn), &h, 0)
		require.NoError(t, err)
		c.Conn = sender
	} else {
		_, err = h.WriteTo(conn)
		require.NoError(t, err)
	}
	require.NoError(t, c.WriteMsg(new(dns.Msg).SetQuestion("whoami.test.", dns.TypeTXT)))
	reply, err := c.ReadMsg()
	require.NoError(t, err)
	require.Len(t, reply.Answer, 1)
	return reply.Answer[0].(*dns.TXT).Txt
}

func TestTrustFlagIsNeeded(t *testing.T) {
	out, err := program.Run()
	assert.Error(t, err)
	assert.Contains(t, out, "-trust: proxyproto: ")
}
