package interop

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/go-chi/chi/v5/middleware"
	"github.com/realclientip/realclientip-go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed2e8fe8ee/proxyproto"
	"github.com/seed2e8fe8ee/proxyproto/clientip"
	"github.com/seed2e8fe8ee/proxyproto/interop/internal/proxies"
)

// What all judges of a field trust. Requests come from the first, or from somebody else.
var agreementTrust = []string{proxies.Proxy, "10.0.0.0/8", "2001:db8:1::/48"}

// Outcomes besides an address.
const (
	outcomeNone    = "nobody"  // no client
	outcomeRefused = "refused" // the request is answered by an error
)

// judge is somebody's way to find a request's client.
type judge struct {
	name   string // who, and by which setting
	field  string // what it reads; like ours if it is ""
	hops   int    // how many proxies it counts; 0: it goes by prefixes
	like   string // the name of the judge of ours whose setting is the same; "" if it is ours
	quirks quirks
	// ask sends the request, or is nil for a judge in our server.
	ask func(r *agreementRequest) (string, error)
}

// fieldPROXY is what a judge reads that takes a PROXY header and then the field.
const fieldPROXY = "PROXY, then X-Forwarded-For"

const (
	oursXFF       = "clientip, X-Forwarded-For, Trust"
	oursXFFHops   = "clientip, X-Forwarded-For, Hops"
	oursRealIP    = "clientip, X-Real-IP, Trust"
	oursForwarded = "clientip, Forwarded, Trust"
	oursPROXY     = "clientip, PROXY and X-Forwarded-For, Trust"
)

// agreementHops is how many proxies there are for the judges that count them.
const agreementHops = 2

