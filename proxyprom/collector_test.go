package proxyprom

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed2e8fe8ee/proxyproto"
	"github.com/seed2e8fe8ee/proxyproto/proxyudp"
)

const (
	request = "GET / HTTP/1.0\r\n\r\n"
	v1      = "PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n"
	v2      = "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\xc0\x00\x02\x07\xc6\x33\x64\x01\xdc\x04\x01\xbb"
	local   = "\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00"
)

// Two Listeners serve, each is told apart in what Prometheus would scrape, and every count is there.
func TestScrape(t *testing.T) {
	web := serve(t, &proxyproto.Config{
		Policy: proxyproto.Always(proxyproto.Require),
		Validate: func(_ proxyproto.Peer, h *proxyproto.Header) error {
			if h.Source.Port() == 1 {
				return errors.New("not from port 1")
			}
			return nil
		},
		MaxHeaderSize: 107,
		HeaderTimeout: time.Hour,
	})
	old := serve(t, &proxyproto.Config{
		Policy:   proxyproto.Always(proxyproto.Optional),
		Versions: []proxyproto.Version{proxyproto.V1},
	})
	registry := prometheus.NewPedanticRegistry()
	require.NoError(t, registry.Register(NewCollector(web, prometheus.Labels{"listener": "web"})))
	require.NoError(t, registry.Register(NewCollector(old, prometheus.Labels{"listener": "old"})))
	metrics := httptest.NewServer(promhttp.HandlerFor(registry, promhttp.HandlerOpts{
		ErrorHandling: promhttp.HTTPErrorOnError,
	}))
	t.Cleanup(metrics.Close)

	for _, send := range []string{
		v1 + request, v1 + request, v1 + request,
		v2 + request, v2 + request,
		local + request,
		"",           // a probe
		request,      // no header
		"PROXY QUIC", // malformed
		"PROXY TCP",  // incomplete
		v2[:14] + "\x40\x00",
		strings.Replace(v1, "56324", "1", 1),
	} {
		talk(t, web, send)
	}
	pending := dial(t, web, "PROXY TC")
	defer pending.Close()
	for _, send := range []string{request, request, v1 + request, v2 + request} {
		talk(t, old, send)
	}
	require.Eventually(t, func() bool {
		w, o := web.Stats(), old.Stats()
		return w.Pending == 1 && w.Probes == 1 && w.TotalDropped() == 5 && o.TotalDropped() == 1
	}, time.Minute, time.Millisecond)

	got := scrape(t, metrics.URL)
	assert.Equal(t, `# HELP proxyproto_accepted_total Connections or datagrams that have come in.
# TYPE proxyproto_accepted_total counter
proxyproto_accepted_total{listener="old"} 4
proxyproto_accepted_total{listener="web"} 13
# HELP proxyproto_dropped_total Connections or datagrams dropped, by reason.
# TYPE proxyproto_dropped_total counter
proxyproto_dropped_total{listener="old",reason="broken"} 0
proxyproto_dropped_total{listener="old",reason="closed"} 0
proxyproto_dropped_total{listener="old",reason="evicted"} 0
proxyproto_dropped_total{listener="old",reason="incomplete"} 0
proxyproto_dropped_total{listener="old",reason="invalid"} 0
proxyproto_dropped_total{listener="old",reason="late"} 0
proxyproto_dropped_total{listener="old",reason="malformed"} 0
proxyproto_dropped_total{listener="old",reason="no header"} 0
proxyproto_dropped_total{listener="old",reason="rejected"} 0
proxyproto_dropped_total{listener="old",reason="timeout"} 0
proxyproto_dropped_total{listener="old",reason="too large"} 0
proxyproto_dropped_total{listener="old",reason="version"} 1
proxyproto_dropped_total{listener="web",reason="broken"} 0
proxyproto_dropped_total{listener="web",reason="closed"} 0
proxyproto_dropped_total{listener="web",reason="evicted"} 0
proxyproto_dropped_total{listener="web",reason="incomplete"} 1
proxyproto_dropped_total{listener="web",reason="invalid"} 1
proxyproto_dropped_total{listener="web",reason="late"} 0
proxyproto_dropped_total{listener="web",reason="malformed"} 1
proxyproto_dropped_total{listener="web",reason="no header"} 1
proxyproto_dropped_total{listener="web",reason="rejected"} 0
proxyproto_dropped_total{listener="web",reason="timeout"} 0
proxyproto_dropped_total{listener="web",reason="too large"} 1
proxyproto_dropped_total{listener="web",reason="version"} 0
# HELP proxyproto_pending Accepted connections whose PROXY header is being awaited.
# TYPE proxyproto_pending gauge
proxyproto_pending{listener="old"} 0
proxyproto_pending{listener="web"} 1
# HELP proxyproto_probes_total Connections that ended without having sent a byte.
# TYPE proxyproto_probes_total counter
proxyproto_probes_total{listener="old"} 0
proxyproto_probes_total{listener="web"} 1
# HELP proxyproto_served_total Connections or datagrams passed on, by the PROXY header that they brought.
# TYPE proxyproto_served_total counter
proxyproto_served_total{header="bare",listener="old"} 2
proxyproto_served_total{header="bare",listener="web"} 0
proxyproto_served_total{header="ignored",listener="old"} 0
proxyproto_served_total{header="ignored",listener="web"} 0
proxyproto_served_total{header="local",listener="old"} 0
proxyproto_served_total{header="local",listener="web"} 1
proxyproto_served_total{header="skipped",listener="old"} 0
proxyproto_served_total{header="skipped",listener="web"} 0
proxyproto_served_total{header="v1",listener="old"} 1
proxyproto_served_total{header="v1",listener="web"} 3
proxyproto_served_total{header="v2",listener="old"} 0
proxyproto_served_total{header="v2",listener="web"} 2
`, got)

	old.SetPolicy(proxyproto.Always(proxyproto.Ignore))
	talk(t, old, v1+request)
	old.SetPolicy(proxyproto.Always(proxyproto.Skip))
	talk(t, old, request)
	got = scrape(t, metrics.URL)
	assert.Contains(t, got, `proxyproto_served_total{header="ignored",listener="old"} 1`)
	assert.Contains(t, got, `proxyproto_served_total{header="skipped",listener="old"} 1`)
}

