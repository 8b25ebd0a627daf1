package interop

import (
	"bufio"
	"fmt"
	"net"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed2e8fe8ee/proxyproto/internal/program"
	"github.com/seed2e8fe8ee/proxyproto/interop/internal/proxies"
)

// relayed is how many clients go through each example to each server.
const relayed = 64

func buildExample(t *testing.T, name string) string {
	t.Helper()
	binary, err := program.Build(t.TempDir(), "github.com/seed2e8fe8ee/proxyproto/examples/"+name)
	require.NoError(t, err)
	return binary
}

// askBehindExamples puts the examples between clients and the server. Each client is named as who
// it is.
func askBehindExamples(t *testing.T, srv server, addr string, ask asks, relay, reverseProxy string) {
	for _, version := range []string{"1", "2"} {
		front := program.StartBinary(t, relay, "-to", addr, "-version", version)
		askMany(t, "relay v"+version, front, ask)
		if srv.http {
			front := program.StartBinary(t, reverseProxy, "-to", "http://"+addr, "-version", version)
			askMany(t, "reverseproxy v"+version, front, ask)
			askMany(t, "reverseproxy v"+version+", connections kept alive", front, askAgain)
		}
	}
	second := program.StartBinary(t, relay, "-to", addr, "-trust", proxies.Proxy)
	askMany(t, "relay and relay", program.StartBinary(t, relay, "-to", second), ask)
}

// askMany asks as many clients, through the proxy at addr.
func askMany(t *testing.T, what, addr string, ask asks) {
	t.Helper()
	each(t, what, relayed, 8, func(i int) (netip.Addr, error) {
		from := proxies.ClientAddr(i)
		c, err := proxies.DialFrom(from, addr)
		if err != nil {
			return from, err
		}
		defer c.Close()
		got, err := ask(c)
		if err != nil {
			return from, err
		}
		return from, got.names(c)
	})
}

// askAgain asks several times over a connection. All answers must be the same.
func askAgain(c net.Conn) (first answer, err error) {
	r := bufio.NewReader(c)
	for i := range 4 {
		body, err := get(r, c, "/", "keep-alive")
		if err != nil {
			return answer{}, err
		}
		got, err := parseAnswer(body)
		switch {
		case err != nil:
			return answer{}, err
		case i == 0:
			first = got
		case got != first:
			return answer{}, fmt.Errorf("answer %d is %v, the first one was %v", i, got, first)
		}
	}
	return first, nil
}

// names checks that the answer is right for the client's end of a connection.
func (a answer) names(c net.Conn) error {
	if a.client.String() != c.LocalAddr().String() || a.destination.IsValid() && a.destination.String() != c.RemoteAddr().String() {
		return fmt.Errorf("the server said %v, the client is %s", a, pair(c.LocalAddr(), c.RemoteAddr()))
	}
	return nil
}
