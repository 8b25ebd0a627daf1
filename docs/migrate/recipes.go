package migrate

import (
	"log"
	"net"
	"net/http"
	"net/netip"
	"time"

	armon "github.com/armon/go-proxyproto"
	"github.com/mastercactapus/proxyprotocol"
	pires "github.com/pires/go-proxyproto"

	"github.com/seed2e8fe8ee/proxyproto"
)

// The code of docs/migrate.md: each of its Go blocks stands in one of these functions.

func beforePires(inner net.Listener, handler http.Handler) error {
	ln := &pires.Listener{Listener: inner, ReadHeaderTimeout: 5 * time.Second}
	return http.Serve(ln, handler)
}

func beforeArmon(inner net.Listener, handler http.Handler) error {
	ln := &armon.Listener{Listener: inner, ProxyHeaderTimeout: 5 * time.Second}
	return http.Serve(ln, handler)
}

func beforeMastercactapus(inner net.Listener, handler http.Handler) error {
	ln := proxyprotocol.NewListener(inner, 5*time.Second)
	return http.Serve(ln, handler)
}

func after(inner net.Listener, handler http.Handler) error {
	policy, err := proxyproto.ParseTrust("10.0.0.0/24") // the proxies
	if err != nil {
		return err
	}
	ln, err := proxyproto.NewListener(inner, &proxyproto.Config{
		Policy: policy,
		OnDrop: proxyproto.LogDrops(nil),
	})
	if err != nil {
		return err
	}
	return http.Serve(ln, handler)
}

func begin(proxies netip.Prefix) proxyproto.Policy {
	return proxyproto.Rules(proxyproto.Ignore, proxyproto.Rule{Prefix: proxies, Action: proxyproto.Optional})
}

func watch(ln *proxyproto.Listener) {
	stats := ln.Stats()
	log.Printf("%d came without a header, %d with one but aren't in the list", stats.Bare, stats.Ignored)
}

func finish(ln *proxyproto.Listener, proxies netip.Prefix) {
	ln.SetPolicy(proxyproto.Trust(proxies))
}

func handlerBefore(c net.Conn) *pires.Header {
	if c, ok := c.(*pires.Conn); ok {
		return c.ProxyHeader()
	}
	return nil
}

func handlerAfter(c net.Conn) *proxyproto.Header {
	if c, ok := proxyproto.FromConn(c); ok {
		return c.Header()
	}
	return nil
}
