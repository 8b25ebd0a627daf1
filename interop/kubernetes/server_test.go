//go:build linux

package kubernetes

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed2e8fe8ee/proxyproto"
	"github.com/seed2e8fe8ee/proxyproto/interop/internal/proxies"
)

// hello is what clients send.
const hello = "hello\n"

// A server tells each client, who sends one line, what it knows of it.
type server struct {
	*proxyproto.Listener
	drops chan answer
}

// An answer is what a server knows of a connection.
type answer struct {
	Peer    netip.Addr        // of the socket
	As      netip.Addr        // who RemoteAddr says it is
	Header  bool              // came with it, be it believed or not
	Payload string            // its first line
	Dropped proxyproto.Reason `json:"-"`
}

// startServers starts the servers in pod a and on node 2. They begin by looking at no header.
func (c *cluster) startServers(t *testing.T) {
	t.Helper()
	drops := make(chan answer, 1)
	c.server = c.startServer(t, "pod a", drops)
	c.host = c.startServer(t, "node 2", drops)
}

func (c *cluster) startServer(t *testing.T, name string, drops chan answer) *server {
	t.Helper()
	inner := c.ns[name].Listen(t, fmt.Sprintf(":%d", serverPort))
	ln, err := proxyproto.NewListener(inner, &proxyproto.Config{
		Policy:        proxyproto.Always(proxyproto.Skip),
		HeaderTimeout: proxies.Timeout,
		OnDrop: func(p proxyproto.Peer, drop *proxyproto.DropError) {
			drops <- answer{Peer: p.Addr.Addr(), Dropped: drop.Reason}
		},
	})
	require.NoError(t, err)
	var served sync.WaitGroup
	served.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			served.Go(func() { serve(conn) })
		}
	})
	t.Cleanup(func() {
		ln.Close()
		served.Wait()
	})
	return &server{ln, drops}
}

func serve(conn net.Conn) {
	defer conn.Close()
	inner := conn
	var a answer
	if c, ok := proxyproto.FromConn(conn); ok {
		inner, a.Header = c.NetConn(), c.Header() != nil
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return
	}
	a.Payload = strings.TrimSpace(line)
	a.Header = a.Header || strings.HasPrefix(a.Payload, "PROXY ")
	a.Peer, a.As = plain(inner.RemoteAddr()), plain(conn.RemoteAddr())
	json.NewEncoder(conn).Encode(a)
}

func plain(addr net.Addr) netip.Addr {
	return addr.(*net.TCPAddr).AddrPort().Addr().Unmap()
}

// setPolicy changes both servers' Policy.
func (c *cluster) setPolicy(p proxyproto.Policy) {
	c.server.SetPolicy(p)
	c.host.SetPolicy(p)
}

// ask sends a line from a namespace to an address and returns what became of it: one connection
// at a time, so that a drop is this one's.
func (c *cluster) ask(ctx context.Context, from, to, line string) (a answer, err error) {
	ctx, cancel := context.WithTimeout(ctx, proxies.Timeout)
	defer cancel()
	got, err := c.send(ctx, from, to, line)
	switch {
	case ctx.Err() != nil:
		return a, fmt.Errorf("no answer from %s: %w", to, err)
	case len(got) > 0:
		return a, json.Unmarshal(got, &a)
	case err != nil && !strings.Contains(err.Error(), "connection reset"):
		return a, err
	}
	select {
	case a = <-c.server.drops:
		return a, nil
	case <-ctx.Done():
		return a, fmt.Errorf("%s closed the connection, but not because of its Policy", to)
	}
}

// send sends a line and reads until the server closes the connection or ctx ends.
func (c *cluster) send(ctx context.Context, from, to, line string) ([]byte, error) {
	conn, err := c.ns[from].Dial(ctx, to)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	io.WriteString(conn, line) // it fails if the server has closed already
	return io.ReadAll(conn)
}
