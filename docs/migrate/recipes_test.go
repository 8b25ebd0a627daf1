package migrate

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed2e8fe8ee/proxyproto"
)

// All of them serve the proxy's client.
func TestServing(t *testing.T) {
	whoami := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.RemoteAddr) })
	for name, serve := range map[string]func(net.Listener, http.Handler) error{
		"pires": beforePires, "armon": beforeArmon, "mastercactapus": beforeMastercactapus, "ours": after,
	} {
		inner, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		ln := net.Listener(inner)
		if name == "ours" {
			ln = fromProxy{inner}
		}
		served := make(chan error, 1)
		go func() { served <- serve(ln, whoami) }()
		assert.Equal(t, clientAddr, ask(t, inner, lineV1), name)
		inner.Close()
		assert.ErrorIs(t, <-served, net.ErrClosed, name)
	}
}

func TestMovingOver(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	proxies := netip.MustParsePrefix("127.0.0.0/8")
	ln, err := proxyproto.NewListener(inner, &proxyproto.Config{Policy: begin(proxies)})
	require.NoError(t, err)
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := r.Context().Value(connKey{}).(net.Conn)
		fmt.Fprint(w, r.RemoteAddr, " ", handlerAfter(c) != nil, handlerBefore(c) != nil)
	}), ConnContext: withConn}
	go srv.Serve(ln)
	t.Cleanup(func() { srv.Close() })

	assert.Equal(t, clientAddr+" true false", ask(t, ln, lineV1))
	assert.Contains(t, ask(t, ln, ""), "127.0.0.1:")
	watch(ln)
	assert.Equal(t, uint64(1), ln.Stats().Bare)
	finish(ln, proxies)
	assert.Equal(t, clientAddr+" true false", ask(t, ln, lineV1))
	assert.Empty(t, ask(t, ln, ""))
	ln.SetPolicy(begin(netip.MustParsePrefix("192.0.2.0/24")))
	assert.Contains(t, ask(t, ln, lineV1), "127.0.0.1:")
	assert.Equal(t, uint64(1), ln.Stats().Ignored)
}

type connKey struct{}

func withConn(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, c)
}

// fromProxy is a listener whose connections come from the proxy.
type fromProxy struct{ net.Listener }

func (ln fromProxy) Accept() (net.Conn, error) {
	c, err := ln.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return endpoint{c, c.LocalAddr(), proxyAddr}, nil
}

// ask sends a header, if one is given, and a request, and returns the answer's body.
func ask(t *testing.T, ln net.Listener, header string) string {
	t.Helper()
	c, err := net.Dial("tcp", ln.Addr().String())
	require.NoError(t, err)
	defer c.Close()
	require.NoError(t, c.SetDeadline(time.Now().Add(time.Minute)))
	_, err = io.WriteString(c, header+"GET / HTTP/1.0\r\n\r\n")
	require.NoError(t, err)
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return ""
	}
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return string(body)
}
