//go:build linux

package kubernetes

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// What a balancer's health check of a node is answered by kube-proxy, which doesn't know PROXY.
func TestHealthCheckNodePort(t *testing.T) {
	for _, mode := range []string{"nftables", "iptables"} {
		t.Run(mode, func(t *testing.T) {
			c := startCluster(t, layout{bridge: true, tunnel: true, mode: mode})
			for _, f := range families {
				port := services[underLocal.vip-1].healthPort()
				for i, status := range map[int]int{1: http.StatusOK, 2: http.StatusServiceUnavailable} {
					what := fmt.Sprintf("%v, node %d", f, i)
					addr := at(f.node(i), port)
					assert.Contains(t, c.check(t, "", addr, "/"), fmt.Sprintf("HTTP/1.0 %d", status), what)
					assert.Contains(t, c.check(t, f.forged(), addr, "/"), "400 Bad Request",
						"%s, after a header", what)
					assert.Contains(t, c.check(t, "", at(f.node(i), 10256), "/healthz"), "HTTP/1.0 200", what)
				}
			}
		})
	}
}

// check sends what a balancer's health check does, after a header or without, and returns the
// answer.
func (c *cluster) check(t *testing.T, header, addr, path string) string {
	t.Helper()
	got, err := c.send(t.Context(), "balancer", addr, header+"GET "+path+" HTTP/1.0\r\n\r\n")
	require.NoError(t, err)
	return string(got)
}
