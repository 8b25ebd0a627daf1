package interop

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed2e8fe8ee/proxyproto"
	"github.com/seed2e8fe8ee/proxyproto/interop/internal/proxies"
)

// checks is how many health checks of each kind have to be seen.
const checks = 100

// clientsOfEach is how many clients each kind's listener has.
const clientsOfEach = connections / 5

var checkKinds = []struct {
	name    string
	section string                        // of the listen section
	server  string                        // of the server line; %s is the backend's port
	status  string                        // of the last check, as HAProxy reports it
	seen    func(proxyproto.Stats) uint64 // checks, when all clients have been served
}{
	{
		// A header with the check's own addresses, then a reset.
		name:   "v1",
		server: "send-proxy check check-send-proxy",
		status: "L4OK",
		seen:   func(s proxyproto.Stats) uint64 { return s.V1 - uint64(clientsOfEach) },
	},
	{
		// LOCAL, then a reset: a probe.
		name:   "v2",
		server: "send-proxy-v2 check check-send-proxy",
		status: "L4OK",
		seen:   func(s proxyproto.Stats) uint64 { return s.Probes },
	},
	{
		// LOCAL and a request, which is answered.
		name:    "v2-http",
		section: "option httpchk GET /check",
		server:  "send-proxy-v2 check",
		status:  "L7OK",
		seen:    func(s proxyproto.Stats) uint64 { return s.Local },
	},
	{
		// Connect and close.
		name:    "tcp",
		section: "option tcp-check\n\ttcp-check connect linger",
		server:  "send-proxy-v2 check port %s",
		status:  "L4OK",
		seen:    func(s proxyproto.Stats) uint64 { return s.Probes },
	},
	{
		// Connect and reset: HAProxy is so quick that the handshake is never completed, and no
		// server gets to see these.
		name:   "tcp-reset",
		server: "send-proxy-v2 check port %s",
		status: "L4OK",
	},
}

// Health checks leave no error behind while clients are served, and find the server up.
func TestHAProxyHealthChecks(t *testing.T) {
	backends := make([]*backend, len(checkKinds))
	addrs := make([]string, len(checkKinds))
	require.Equal(t, connections, clientsOfEach*len(checkKinds))
	var sections strings.Builder
	for i, kind := range checkKinds {
		b := listen(t)
		b.serveHTTP(t, b, &http.Server{Handler: http.HandlerFunc(whoami)})
		backends[i], addrs[i] = b, proxies.FreeAddr(t)
		server := kind.server
		if strings.Contains(server, "%s") {
			_, port, err := net.SplitHostPort(b.addr)
			require.NoError(t, err)
			server = fmt.Sprintf(server, port)
		}
		// The interval is the check's time limit for connecting too: fall is for a machine so busy
		// that HAProxy misses it.
		options := server + " inter 20ms fall 20"
		sections.WriteString(haproxyListen(kind.name, addrs[i], b.addr, options) + "\t" + kind.section + "\n")
	}
	haproxy := proxies.StartHAProxy(t, sections.String(), nil)

	each(t, "haproxy with health checks", connections, concurrency, func(i int) (netip.Addr, error) {
		from := proxies.ClientAddr(i)
		c, err := proxies.DialFrom(from, addrs[i%len(addrs)])
		if err != nil {
			return from, err
		}
		defer c.Close()
		return from, askHTTP(c, pair(c.LocalAddr(), c.RemoteAddr()))
	})

	for i, kind := range checkKinds {
		if kind.seen == nil {
			continue
		}
		require.Eventually(t, func() bool { return kind.seen(backends[i].Stats()) >= checks },
			proxies.Timeout, time.Millisecond, "%s: %+v", kind.name, backends[i].Stats())
	}
	servers := haproxy.Servers(t)
	for i, kind := range checkKinds {
		s := backends[i].Stats()
		row := servers[kind.name+"/backend"]
		t.Logf("%s checks: v1 %d, LOCAL %d, probes %d, dropped %d; haproxy says %s, %s, down %s times",
			kind.name, s.V1, s.Local, s.Probes, s.TotalDropped(), row["status"], row["check_status"], row["chkdown"])
		assert.Equal(t, "UP", row["status"], kind.name)
		assert.Equal(t, kind.status, strings.TrimPrefix(row["check_status"], "* "), kind.name)
		assert.Equal(t, "0", row["chkdown"], kind.name)
		assert.Zero(t, s.TotalDropped(), kind.name)
	}
}

// quietChecks is how many checks a server gets without having a word of them in its log.
const quietChecks = 500

// Checks that send LOCAL and reset reach neither a TLS server nor one that speaks first: no
// connection comes out of Accept, no line stands in a log, and the servers are UP. A check that
// waits for the greeting gets it.
func TestHAProxyHealthChecksAreQuiet(t *testing.T) {
	web, mail, greeted := listen(t), listen(t), listen(t)
	ca := proxies.NewCA(t, proxies.P256)
	web.serveHTTP(t, tls.NewListener(web, &tls.Config{
		Certificates: []tls.Certificate{ca.Server(t, "localhost")},
	}), &http.Server{Handler: http.HandlerFunc(whoami)})
	go mail.eachConn(func(c net.Conn) { mail.note("a connection from %v", c.RemoteAddr()) })
	go greeted.eachConn(speakSMTP)
	const local = "send-proxy-v2 check check-send-proxy inter 20ms fall 20"
	haproxy := proxies.StartHAProxy(t, haproxyListen("web", proxies.FreeAddr(t), web.addr, local)+
		haproxyListen("mail", proxies.FreeAddr(t), mail.addr, local)+
		haproxyListen("greeted", proxies.FreeAddr(t), greeted.addr, local)+
		"\toption smtpchk HELO localhost\n", nil)
	for _, b := range []*backend{web, mail} {
		require.Eventually(t, func() bool { return b.Stats().Probes >= quietChecks },
			proxies.Timeout, time.Millisecond, "%+v", b.Stats())
		s := b.Stats()
		assert.Zero(t, s.Local+s.V1+s.V2+s.TotalDropped(), "%+v", s)
	}
	require.Eventually(t, func() bool { return greeted.Stats().Local >= checks },
		proxies.Timeout, time.Millisecond, "%+v", greeted.Stats())
	for name, row := range haproxy.Servers(t) {
		t.Logf("%s: %s %s, down %s times", name, row["status"], row["check_status"], row["chkdown"])
		assert.Equal(t, "UP", row["status"], name)
		assert.Equal(t, "0", row["chkdown"], name)
	}
}

// eachConn calls handle for each connection of b until the test ends.
func (b *backend) eachConn(handle func(c net.Conn)) {
	for {
		c, err := b.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			handle(c)
		}()
	}
}

// speakSMTP greets and answers, as far as a health check goes. The client may go at any time.
func speakSMTP(c net.Conn) {
	io.WriteString(c, "220 localhost\r\n")
	for lines := bufio.NewScanner(c); lines.Scan(); {
		io.WriteString(c, "250 localhost\r\n")
	}
}