func TestNamesAreAsPrometheusWants(t *testing.T) {
	problems, err := testutil.CollectAndLint(NewCollector(new(proxyproto.Listener), nil))
	require.NoError(t, err)
	assert.Empty(t, problems)
}

func TestDatagrams(t *testing.T) {
	inner, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	pc, err := proxyudp.NewPacketConn(inner, &proxyudp.Config{Policy: proxyproto.Always(proxyproto.Require)})
	require.NoError(t, err)
	defer pc.Close()
	c, err := net.Dial("udp", pc.LocalAddr().String())
	require.NoError(t, err)
	defer c.Close()
	_, err = io.WriteString(c, "no header")
	require.NoError(t, err)
	_, err = io.WriteString(c, local+"with one")
	require.NoError(t, err)
	require.NoError(t, pc.SetReadDeadline(time.Now().Add(time.Minute)))
	b := make([]byte, 100)
	n, _, err := pc.ReadFrom(b)
	require.NoError(t, err)
	require.Equal(t, "with one", string(b[:n]))

	assert.NoError(t, testutil.CollectAndCompare(NewCollector(pc, nil), strings.NewReader(`
# HELP proxyproto_accepted_total Connections or datagrams that have come in.
# TYPE proxyproto_accepted_total counter
proxyproto_accepted_total 2
`), "proxyproto_accepted_total"))
}

// The same labels twice would make two Listeners one.
func TestEqualLabelsAreRefused(t *testing.T) {
	registry := prometheus.NewRegistry()
	labels := prometheus.Labels{"listener": "web"}
	require.NoError(t, registry.Register(NewCollector(new(proxyproto.Listener), labels)))
	var already prometheus.AlreadyRegisteredError
	assert.ErrorAs(t, registry.Register(NewCollector(new(proxyproto.Listener), labels)), &already)
}

// serve serves HTTP on a new Listener until the test ends.
func serve(t *testing.T, cfg *proxyproto.Config) *proxyproto.Listener {
	t.Helper()
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ln, err := proxyproto.NewListener(inner, cfg)
	require.NoError(t, err)
	srv := &http.Server{Handler: http.NotFoundHandler()}
	go srv.Serve(ln)
	t.Cleanup(func() { srv.Close() })
	return ln
}

func dial(t *testing.T, ln net.Listener, send string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", ln.Addr().String())
	require.NoError(t, err)
	require.NoError(t, c.SetDeadline(time.Now().Add(time.Minute)))
	_, err = io.WriteString(c, send)
	require.NoError(t, err)
	return c
}

// talk connects, sends, and waits until the server has closed the connection.
func talk(t *testing.T, ln net.Listener, send string) {
	t.Helper()
	c := dial(t, ln, send)
	defer c.Close()
	require.NoError(t, c.(*net.TCPConn).CloseWrite())
	io.Copy(io.Discard, c) // may end in a reset
}

func scrape(t *testing.T, url string) string {
	t.Helper()
	resp, err := http.Get(url)
	require.NoError(t, err)
	defer resp.Body.Close()
	require.Equal(t, http.StatusOK, resp.StatusCode)
	var b bytes.Buffer
	_, err = b.ReadFrom(resp.Body)
	require.NoError(t, err)
	return b.String()
}
