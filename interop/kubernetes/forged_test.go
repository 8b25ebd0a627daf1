//go:build linux

package kubernetes

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed2e8fe8ee/proxyproto"
)

// What becomes of a forged header.
const (
	believed = "**believed**"      // its sender is served under the address that it made up
	payload  = "is payload"        // its sender is served under its own address
	refused  = "is rejected"       // its sender's connection is closed before a byte is read
	stopped  = "doesn't get there" // no connection
)

// A forgery is a way for somebody to send a header of his own.
type forgery struct {
	who  string
	from string // a namespace
	to   func(f family, s numbers) string

	// What becomes of it: by the advice for Cluster, which trusts the nodes, as it is and with the
	// pods' ways to the server closed; under Cluster by the advice for IP targets; under Local.
	cluster, closed, targets, local string
}

var forgeries = []forgery{
	{"a client, through the balancer", "client", balancer(1), payload, payload, payload, payload},
	{"a client, to a node port of node 1", "client", nodePort(1),
		believed, believed, payload, refused},
	{"a client, to a node port of node 2", "client", nodePort(2),
		believed, believed, payload, stopped},
	{"a pod, to the pod's address", "pod c", podItself, payload, stopped, payload, payload},
	{"a pod, to the cluster IP", "pod c", clusterIP, payload, stopped, payload, payload},
	{"a pod of the server's node, to the balancer's address", "pod b", externalIP,
		believed, stopped, payload, payload},
	{"a pod of another node, to the balancer's address", "pod c", externalIP,
		believed, stopped, payload, payload},
	{"a pod, to a node port of its own node", "pod b", nodePort(1),
		believed, stopped, payload, payload},
	{"a pod, to a node port of another node", "pod c", nodePort(1),
		believed, stopped, payload, payload},
	{"the server's own pod, to the cluster IP", "pod a", clusterIP,
		believed, stopped, payload, payload},
	{"a process or hostNetwork pod on a node, to the cluster IP", "node 2", clusterIP,
		believed, believed, payload, payload},
	{"a process or hostNetwork pod on a node, to the balancer's address", "node 1", externalIP,
		believed, believed, payload, payload},
}

// Anybody who can connect sends a header that makes him somebody else. It is believed where nodes
// are trusted, and nowhere by the advice of docs/deploy.md.
func TestForgedHeader(t *testing.T) {
	for _, l := range layouts() {
		if l.mode == "iptables" && l.bridge != l.tunnel {
			continue // TestPeers has shown that the modes don't differ
		}
		t.Run(l.String(), func(t *testing.T) {
			c := startCluster(t, l)
			for _, f := range families {
				t.Run(f.String(), func(t *testing.T) {
					c.checkForgeries(t, f, "Cluster", underCluster, deployPolicy(t, forCluster),
						func(y forgery) string { return y.cluster })
					c.checkForgeries(t, f, "IP targets", underCluster, deployPolicy(t, forLocal),
						func(y forgery) string { return y.targets })
					c.checkForgeries(t, f, "Local", underLocal, deployPolicy(t, forLocal),
						func(y forgery) string { return y.local })
				})
			}
			c.closeEgress(t)
			for _, f := range families {
				t.Run(f.String()+", the pods' ways closed", func(t *testing.T) {
					c.checkForgeries(t, f, "Cluster", underCluster, deployPolicy(t, forCluster),
						func(y forgery) string { return y.closed })
					// Whom the server is there for still gets to it, pods through the balancer too.
					c.checkServed(t, f, "client", balancer(1), "client")
					c.checkServed(t, f, "client", balancer(2), "client")
					c.checkServed(t, f, "pod c", balancerProxied(1), "node 2")
				})
			}
		})
	}
}

// checkForgeries sends a forged header on each way.
func (c *cluster) checkForgeries(t *testing.T, f family, under string, s numbers,
	policy proxyproto.Policy, want func(forgery) string) {
	t.Helper()
	c.setPolicy(policy)
	ctx, cancel := context.WithCancel(t.Context())
	var quiet sync.WaitGroup
	for _, y := range forgeries {
		if want(y) == stopped {
			quiet.Go(func() {
				got, err := c.send(ctx, y.from, y.to(f, s), f.forged()+hello)
				assert.Error(t, ctx.Err(), "%s: %s: an answer: %q, %v", under, y.who, got, err)
			})
			continue
		}
		assert.Equal(t, want(y), c.forge(t, f, y, s), "%s: %s", under, y.who)
	}
	cancel()
	quiet.Wait()
}

// forge sends a forged header and says what became of it.
func (c *cluster) forge(t *testing.T, f family, y forgery, s numbers) string {
	t.Helper()
	a, err := c.ask(t.Context(), y.from, y.to(f, s), f.forged()+hello)
	require.NoError(t, err, y.who)
	switch {
	case a.Dropped == proxyproto.ReasonRejected:
		return refused
	case a.As.String() == f.victim() && a.Payload == "hello":
		return believed
	case strings.HasPrefix(a.Payload, "PROXY "):
		return payload
	}
	return fmt.Sprintf("%+v", a)
}

