package main

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"strconv"

	pires "github.com/pires/go-proxyproto"
	"github.com/seed2e8fe8ee/proxyproto"
)

var policySizes = []int{1, 100, 10_000}

// policyWorks asks for peers of which half are in one of the prefixes, in no order that could be
// foreseen. armon and mastercactapus have no policy that could be asked alone.
func policyWorks() []work {
	var all []work
	for _, size := range policySizes {
		random := rand.New(rand.NewPCG(1, uint64(size)))
		prefixes := make([]netip.Prefix, size)
		texts := make([]string, size)
		rules := make([]proxyproto.Rule, size)
		for i := range prefixes {
			addr := netip.AddrFrom4([4]byte{
				byte(1 + random.IntN(220)), byte(random.IntN(256)), byte(random.IntN(256)), 0})
			prefixes[i] = netip.PrefixFrom(addr, 24)
			texts[i] = prefixes[i].String()
			rules[i] = proxyproto.Rule{Prefix: prefixes[i], Action: proxyproto.Action(1 + i%4)}
		}
		const many = 1 << 12
		peers, upstreams := make([]netip.AddrPort, many), make([]net.Addr, many)
		for i := range peers {
			b := [4]byte{
				byte(1 + random.IntN(220)), byte(random.IntN(256)), byte(random.IntN(256)), byte(i)}
			if i%2 == 0 {
				b = prefixes[random.IntN(size)].Addr().As4()
				b[3] = byte(i)
			}
			peers[i] = netip.AddrPortFrom(netip.AddrFrom4(b), 1234)
			upstreams[i] = net.TCPAddrFromAddrPort(peers[i])
		}
		local := netip.MustParseAddrPort("192.0.2.1:443")
		do := func(by string, run func(n int)) {
			all = append(all, work{task{Work: policyName(size), By: by}, run})
		}
		ours := func(by string, policy proxyproto.Policy) {
			do(by, func(n int) {
				for i := range n {
					kept.n += int(policy(proxyproto.Peer{Addr: peers[i%many], Local: local}))
				}
			})
		}
		ours(nameTrust, proxyproto.Trust(prefixes...))
		ours(nameRules, proxyproto.Rules(proxyproto.Reject, rules...))
		other, err := pires.TrustProxyHeaderFromRanges(texts)
		check(err)
		downstream := net.TCPAddrFromAddrPort(local)
		do(namePires, func(n int) {
			for i := range n {
				action, _ := other(pires.ConnPolicyOptions{
					Upstream: upstreams[i%many], Downstream: downstream})
				kept.n += int(action)
			}
		})
	}
	return all
}

const (
	nameTrust = "Trust"
	nameRules = "Rules"
)

func policyName(size int) string {
	if size == 1 {
		return "1 prefix"
	}
	return grouped(size) + " prefixes"
}

// grouped writes a number with a comma every three digits.
func grouped(n int) string {
	if n < 1000 {
		return strconv.Itoa(n)
	}
	return grouped(n/1000) + fmt.Sprintf(",%03d", n%1000)
}
