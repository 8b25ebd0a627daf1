//go:build linux

package kubernetes

import "fmt"

// A path is a way to the server.
type path struct {
	what string // in the words of docs/deploy.md
	from string // a namespace
	to   func(f family, s numbers) string

	cluster, local sight // what is seen under either externalTrafficPolicy
}

// A sight is what a server sees of a connection, in the names that cluster.addresses knows.
type sight struct {
	peer   string // the socket's
	header string // whom it names; empty if none came
	served string // whom the server takes it to be, or why it drops it
}

// nobody is a connection that no node answers.
var nobody = sight{}

// plainly is a connection without a header that is served as its peer.
func plainly(peer string) sight { return sight{peer, "", peer} }

// named is a connection with a header that is believed.
func named(peer, header string) sight { return sight{peer, header, header} }

// noHeader is a connection without a header from a peer that must send one.
func noHeader(peer string) sight { return sight{peer, "", "dropped: no header"} }

// rejected is a connection from a stranger.
func rejected(peer string) sight { return sight{peer, "", "dropped: rejected"} }

// The addresses that connections are made to.

func balancer(node int) func(family, numbers) string {
	return func(f family, s numbers) string { return at(f.externalIP(s.vip), servicePort+node-1) }
}

func balancerProxied(node int) func(family, numbers) string {
	return func(f family, s numbers) string { return at(f.externalIP(s.proxied), servicePort+node-1) }
}

func balancerHost(node int) func(family, numbers) string {
	return func(f family, s numbers) string { return at(f.externalIP(s.host), servicePort+node-1) }
}

func nodePort(node int) func(family, numbers) string {
	return func(f family, s numbers) string { return at(f.node(node), 30000+s.vip) }
}

func clusterIP(f family, s numbers) string  { return at(f.clusterIP(s.vip), servicePort) }
func externalIP(f family, s numbers) string { return at(f.externalIP(s.vip), servicePort) }
func podItself(f family, _ numbers) string  { return at(f.pod(1, 2), serverPort) }
func ipTarget(f family, _ numbers) string   { return at(f.externalIP(ipTargets), servicePort) }

// pathsFromOutside are those of clients, through the balancer and past it.
var pathsFromOutside = []path{
	{"client → balancer → node port of node 1", "client", balancer(1),
		named("N1", "client"), named("balancer", "client")},
	{"client → balancer → node port of node 2", "client", balancer(2),
		named("N2", "client"), nobody},
	{"client → node port of node 1, past the balancer", "client", nodePort(1),
		noHeader("N1"), rejected("client")},
	{"client → node port of node 2, past the balancer", "client", nodePort(2),
		noHeader("N2"), nobody},
	{"client → balancer → the pod's own address (IP targets)", "client", ipTarget,
		named("balancer", "client"), named("balancer", "client")},
}

// pathsAnnounced are those to an address that a node announces; node is which.
func pathsAnnounced(node int) []path {
	sights := map[int][2]sight{
		1: {noHeader("N1"), rejected("client")},
		2: {noHeader("N2"), nobody},
	}[node]
	what := fmt.Sprintf("client → the balancer's address, announced by node %d", node)
	return []path{{what, "client", balancer(1), sights[0], sights[1]}}
}

// pathsFromInside are those of pods and of processes on nodes.
var pathsFromInside = []path{
	{"pod b (node 1) → cluster IP", "pod b", clusterIP, plainly("pod b"), plainly("pod b")},
	{"pod c (node 2) → cluster IP", "pod c", clusterIP, plainly("pod c"), plainly("pod c")},
	{"pod a, the server's own → cluster IP", "pod a", clusterIP, noHeader("N1"), plainly("N1")},

	{"pod b → the balancer's address, ipMode VIP", "pod b", externalIP,
		noHeader("N1"), plainly("pod b")},
	{"pod c → the balancer's address, ipMode VIP", "pod c", externalIP,
		noHeader("N2"), plainly("pod c")},
	{"pod a → the balancer's address, ipMode VIP", "pod a", externalIP,
		noHeader("N1"), plainly("N1")},

	{"pod b → balancer (ipMode Proxy) → node 1", "pod b", balancerProxied(1),
		named("N1", "node 1"), named("balancer", "node 1")},
	{"pod c → balancer (ipMode Proxy) → node 1", "pod c", balancerProxied(1),
		named("N1", "node 2"), named("balancer", "node 2")},
	{"pod c → balancer (ipMode Proxy) → node 2", "pod c", balancerProxied(2),
		named("N2", "node 2"), nobody},

	{"pod b → node port of its node 1", "pod b", nodePort(1), noHeader("N1"), plainly("pod b")},
	{"pod b → node port of node 2", "pod b", nodePort(2), noHeader("N2"), nobody},
	{"pod c → node port of its node 2", "pod c", nodePort(2), noHeader("N2"), plainly("pod c")},
	{"pod c → node port of node 1", "pod c", nodePort(1), noHeader("N1"), plainly("node 2")},

	{"process or hostNetwork pod on node 1 → cluster IP", "node 1", clusterIP,
		noHeader("N1"), plainly("N1")},
	{"process or hostNetwork pod on node 2 → cluster IP", "node 2", clusterIP,
		noHeader("N2"), plainly("N2")},
	{"process or hostNetwork pod on node 1 → the balancer's address, ipMode VIP", "node 1", externalIP,
		noHeader("N1"), plainly("N1")},
	{"process or hostNetwork pod on node 2 → the balancer's address, ipMode VIP", "node 2", externalIP,
		noHeader("N2"), plainly("N2")},
	{"process or hostNetwork pod on node 2 → balancer (ipMode Proxy) → node 1", "node 2",
		balancerProxied(1), named("N1", "node 2"), named("balancer", "node 2")},
	{"process or hostNetwork pod on node 2 → node port of node 1", "node 2", nodePort(1),
		noHeader("N1"), plainly("node 2")},
	{"the kubelet's probe, node 1 → the pod", "node 1", podItself, noHeader("N1"), plainly("N1")},
}

// pathsToHost are those to a server with hostNetwork, on node 2.
var pathsToHost = []path{
	{"client → balancer → node port of node 2, server with hostNetwork there", "client",
		balancerHost(2), named("balancer", "client"), named("balancer", "client")},
	{"client → balancer → node port of node 1, server with hostNetwork on node 2", "client",
		balancerHost(1), named("node 1", "client"), nobody},
}

// address is the address of a name in this cluster.
func (c *cluster) address(f family, name string) string {
	switch name {
	case "client":
		return f.client()
	case "balancer":
		return f.balancer()
	case "node 1":
		return f.node(1)
	case "node 2":
		return f.node(2)
	case "N1":
		return c.nat1(f)
	case "N2":
		return c.nat2(f)
	case "pod a":
		return f.pod(1, 2)
	case "pod b":
		return f.pod(1, 3)
	case "pod c":
		return f.pod(2, 3)
	}
	panic("whose address? " + name)
}
