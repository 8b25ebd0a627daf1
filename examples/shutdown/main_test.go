package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed2e8fe8ee/proxyproto"
	"github.com/seed2e8fe8ee/proxyproto/internal/program"
)

const header = "PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n"

func TestShutdown(t *testing.T) {
	ln, err := proxyproto.Listen("tcp", "127.0.0.1:0", &proxyproto.Config{
		Policy:        proxyproto.Always(proxyproto.Require),
		HeaderTimeout: time.Hour,
	})
	require.NoError(t, err)

	begun, finish := make(chan bool), make(chan bool)
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		begun <- true
		<-finish
		fmt.Fprintf(w, "hello %s", r.RemoteAddr)
	})}
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- serve(ctx, srv, ln, time.Hour) }()

	silent := dial(t, ln, "PROXY TC")
	busy := dial(t, ln, header+"GET / HTTP/1.1\r\nHost: example.com\r\n\r\n")
	<-begun
	require.Eventually(t, func() bool { return ln.Stats().Pending == 1 }, time.Minute, time.Millisecond)

	stop()
	_, err = silent.Read(make([]byte, 1))
	assert.Error(t, err, "the end of a connection whose header isn't there")
	assert.NotErrorIs(t, err, os.ErrDeadlineExceeded, "the end of a connection whose header isn't there")
	assert.Empty(t, served, "a request is under way")
	_, err = net.Dial("tcp", ln.Addr().String())
	assert.Error(t, err, "the balancer is to go elsewhere")

	close(finish)
	resp, err := http.ReadResponse(bufio.NewReader(busy), nil)
	require.NoError(t, err)
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	assert.Equal(t, "hello 192.0.2.7:56324", string(body))
	assert.NoError(t, <-served)
}

// When patience is over whoever is still served is cut off, and that is an error.
func TestPatienceEnds(t *testing.T) {
	ln := program.Listen(t)
	begun := make(chan bool)
	srv := &http.Server{Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(begun)
		<-r.Context().Done()
	})}
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- serve(ctx, srv, ln, time.Millisecond) }()
	c := dial(t, ln, header+"GET / HTTP/1.0\r\n\r\n")
	<-begun
	stop()
	assert.ErrorIs(t, <-served, context.DeadlineExceeded)
	_, err := io.ReadAll(c)
	assert.NotErrorIs(t, err, os.ErrDeadlineExceeded, "it isn't cut off")
}

func dial(t *testing.T, ln net.Listener, send string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", ln.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	require.NoError(t, c.SetDeadline(time.Now().Add(time.Minute)))
	_, err = io.WriteString(c, send)
	require.NoError(t, err)
	return c
}