// startJudges starts all of them. Those without ask answer together, by goJudges.
func startJudges(t *testing.T) (all []*judge, goJudges func(r *agreementRequest) (map[string]string, error)) {
	t.Helper()
	nginxXFF, nginxRealIP, nginxPROXY := proxies.FreeAddr(t), proxies.FreeAddr(t), proxies.FreeAddr(t)
	var from strings.Builder
	for _, prefix := range agreementTrust {
		fmt.Fprintf(&from, "set_real_ip_from %s;\n", prefix)
	}
	server := func(listen, header string) string {
		return fmt.Sprintf("server {\nlisten %s;\n%s\nreal_ip_header %s;\nreal_ip_recursive on;\nreturn 200 $remote_addr;\n}\n",
			listen, from.String(), header)
	}
	proxies.StartNginxHTTP(t, server(nginxXFF, "X-Forwarded-For")+server(nginxRealIP, "X-Real-IP")+
		server(nginxPROXY+" proxy_protocol", "proxy_protocol"))

	apacheXFF, apacheRealIP := proxies.FreeAddr(t), proxies.FreeAddr(t)
	host := func(addr, header string) string {
		return fmt.Sprintf("<VirtualHost %s>\nServerName localhost\nRemoteIPHeader %s\nRemoteIPInternalProxy %s\n"+
			"Header always set Client \"expr=%%{REMOTE_ADDR}\"\n</VirtualHost>\n",
			addr, header, strings.Join(agreementTrust, " "))
	}
	proxies.StartApache(t, apacheXFF, "LoadModule headers_module /usr/lib/apache2/modules/mod_headers.so\nListen "+apacheRealIP+
		"\n"+host(apacheXFF, "X-Forwarded-For")+host(apacheRealIP, "X-Real-IP"))

	body := func(resp *http.Response, body string) string { return body }
	header := func(resp *http.Response, _ string) string { return resp.Header.Get("Client") }
	asks := func(addr string, proxyLine bool, answer func(*http.Response, string) string) func(*agreementRequest) (string, error) {
		return func(r *agreementRequest) (string, error) {
			resp, text, err := r.send(addr, proxyLine)
			if err != nil {
				return "", err
			}
			if resp.StatusCode == http.StatusBadRequest {
				return outcomeRefused, nil
			}
			return plainAddr(answer(resp, text)), nil
		}
	}
	goAddr, goPROXY := startGoJudges(t)
	chi := quirkNobodyMissing | quirkNobodyBad | quirkPort | quirkBrackets | quirkZone
	nginx := quirkSpaces | quirkTab | quirkPortZero | quirkBareBrackets | quirkBroadcast | quirkLeading | quirkBlankLine |
		quirkTrailingColon | quirkZeros
	apache := quirkTab | quirkZone | quirkEmpty | quirkPort | quirkBrackets | quirkAton | quirkNames
	real := quirkEmptyZone | quirkPeer | quirkNobodyMissing | quirkNobodyBad | quirkAnyPort | quirkBracketsV4 | quirkZone | quirkUnspecified |
		quirkEmpty
	all = []*judge{
		{name: oursXFF, field: "X-Forwarded-For"},
		{name: "nginx, real_ip_header X-Forwarded-For", like: oursXFF, quirks: nginx,
			ask: asks(nginxXFF, false, body)},
		{name: "Apache, RemoteIPHeader X-Forwarded-For", like: oursXFF, quirks: apache,
			ask: asks(apacheXFF, false, header)},
		{name: "chi, ClientIPFromXFF", like: oursXFF, quirks: chi | quirkNobodyTrusted},
		{name: "realclientip, RightmostTrustedRange", like: oursXFF, quirks: real | quirkNobodyTrusted},

		{name: oursXFFHops, field: "X-Forwarded-For", hops: agreementHops},
		{name: "chi, ClientIPFromXFFTrustedProxies", like: oursXFFHops, quirks: chi | quirkNobodyShort | quirkCountsBad},
		{name: "realclientip, RightmostTrustedCount", like: oursXFFHops, quirks: real | quirkNobodyShort | quirkCountsBad},

		{name: oursRealIP, field: "X-Real-IP"},
		{name: "nginx, real_ip_header X-Real-IP", like: oursRealIP, quirks: nginx | quirkList | quirkFirstLine,
			ask: asks(nginxRealIP, false, body)},
		{name: "Apache, RemoteIPHeader X-Real-IP", like: oursRealIP, quirks: apache | quirkList,
			ask: asks(apacheRealIP, false, header)},
		{name: "chi, ClientIPFromHeader", like: oursRealIP, quirks: chi | quirkLastLine},

		{name: oursForwarded, field: "Forwarded"},
		{name: "realclientip, RightmostTrustedRange of Forwarded", like: oursForwarded, quirks: real | quirkNobodyTrusted | quirkNaive},

		{name: oursPROXY, field: fieldPROXY, ask: asks(goPROXY, true, body)},
		{name: "nginx, real_ip_header proxy_protocol", like: oursPROXY, quirks: quirkOnlyPROXY, ask: asks(nginxPROXY, true, body)},
	}
	return all, func(r *agreementRequest) (map[string]string, error) {
		resp, text, err := r.send(goAddr, false)
		if err != nil || resp.StatusCode == http.StatusBadRequest {
			return nil, err
		}
		answers := map[string]string{}
		err = json.Unmarshal([]byte(text), &answers)
		return answers, err
	}
}

