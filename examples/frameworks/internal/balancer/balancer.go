// Package balancer is the load balancer in front of the examples when they are tested.
package balancer

import (
	"context"
	"net"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed2e8fe8ee/proxyproto"
)

// Client is the client of whom the balancer's headers speak.
const Client = "192.0.2.7:56324"

// Header is the header with which the balancer's connections begin. It has a unique ID.
func Header() *proxyproto.Header {
	tlvs, err := proxyproto.TLVs(nil).Append(proxyproto.TypeUniqueID, []byte("id-42"))
	if err != nil {
		panic(err)
	}
	return &proxyproto.Header{
		Version:     proxyproto.V2,
		Command:     proxyproto.Proxy,
		Protocol:    proxyproto.TCP4,
		Source:      netip.MustParseAddrPort(Client),
		Destination: netip.MustParseAddrPort("198.51.100.1:443"),
		TLVs:        tlvs,
	}
}

// Dial connects to ln and sends the header.
func Dial(ctx context.Context, ln net.Listener) (net.Conn, error) {
	addr := ln.Addr()
	return new(proxyproto.Dialer).DialHeader(ctx, addr.Network(), addr.String(), Header())
}

// Listen returns a listener on a free port, which is closed with the test.
func Listen(t *testing.T) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { ln.Close() })
	return ln
}

// Wrap returns a Listener around ln that requires a header from everybody.
func Wrap(t *testing.T, ln net.Listener) *proxyproto.Listener {
	t.Helper()
	wrapped, err := proxyproto.NewListener(ln,
		&proxyproto.Config{Policy: proxyproto.Always(proxyproto.Require)})
	require.NoError(t, err)
	t.Cleanup(func() { wrapped.Close() })
	return wrapped
}
