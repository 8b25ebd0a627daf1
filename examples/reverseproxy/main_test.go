package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed2e8fe8ee/proxyproto"
	"github.com/seed2e8fe8ee/proxyproto/internal/program"
)

func TestMain(m *testing.M) { program.Main(m) }

// serve starts a server that tells each client what its connection's header said, and returns its
// URL.
func serve(t *testing.T) (*proxyproto.Listener, string) {
	t.Helper()
	ln := program.Listen(t)
	srv := &http.Server{
		ConnContext: proxyproto.ConnContext,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			h, ok := proxyproto.HeaderFromContext(r.Context())
			if !ok {
				http.Error(w, "no header", http.StatusInternalServerError)
				return
			}
			body, err := io.ReadAll(r.Body)
			assert.NoError(t, err)
			fmt.Fprintf(w, "%v %v %s -> %v, TLVs %x, for %s, host %s, body %s", h.Version,
				h.Command, r.RemoteAddr, r.Context().Value(http.LocalAddrContextKey),
				[]byte(h.TLVs), r.Header.Get("X-Forwarded-For"), r.Host, body)
		}),
	}
	go srv.Serve(ln)
	t.Cleanup(func() { srv.Close() })
	return ln, "http://" + ln.Addr().String()
}

// newClient is the client with this number, which keeps its connections alive.
func newClient(t *testing.T, i int) *http.Client {
	t.Helper()
	transport := &http.Transport{DialContext: program.Client(i).DialContext}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// post returns the answer, and the client's addresses as it knows them itself.
func post(t *testing.T, c *http.Client, addr, body string) (answer, own, ip string, reused bool) {
	t.Helper()
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
		GotConn: func(info httptrace.GotConnInfo) {
			own = fmt.Sprintf("%v -> %v", info.Conn.LocalAddr(), info.Conn.RemoteAddr())
			ip = info.Conn.LocalAddr().(*net.TCPAddr).IP.String()
			reused = info.Reused
		},
	})
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+addr, strings.NewReader(body))
	require.NoError(t, err)
	req.Host = "www.example"
	resp, err := c.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return string(b), own, ip, reused
}

// talk sends requests of several clients side by side, and compares what the server made of each.
func talk(t *testing.T, addr, version string) {
	t.Helper()
	var wg sync.WaitGroup
	for i := range 4 {
		c := newClient(t, i)
		wg.Go(func() {
			for n := range 10 {
				body := fmt.Sprintf("%d of %d", n, i)
				answer, own, ip, reused := post(t, c, addr, body)
				want := fmt.Sprintf("v%s PROXY %s, TLVs , for %s, host www.example, body %s",
					version, own, ip, body)
				assert.Equal(t, want, answer)
				assert.Equal(t, n > 0, reused, "the client keeps its connection")
			}
		})
	}
	wg.Wait()
}

func TestClientsAreTold(t *testing.T) {
	for _, version := range []string{"1", "2"} {
		t.Run("v"+version, func(t *testing.T) {
			ln, url := serve(t)
			talk(t, program.Start(t, "-to", url, "-version", version), version)
			assert.Equal(t, uint64(4), ln.Stats().Accepted, "a connection for each client")
		})
	}
}

// Of two proxies in a row the second one passes on the first one's clients.
func TestTwoProxies(t *testing.T) {
	for _, versions := range [][2]string{{"1", "2"}, {"2", "1"}} {
		t.Run(versions[0]+" then "+versions[1], func(t *testing.T) {
			_, url := serve(t)
			second := program.Start(t, "-to", url, "-version", versions[1], "-trust", "127.0.0.1")
			first := program.Start(t, "-to", "http://"+second, "-version", versions[0])
			talk(t, first, versions[1])
		})
	}
}

func TestHeaderOfProxyInFront(t *testing.T) {
	ln, url := serve(t)
	proxy := program.Start(t, "-to", url, "-trust", "127.0.0.0/8")
	h := proxyproto.NewHeader(&net.TCPAddr{IP: net.ParseIP("2001:db8::7"), Port: 56324},
		&net.TCPAddr{IP: net.ParseIP("2001:db8::1"), Port: 443}, proxyproto.V2)
	h.TLVs = proxyproto.TLVs("\x05\x00\x02id\x04\x00\x01\x00")
	header, err := h.AppendTo(nil)
	require.NoError(t, err)
	request := "GET / HTTP/1.0\r\nHost: www.example\r\n\r\n"
	answer, err := io.ReadAll(program.Dial(t, 0, proxy, string(header)+request))
	require.NoError(t, err)
	assert.Contains(t, string(answer), "v2 PROXY [2001:db8::7]:56324 -> [2001:db8::1]:443, "+
		"TLVs 0500026964, for 2001:db8::7, host www.example")

	answer, _ = io.ReadAll(program.Dial(t, 0, proxy, request))
	assert.Empty(t, answer, "without the header that is required")
	assert.Equal(t, uint64(1), ln.Stats().Accepted)
}

func TestFlags(t *testing.T) {
	for _, flags := range [][]string{
		{"-version", "0"}, {"-trust", "nonsense"}, {"-to", "127.0.0.1:8080"}, {"-to", "/path"},
	} {
		out, err := program.Run(flags...)
		assert.Error(t, err)
		assert.Contains(t, out, flags[0]+": ")
	}
}