// startGoJudges starts a server whose answer has what each judge written in Go says, by name; and
// one that takes PROXY, and answers with the client.
func startGoJudges(t *testing.T) (plain, withPROXY string) {
	t.Helper()
	trust, err := proxyproto.ParsePrefixes(agreementTrust...)
	require.NoError(t, err)
	judges := map[string]http.Handler{}
	ours := func(name string, cfg clientip.Config) http.Handler {
		judges[name], err = clientip.NewHandler(answerer(func(r *http.Request) string {
			client := netip.MustParseAddrPort(r.RemoteAddr).Addr().String()
			addr, ok := clientip.FromContext(r.Context())
			if !ok || addr.String() != client {
				panic("RemoteAddr and FromContext contradict each other")
			}
			return client
		}), &cfg)
		require.NoError(t, err)
		return judges[name]
	}
	ours(oursXFF, clientip.Config{Trust: trust, Field: "X-Forwarded-For"})
	ours(oursXFFHops, clientip.Config{Hops: agreementHops, Field: "X-Forwarded-For"})
	ours(oursRealIP, clientip.Config{Trust: trust, Field: "X-Real-IP"})
	ours(oursForwarded, clientip.Config{Trust: trust, Field: "Forwarded"})

	var texts []string
	for _, p := range trust {
		texts = append(texts, p.String())
	}
	viaChi := answerer(func(r *http.Request) string { return middleware.GetClientIP(r.Context()) })
	judges["chi, ClientIPFromXFF"] = middleware.ClientIPFromXFF(texts...)(viaChi)
	judges["chi, ClientIPFromXFFTrustedProxies"] = middleware.ClientIPFromXFFTrustedProxies(agreementHops)(viaChi)
	judges["chi, ClientIPFromHeader"] = middleware.ClientIPFromHeader("X-Real-IP", texts...)(viaChi)

	nets, err := realclientip.AddressesAndRangesToIPNets(texts...)
	require.NoError(t, err)
	byRange, err := realclientip.NewRightmostTrustedRangeStrategy("X-Forwarded-For", nets)
	require.NoError(t, err)
	byRangeForwarded, err := realclientip.NewRightmostTrustedRangeStrategy("Forwarded", nets)
	require.NoError(t, err)
	byCount, err := realclientip.NewRightmostTrustedCountStrategy("X-Forwarded-For", agreementHops)
	require.NoError(t, err)
	for name, strategy := range map[string]realclientip.Strategy{
		"realclientip, RightmostTrustedRange": byRange, "realclientip, RightmostTrustedRange of Forwarded": byRangeForwarded,
		"realclientip, RightmostTrustedCount": byCount,
	} {
		judges[name] = answerer(func(r *http.Request) string { return strategy.ClientIP(r.Header, r.RemoteAddr) })
	}

	inner, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	serveClientIP(t, inner, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answers := map[string]string{}
		for name, h := range judges {
			var got verdict
			h.ServeHTTP(&got, r)
			answers[name] = plainAddr(string(got))
		}
		json.NewEncoder(w).Encode(answers)
	}))

	// As nginx does: the header of others is taken off and not believed.
	var rules []proxyproto.Rule
	for _, p := range trust {
		rules = append(rules, proxyproto.Rule{Prefix: p, Action: proxyproto.Require})
	}
	policy := proxyproto.Rules(proxyproto.Ignore, rules...)
	ln, err := proxyproto.Listen("tcp", "127.0.0.1:0", &proxyproto.Config{Policy: policy})
	require.NoError(t, err)
	serveClientIP(t, ln, judges[oursXFF])
	return inner.Addr().String(), ln.Addr().String()
}

// serveClientIP serves h on ln until the test ends.
func serveClientIP(t *testing.T, ln net.Listener, h http.Handler) *http.Server {
	t.Helper()
	srv := &http.Server{Handler: h, ConnContext: proxyproto.ConnContext}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(ln) }()
	t.Cleanup(func() {
		srv.Close()
		assert.ErrorIs(t, <-done, http.ErrServerClosed)
	})
	return srv
}

// answerer makes a handler of a function that says who the client is.
func answerer(who func(r *http.Request) string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, who(r)) })
}

// verdict is a ResponseWriter that keeps what is written.
type verdict string

func (*verdict) Header() http.Header { return nil }
func (*verdict) WriteHeader(int)     {}
func (v *verdict) Write(b []byte) (int, error) {
	*v += verdict(b)
	return len(b), nil
}

// plainAddr gives what a judge says one form: mapped addresses are IPv4, zones are left out, and
// nothing is nobody.
func plainAddr(s string) string {
	if s == "" {
		return outcomeNone
	}
	if addr, err := netip.ParseAddr(s); err == nil {
		return addr.Unmap().WithZone("").String()
	}
	return s
}

// send sends the request to addr, after a PROXY header if the judge takes one.
func (r *agreementRequest) send(addr string, proxyLine bool) (*http.Response, string, error) {
	c, err := proxies.DialFrom(r.peer, addr)
	if err != nil {
		return nil, "", err
	}
	defer c.Close()
	before := ""
	if proxyLine {
		before = r.proxyLine()
	}
	if _, err := io.WriteString(c, before+r.text()); err != nil {
		return nil, "", err
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp, strings.TrimSpace(string(b)), err
}

// versions says which programs and modules the judges are of.
func versions(t *testing.T) (all []string) {
	t.Helper()
	for _, program := range []string{"nginx", "apache2"} {
		out, err := exec.Command(proxies.Need(t, program), "-v").CombinedOutput()
		require.NoError(t, err)
		all = append(all, regexp.MustCompile(`(nginx|Apache)/[\d.]+`).FindString(string(out)))
	}
	modules, err := proxies.Run("go", "list", "-m", "github.com/go-chi/chi/v5", "github.com/realclientip/realclientip-go")
	require.NoError(t, err)
	return append(all, strings.Split(strings.TrimSpace(modules), "\n")...)
}