func (c *cluster) checkServed(t *testing.T, f family, from string,
	to func(family, numbers) string, as string) {
	t.Helper()
	a, err := c.ask(t.Context(), from, to(f, underCluster), hello)
	require.NoError(t, err)
	assert.Equal(t, c.address(f, as), a.As.String())
	assert.Equal(t, "hello", a.Payload)
}

// closeEgress does what a CNI plugin makes of a NetworkPolicy for the egress of all pods that
// allows neither the server's port nor the nodes: on each node, for what its pods send.
func (c *cluster) closeEgress(t *testing.T) {
	t.Helper()
	for i := 1; i <= 2; i++ {
		c.filter(t, i, func(f family) string {
			return fmt.Sprintf(`%[1]s saddr %[2]s %[1]s daddr %[3]s tcp dport %[4]d drop
				%[1]s saddr %[2]s %[1]s daddr %[5]s drop`,
				f.of("ip", "ip6"), f.podsOf(i), f.pod(1, 2), serverPort, f.nodes())
		})
	}
}

// filter gives a node rules for new connections that it forwards.
func (c *cluster) filter(t *testing.T, i int, rules func(family) string) {
	t.Helper()
	c.ns[node(i)].Run(t, fmt.Sprintf(`table inet policies {
		chain forward {
			type filter hook forward priority filter
			ct state established,related accept
			%s
			%s
		}
	}`, rules(ipv4), rules(ipv6)), "nft", "-f", "-")
}

// What looks like help and isn't: a NetworkPolicy for what may come to the server, and a list of
// the pods' whole range.
func TestForgedHeaderPastOtherAdvice(t *testing.T) {
	c := startCluster(t, layout{bridge: true, tunnel: true, mode: "nftables"})
	pod := forgery{who: "a pod, to the cluster IP", from: "pod c", to: clusterIP}
	for _, f := range families {
		for what, policy := range map[string]proxyproto.Policy{
			"a list of the pods' range":                 parseTrust(t, f.pods()),
			"Optional for the pods, during a migration": proxyproto.Always(proxyproto.Optional),
		} {
			c.setPolicy(policy)
			assert.Equal(t, believed, c.forge(t, f, pod, underCluster), what)
			assert.Equal(t, believed, c.forge(t, f, pod, underLocal), what)
		}
	}
	// On the server's node a pod of another one is seen as that node already.
	c.filter(t, 1, func(f family) string {
		return fmt.Sprintf("%[1]s saddr { %[2]s, %[3]s } %[1]s daddr %[4]s tcp dport %[5]d drop",
			f.of("ip", "ip6"), f.pod(1, 3), f.pod(2, 3), f.pod(1, 2), serverPort)
	})
	for _, f := range families {
		c.setPolicy(deployPolicy(t, forCluster))
		y := forgery{who: "a pod of another node", from: "pod c", to: externalIP}
		assert.Equal(t, believed, c.forge(t, f, y, underCluster), "an ingress NetworkPolicy")
	}
}

func parseTrust(t *testing.T, prefix string) proxyproto.Policy {
	t.Helper()
	policy, err := proxyproto.ParseTrust(prefix)
	require.NoError(t, err)
	return policy
}

// A firewall before the nodes that lets only the balancer to the node ports stops clients, and not
// pods: their connections to the balancer's address, and to their own node, don't come past it.
func TestForgedHeaderBehindAFirewall(t *testing.T) {
	c := startCluster(t, layout{bridge: true, tunnel: true, mode: "nftables"})
	for i := 1; i <= 2; i++ {
		c.ns[node(i)].Run(t, fmt.Sprintf(`table inet firewall {
			chain nodeports {
				type filter hook prerouting priority raw
				iifname eth0 tcp dport 30000-31999 ip saddr != %s drop
				iifname eth0 tcp dport 30000-31999 ip6 saddr != %s drop
			}
		}`, ipv4.balancer(), ipv6.balancer()), "nft", "-f", "-")
	}
	behind := map[string]string{
		"a client, to a node port of node 1":                    stopped,
		"a client, to a node port of node 2":                    stopped,
		"a pod, to a node port of another node":                 stopped,
		"a pod, to a node port of its own node":                 believed,
		"a pod of another node, to the balancer's address":      believed,
		"a pod of the server's node, to the balancer's address": believed,
	}
	for _, f := range families {
		c.checkForgeries(t, f, "Cluster behind a firewall", underCluster,
			deployPolicy(t, forCluster), func(y forgery) string {
				if want, ok := behind[y.who]; ok {
					return want
				}
				return y.cluster
			})
		c.checkServed(t, f, "client", balancer(1), "client")
		c.checkServed(t, f, "client", balancer(2), "client")
	}
}
