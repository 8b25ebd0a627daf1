//go:build linux

package kubernetes

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed2e8fe8ee/proxyproto/clientip"
	"github.com/seed2e8fe8ee/proxyproto/interop/internal/proxies"
)

// nginx with PROXY on → Service → nginx as an ingress controller → Service → Go: the way that
// clients of most clusters come. The address that arrives is the client's.
func TestIngress(t *testing.T) {
	for _, l := range []layout{
		{bridge: true, tunnel: true, mode: "nftables"},
		{bridge: false, tunnel: false, mode: "iptables"},
	} {
		t.Run(l.String(), func(t *testing.T) {
			c := startCluster(t, l)
			c.startClientIPServer(t)
			for _, f := range families {
				t.Run(f.String(), func(t *testing.T) { c.testIngress(t, f) })
			}
		})
	}
}

func (c *cluster) testIngress(t *testing.T, f family) {
	ingress := c.startIngress(t, f, realIPFrom(f))
	for what, to := range map[string]string{
		"Cluster, by node 1": at(f.externalIP(underCluster.ingress), servicePort),
		"Cluster, by node 2": at(f.externalIP(underCluster.ingress), toNode2),
		"Local, by node 2":   at(f.externalIP(underLocal.ingress), toNode2),
	} {
		assert.Equal(t, f.client()+" by X-Forwarded-For", c.get(t, to), what)
	}
	// As people report it: the balancer has been told to send PROXY, and the ingress hasn't. It
	// answers the header before there is a request.
	untold, err := c.send(t.Context(), "client", at(f.externalIP(untoldService), servicePort), "")
	require.NoError(t, err)
	assert.Contains(t, string(untold), "400 Bad Request")

	// proxy-real-ip-cidr must have what the ingress controller's socket sees, as any list.
	ingress.Stop(syscall.SIGTERM)
	c.startIngress(t, f, f.one(f.balancer()))
	assert.Equal(t, f.client()+" by X-Forwarded-For",
		c.get(t, at(f.externalIP(underLocal.ingress), toNode2)), "Local")
	byNode1 := c.get(t, at(f.externalIP(underCluster.ingress), servicePort))
	assert.NotContains(t, byNode1, f.client(), "Cluster: the ingress takes the node for the client")
}

// realIPFrom is the proxy-real-ip-cidr of docs/deploy.md for both policies: the balancer and the
// nodes, by all the addresses that the ingress may see of them.
func realIPFrom(f family) string {
	all := []string{f.nodes()}
	for i := 1; i <= 2; i++ {
		all = append(all, f.one(f.bridge(i)), f.one(f.tunnel(i)))
	}
	return strings.Join(all, ",")
}

// startIngress starts nginx in the ingress' pod, with what ingress-nginx writes for
// use-proxy-protocol and proxy-real-ip-cidr, and a port that hasn't been told.
func (c *cluster) startIngress(t *testing.T, f family, realIPFrom string) *proxies.Process {
	t.Helper()
	var trusted strings.Builder
	for cidr := range strings.SplitSeq(realIPFrom, ",") {
		fmt.Fprintf(&trusted, "set_real_ip_from %s;\n", cidr)
	}
	address := func(port int) string { return at(ingress(f), port) }
	server := `
	location / {
		proxy_pass http://` + at(f.clusterIP(goService), servicePort) + `;
		proxy_set_header Host            $host;
		proxy_set_header X-Real-IP       $remote_addr;
		proxy_set_header X-Forwarded-For $remote_addr;
	}`
	return c.startNginx(t, "ingress", fmt.Sprintf(`http {
		access_log off;
		server {
			listen %s proxy_protocol;
			real_ip_header proxy_protocol;
			real_ip_recursive on;
			%s
			%s
		}
		server {
			listen %s;
			%s
		}
	}`, address(ingressPort), trusted.String(), server, address(untoldPort), server),
		address(untoldPort))
}

// startClientIPServer starts the server in pod a that the ingress passes requests on to.
func (c *cluster) startClientIPServer(t *testing.T) {
	t.Helper()
	var trust []netip.Prefix
	for _, f := range families {
		trust = append(trust, netip.MustParsePrefix(f.one(ingress(f))))
	}
	handler, err := clientip.NewHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		addr, ok := clientip.FromContext(r.Context())
		if !ok {
			http.Error(w, "unknown", http.StatusInternalServerError)
			return
		}
		fmt.Fprintf(w, "%v by X-Forwarded-For", addr)
	}), &clientip.Config{Trust: trust, Field: "X-Forwarded-For"})
	require.NoError(t, err)
	srv := &http.Server{Handler: handler}
	go srv.Serve(c.ns["pod a"].Listen(t, fmt.Sprintf(":%d", clientIPPort)))
	t.Cleanup(func() { srv.Close() })
}

// get asks as a client that claims to be forwarded for somebody else, and returns the body.
func (c *cluster) get(t *testing.T, addr string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), proxies.Timeout)
	defer cancel()
	got, err := c.send(ctx, "client", addr, "GET / HTTP/1.1\r\nHost: ingress.test\r\n"+
		"Connection: close\r\nX-Forwarded-For: 192.0.2.66\r\n\r\n")
	require.NoError(t, err)
	resp, err := http.ReadResponse(bufio.NewReader(strings.NewReader(string(got))), nil)
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return string(body)
}
