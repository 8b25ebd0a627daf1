package migrate

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"time"

	"github.com/seed2e8fe8ee/proxyproto"
	"github.com/seed2e8fe8ee/proxyproto/proxyudp"
)

// The settings of programs, as docs/migrate.md has them: its Go blocks stand here word for word.

func within(p proxyproto.Peer, ranges []netip.Prefix) bool {
	return slices.ContainsFunc(ranges, func(r netip.Prefix) bool { return r.Contains(p.Addr.Addr()) })
}

func traefik(trustedIPs []string, insecure bool) (proxyproto.Policy, error) {
	trusted, err := proxyproto.ParsePrefixes(trustedIPs...)
	if err != nil {
		return nil, err
	}
	return func(p proxyproto.Peer) proxyproto.Action {
		if insecure || within(p, trusted) {
			return proxyproto.Optional
		}
		return proxyproto.Ignore
	}, nil
}

func sftpgo(proxyProtocol int, proxyAllowed, proxySkipped []string) (proxyproto.Policy, error) {
	allowed, err1 := proxyproto.ParsePrefixes(proxyAllowed...)
	skipped, err2 := proxyproto.ParsePrefixes(proxySkipped...)
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	return func(p proxyproto.Peer) proxyproto.Action {
		required, listed := proxyProtocol == 2, within(p, allowed)
		switch {
		case within(p, skipped):
			return proxyproto.Skip
		case required && listed:
			return proxyproto.Require
		case required:
			return proxyproto.Reject
		case listed:
			return proxyproto.Optional
		}
		return proxyproto.Ignore
	}, nil
}

func caddy(allow, deny []string, fallbackPolicy string) (*proxyproto.Config, error) {
	allowed, err1 := proxyproto.ParsePrefixes(allow...)
	denied, err2 := proxyproto.ParsePrefixes(deny...)
	fallback, refuse := proxyproto.Optional, fallbackPolicy == "reject"
	var err3 error
	if !refuse && fallbackPolicy != "use" {
		err3 = fallback.UnmarshalText([]byte(cmp.Or(fallbackPolicy, "ignore")))
	}
	if err := errors.Join(err1, err2, err3); err != nil {
		return nil, err
	}
	unix := func(p proxyproto.Peer) bool { return !p.Addr.IsValid() }
	return &proxyproto.Config{
		Policy: func(p proxyproto.Peer) proxyproto.Action {
			if unix(p) || within(p, denied) || within(p, allowed) {
				return proxyproto.Optional
			}
			return fallback
		},
		Validate: func(p proxyproto.Peer, _ *proxyproto.Header) error {
			if within(p, denied) || refuse && !unix(p) && !within(p, allowed) {
				return errors.New("this peer may not send a header")
			}
			return nil
		},
	}, nil
}

func coredns(allow []string, byDefault string) (*proxyproto.Config, error) {
	if len(allow) == 0 {
		byDefault = cmp.Or(byDefault, "use")
	}
	return caddy(allow, nil, byDefault)
}

func corednsUDP(tcp *proxyproto.Config, ttl time.Duration, maxSessions int) *proxyudp.Config {
	cfg := &proxyudp.Config{
		Policy:   tcp.Policy,
		Validate: tcp.Validate,
		Versions: []proxyproto.Version{proxyproto.V2},
	}
	if ttl > 0 {
		cfg.Sessions, cfg.SessionTimeout = cmp.Or(maxSessions, 10_240), ttl
	}
	return cfg
}

func gitea(acceptUnknown bool, timeout time.Duration) *proxyproto.Config {
	if timeout == 0 {
		timeout = -1 // no limit
	}
	return &proxyproto.Config{
		Policy:        proxyproto.Always(proxyproto.Require), // better: Trust(proxies...)
		HeaderTimeout: timeout,
		Validate: func(_ proxyproto.Peer, h *proxyproto.Header) error {
			if h.Command == proxyproto.Proxy && !h.HasAddrs() && !acceptUnknown {
				return fmt.Errorf("a header without addresses: %v", h)
			}
			return nil
		},
	}
}

func frp(source, destination net.Addr, version string) *proxyproto.Header {
	if version == "v1" {
		return proxyproto.NewHeader(source, destination, proxyproto.V1)
	}
	return proxyproto.NewHeader(source, destination, proxyproto.V2)
}

func caddyL4(ctx context.Context, c net.Conn, cfg *proxyproto.Config) (net.Conn, error) {
	conn, err := proxyproto.NewConn(c, cfg)
	if err != nil {
		return nil, err
	}
	if err := conn.ReadHeader(ctx); err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

func healthChecks(dialer *proxyproto.Dialer) *http.Transport {
	local := &proxyproto.Header{Version: proxyproto.V2, Command: proxyproto.Local}
	return &http.Transport{
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			return dialer.DialHeader(ctx, network, address, local)
		},
	}
}
