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
	"flag"
	"log"
	"net"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"

	"github.com/seed2e8fe8ee/proxyproto"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:8080", "address to listen on")
	trust := flag.String("trust", "127.0.0.1,::1", "whose headers to believe: addresses and ranges")
	flag.Parse()

	policy, err := proxyproto.ParseTrust(strings.Split(*trust, ",")...)
	if err != nil {
		log.Fatal("-trust: ", err)
	}
	ln, err := proxyproto.Listen("tcp", *listen, &proxyproto.Config{
		Policy: policy,
		OnDrop: proxyproto.LogDrops(nil),
	})
	if err != nil {
		log.Fatal(err)
	}
	log.Printf("listening on %v", ln.Addr())
	log.Fatal(newServer(insecure.NewCredentials()).Serve(ln))
}

// newServer takes insecure credentials if TLS ends at the balancer, and credentials.NewTLS's if it
// ends here.
func newServer(creds credentials.TransportCredentials) *grpc.Server {
	srv := grpc.NewServer(grpc.Creds(withHeader{creds}), grpc.ConnectionTimeout(10*time.Second))
	grpc_health_v1.RegisterHealthServer(srv, service{})
	return srv
}

// service is the health service, because every gRPC program has that at hand.
type service struct {
	grpc_health_v1.UnimplementedHealthServer
}

func (service) Check(
	ctx context.Context, _ *grpc_health_v1.HealthCheckRequest,
) (*grpc_health_v1.HealthCheckResponse, error) {
	if p, ok := peer.FromContext(ctx); ok {
		answer := metadata.Pairs("client", p.Addr.String())
		if h, ok := headerOf(p); ok {
			answer.Set("header", h.String())
		}
		if err := grpc.SetHeader(ctx, answer); err != nil {
			return nil, err
		}
	}
	const serving = grpc_health_v1.HealthCheckResponse_SERVING
	return &grpc_health_v1.HealthCheckResponse{Status: serving}, nil
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
