// Grpc answers with the client's address and the header of its connection. gRPC shows handlers
// the address as it is; the header gets to them in the peer's AuthInfo, which is where gRPC keeps what is
// known of a connection.
//
//	go run ./grpc
//	printf '\0\0\0\0\0' | curl -i -o - --haproxy-protocol --http2-prior-knowledge -H 'TE: trailers' \
//	    -H 'Content-Type: application/grpc' --data-binary @- http://127.0.0.1:8080/grpc.health.v1.Health/Check
package main

import (
	"context"
	"log"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"

	"github.com/seed2e8fe8ee/proxyproto"
)

func main() {
	policy, err := proxyproto.ParseTrust("127.0.0.1", "::1") // your load balancer
	if err != nil {
		log.Fatal(err)
	}
	inner, err := net.Listen("tcp", "127.0.0.1:8080")
	if err != nil {
		log.Fatal(err)
	}
	ln, err := proxyproto.NewListener(inner, &proxyproto.Config{Policy: policy})
	if err != nil {
		log.Fatal(err)
	}
	log.Fatal(newServer(insecure.NewCredentials()).Serve(ln))
}

// newServer takes insecure credentials if TLS ends at the balancer, and credentials.NewTLS's if it
// ends here.
func newServer(creds credentials.TransportCredentials) *grpc.Server {
	srv := grpc.NewServer(grpc.Creds(withHeader{creds}))
	grpc_health_v1.RegisterHealthServer(srv, service{})
	return srv
}

// service is the health service, because every gRPC program has that at hand.
type service struct {
	grpc_health_v1.UnimplementedHealthServer
}

func (service) Check(ctx context.Context, _ *grpc_health_v1.HealthCheckRequest) (*grpc_health_v1.HealthCheckResponse, error) {
	if p, ok := peer.FromContext(ctx); ok {
		answer := metadata.Pairs("client", p.Addr.String())
		if h, ok := headerOf(p); ok {
			answer.Set("header", h.String())
		}
		if err := grpc.SetHeader(ctx, answer); err != nil {
			return nil, err
		}
	}
	return &grpc_health_v1.HealthCheckResponse{Status: grpc_health_v1.HealthCheckResponse_SERVING}, nil
}

// withHeader are credentials that add a connection's header to its AuthInfo.
type withHeader struct {
	credentials.TransportCredentials
}

// authInfo is any AuthInfo with a header.
type authInfo struct {
	credentials.AuthInfo
	header *proxyproto.Header
}

// GetCommonAuthInfo is what gRPC asks for the connection's security level.
func (a authInfo) GetCommonAuthInfo() credentials.CommonAuthInfo {
	if a, ok := a.AuthInfo.(interface {
		GetCommonAuthInfo() credentials.CommonAuthInfo
	}); ok {
		return a.GetCommonAuthInfo()
	}
	return credentials.CommonAuthInfo{}
}

func (c withHeader) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	secured, info, err := c.TransportCredentials.ServerHandshake(conn)
	if err != nil {
		return nil, nil, err
	}
	if conn, ok := proxyproto.FromConn(conn); ok && conn.Header() != nil {
		info = authInfo{info, conn.Header()}
	}
	return secured, info, nil
}

func (c withHeader) Clone() credentials.TransportCredentials {
	return withHeader{c.TransportCredentials.Clone()}
}

// headerOf returns the header of the connection that a call came on. p.AuthInfo's own type, such as
// credentials.TLSInfo, is inside.
func headerOf(p *peer.Peer) (*proxyproto.Header, bool) {
	a, ok := p.AuthInfo.(authInfo)
	return a.header, ok
}
