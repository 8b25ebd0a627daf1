//go:build linux

package kubernetes

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/seed2e8fe8ee/proxyproto/interop/internal/proxies"
)

// toNode2 is the balancer's port for connections that it sends to node 2. It sends those to the
// Service's own port to node 1.
const toNode2 = servicePort + 1

// startBalancer starts the balancer: nginx, with PROXY on.
func (c *cluster) startBalancer(t *testing.T) {
	t.Helper()
	var conf strings.Builder
	pass := func(listen, to string) {
		fmt.Fprintf(&conf, "server { listen %s; proxy_pass %s; proxy_protocol on; }\n", listen, to)
	}
	for _, f := range families {
		for _, s := range services {
			if !s.inside {
				pass(at(f.externalIP(s.n), servicePort), at(f.node(1), s.nodePort()))
				pass(at(f.externalIP(s.n), toNode2), at(f.node(2), s.nodePort()))
			}
		}
		pass(at(f.externalIP(ipTargets), servicePort), at(f.pod(1, 2), serverPort))
	}
	c.startNginx(t, "balancer", fmt.Sprintf("stream {\n%s}\n", conf.String()),
		at(ipv4.externalIP(1), servicePort))
}

// startNginx starts an nginx in a namespace with a stream or http block.
func (c *cluster) startNginx(t *testing.T, name, block, ready string) *proxies.Process {
	t.Helper()
	user := ""
	if os.Getuid() == 0 {
		user = "user root;"
	}
	dir := proxies.Dir(t, map[string]string{"nginx.conf": fmt.Sprintf(`%s
%s
daemon off;
worker_processes 1;
pid nginx.pid;
error_log stderr crit;
events { worker_connections 1024; }
%s
`, proxies.StreamModule(t), user, block)})
	return proxies.Start(t, proxies.Spec{
		Program: "nginx",
		Args:    []string{"-p", dir, "-c", "nginx.conf", "-e", "stderr"},
		Dir:     dir,
		Enter:   c.ns[name].Enter,
		Ready: func() error {
			conn, err := c.ns[name].Dial(context.Background(), ready)
			if err != nil {
				return err
			}
			return conn.Close()
		},
	})
}
