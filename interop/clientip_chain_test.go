package interop

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed2e8fe8ee/proxyproto"
	"github.com/seed2e8fe8ee/proxyproto/clientip"
	"github.com/seed2e8fe8ee/proxyproto/interop/internal/proxies"
)

// Where the proxies in front of package clientip's servers connect from.
const (
	chainL4   = "127.0.0.20" // nginx' stream module: PROXY
	chainL7   = "127.0.0.21" // nginx' http module: fields
	chainHA   = "127.0.0.22" // HAProxy, mode http: fields
	chainBoth = "127.0.0.23" // HAProxy, mode http: PROXY and fields
	chainCDN  = "127.0.0.24" // nginx' http module in front of chainL4: fields
)

// chainClients go through each chain.
const chainClients = 100

// forgedFields is what every client writes, to be taken for somebody else.
const forgedFields = "X-Forwarded-For: 203.0.113.66\r\nX-Forwarded-For: 203.0.113.67, " + chainL7 +
	"\r\nX-Real-IP: 203.0.113.66\r\n" +
	"Forwarded: for=203.0.113.66;proto=https, for=\"" + chainHA +
	"\r\nTrue-Client-IP: 203.0.113.66\r\nCF-Connecting-IP: 203.0.113.66\r\n" +
	"X_Forwarded_For: 203.0.113.66\r\nX-Forwarded-Host: evil.test\r\nX-Forwarded-Proto: https\r\n"

// chainAnswer says who the client is, in all places where a handler could look.
func chainAnswer(w http.ResponseWriter, r *http.Request) {
	client, ok := clientip.ClientFromContext(r.Context())
	if !ok {
		http.Error(w, "no client in the context", http.StatusInternalServerError)
		return
	}
	for name, lines := range r.Header {
		if strings.Contains(strings.Join(lines, " "), "203.0.113.6") {
			http.Error(w, fmt.Sprintf("forged: %s: %q", name, lines),
				http.StatusInternalServerError)
			return
		}
	}
	fmt.Fprintf(w, "%s by %v, proxied %v, %s, %s; %s; %s; %s", r.RemoteAddr, client.Found,
		client.Proxied, clientip.Scheme(r.Context()), r.Header.Get("X-Forwarded-For"),
		r.Header.Get("X-Real-IP"), r.Header.Get("Forwarded"), r.Header.Get("X-Forwarded-Host"))
}

// chainWant is the answer that a client expects.
func chainWant(remote netip.AddrPort, found clientip.Found, proxied bool, scheme,
	host string) string {
	ip := remote.Addr()
	return fmt.Sprintf("%v by %v, proxied %v, %s, %v; %v; for=%v;proto=%s; %s", remote, found,
		proxied, scheme, ip, ip, ip, scheme, host)
}

// startChainServer starts a server that all the proxies reach on one port, and returns its address.
// With a certificate it speaks TLS.
func startChainServer(t *testing.T, field string, h http.Handler,
	certificates ...tls.Certificate) string {
	t.Helper()
	rule := func(addr string, action proxyproto.Action) proxyproto.Rule {
		return proxyproto.Rule{Prefix: netip.PrefixFrom(netip.MustParseAddr(addr), 32),
			Action: action}
	}
	ln, err := proxyproto.Listen("tcp", "127.0.0.1:0", &proxyproto.Config{
		Policy: proxyproto.Rules(proxyproto.Reject,
			rule(chainL4, proxyproto.Require), rule(chainBoth, proxyproto.Require),
			rule(chainL7, proxyproto.Skip), rule(chainHA, proxyproto.Skip)),
		HeaderTimeout: proxies.Timeout,
	})
	require.NoError(t, err)
	trust, err := proxyproto.ParsePrefixes(chainL7, chainHA, chainBoth, chainCDN)
	require.NoError(t, err)
	h, err = clientip.NewHandler(h, &clientip.Config{Trust: trust, Field: field, Rewrite: true})
	require.NoError(t, err)
	srv := &http.Server{Handler: h, ConnContext: proxyproto.ConnContext,
		Protocols: new(http.Protocols)}
	srv.Protocols.SetHTTP1(true)
	srv.Protocols.SetUnencryptedHTTP2(true)
	done := make(chan error, 1)
	if certificates == nil {
		go func() { done <- srv.Serve(ln) }()
	} else {
		srv.TLSConfig = &tls.Config{Certificates: certificates}
		go func() { done <- srv.ServeTLS(ln, "", "") }()
	}
	t.Cleanup(func() {
		srv.Close()
		assert.ErrorIs(t, <-done, http.ErrServerClosed)
	})
	return ln.Addr().String()
}

// chainProxies are the proxies' addresses, by what they do.
type chainProxies struct{ l4, l4ToL7, cdn, haXFF, haForwarded, haBoth, haBothH2, haTLS string }

