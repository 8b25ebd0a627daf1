//go:build linux

package kubernetes

import (
	"fmt"
	"strings"
	"testing"

	"github.com/seed2e8fe8ee/proxyproto/interop/internal/netns"
)

// A layout is how a cluster's network is made: what differs between the CNI plugins that people
// use, and kube-proxy's mode.
type layout struct {
	bridge bool   // a node's pods are on a bridge; otherwise each has an interface of its own
	tunnel bool   // pods of two nodes talk by VXLAN; otherwise by the nodes' routes
	mode   string // kube-proxy's
}

func (l layout) String() string {
	pods, nodes := "ptp", "routes"
	if l.bridge {
		pods = "bridge"
	}
	if l.tunnel {
		nodes = "vxlan"
	}
	return fmt.Sprintf("%s, %s, %s", pods, nodes, l.mode)
}

func layouts() (all []layout) {
	for _, mode := range []string{"nftables", "iptables"} {
		for _, bridge := range []bool{true, false} {
			for _, tunnel := range []bool{true, false} {
				all = append(all, layout{bridge, tunnel, mode})
			}
		}
	}
	return all
}

// nat1 is N1 of docs/deploy.md: the address that node 1 has for its own pods.
func (l layout) nat1(f family) string {
	switch {
	case l.bridge:
		return f.bridge(1)
	case l.tunnel && f == ipv6:
		// The node has no address in the pods' network but its end of the tunnel. IPv6 prefers
		// the source that shares the longest prefix with the destination (RFC 6724, rule 8).
		return f.tunnel(1)
	}
	return f.node(1)
}

// nat2 is N2: the address that node 2 has for the pods of node 1.
func (l layout) nat2(f family) string {
	if l.tunnel {
		return f.tunnel(2)
	}
	return f.node(2)
}

// A cluster is two nodes and what is around them, each a network namespace:
//
//	client ── router ──┬── balancer
//	                   ├── node 1 ── pods a (the server) and b
//	                   └── node 2 ── pods c and ingress
type cluster struct {
	layout
	ns map[string]*netns.Namespace

	server, host *server // in pod a, and on node 2 itself
}

var hosts = []string{"router", "client", "balancer", "node 1", "node 2",
	"pod a", "pod b", "pod c", "ingress"}

func node(i int) string { return fmt.Sprintf("node %d", i) }

// startCluster makes the network and starts all that runs in it.
func startCluster(t *testing.T, l layout) *cluster {
	t.Helper()
	kubeProxy := buildKubeProxy(t)
	c := &cluster{layout: l, ns: make(map[string]*netns.Namespace)}
	for _, name := range hosts {
		c.ns[name] = netns.New(t, name)
		c.prepare(t, c.ns[name])
	}
	c.wire(t)
	for i := 1; i <= 2; i++ {
		c.connectNode(t, i)
	}
	c.addPod(t, 1, 2, "pod a")
	c.addPod(t, 1, 3, "pod b")
	c.addPod(t, 2, 3, "pod c")
	c.addPod(t, 2, 4, "ingress")
	c.startServers(t)
	c.startBalancer(t)
	api := c.startAPI(t)
	for i := 1; i <= 2; i++ {
		c.startKubeProxy(t, i, kubeProxy, api)
	}
	c.awaitRules(t)
	return c
}

// prepare sets a namespace's kernel parameters before it has interfaces, which take them over.
func (c *cluster) prepare(t *testing.T, n *netns.Namespace) {
	t.Helper()
	n.Sysctl(t, "0", "ipv4.conf.all.rp_filter", "ipv4.conf.default.rp_filter",
		"ipv6.conf.all.accept_dad", "ipv6.conf.default.accept_dad", // addresses are usable at once
		"ipv6.conf.default.accept_ra")
	switch n.Name {
	case "node 1", "node 2":
		// As every installer of Kubernetes does: a pod's answer to another pod of its node must
		// pass the rules too.
		n.Sysctl(t, "1", "bridge.bridge-nf-call-iptables", "bridge.bridge-nf-call-ip6tables")
		fallthrough
	case "router":
		n.Sysctl(t, "1", "ipv4.ip_forward", "ipv6.conf.all.forwarding", "ipv6.conf.default.forwarding")
	}
}

// wire joins the client, the router, the balancer and the nodes.
func (c *cluster) wire(t *testing.T) {
	t.Helper()
	router := c.ns["router"]
	router.IP(t, "link add nodes type bridge", "link set nodes up")
	netns.Join(t, c.ns["client"], "eth0", router, "client")
	c.setAddress(t, "client", "eth0", family.client, family.clientRouter)
	c.setAddress(t, "router", "client", family.clientRouter, nil)
	c.setAddress(t, "router", "nodes", family.router, nil)
	for name, addr := range map[string]func(family) string{
		"balancer": family.balancer,
		"node 1":   func(f family) string { return f.node(1) },
		"node 2":   func(f family) string { return f.node(2) },
	} {
		port := strings.ReplaceAll(name, " ", "")
		netns.Join(t, c.ns[name], "eth0", router, port)
		router.IP(t, "link set "+port+" master nodes")
		c.setAddress(t, name, "eth0", addr, family.router)
	}
	for _, f := range families {
		router.IP(t, fmt.Sprintf("route add %s via %s", f.external(), f.balancer()))
		// For a balancer that talks to pods itself.
		c.ns["balancer"].IP(t, fmt.Sprintf("route add %s via %s", f.podsOf(1), f.node(1)))
		for _, s := range services {
			c.ns["balancer"].IP(t, fmt.Sprintf("addr add %s dev lo", f.one(f.externalIP(s.n))))
		}
		c.ns["balancer"].IP(t, fmt.Sprintf("addr add %s dev lo", f.one(f.externalIP(ipTargets))))
	}
}

