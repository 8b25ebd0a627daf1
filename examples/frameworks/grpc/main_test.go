package main

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"

	"github.com/seed2e8fe8ee/proxyproto/examples/frameworks/internal/balancer"
)

func TestTLSEndsAtBalancer(t *testing.T) {
	testCheck(t, insecure.NewCredentials(), insecure.NewCredentials())
}

func TestTLSEndsHere(t *testing.T) {
	borrowed := httptest.NewUnstartedServer(nil) // for its certificate
	borrowed.StartTLS()
	t.Cleanup(borrowed.Close)
	server := credentials.NewTLS(&tls.Config{Certificates: borrowed.TLS.Certificates})
	client := credentials.NewTLS(borrowed.Client().Transport.(*http.Transport).TLSClientConfig)
	testCheck(t, server, client)
}

func testCheck(t *testing.T, server, client credentials.TransportCredentials) {
	ln := balancer.Wrap(t, balancer.Listen(t))
	srv := newServer(server)
	go srv.Serve(ln)
	t.Cleanup(srv.Stop)

	cc, err := grpc.NewClient("passthrough:example.com",
		grpc.WithTransportCredentials(client),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return balancer.Dial(ctx, ln) }))
	require.NoError(t, err)
	defer cc.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for range 2 {
		var answer metadata.MD
		_, err := grpc_health_v1.NewHealthClient(cc).Check(ctx, new(grpc_health_v1.HealthCheckRequest), grpc.Header(&answer))
		require.NoError(t, err)
		assert.Equal(t, []string{balancer.Client}, answer.Get("client"))
		assert.Equal(t, []string{balancer.Header().String()}, answer.Get("header"))
	}
	assert.Equal(t, uint64(1), ln.Stats().V2)
}
