package main

import (
	"context"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed2e8fe8ee/proxyproto/examples/frameworks/internal/balancer"
)

func TestWebSocket(t *testing.T) {
	ln := balancer.Wrap(t, balancer.Listen(t))
	srv := newServer()
	go srv.Serve(ln)
	t.Cleanup(func() { srv.Close() })

	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	ws, _, err := websocket.Dial(ctx, "ws://example.com/", &websocket.DialOptions{
		HTTPClient: &http.Client{Transport: &http.Transport{
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return balancer.Dial(ctx, ln) },
		}},
	})
	require.NoError(t, err)
	defer ws.CloseNow()
	ws.SetReadLimit(1 << 20)

	_, greeting, err := ws.Read(ctx)
	require.NoError(t, err)
	assert.Equal(t, "hello "+balancer.Client+", by "+balancer.Header().String(), string(greeting))

	for _, message := range []string{"one", "", strings.Repeat("long", 8<<10)} {
		require.NoError(t, ws.Write(ctx, websocket.MessageBinary, []byte(message)))
		kind, answer, err := ws.Read(ctx)
		require.NoError(t, err)
		assert.Equal(t, websocket.MessageBinary, kind)
		assert.Equal(t, message, string(answer))
	}
}
