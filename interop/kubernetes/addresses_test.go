//go:build linux

package kubernetes

import (
	"fmt"
	"net"
	"strconv"
	"strings"
)

// A family chooses between IPv4 and IPv6: each cluster has both. Its methods are the address book.
type family int

const (
	ipv4 family = 4
	ipv6 family = 6
)

var families = []family{ipv4, ipv6}

func (f family) String() string { return fmt.Sprintf("IPv%d", int(f)) }

// of returns the address of this family. Verbs take the arguments.
func (f family) of(v4, v6 string, args ...any) string {
	if f == ipv4 {
		return fmt.Sprintf(v4, args...)
	}
	return fmt.Sprintf(v6, args...)
}

// What is outside the cluster: a client and the router that it shares with the nodes' network.
func (f family) client() string       { return f.of("203.0.113.7", "2001:db8:c::7") }
func (f family) clientRouter() string { return f.of("203.0.113.1", "2001:db8:c::1") }
func (f family) router() string       { return f.of("10.0.0.1", "fd00:10::1") }

// The nodes' network, with the balancer in it.
func (f family) nodes() string     { return f.of("10.0.0.0/24", "fd00:10::/64") }
func (f family) node(i int) string { return f.of("10.0.0.1%d", "fd00:10::1%d", i) }
func (f family) balancer() string  { return f.of("10.0.0.10", "fd00:10::10") }

// The pods' network, a part of it for each node.
func (f family) pods() string            { return f.of("10.244.0.0/16", "fd00:244::/48") }
func (f family) podsOf(i int) string     { return f.of("10.244.%d.0/24", "fd00:244:0:%d::/64", i) }
func (f family) pod(i, k int) string     { return f.of("10.244.%d.%d", "fd00:244:0:%d::%d", i, k) }
func (f family) bridge(i int) string     { return f.pod(i, 1) }
func (f family) tunnel(i int) string     { return f.of("10.244.%d.0", "fd00:244:0:%d::", i) }
func (f family) gateway() string         { return f.of("169.254.1.1", "fe80::1") }
func (f family) services() string        { return f.of("10.96.0.0/16", "fd00:96::/112") }
func (f family) external() string        { return f.of("198.51.100.0/24", "2001:db8:b::/64") }
func (f family) clusterIP(n int) string  { return f.of("10.96.0.%d", "fd00:96::%d", n) }
func (f family) externalIP(n int) string { return f.of("198.51.100.%d", "2001:db8:b::%d", n) }

// bits is the length of a prefix that is one address.
func (f family) bits() int { return map[family]int{ipv4: 32, ipv6: 128}[f] }

// one is the prefix of one address.
func (f family) one(addr string) string { return fmt.Sprintf("%s/%d", addr, f.bits()) }

// in gives an address the length of its network's prefix.
func in(addr, network string) string {
	_, bits, _ := strings.Cut(network, "/")
	return addr + "/" + bits
}

func at(addr string, port int) string { return net.JoinHostPort(addr, strconv.Itoa(port)) }

// forged is a header that claims to be from somebody who never connected.
func (f family) forged() string {
	return f.of("PROXY TCP4 %s 198.51.100.1 1 1\r\n",
		"PROXY TCP6 %s 2001:db8:b::1 1 1\r\n", f.victim())
}

func (f family) victim() string { return f.of("192.0.2.66", "2001:db8:6::66") }