func startChainProxies(t *testing.T, list, forwarded string) (p chainProxies) {
	t.Helper()
	for _, addr := range []*string{&p.l4, &p.l4ToL7, &p.cdn, &p.haXFF, &p.haForwarded, &p.haBoth,
		&p.haBothH2, &p.haTLS} {
		*addr = proxies.FreeAddr(t)
	}
	l7 := proxies.FreeAddr(t)
	stream := func(listen, to string) string {
		return fmt.Sprintf("server {\nlisten %s;\nproxy_pass %s;\nproxy_bind %s;\nproxy_protocol on;\n}\n", listen, to, chainL4)
	}
	proxies.StartNginx(t, stream(p.l4, list)+stream(p.l4ToL7, l7), nil)
	proxies.StartNginxHTTP(t, fmt.Sprintf(`
	proxy_http_version 1.1;
	proxy_set_header Host $http_host;
	proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
	proxy_set_header X-Forwarded-Proto $scheme;
	proxy_set_header X-Forwarded-Host good.test;
	proxy_set_header Upgrade $http_upgrade;
	proxy_set_header Connection $http_connection;
	server {
		listen %s proxy_protocol;
		set_real_ip_from %s;
		real_ip_header proxy_protocol;
		location / { proxy_pass http://%s; proxy_bind %s; }
	}
	server {
		listen %s;
		location / { proxy_pass http://%s; proxy_bind %s; }
	}
`, l7, chainL4, list, chainL7, p.cdn, p.l4, chainCDN))

	ca := proxies.NewCA(t, proxies.P256)
	listen := chainHAProxy
	const good = "\n\thttp-request set-header X-Forwarded-Proto http\n\thttp-request set-header X-Forwarded-Host good.test"
	proxies.StartHAProxy(t,
		listen("http", p.haXFF, list, chainHA, "", "option forwardfor"+good)+
			listen("http", p.haForwarded, forwarded, chainHA, "",
				"http-request set-header Forwarded for=%[src];proto=http"+good)+
			listen("http", p.haBoth, list, chainBoth, "send-proxy-v2", "option forwardfor"+good)+
			listen("http", p.haBothH2, list, chainBoth, "send-proxy-v2 proto h2",
				"option forwardfor"+good)+
			listen("tcp", p.haTLS+" ssl crt server.pem", list, chainL4, "send-proxy-v2-ssl", ""),
		map[string]string{"server.pem": proxies.PEM(t, ca.Server(t, "interop.test"))})
	return p
}

// chainHAProxy is a proxy in HAProxy's configuration.
func chainHAProxy(mode, bind, to, source, options, rules string) string {
	return fmt.Sprintf("listen %s\n\tmode %s\n\tbind %s\n\t%s\n\tserver go %s source %s %s\n\n",
		strings.NewReplacer(":", "_", " ", "_").Replace(bind), mode, bind, rules, to, source,
		options)
}

// Every chain names the client, and nothing that the client wrote reaches the handler.
func TestClientIPChains(t *testing.T) {
	list := startChainServer(t, "X-Forwarded-For", http.HandlerFunc(chainAnswer))
	forwarded := startChainServer(t, "Forwarded", http.HandlerFunc(chainAnswer))
	p := startChainProxies(t, list, forwarded)
	for _, test := range []struct {
		name, addr string
		found      clientip.Found
		proxied    bool
		tls        bool
	}{
		{"nginx stream, PROXY", p.l4, clientip.FoundHeader, false, false},
		{"nginx stream, PROXY -> nginx http, X-Forwarded-For", p.l4ToL7, clientip.FoundField, true,
			false},
		{"nginx http, X-Forwarded-For -> nginx stream, PROXY", p.cdn, clientip.FoundField, true,
			false},
		{"HAProxy, X-Forwarded-For", p.haXFF, clientip.FoundField, true, false},
		{"HAProxy, Forwarded", p.haForwarded, clientip.FoundField, true, false},
		{"HAProxy, PROXY and X-Forwarded-For", p.haBoth, clientip.FoundHeader, true, false},
		{"HAProxy, PROXY and X-Forwarded-For, HTTP/2", p.haBothH2, clientip.FoundHeader, true,
			false},
		{"HAProxy, TLS, PROXY with an SSL TLV", p.haTLS, clientip.FoundHeader, false, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			for i := range chainClients {
				c, err := proxies.Dial(i, test.addr)
				require.NoError(t, err)
				remote := netip.MustParseAddrPort(c.LocalAddr().String())
				if test.found == clientip.FoundField {
					remote = netip.AddrPortFrom(remote.Addr(), 0)
				}
				scheme, host := "http", ""
				if test.tls {
					c, scheme = tls.Client(c, &tls.Config{InsecureSkipVerify: true}), "https"
				}
				if test.proxied {
					host = "good.test"
				}
				answer, err := askForged(c)
				require.NoError(t, err)
				assert.Equal(t, chainWant(remote, test.found, test.proxied, scheme, host), answer)
				c.Close()
			}
			t.Logf("%d clients, each with an address of its own", chainClients)
		})
	}
}

// askForged sends two requests with forged fields over the connection, and returns the answer to
// both.
func askForged(c net.Conn) (string, error) {
	r := bufio.NewReader(c)
	var answers [2]string
	for i := range answers {
		if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: interop.test\r\n"+forgedFields+
			"\r\n"); err != nil {
			return "", err
		}
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			return "", err
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			return "", err
		}
		resp.Body.Close()
		answers[i] = string(body)
	}
	if answers[0] != answers[1] {
		return "", fmt.Errorf("two answers on one connection: %q, %q", answers[0], answers[1])
	}
	return answers[0], nil
}

