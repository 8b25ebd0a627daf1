package servertest

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	. "github.com/seed2e8fe8ee/proxyproto"
)

// whoAmI answers with what a handler knows of its client.
func whoAmI(w http.ResponseWriter, r *http.Request) {
	h, ok := HeaderFromContext(r.Context())
	fmt.Fprintf(w, "%s %v", r.RemoteAddr, ok)
	if ok {
		authority, _ := h.TLVs.Lookup(TypeAuthority)
		fmt.Fprintf(w, " %v %s", h.Source, authority)
	}
}

// get asks the server at the other end of c.
func get(t *testing.T, c net.Conn) string {
	t.Helper()
	dial := func(context.Context, string, string) (net.Conn, error) { return c, nil }
	transport := &http.Transport{DialContext: dial}
	defer transport.CloseIdleConnections()
	response, err := (&http.Client{Transport: transport}).Get("http://server/")
	require.NoError(t, err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return string(body)
}

// serveHTTP runs an unchanged server.
func serveHTTP(t *testing.T, ln net.Listener) *bytes.Buffer {
	t.Helper()
	var logged bytes.Buffer
	server := &http.Server{Handler: http.HandlerFunc(whoAmI), ConnContext: ConnContext,
		ErrorLog: log.New(&logged, "", 0)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		server.Serve(ln)
	}()
	t.Cleanup(func() {
		server.Close()
		<-done
		assert.Empty(t, logged.String())
	})
	return &logged
}

func TestHTTPServer(t *testing.T) {
	h := testHeader()
	h.TLVs, _ = h.TLVs.Append(TypeAuthority, []byte("example.com"))
	ln := listen(t, &Config{Policy: Always(Optional)})
	serveHTTP(t, ln)
	assert.Equal(t, testSource+" true "+testSource+" example.com",
		get(t, dial(t, ln, encode(t, h))))
	assert.Equal(t, testSource+" true "+testSource+" ", get(t, dial(t, ln, testLineV1)))
	bare := dial(t, ln, "")
	assert.Equal(t, bare.LocalAddr().String()+" false", get(t, bare))
}

func TestHTTPServerWithLazyListener(t *testing.T) {
	// RemoteAddr is asked for before the header is there: net/http keeps the socket's. The header
	// is found all the same.
	ln := listen(t, &Config{Policy: Always(Require), Lazy: true})
	serveHTTP(t, ln)
	client := dial(t, ln, "")
	_, err := io.WriteString(client, testLineV1)
	require.NoError(t, err)
	assert.Equal(t, client.LocalAddr().String()+" true "+testSource+" ", get(t, client))

	// A bad peer is closed without an answer: net/http mustn't take it for a bad request.
	client = dial(t, ln, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	answer, _ := io.ReadAll(client)
	assert.Empty(t, string(answer))
}

func TestTLSAtEitherEnd(t *testing.T) {
	certificate := httptest.NewUnstartedServer(nil)
	certificate.StartTLS()
	defer certificate.Close()
	config := certificate.TLS
	h := testHeader()
	header := encode(t, h)
	insecure := &tls.Config{InsecureSkipVerify: true}

	t.Run("the client's, passed through", func(t *testing.T) {
		ln := listen(t, &Config{Policy: Always(Require)})
		serveHTTP(t, tls.NewListener(ln, config))
		c := tls.Client(dial(t, ln, header), insecure)
		assert.True(t, strings.HasPrefix(get(t, c), testSource+" true "))
	})
	t.Run("the proxy's, around the header", func(t *testing.T) {
		inner, err := tls.Listen("tcp", "127.0.0.1:0", config)
		require.NoError(t, err)
		ln, err := NewListener(inner, &Config{Policy: Always(Require)})
		require.NoError(t, err)
		serveHTTP(t, ln)
		c := tls.Client(dial(t, ln, ""), insecure)
		_, err = io.WriteString(c, header)
		require.NoError(t, err)
		assert.True(t, strings.HasPrefix(get(t, c), testSource+" true "))
	})
	t.Run("not TLS where it should be", func(t *testing.T) {
		inner, err := tls.Listen("tcp", "127.0.0.1:0", config)
		require.NoError(t, err)
		cfg := &Config{Policy: Always(Require)}
		drops := logDrops(cfg)
		ln, err := NewListener(inner, cfg)
		require.NoError(t, err)
		defer ln.Close()
		go ln.Accept()
		dial(t, ln, header)
		assert.Equal(t, ReasonBroken, drops.next(t).Reason)
		dial(t, ln, "").Close()
		for ln.Stats().Probes == 0 {
			continue
		}
	})
}

func TestFromContextOfOthers(t *testing.T) {
	ctx := ConnContext(t.Context(), &net.TCPConn{})
	assert.Equal(t, t.Context(), ctx)
	h, ok := HeaderFromContext(ctx)
	assert.Nil(t, h)
	assert.False(t, ok)
}
