package interop

import (
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed2e8fe8ee/proxyproto"
	"github.com/seed2e8fe8ee/proxyproto/internal/wiretest"
	"github.com/seed2e8fe8ee/proxyproto/interop/internal/proxies"
)

// Of two AUTHORITY TLVs HAProxy believes the last one and varnish the first, as docs/conformance.md
// says. We believe neither.
func TestAuthorityTwice(t *testing.T) {
	wire := wiretest.V2(0x21, 0x11, wiretest.Inet4,
		wiretest.TLV(0x02, "first.example"), wiretest.TLV(0x02, "last.example"))
	haproxy, varnish := proxies.FreeAddr(t), proxies.FreeAddr(t)
	proxies.StartHAProxy(t, fmt.Sprintf(`
frontend receiver
	mode http
	no log
	bind %s accept-proxy
	http-request return status 200 content-type text/plain lf-string "%%[fc_pp_authority]"
`, haproxy), nil)
	proxies.StartVarnish(t, varnish, `
import proxy;
sub vcl_recv { return (synth(200)); }
sub vcl_synth {
	set resp.body = proxy.authority();
	return (deliver);
}
`)
	for _, c := range []struct{ addr, want string }{
		{haproxy, "last.example"}, {varnish, "first.example"},
	} {
		client, err := net.Dial("tcp", c.addr)
		require.NoError(t, err)
		defer client.Close()
		_, err = client.Write(withRequest([]byte(wire)))
		require.NoError(t, err)
		answer, err := io.ReadAll(client)
		require.NoError(t, err)
		_, body, _ := strings.Cut(string(answer), "\r\n\r\n")
		assert.Equal(t, c.want, body)
	}
	h, _, err := proxyproto.Parse([]byte(wire))
	require.NoError(t, err)
	_, ok := h.TLVs.Authority()
	assert.False(t, ok)
}
