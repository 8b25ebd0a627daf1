package main

import (
	"bufio"
	"net"
	"net/netip"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed2e8fe8ee/proxyproto"
)

func TestServer(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "dns")
	out, err := exec.Command("go", "build", "-o", binary, ".").CombinedOutput()
	require.NoError(t, err, "%s", out)
	server := exec.Command(binary, "-listen", "127.0.77.1:0", "-trust", "127.0.0.0/8") // whose ports of both networks are free
	log, err := server.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, server.Start())
	defer server.Wait()
	defer server.Process.Kill()
	line, err := bufio.NewReader(log).ReadString('\n')
	require.NoError(t, err)
	_, addr, found := strings.Cut(strings.TrimSpace(line), "listening on ")
	require.True(t, found, line)

	for _, network := range []string{"udp", "tcp"} {
		conn, err := net.Dial(network, addr)
		require.NoError(t, err)
		defer conn.Close()
		require.NoError(t, conn.SetDeadline(time.Now().Add(30*time.Second)))
		h := proxyproto.Header{
			Version: proxyproto.V2, Command: proxyproto.Proxy, Protocol: proxyproto.UDP4,
			Source: netip.MustParseAddrPort("192.0.2.7:1234"), Destination: netip.MustParseAddrPort("192.0.2.1:53"),
		}
		query, err := new(dns.Msg).SetQuestion("whoami.test.", dns.TypeTXT).Pack()
		require.NoError(t, err)
		var reply *dns.Msg
		if network == "udp" {
			datagram, err := h.AppendPacket(nil, query, 0)
			require.NoError(t, err)
			_, err = conn.Write(datagram)
			require.NoError(t, err)
			reply, err = (&dns.Conn{Conn: conn}).ReadMsg()
			require.NoError(t, err)
		} else {
			h.Protocol = proxyproto.TCP4
			_, err = h.WriteTo(conn)
			require.NoError(t, err)
			c := &dns.Conn{Conn: conn}
			_, err = c.Write(query)
			require.NoError(t, err)
			reply, err = c.ReadMsg()
			require.NoError(t, err)
		}
		require.Len(t, reply.Answer, 1)
		assert.Equal(t, []string{"you are 192.0.2.7:1234"}, reply.Answer[0].(*dns.TXT).Txt, network)
	}
}

func TestTrustFlagIsNeeded(t *testing.T) {
	out, err := exec.Command("go", "run", ".", "-listen", "127.0.0.1:0").CombinedOutput()
	assert.Error(t, err)
	assert.Contains(t, string(out), "-trust: proxyproto: trusted address")
}
