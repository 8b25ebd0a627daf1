package interop

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed2e8fe8ee/proxyproto"
	"github.com/seed2e8fe8ee/proxyproto/clientip"
	"github.com/seed2e8fe8ee/proxyproto/interop/internal/proxies"
)

// The combinations of docs/deploy.md, with the nginx configuration that stands there. The
// addresses here are for
const (
	l4      = "127.0.0.10"   // 10.0.0.10, nginx's stream module, whose header is believed
	l7      = "127.0.0.11"   // 10.0.0.11, nginx's http module, whose X-Forwarded-For is believed
	kubelet = "127.8.0.1"    // a node that probes its pods
	pods    = "127.9.0.0/16" // 10.244.0.0/16
	ingress = "127.9.7.0/24" // 10.244.7.0/24, pods that send a header
	other   = "127.10.0.1"   // nobody that the server knows
)

const askedByDeploy = connections / 4 // by pods and checks, of each kind

func deployPolicy() proxyproto.Policy {
	rule := func(prefix string, action proxyproto.Action) proxyproto.Rule {
		return proxyproto.Rule{Prefix: netip.MustParsePrefix(prefix), Action: action}
	}
	return proxyproto.Rules(proxyproto.Reject,
		rule(l4+"/32", proxyproto.Require),
		rule(l7+"/32", proxyproto.Skip),
		rule(kubelet+"/32", proxyproto.Skip),
		rule(pods, proxyproto.Skip),
		rule(ingress, proxyproto.Require),
	)
}

// whoamiEitherWay answers each client by its own address, and by how it is known: package clientip
// believes X-Forwarded-For as docs/deploy.md says.
func whoamiEitherWay(t *testing.T) http.Handler {
	t.Helper()
	trust, err := proxyproto.ParsePrefixes(l7)
	require.NoError(t, err)
	h, err := clientip.NewHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		client, _ := clientip.ClientFromContext(r.Context())
		how := map[clientip.Found]string{
			clientip.FoundHeader: "by PROXY", clientip.FoundField: "by X-Forwarded-For",
			clientip.FoundConnection: "itself",
		}
		fmt.Fprintf(w, "%v %s", client.Addr, how[client.Found])
	}), &clientip.Config{Trust: trust, Field: "X-Forwarded-For"})
	require.NoError(t, err)
	return h
}

// askWho sends a request that claims to be forwarded for somebody else, and compares the answer.
func askWho(c net.Conn, before, want string) error {
	_, err := io.WriteString(c, before+"GET / HTTP/1.1\r\nHost: interop.test\r\nConnection: close\r\n"+
		"X-Forwarded-For: 203.0.113.66\r\nX-Real-IP: 203.0.113.66\r\n\r\n")
	if err != nil {
		return err
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return err
	}
	return checkResponse(resp, want)
}

// clientLine is the header of a proxy that speaks for the client with index i.
func clientLine(i int) string {
	return fmt.Sprintf("PROXY TCP4 %s 198.51.100.1 56324 443\r\n", proxies.ClientAddr(i))
}

// startL4 starts the L4 of docs/deploy.md, with a server for each of the destinations. It returns
// where they listen.
func startL4(t *testing.T, to ...string) (addrs []string) {
	t.Helper()
	blocks := docsBlocks(t, "## HTTP headers instead", "nginx")
	require.NotEmpty(t, blocks)
	block := strings.TrimPrefix(blocks[0], "# L4\nstream {\n") // the harness has its own
	block = strings.TrimSuffix(block, "}\n")
	var servers strings.Builder
	for _, to := range to {
		addr := proxies.FreeAddr(t)
		addrs = append(addrs, addr)
		servers.WriteString(replace(t, block, map[string]string{
			"listen 443;":                "listen " + addr + ";",
			"proxy_pass 10.0.0.11:8443;": "proxy_pass " + to + "; proxy_bind " + l4 + ";",
		}))
	}
	proxies.StartNginx(t, servers.String(), nil)
	return addrs
}

