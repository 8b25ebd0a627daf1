package interop

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"testing"

	"github.com/seed2e8fe8ee/proxyproto"
	"github.com/seed2e8fe8ee/proxyproto/interop/internal/proxies"
)

// requests go over each HTTP/2 connection.
const requests = 4

// TLS ends at HAProxy, which negotiates h2, and our server gets cleartext HTTP/2: either the
// client's own connection (mode tcp), or requests that HAProxy has taken apart and puts on
// connections to us as it likes (mode http), each of which has to be one client's nevertheless.
// (Not with "http-reuse always": HAProxy 2.6.12 then hangs before it has sent the header when a
// client's first requests come at once.)
func TestHAProxyHTTP2(t *testing.T) {
	ca := proxies.NewCA(t, proxies.P256)
	files := map[string]string{"server.pem": proxies.PEM(t, ca.Server(t, serverName))}
	for _, test := range []struct{ mode, options string }{
		{"tcp", ""},
		{"http", "proto h2"},
	} {
		t.Run(test.mode, func(t *testing.T) {
			b := listen(t)
			srv := &http.Server{
				Handler:     http.HandlerFunc(whoamiHTTP2),
				ConnContext: proxyproto.ConnContext,
				Protocols:   new(http.Protocols),
			}
			srv.Protocols.SetUnencryptedHTTP2(true)
			b.serveHTTP(t, b, srv)
			addr := proxies.FreeAddr(t)
			proxies.StartHAProxy(t, fmt.Sprintf(`
listen h2
	mode %s
	bind %s ssl crt server.pem alpn h2
	server backend %s send-proxy-v2 %s
`, test.mode, addr, b.addr, test.options), files)

			what := fmt.Sprintf("haproxy v2 cleartext HTTP/2, mode %s, %d requests each", test.mode, requests)
			client := &tls.Config{
				RootCAs:          ca.Pool(),
				ServerName:       serverName,
				CurvePreferences: []tls.CurveID{tls.X25519}, // the cheapest
			}
			each(t, what, connections, concurrency, func(i int) (netip.Addr, error) {
				return proxies.ClientAddr(i), askHTTP2(t.Context(), i, addr, client)
			})
			if test.mode == "tcp" {
				b.accepted(t, proxyproto.V2, connections)
			} else {
				b.accepted(t, proxyproto.V2, max(connections, int(b.Stats().Accepted)))
			}
		})
	}
}

func whoamiHTTP2(w http.ResponseWriter, r *http.Request) {
	if r.ProtoMajor != 2 || r.TLS != nil {
		http.Error(w, "not cleartext HTTP/2: "+r.Proto, http.StatusInternalServerError)
		return
	}
	whoamiFromContext(w, r)
}

// askHTTP2 sends requests over one connection, at once, and compares every answer.
func askHTTP2(ctx context.Context, i int, addr string, cfg *tls.Config) error {
	var conn net.Conn
	tr := &http.Transport{
		DialContext: func(context.Context, string, string) (c net.Conn, err error) {
			conn, err = proxies.Dial(i, addr)
			return conn, err
		},
		TLSClientConfig: cfg.Clone(),
		Protocols:       new(http.Protocols),
	}
	tr.Protocols.SetHTTP2(true)
	defer tr.CloseIdleConnections()
	cc, err := tr.NewClientConn(ctx, "https", addr)
	if err != nil {
		return err
	}
	defer cc.Close()

	want := pair(conn.LocalAddr(), conn.RemoteAddr())
	errs := make(chan error, requests)
	var wg sync.WaitGroup
	for range requests {
		wg.Go(func() { errs <- request(ctx, cc, "https://"+serverName+"/", want) })
	}
	wg.Wait()
	for range requests {
		if err := <-errs; err != nil {
			return err
		}
	}
	return nil
}

func request(ctx context.Context, rt http.RoundTripper, url, want string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := rt.RoundTrip(req)
	if err != nil {
		return err
	}
	return checkResponse(resp, want)
}
