package interop

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed2e8fe8ee/proxyproto"
	"github.com/seed2e8fe8ee/proxyproto/interop/internal/proxies"
)

const (
	sentAuthority = "www.interop.test"
	sentUniqueID  = "7F000001:B390"
)

// withTLVs adds all that a header may carry: a checksum, and padding to a multiple of 64 bytes.
func withTLVs(t *testing.T, h *proxyproto.Header) *proxyproto.Header {
	t.Helper()
	for _, tlv := range []struct {
		typ   proxyproto.TLVType
		value string
	}{
		{proxyproto.TypeALPN, "h2"},
		{proxyproto.TypeAuthority, sentAuthority},
		{proxyproto.TypeCRC32C, "\x00\x00\x00\x00"},
		{proxyproto.TypeUniqueID, sentUniqueID},
		{proxyproto.TypeSSL, "\x01\x00\x00\x00\x00" + "\x21\x00\x07TLSv1.3" + "\x23\x00\x16TLS_AES_256_GCM_SHA384"},
		{proxyproto.TypeNetNS, "blue"},
		{0xea, "\x01vpce-08d2bf15fac5001c9"},
	} {
		var err error
		h.TLVs, err = h.TLVs.Append(tlv.typ, []byte(tlv.value))
		require.NoError(t, err)
	}
	wire, err := h.AppendTo(nil)
	require.NoError(t, err)
	return ofSize(t, h, (len(wire)/64+1)*64)
}

// ofSize pads h with a NOOP to size bytes.
func ofSize(t *testing.T, h *proxyproto.Header, size int) *proxyproto.Header {
	t.Helper()
	wire, err := h.AppendTo(nil)
	require.NoError(t, err)
	const head = 3 // of a TLV
	h.TLVs, err = h.TLVs.Append(proxyproto.TypeNoop, make([]byte, size-len(wire)-head))
	require.NoError(t, err)
	return h
}

func tcp(s string) net.Addr { return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(s)) }

// What we send, all of it made and sent by the library's own means.
func sentHeaders(t *testing.T) (all []sentHeader) {
	const v1, v2 = proxyproto.V1, proxyproto.V2
	four, fourServer := tcp("192.0.2.7:56324"), tcp("198.51.100.9:443")
	six, sixServer := tcp("[2001:db8::7]:56324"), tcp("[2001:db8::9]:443")
	return []sentHeader{
		{"v1 IPv4", proxyproto.NewHeader(four, fourServer, v1)},
		{"v2 IPv4", proxyproto.NewHeader(four, fourServer, v2)},
		{"v2 IPv4, TLVs", withTLVs(t, proxyproto.NewHeader(four, fourServer, v2))},
		{"v2 IPv4, 107 bytes", ofSize(t, proxyproto.NewHeader(four, fourServer, v2), 107)},
		{"v2 IPv4, 108 bytes", ofSize(t, proxyproto.NewHeader(four, fourServer, v2), 108)},
		{"v1 IPv6", proxyproto.NewHeader(six, sixServer, v1)},
		{"v2 IPv6", proxyproto.NewHeader(six, sixServer, v2)},
		{"v2 IPv6, TLVs", withTLVs(t, proxyproto.NewHeader(six, sixServer, v2))},
		{"v1 IPv4 to IPv6", proxyproto.NewHeader(four, sixServer, v1)},
		{"v2 IPv4 to IPv6", proxyproto.NewHeader(four, sixServer, v2)},
		{"v1 health check", &proxyproto.Header{Version: v1, Command: proxyproto.Local}},
		{"v2 health check", &proxyproto.Header{Version: v2, Command: proxyproto.Local}},
		{"v1 unknown client", proxyproto.NewHeader(nil, nil, v1)},
		{"v2 unknown client", proxyproto.NewHeader(nil, nil, v2)},
	}
}

type sentHeader struct {
	name string
	*proxyproto.Header
}

// mayRefuse reports whether the server is known to refuse such a header.
func (srv server) mayRefuse(sent sentHeader) bool {
	if sent.Version == proxyproto.V1 && sent.Command == proxyproto.Proxy && sent.Protocol == proxyproto.Unspec {
		return srv.refusesUnknown
	}
	b, _ := sent.AppendTo(nil) // LOCAL in version 1 has no wire form of its own
	return srv.longest > 0 && len(b) > srv.longest
}

// Each server takes our headers and names the client that they name, and so it does when the
// examples stand between it and real clients.
func TestReceivers(t *testing.T) {
	relay, reverseProxy := buildExample(t, "relay"), buildExample(t, "reverseproxy")
	for _, srv := range servers {
		t.Run(srv.name, func(t *testing.T) {
			addr := proxies.FreeAddr(t)
			ask := srv.start(t, addr)
			version := printedVersion(t, srv.version)
			for _, sent := range sentHeaders(t) {
				t.Run(sent.name, func(t *testing.T) {
					said := sendHeader(t, srv, addr, ask, sent)
					t.Logf("%s %s | %s | %s", srv.name, version, sent.name, said)
				})
			}
			t.Run("examples", func(t *testing.T) { askBehindExamples(t, srv, addr, ask, relay, reverseProxy) })
		})
	}
}

// sendHeader sends a header and checks the server's answer, which it returns.
func sendHeader(t *testing.T, srv server, addr string, ask asks, sent sentHeader) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), proxies.Timeout)
	defer cancel()
	c, err := new(proxyproto.Dialer).DialHeader(ctx, "tcp", addr, sent.Header)
	require.NoError(t, err)
	defer c.Close()
	deadline, _ := ctx.Deadline()
	require.NoError(t, c.SetDeadline(deadline))

	got, err := ask(c)
	// Another version of the server may be more tolerant than the one that is known.
	if srv.mayRefuse(sent) && errors.Is(err, errRefused) {
		return "refused"
	}
	require.NoError(t, err)
	client, destination := c.LocalAddr(), c.RemoteAddr()
	if source := sent.SourceAddr(); source != nil {
		client, destination = source, sent.DestinationAddr()
	}
	assert.Equal(t, client.String(), got.client.String(), "the client")
	if got.destination.IsValid() {
		assert.Equal(t, destination.String(), got.destination.String(), "the destination")
	}
	for typ, said := range map[proxyproto.TLVType]string{
		proxyproto.TypeAuthority: got.authority,
		proxyproto.TypeUniqueID:  got.uniqueID,
	} {
		value, ok := sent.TLVs.Lookup(typ)
		if said != "" || !ok {
			assert.Equal(t, string(value), said, typ)
		}
	}
	return got.String()
}

func printedVersion(t *testing.T, command []string) string {
	t.Helper()
	out, err := exec.Command(proxies.Need(t, command[0]), command[1:]...).CombinedOutput()
	require.NoError(t, err)
	number := versionNumber.FindString(string(out))
	require.NotEmpty(t, number, "%s", out)
	return number
}