// A WebSocket's handler takes over the connection, and knows its client.
func TestClientIPWebSocket(t *testing.T) {
	hijack := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		defer c.Close()
		rw.WriteString("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		rw.Flush()
		line, err := rw.ReadString('\n')
		if err == nil {
			fmt.Fprintf(rw, "%s%s\n", line, r.RemoteAddr)
			rw.Flush()
		}
	})
	list := startChainServer(t, "X-Forwarded-For", hijack)
	p := startChainProxies(t, list, list)
	for _, addr := range []string{p.l4, p.l4ToL7, p.cdn, p.haXFF, p.haBoth} {
		c, err := proxies.Dial(7, addr)
		require.NoError(t, err)
		defer c.Close()
		_, err = io.WriteString(c,
			"GET / HTTP/1.1\r\nHost: interop.test\r\nConnection: Upgrade\r\nUpgrade: echo\r\n"+
				forgedFields+"\r\n")
		require.NoError(t, err)
		r := bufio.NewReader(c)
		resp, err := http.ReadResponse(r, nil)
		require.NoError(t, err)
		require.Equal(t, http.StatusSwitchingProtocols, resp.StatusCode)
		_, err = io.WriteString(c, "hello\n")
		require.NoError(t, err)
		rest, err := io.ReadAll(r)
		require.NoError(t, err)
		remote := netip.MustParseAddrPort(strings.TrimSpace(strings.TrimPrefix(string(rest),
			"hello\n")))
		assert.Equal(t, proxies.ClientAddr(7), remote.Addr())
	}
}

// A reverse proxy behind the handler names the client to the next server, and nobody else.
func TestClientIPReverseProxy(t *testing.T) {
	last := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%q %q", r.Header["X-Forwarded-For"], r.Header["X-Real-Ip"])
		for name, lines := range r.Header {
			if strings.Contains(strings.Join(lines, " "), "203.0.113.6") {
				fmt.Fprintf(w, " forged: %s", name)
			}
		}
	}))
	defer last.Close()
	target, err := url.Parse(last.URL)
	require.NoError(t, err)
	list := startChainServer(t, "X-Forwarded-For", &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(target)
		r.SetXForwarded()
	}})
	p := startChainProxies(t, list, list)
	for _, addr := range []string{p.l4, p.l4ToL7, p.cdn, p.haXFF, p.haBoth, p.haBothH2} {
		c, err := proxies.Dial(9, addr)
		require.NoError(t, err)
		defer c.Close()
		answer, err := askForged(c)
		require.NoError(t, err)
		client := proxies.ClientAddr(9).String()
		assert.Equal(t, fmt.Sprintf("[%q] [%q]", client, client), answer)
	}
}

// In front of a server that speaks TLS itself, HAProxy says how the client came in four ways. Each
// client writes the contrary.
func TestClientIPScheme(t *testing.T) {
	ca := proxies.NewCA(t, proxies.P256)
	server := startChainServer(t, "X-Forwarded-For", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, clientip.Scheme(r.Context()))
	}), ca.Server(t, "interop.test"))
	tests := []struct {
		name, mode, bind, source, options, rules string
		tls                                      bool
		want                                     string
	}{
		{"TLS passes through; the SSL TLV says that there is none", "tcp", "", chainL4,
			"send-proxy-v2-ssl", "", true, "https"},
		{"X-Forwarded-Proto, encrypted", "http", "", chainHA, "ssl verify none",
			"http-request set-header X-Forwarded-Proto http", false, "http"},
		{"the SSL TLV says that there is none, encrypted", "http", "", chainBoth,
			"send-proxy-v2-ssl ssl verify none", "http-request del-header X-Forwarded-Proto", false,
			"http"},
		{"the SSL TLV, and a client's X-Forwarded-Proto passes through", "http",
			" ssl crt server.pem", chainBoth, "send-proxy-v2-ssl ssl verify none", "", true,
			"https"},
	}
	addrs, config := make([]string, len(tests)), ""
	for i, test := range tests {
		addrs[i] = proxies.FreeAddr(t)
		config += chainHAProxy(test.mode, addrs[i]+test.bind, server, test.source, test.options,
			test.rules)
	}
	proxies.StartHAProxy(t, config,
		map[string]string{"server.pem": proxies.PEM(t, ca.Server(t, "interop.test"))})
	for i, test := range tests {
		c, err := proxies.Dial(i, addrs[i])
		require.NoError(t, err)
		defer c.Close()
		contrary := "https"
		if test.tls {
			c, contrary = tls.Client(c, &tls.Config{InsecureSkipVerify: true}), "http"
		}
		_, err = io.WriteString(c, "GET / HTTP/1.1\r\nHost: interop.test\r\nX-Forwarded-Proto: "+
			contrary+"\r\n\r\n")
		require.NoError(t, err, test.name)
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		require.NoError(t, err, test.name)
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		assert.Equal(t, test.want, string(body), test.name)
	}
}