// setAddress gives an interface its address of either family, in a network of 24 or 64 bits, and a
// default route.
func (c *cluster) setAddress(t *testing.T, name, device string, addr, via func(family) string) {
	t.Helper()
	for _, f := range families {
		c.ns[name].IP(t, fmt.Sprintf("addr add %s/%s dev %s", addr(f), f.of("24", "64"), device))
		if via != nil {
			c.ns[name].IP(t, "route add default via "+via(f))
		}
	}
}

// connectNode does what a CNI plugin does on a node before there are pods.
func (c *cluster) connectNode(t *testing.T, i int) {
	t.Helper()
	n, other := c.ns[node(i)], 3-i
	if c.bridge {
		n.IP(t, "link add cni0 type bridge", "link set cni0 up")
		for _, f := range families {
			n.IP(t, fmt.Sprintf("addr add %s dev cni0", in(f.bridge(i), f.podsOf(i))))
		}
	}
	for _, f := range families {
		if c.tunnel {
			c.connectTunnel(t, f, i, other)
		} else {
			n.IP(t, fmt.Sprintf("route add %s via %s", f.podsOf(other), f.node(other)))
		}
		// What leaves the pods' network gets the node's address. It is the plugin that does
		// this, not kube-proxy.
		n.Run(t, fmt.Sprintf(`table %s cni {
			chain post {
				type nat hook postrouting priority srcnat + 5
				%[2]s saddr %[3]s %[2]s daddr != %[3]s masquerade
			}
		}`, f.of("ip", "ip6"), f.of("ip", "ip6"), f.pods()), "nft", "-f", "-")
	}
}

// connectTunnel joins two nodes by VXLAN, as flannel does it.
func (c *cluster) connectTunnel(t *testing.T, f family, i, other int) {
	t.Helper()
	n, device := c.ns[node(i)], f.of("vxlan4", "vxlan6")
	hardware := func(i int) string { return fmt.Sprintf("02:00:00:00:0%d:0%d", int(f), i) }
	n.IP(t,
		fmt.Sprintf("link add %s type vxlan id %d local %s dev eth0 dstport 8472 nolearning",
			device, int(f), f.node(i)),
		fmt.Sprintf("link set %s address %s mtu 1400 up", device, hardware(i)),
		fmt.Sprintf("addr add %s dev %s", f.one(f.tunnel(i)), device),
		fmt.Sprintf("route add %s via %s dev %s onlink", f.podsOf(other), f.tunnel(other), device),
		fmt.Sprintf("neigh add %s lladdr %s dev %s nud permanent",
			f.tunnel(other), hardware(other), device))
	n.Run(t, "", "bridge", "fdb", "add", hardware(other), "dev", device, "dst", f.node(other))
}

// addPod does what a CNI plugin does for a pod: the k-th address of node i.
func (c *cluster) addPod(t *testing.T, i, k int, name string) {
	t.Helper()
	n, pod, port := c.ns[node(i)], c.ns[name], fmt.Sprintf("pod%d", k)
	netns.Join(t, pod, "eth0", n, port)
	if c.bridge {
		n.IP(t, "link set "+port+" master cni0", "link set "+port+" type bridge_slave hairpin on")
		c.setAddress(t, name, "eth0", func(f family) string { return f.pod(i, k) },
			func(f family) string { return f.bridge(i) })
		return
	}
	// As Calico does it: the node's end has no address of its own, and answers for all others.
	n.Sysctl(t, "1", "ipv4.conf."+port+".proxy_arp")
	n.IP(t, fmt.Sprintf("addr add %s/64 dev %s", ipv6.gateway(), port))
	for _, f := range families {
		n.IP(t, fmt.Sprintf("route add %s dev %s", f.one(f.pod(i, k)), port))
		pod.IP(t, fmt.Sprintf("addr add %s dev eth0", f.one(f.pod(i, k))),
			fmt.Sprintf("route add %s dev eth0", f.one(f.gateway())),
			fmt.Sprintf("route add default via %s dev eth0", f.gateway()))
	}
}

// announce has the router send a balancer's address to a node, as if the node had announced it
// (MetalLB and the like).
func (c *cluster) announce(t *testing.T, f family, service, i int) {
	t.Helper()
	c.ns["router"].IP(t, fmt.Sprintf("route replace %s via %s",
		f.one(f.externalIP(service)), f.node(i)))
}

// withdraw undoes announce.
func (c *cluster) withdraw(t *testing.T, f family, service int) {
	t.Helper()
	c.ns["router"].IP(t, "route del "+f.one(f.externalIP(service)))
}
