package migrate

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"

	pires "github.com/pires/go-proxyproto"
	"github.com/stretchr/testify/require"

	"github.com/seed2e8fe8ee/proxyproto"
)

// A setting of a program: its own library as it uses it, and ours.
type setting struct {
	name         string
	theirs, ours listen
}

// oddAddr is in the proxy's range and yet another: in SFTPGo's skipped and Caddy's deny list.
var oddAddr = &net.TCPAddr{IP: net.IPv4(10, 0, 0, 99), Port: 40001}

const oddRange = "10.0.0.99"

func isOdd(a net.Addr) bool { return a.(*net.TCPAddr).IP.Equal(oddAddr.IP) }

// A listen wraps a listener with one of the libraries.
type listen = func(inner net.Listener) net.Listener

func policyOf(t *testing.T) func(p proxyproto.Policy, err error) listen {
	return func(p proxyproto.Policy, err error) listen {
		require.NoError(t, err)
		return oursWith(proxyproto.Config{Policy: p})
	}
}

func configOf(t *testing.T) func(cfg *proxyproto.Config, err error) listen {
	return func(cfg *proxyproto.Config, err error) listen {
		require.NoError(t, err)
		return oursWith(*cfg)
	}
}

// byAddr is a policy of pires as programs write it.
func byAddr(decide func(upstream net.Addr) pires.Policy) listen {
	return piresPolicy(func(o pires.ConnPolicyOptions) (pires.Policy, error) {
		return decide(o.Upstream), nil
	})
}

func traefikSettings(t *testing.T) []setting {
	ours := policyOf(t)
	return []setting{
		{"trustedIPs", byAddr(func(a net.Addr) pires.Policy {
			if !inProxyRange(a) {
				return pires.IGNORE
			}
			return pires.USE
		}), ours(traefik([]string{proxyRange}, false))},
		{"insecure", piresWith(pires.USE), ours(traefik(nil, true))},
	}
}

func sftpgoSettings(t *testing.T) (settings []setting) {
	ours := policyOf(t)
	policy := func(def pires.Policy) listen {
		return piresPolicy(func(o pires.ConnPolicyOptions) (pires.Policy, error) {
			switch a := o.Upstream; {
			case isOdd(a):
				return pires.SKIP, nil
			case inProxyRange(a) && def == pires.REQUIRE:
				return pires.REQUIRE, nil
			case inProxyRange(a):
				return pires.USE, nil
			case def == pires.REQUIRE:
				return pires.REJECT, pires.ErrInvalidUpstream
			}
			return def, nil
		})
	}
	none := func(inner net.Listener) net.Listener { return inner }
	return []setting{
		{"0", none, none},
		{"1", policy(pires.IGNORE), ours(sftpgo(1, []string{proxyRange}, []string{oddRange}))},
		{"2", policy(pires.REQUIRE), ours(sftpgo(2, []string{proxyRange}, []string{oddRange}))},
	}
}

var piresPolicies = []struct {
	name   string
	policy pires.Policy
}{
	{"ignore", pires.IGNORE}, {"use", pires.USE}, {"reject", pires.REJECT},
	{"require", pires.REQUIRE}, {"skip", pires.SKIP},
}

func caddySettings(t *testing.T) (settings []setting) {
	ours := configOf(t)
	for _, fallback := range piresPolicies {
		theirs := byAddr(func(a net.Addr) pires.Policy {
			switch {
			case isOdd(a):
				return pires.REJECT
			case inProxyRange(a):
				return pires.USE
			}
			return fallback.policy
		})
		settings = append(settings, setting{fallback.name, theirs,
			ours(caddy([]string{proxyRange}, []string{oddRange}, fallback.name))})
	}
	return settings
}

func corednsSettings(t *testing.T) []setting {
	ours := configOf(t)
	settings := []setting{{"no `allow`", piresWith(pires.USE), ours(coredns(nil, ""))}}
	for _, fallback := range piresPolicies {
		if fallback.policy == pires.REQUIRE {
			continue // the plugin doesn't have it
		}
		theirs := byAddr(func(a net.Addr) pires.Policy {
			if inProxyRange(a) {
				return pires.USE
			}
			return fallback.policy
		})
		settings = append(settings, setting{"`default " + fallback.name + "`", theirs,
			ours(coredns([]string{proxyRange}, fallback.name))})
	}
	return settings
}

// giteaSettings has what pires makes of these settings: Gitea's reader is its own.
func giteaSettings(*testing.T) (settings []setting) {
	known := func(h *pires.Header) error {
		if h.Version == 1 && h.SourceAddr == nil {
			return errors.New("unknown")
		}
		return nil
	}
	for _, timeout := range []time.Duration{limit, 0} {
		for _, acceptUnknown := range []bool{false, true} {
			theirs := func(inner net.Listener) net.Listener {
				ln := &pires.Listener{Listener: inner, ReadHeaderTimeout: timeout, ValidateHeader: known}
				if acceptUnknown {
					ln.ValidateHeader = nil
				}
				if timeout == 0 {
					ln.ReadHeaderTimeout = -1
				}
				return ln
			}
			ours := func(inner net.Listener) net.Listener {
				ln, err := proxyproto.NewListener(inner, gitea(acceptUnknown, timeout))
				if err != nil {
					panic(err)
				}
				return ln
			}
			name := "5s"
			if timeout == 0 {
				name = "0"
			}
			if acceptUnknown {
				name += ", accept unknown"
			}
			settings = append(settings, setting{name, theirs, ours})
		}
	}
	return settings
}

// handling is a listener whose connections go through a handler, in a world of one connection.
type handling struct {
	net.Listener
	handle func(c net.Conn) (net.Conn, error)
}

func (ln handling) Accept() (net.Conn, error) {
	for {
		c, err := ln.Listener.Accept()
		if err != nil {
			return nil, err
		}
		conn, err := ln.handle(c)
		if err == nil {
			return conn, nil
		}
		c.Close()
	}
}

// caddyL4Settings has Caddy's lists, for connections that a handler wraps. Theirs has the policy of
// pires 0.13, which is what the handler leaves it at.
func caddyL4Settings(t *testing.T) (settings []setting) {
	for _, fallback := range piresPolicies {
		theirs := func(c net.Conn) (net.Conn, error) {
			policy := fallback.policy
			switch {
			case isOdd(c.RemoteAddr()):
				policy = pires.REJECT
			case inProxyRange(c.RemoteAddr()):
				policy = pires.USE
			}
			if policy == pires.REJECT {
				return c, nil
			}
			conn := pires.NewConn(c, pires.WithPolicy(pires.USE), pires.SetReadHeaderTimeout(limit))
			if conn.ProxyHeader() == nil && policy == pires.REQUIRE {
				return nil, errors.New("no header")
			}
			return conn, nil
		}
		cfg, err := caddy([]string{proxyRange}, []string{oddRange}, fallback.name)
		require.NoError(t, err)
		cfg.HeaderTimeout = limit
		ours := func(c net.Conn) (net.Conn, error) { return caddyL4(context.Background(), c, cfg) }
		settings = append(settings, setting{fallback.name, handled(theirs), handled(ours)})
	}
	return settings
}

func handled(handle func(net.Conn) (net.Conn, error)) listen {
	return func(inner net.Listener) net.Listener { return handling{inner, handle} }
}