// startL7 starts the L7 of docs/deploy.md, without TLS. It returns where it listens.
func startL7(t *testing.T, backend string) string {
	t.Helper()
	blocks := docsBlocks(t, "## HTTP headers instead", "nginx")
	require.Len(t, blocks, 2)
	addr := proxies.FreeAddr(t)
	proxies.StartNginxHTTP(t, replace(t, blocks[1], map[string]string{
		"listen 8443 ssl proxy_protocol;":   "listen " + addr + " proxy_protocol;",
		"set_real_ip_from 10.0.0.10;":       "set_real_ip_from " + l4 + ";",
		"proxy_pass http://10.0.0.20:8080;": "proxy_pass http://" + backend + "; proxy_bind " + l7 + ";",
	}))
	return addr
}

// docsBlocks returns the code blocks in one language of a section of docs/deploy.md.
func docsBlocks(t *testing.T, heading, language string) (blocks []string) {
	t.Helper()
	page, err := os.ReadFile("../docs/deploy.md")
	require.NoError(t, err)
	_, section, ok := strings.Cut(string(page), "\n"+heading+"\n")
	require.True(t, ok, "docs/deploy.md has no section %q", heading)
	section, _, _ = strings.Cut(section, "\n## ")
	for {
		_, rest, ok := strings.Cut(section, "```"+language+"\n")
		if !ok {
			return blocks
		}
		var block string
		block, section, ok = strings.Cut(rest, "```\n")
		require.True(t, ok, "a block of %q has no end", heading)
		blocks = append(blocks, block)
	}
}

// replace replaces each key once.
func replace(t *testing.T, s string, pairs map[string]string) string {
	t.Helper()
	for from, to := range pairs {
		require.Equal(t, 1, strings.Count(s, from), "%q in docs/deploy.md:\n%s", from, s)
		s = strings.Replace(s, from, to, 1)
	}
	return s
}

// nginx L4 -> nginx L7 -> Go, which doesn't need this library.
func TestDeployNginxL4L7(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	srv := &http.Server{Handler: whoamiEitherWay(t)}
	go srv.Serve(ln)
	t.Cleanup(func() { srv.Close() })
	addr := startL4(t, startL7(t, ln.Addr().String()))[0]

	dialEach(t, "nginx L4, nginx L7", addr, func(c net.Conn, i int, _ string) error {
		return askWho(c, "", proxies.ClientAddr(i).String()+" by X-Forwarded-For")
	})
}

// Everything on one port at once: nginx L4 -> Go, nginx L4 -> nginx L7 -> Go, pods without a
// header, pods with one, and health checks.
func TestDeployOnePort(t *testing.T) {
	b := listenWith(t, proxyproto.Config{Policy: deployPolicy()})
	b.serveHTTP(t, b, &http.Server{
		Handler:     whoamiEitherWay(t),
		ConnContext: proxyproto.ConnContext,
	})
	addrs := startL4(t, b.addr, startL7(t, b.addr))

	var all sync.WaitGroup
	all.Go(func() {
		dialEach(t, "nginx L4", addrs[0], func(c net.Conn, i int, _ string) error {
			return askWho(c, "", proxies.ClientAddr(i).String()+" by PROXY")
		})
	})
	all.Go(func() {
		dialEach(t, "nginx L4, nginx L7", addrs[1], func(c net.Conn, i int, _ string) error {
			return askWho(c, "", proxies.ClientAddr(i).String()+" by X-Forwarded-For")
		})
	})
	ask := func(what string, from func(i int) netip.Addr, do func(c net.Conn, i int) error) {
		all.Go(func() {
			each(t, what, askedByDeploy, concurrency/4, func(i int) (netip.Addr, error) {
				c, err := proxies.DialFrom(from(i), b.addr)
				if err != nil {
					return from(i), err
				}
				defer c.Close()
				return from(i), do(c, i)
			})
		})
	}
	ask("pods", pod, func(c net.Conn, i int) error { return askWho(c, "", pod(i).String()+" itself") })
	ask("pods of the ingress controller", ingressPod, func(c net.Conn, i int) error {
		return askWho(c, clientLine(i), proxies.ClientAddr(i).String()+" by PROXY")
	})
	ask("checks: connect and close", always(l4), func(c net.Conn, _ int) error { return nil })
	ask("checks: UNKNOWN and a request", always(l4), func(c net.Conn, _ int) error {
		return askWho(c, "PROXY UNKNOWN\r\n", l4+" itself")
	})
	ask("checks: LOCAL and a request", always(l4), func(c net.Conn, _ int) error {
		return askWho(c, "\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00", l4+" itself")
	})
	ask("kubelet: connect and close", always(kubelet), func(c net.Conn, _ int) error { return nil })
	ask("kubelet: a request", always(kubelet), func(c net.Conn, _ int) error { return askWho(c, "", kubelet+" itself") })
	all.Wait()

	n := uint64(askedByDeploy)
	require.Eventually(t, func() bool { return b.Stats().Probes == n && b.Stats().Skipped == connections+3*n },
		proxies.Timeout, time.Millisecond, "%+v", b.Stats())
	s := b.Stats()
	assert.Equal(t, connections+2*n, s.V1, "clients by L4, those of the ingress controller, UNKNOWN checks")
	assert.Equal(t, n, s.Local, "LOCAL checks")
	assert.Equal(t, 2*connections+7*n, s.Accepted)
	assert.Zero(t, s.TotalDropped())
}

// Who lies, or forgets the header, is nobody else.
func TestDeployStrangers(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ln, err := proxyproto.NewListener(inner, &proxyproto.Config{Policy: deployPolicy(), HeaderTimeout: proxies.Timeout})
	require.NoError(t, err)
	srv := &http.Server{Handler: whoamiEitherWay(t), ConnContext: proxyproto.ConnContext}
	go srv.Serve(ln)
	t.Cleanup(func() { srv.Close() })

	for _, row := range []struct {
		what, from, header string
		answer             string
		reason             proxyproto.Reason
	}{
		{"a pod with a header: it is payload", "127.9.1.2", clientLine(0), "HTTP/1.1 400 Bad Request", 0},
		{"an ingress pod without a header", "127.9.7.2", "", "", proxyproto.ReasonNoHeader},
		{"a check without a header", l4, "", "", proxyproto.ReasonNoHeader},
		{"a stranger", other, "", "", proxyproto.ReasonRejected},
		{"a stranger with a header", other, clientLine(0), "", proxyproto.ReasonRejected},
	} {
		before := ln.Stats()
		c, err := proxies.DialFrom(netip.MustParseAddr(row.from), ln.Addr().String())
		require.NoError(t, err)
		io.WriteString(c, row.header+"GET / HTTP/1.0\r\n\r\n") // fails if the stranger is already rejected
		got, _ := io.ReadAll(c)                                // ends in a reset then
		c.Close()
		status, _, _ := strings.Cut(string(got), "\r\n")
		assert.Equal(t, row.answer, status, row.what)
		if row.reason != 0 {
			require.Eventually(t, func() bool { return ln.Stats().Dropped[row.reason] == before.Dropped[row.reason]+1 },
				proxies.Timeout, time.Millisecond, row.what)
		}
	}
}

// pod returns the address of a pod.
func pod(i int) netip.Addr {
	return netip.AddrFrom4([4]byte{127, 9, 100 + byte(i/250), byte(1 + i%250)})
}

// ingressPod returns the address of a pod of the ingress controller.
func ingressPod(i int) netip.Addr { return netip.AddrFrom4([4]byte{127, 9, 7, byte(1 + i%250)}) }

func always(addr string) func(int) netip.Addr {
	return func(int) netip.Addr { return netip.MustParseAddr(addr) }
}
